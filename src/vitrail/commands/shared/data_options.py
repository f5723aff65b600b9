"""Convert the data options of a command into a request for a run."""

import csv
import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitrail.commands.shared import console
from vitrail.errors import UsageError

if TYPE_CHECKING:
    from vitrail.config import Override
    from vitrail.train.request import Request


_TEXT_FORM = "FILE[,FILE][,KEY=VALUE...]"


@dataclass(frozen=True)
class TextOptions:
    """The options that say where parallel text is."""

    source: console.Source = None
    target: console.Target = None
    devs: Annotated[
        list[str] | None,
        typer.Option(
            "--dev",
            metavar=_TEXT_FORM,
            help="Text to choose the best step by, in the form of --corpus."
            " Given several times: the first chooses, the others are scored too.",
            show_default=False,
        ),
    ] = None
    test: Annotated[
        str, typer.Option("--test", metavar=_TEXT_FORM, help="Text to report the score on, in the form of --corpus.", show_default=False)
    ] = ""
    dev_source: Annotated[Path | None, typer.Option(metavar="FILE", help="Text to choose the best step by.", show_default=False)] = None
    dev_target: Annotated[Path | None, typer.Option(metavar="FILE", help="Its translation.", show_default=False)] = None
    test_source: Annotated[Path | None, typer.Option(metavar="FILE", help="Text to report the score on.", show_default=False)] = None
    test_target: Annotated[Path | None, typer.Option(metavar="FILE", help="Its translation.", show_default=False)] = None
    corpora: Annotated[
        list[str] | None,
        typer.Option(
            "--corpus",
            metavar=_TEXT_FORM,
            help="A TSV, CSV, JSON, JSONL, TMX, PO or XLIFF file, or two plain files; then what is to be said of it: format=tsv,"
            " columns=3:4, languages=en:fr, name=web, weight=3, holdout=no, tag=<2fr>. Given several times: corpora are mixed.",
            show_default=False,
        ),
    ] = None
    languages: Annotated[
        str, typer.Option(metavar="FROM,TO", help="Languages, such as en,fr, where the files' names do not tell.", show_default=False)
    ] = ""

    def overrides(self) -> "list[Override]":
        """The options as settings. Raises UsageError for one side without the other, and for a text given in two ways."""
        from vitrail.config import Override

        languages = _languages(self.languages)
        devs = [parse_corpus(text, option="--dev", languages=languages) for text in self.devs or ()]
        tests = [parse_corpus(self.test, option="--test", languages=languages)] if self.test else []
        dev = _one_way("--dev", devs, _pair("--dev-source", self.dev_source, "--dev-target", self.dev_target))
        test = _one_way("--test", tests, _pair("--test-source", self.test_source, "--test-target", self.test_target))
        plain = _pair("--source", self.source, "--target", self.target)
        formed = [parse_corpus(text, option="--corpus", languages=languages) for text in self.corpora or ()]
        corpora = [*([plain] if plain else []), *formed]
        found = [Override(("data", "corpora"), corpora)] if corpora else []
        found += [Override(("data", name), pair) for name, pair in (("dev", dev), ("test", test)) if pair]
        found += [Override(("data", "more_dev"), devs[1:])] if devs[1:] else []
        if languages:
            found += [Override(("data", f"{side}_language"), code) for side, code in zip(("source", "target"), languages, strict=True)]
        return found


