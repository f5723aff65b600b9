"""The score of a run on its test set, cached in scores.json until one of its inputs changes."""

import json
from collections.abc import Callable
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitrail.data.preparing.prepared import Prepared, PreparedLabels
    from vitrail.evaluation.report import Evaluation
    from vitrail.train.run_config import RunConfig

SCORES = "scores.json"


def score_run(folder: Path, config: "RunConfig", *, step: int, say: Callable[[str], None]) -> dict[str, Any] | None:
    """Translate the test set as configured and score it: BLEU and chrF with their 95 % intervals and signatures; or score another model.

    Returns: plain values, with `lines` as text; the cached ones if all inputs of the score are the same (`decided_by`).
             None where there is no test set.
    """
    from vitrail.data.preparing.prepared import PreparedLabels, PreparedText, open_data
    from vitrail.files import write_file

    prepared = open_data(folder / "data")
    if isinstance(prepared, PreparedText):
        return _score_text(folder, prepared.test, step=step) if prepared.test else None
    if not prepared.test.source:
        return None
    if isinstance(prepared, PreparedLabels):
        return _score_labels(folder, prepared, step=step)
    decided_by = _decided_by(folder, config, prepared)
    kept = _read(folder / SCORES)
    if kept is not None and kept.get("decided_by") == decided_by:
        # A run that trained further without a better model keeps its score; only the step changes.
        return kept if kept["step"] == step else _write(folder, kept | {"step": step})
    say(f"translating the test set ({len(prepared.test.source):,} sentences)")
    texts = _translate(folder, config, prepared.test.source)
    found = _evaluate(texts, prepared.test.target, prepared.test.source, language=prepared.facts["target_language"])
    lines = ["on the test set:", *found.to_text().splitlines()]
    result: dict[str, Any] = {"step": step, "decided_by": decided_by, "lines": lines, **asdict(found)}
    write_file(folder / "test.translated", "".join(f"{text}\n" for text in texts).encode())
    return _write(folder, result)


def _score_text(folder: Path, lines: list[str], *, step: int) -> dict[str, Any]:
    from vitrail.evaluation.kinds.text_score import measure_folder

    found = measure_folder(folder, lines)
    return _write(folder, {"step": step, "lines": [f"on the test text ({len(lines):,} lines):", found.to_text()], **found.figures()})


def _score_labels(folder: Path, prepared: "PreparedLabels", *, step: int) -> dict[str, Any]:
    from vitrail.decode.sentences.classify import Classifier
    from vitrail.evaluation.kinds.label_report import evaluate_examples

    found = evaluate_examples(Classifier.load(folder, engine="torch"), *prepared.test)
    return _write(folder, {"step": step, "lines": ["on the test set:", *found.to_text().splitlines()], **found.as_dict()})


def _write(folder: Path, result: dict[str, Any]) -> dict[str, Any]:
    from vitrail.files import write_file

    write_file(folder / SCORES, (json.dumps(result, indent=2, ensure_ascii=False) + "\n").encode())
    return result


def _decided_by(folder: Path, config: "RunConfig", prepared: "Prepared") -> dict[str, Any]:
    """All inputs of a score: the model, the search, the test set and the metric settings."""
    from importlib.metadata import version

    from vitrail.files import MANIFEST
    from vitrail.scoring import bleu_settings_for
    from vitrail.version import __version__

    test = json.dumps([prepared.test.source, prepared.test.target]).encode()
    counting = bleu_settings_for(prepared.facts["target_language"], prepared.test.target)
    return {
        "model": sha256((folder / "model" / MANIFEST).read_bytes()).hexdigest(),
        "search": config.search.model_dump(mode="json"),
        "test": sha256(test).hexdigest(),
        "tokenize": counting.tokenize,
        "effective_order": counting.effective_order,
        "sacrebleu": version("sacrebleu"),
        "vitrail": __version__,
    }


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found: Any = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    match found:
        case {"step": int(), "lines": [*lines]} if all(isinstance(line, str) for line in lines):
            return found
        case _:
            return None


def _translate(folder: Path, config: "RunConfig", source: list[str]) -> list[str]:
    from vitrail.decode.translate import TranslateConfig, Translator

    translator = Translator.load(folder, engine="torch", device=config.train.device, config=TranslateConfig(search=config.search))
    return [translation.text for translation in translator.translate(source)]


def _evaluate(texts: list[str], references: list[str], source: list[str], *, language: str) -> "Evaluation":
    from vitrail.evaluation.report import ScoredTexts, evaluate_texts
    from vitrail.evaluation.scores import Recipe

    return evaluate_texts(ScoredTexts(texts, [references], source), language=language, recipe=Recipe(("bleu", "chrf")))
