"""The score of a run on its test set, computed once and kept in scores.json."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitrail.evaluation.report import Evaluation
    from vitrail.train.config import RunConfig

SCORES = "scores.json"


def score_run(folder: Path, config: "RunConfig", *, step: int, say: Callable[[str], None]) -> dict[str, Any] | None:
    """Translate the test set as configured and score it: BLEU and chrF with their 95 % intervals and signatures.

    Returns: plain values, with `lines` to read; what was kept for the same step, where it was. None where there is no test set.
    """
    kept = _read(folder / SCORES)
    if kept is not None and kept["step"] == step:
        return kept
    from vitrail.data.prepare import open_prepared
    from vitrail.files import write_file

    prepared = open_prepared(folder / "data")
    if not prepared.test.source:
        return None
    say(f"translating the test set ({len(prepared.test.source):,} sentences)")
    texts = _translate(folder, config, prepared.test.source)
    found = _evaluate(texts, prepared.test.target, prepared.test.source, language=prepared.facts["target_language"])
    lines = ["on the test set:", *found.to_text().splitlines()]
    result: dict[str, Any] = {"step": step, "lines": lines, **asdict(found)}
    write_file(folder / SCORES, (json.dumps(result, indent=2, ensure_ascii=False) + "\n").encode())
    write_file(folder / "test.translated", "".join(f"{text}\n" for text in texts).encode())
    return result


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found: Any = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    match found:
        case {"step": int(), "lines": list()}:
            return found
        case _:
            return None


def _translate(folder: Path, config: "RunConfig", source: list[str]) -> list[str]:
    from vitrail.decode.translate import TranslateConfig, Translator

    translator = Translator.load(folder, device=config.train.device, config=TranslateConfig(search=config.search))
    return [translation.text for translation in translator.translate(source)]


def _evaluate(texts: list[str], references: list[str], source: list[str], *, language: str) -> "Evaluation":
    from vitrail.evaluation.report import Evaluation
    from vitrail.evaluation.scores import Recipe, collect, score, tokenizer_for
    from vitrail.evaluation.slices import by_length_of

    tokenizer = tokenizer_for(language) if language else tokenizer_for("en")
    statistics = collect(texts, [references], recipe=Recipe(("bleu", "chrf"), tokenize=tokenizer.name))
    notes = (f"BLEU tokenizer {tokenizer.reason}",) if tokenizer.reason else ()
    return Evaluation(len(texts), 1, tuple(score(statistics)), bands=tuple(by_length_of(source, statistics)), notes=notes)