@dataclass(frozen=True)
class AnyTextOptions(TextOptions):
    """And the options that say where plain text, or text with labels, is."""

    text: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Plain text, for a language model or an autoencoder. Given several times: read one after the other.",
            show_default=False,
        ),
    ] = None
    labels: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="The label of each line of --text, for a classifier; once for each --text.", show_default=False),
    ] = None
    examples: Annotated[
        list[str] | None,
        typer.Option(
            metavar=_TEXT_FORM,
            help="For a classifier: a TSV, CSV, JSON or JSONL file of texts and labels, or a file of each;"
            " then columns=2:1, format=csv, name=web.",
            show_default=False,
        ),
    ] = None

    def overrides(self) -> "list[Override]":
        """The same as settings; of plain text, dev and test are one file each. Raises UsageError, also for text of several kinds."""
        if self.labels or self.examples:
            return self._labelled()
        if not self.text:
            return super().overrides()
        from vitrail.config import Override

        sides = (self.source, self.target, self.dev_source, self.dev_target, self.test_source, self.test_target)
        if any(side is not None for side in sides) or self.corpora or len(self.devs or ()) > 1:
            raise UsageError("--text together with pairs", expected="--text FILE, and --dev FILE and --test FILE of plain text")
        found = [Override(("data", "text"), [{"source": str(path)} for path in self.text])]
        held = (("dev", self.devs[0] if self.devs else ""), ("test", self.test))
        found += [Override(("data", name), {"source": path}) for name, path in held if path]
        return found + ([Override(("data", "language"), self.languages)] if self.languages else [])

    def _labelled(self) -> "list[Override]":
        """Texts with labels; dev and test have the form of --examples."""
        from vitrail.config import Override

        sides = (self.source, self.target, self.dev_source, self.dev_target, self.test_source, self.test_target)
        if any(side is not None for side in sides) or self.corpora or len(self.devs or ()) > 1:
            raise UsageError(
                "labels together with pairs", expected="--text FILE --labels FILE, or --examples FILE, and --dev and --test like it"
            )
        texts, labels = self.text or [], self.labels or []
        if len(texts) != len(labels):
            raise UsageError(
                f"{len(texts)} --text and {len(labels)} --labels",
                expected="--text FILE --labels FILE, line n of one the label of line n of the other",
            )
        examples = [{"source": str(text), "target": str(label)} for text, label in zip(texts, labels, strict=True)]
        examples += [parse_corpus(text, option="--examples") for text in self.examples or ()]
        found = [Override(("data", "examples"), examples)]
        held = (("dev", self.devs[0] if self.devs else ""), ("test", self.test))
        found += [Override(("data", name), parse_corpus(text, option=f"--{name}")) for name, text in held if text]
        return found + ([Override(("data", "language"), self.languages)] if self.languages else [])


def _one_way(option: str, formed: list[dict[str, Any]], pair: dict[str, str]) -> dict[str, Any]:
    if formed and pair:
        raise UsageError(f"{option} and {option}-source", expected="one of the two")
    return formed[0] if formed else pair


def _pair(source_option: str, source: Path | None, target_option: str, target: Path | None) -> dict[str, str]:
    if source is None and target is None:
        return {}
    if source is None or target is None:
        given, lacking = (target_option, source_option) if source is None else (source_option, target_option)
        raise UsageError(f"{given} without {lacking}", expected="both files, line n of one translating line n of the other")
    return {"source": str(source), "target": str(target)}


# ---- FILE[,FILE][,KEY=VALUE...] ------------------------------------------------------------------------------------------------

CORPUS_KEYS = ("format", "columns", "delimiter", "languages", "name", "weight", "most", "holdout", "tag")
_SETTING = re.compile(r"([a-z_]+)=(.*)", re.DOTALL)
_FORM = "FILE[,FILE][,KEY=VALUE...], where KEY is one of " + " ".join(CORPUS_KEYS)


def parse_corpus(text: str, *, option: str, languages: Sequence[str] = ()) -> dict[str, Any]:
    """Read `a.en,a.fr,weight=2` or `web.tsv,columns=3:4,holdout=no` as an entry of `[[data.corpora]]`.

    A file name with a comma is written in double quotes, as in CSV; a name that looks like a setting is written ./weight=3. The folder of
    a run stands for the pairs that it was trained on.
    Args:    languages: of a single file that names none itself.
    Raises:  UsageError.
    """
    try:
        parts = [part.strip() for part in next(csv.reader([text], strict=True, skipinitialspace=True), [])]
    except csv.Error as error:
        raise UsageError(f"{option} {text}: {error}", expected=_FORM) from None
    first = next((place for place, part in enumerate(parts) if _is_setting(part, place)), len(parts))
    files = [_text_of_run(name, option) for name in _files(parts[:first], text=text, option=option)]
    table: dict[str, Any] = dict(zip(("source", "target"), files, strict=False))
    if languages and len(files) == 1:
        table["languages"] = list(languages)
    for part in parts[first:]:
        match = _SETTING.fullmatch(part)
        if match is None or match[1] not in CORPUS_KEYS:
            raise _no_setting(part, text=text, option=option)
        table[match[1]] = _value(match[1], match[2], text=text, option=option)
    return table


