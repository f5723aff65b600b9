"""From the options of a verb to what is asked of a run."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitrail.errors import UsageError

if TYPE_CHECKING:
    from vitrail.config import Override
    from vitrail.train.api import Request


@dataclass(frozen=True)
class Texts:
    """The options that say where the text is."""

    source: Path | None
    target: Path | None
    dev_source: Path | None
    dev_target: Path | None
    test_source: Path | None
    test_target: Path | None
    corpora: list[str]
    languages: str

    def overrides(self) -> "list[Override]":
        """The same as settings. Raises UsageError for one side without the other."""
        from vitrail.config import Override

        languages = _languages(self.languages)
        pairs = {
            "dev": _pair("--dev-source", self.dev_source, "--dev-target", self.dev_target),
            "test": _pair("--test-source", self.test_source, "--test-target", self.test_target),
        }
        plain = _pair("--source", self.source, "--target", self.target)
        corpora = [*([plain] if plain else []), *(_corpus(text, languages) for text in self.corpora)]
        found = [Override(("data", "corpora"), corpora)] if corpora else []
        found += [Override(("data", name), pair) for name, pair in pairs.items() if pair]
        if languages:
            found += [Override(("data", f"{side}_language"), code) for side, code in zip(("source", "target"), languages, strict=True)]
        return found


def _pair(source_option: str, source: Path | None, target_option: str, target: Path | None) -> dict[str, str]:
    if source is None and target is None:
        return {}
    if source is None or target is None:
        given, lacking = (target_option, source_option) if source is None else (source_option, target_option)
        raise UsageError(f"{given} without {lacking}", expected="both files, line n of one translating line n of the other")
    return {"source": str(source), "target": str(target)}


def _corpus(text: str, languages: list[str]) -> dict[str, Any]:
    files = [part.strip() for part in text.split(",")]
    if len(files) == 2:
        return {"source": files[0], "target": files[1]}
    if len(files) > 2:
        raise UsageError(f"--corpus {text}", expected="one TSV, JSONL or TMX file, or two plain files with a comma between them")
    return {"source": text, **({"languages": languages} if languages else {})}


def _languages(text: str) -> list[str]:
    codes = [code.strip() for code in text.split(",")] if text else []
    if codes and (len(codes) != 2 or not all(codes)):
        raise UsageError(f"--languages {text}", expected="two codes with a comma between them, such as en,fr")
    return codes


def make_request(texts: Texts, *, recipe: str, file: Path | None, settings: list[str], more: "list[Override] | None" = None) -> "Request":
    """All options as one request; `more` are those that stand for a setting."""
    from vitrail.config import parse_override
    from vitrail.train.api import Request

    return Request(recipe, file, (*texts.overrides(), *(more or []), *map(parse_override, settings)))