def _is_setting(part: str, place: int) -> bool:
    match = _SETTING.fullmatch(part)
    return match is not None and (match[1] in CORPUS_KEYS or (place > 0 and not Path(part).exists()))


def _no_setting(part: str, *, text: str, option: str) -> UsageError:
    near = difflib.get_close_matches(part.partition("=")[0], CORPUS_KEYS, 1)
    remedy = f"{near[0]}={part.partition('=')[2]}" if near else "put a name with a comma in double quotes: '\"a,b.tsv\",weight=3'"
    return UsageError(f"{option} {text}: {part!r} is not a setting of a corpus", expected=_FORM, remedy=remedy)


def _files(parts: Sequence[str], *, text: str, option: str) -> list[str]:
    """One or two file names; parts that together are the name of an existing file count as one."""
    together = ",".join(parts)
    if len(parts) > 1 and Path(together).exists():
        return [together]
    if len(parts) not in (1, 2) or not all(parts):
        found = f"{len(parts)} files" if parts and all(parts) else "a file's name is missing"
        raise UsageError(
            f"{option} {text}: {found}",
            expected="one TSV, CSV, JSON, JSONL, TMX, PO or XLIFF file, or two plain files with a comma between them",
            remedy="put a name with a comma in double quotes: '\"a,b.tsv\",weight=3'",
        )
    return list(parts)


def _text_of_run(name: str, option: str) -> str:
    """The prepared data of a run, where a name is its folder; else the name."""
    from vitrail.data.preparing.store import INDEX

    index = Path(name) / "data" / INDEX
    if index.is_file() or not Path(name).is_dir():
        return str(index) if index.is_file() else name
    raise UsageError(
        f"{option} {name}: a folder without the data of a run",
        expected=f"{index}, or the name of a file",
        remedy=f"{option} FILE,FILE" + ("; or --set data.old=false, for none" if option == "--old" else ""),
    )


def _value(key: str, value: str, *, text: str, option: str) -> Any:
    if key in ("columns", "languages"):
        both = [part.strip() for part in value.split(":")]
        if len(both) != 2 or not all(both):
            example = "3:4 or source:target" if key == "columns" else "en:fr"
            raise UsageError(f"{option} {text}: {key}={value}", expected=f"two values with a colon between them, such as {key}={example}")
        return [int(part) if key == "columns" and part.isdecimal() else part for part in both]
    if key == "delimiter":
        return {"tab": "\t", "\\t": "\t"}.get(value, value)
    return value


def _languages(text: str) -> list[str]:
    codes = [code.strip() for code in text.split(",")] if text else []
    if codes and (len(codes) != 2 or not all(codes)):
        raise UsageError(f"--languages {text}", expected="two codes with a comma between them, such as en,fr")
    return codes


def phrasebook_texts(folder: Path) -> TextOptions:
    """The files of a phrasebook that is written in a folder."""
    (source, target), dev, test = ((folder / f"{part}.en", folder / f"{part}.fr") for part in ("train", "dev", "test"))
    return TextOptions(source, target, dev_source=dev[0], dev_target=dev[1], test_source=test[0], test_target=test[1])


def make_request(texts: TextOptions, settings: console.Settings, *, more: "Sequence[Override]" = ()) -> "Request":
    """All options as one request; `more` are those that stand for a setting."""
    from vitrail.config import parse_override
    from vitrail.train.request import Request

    overrides = (*texts.overrides(), *more, *map(parse_override, settings.settings or ()))
    return Request(settings.recipe, settings.config, overrides)
