"""Classifiers on the same examples: from scratch, from other starts, and a baseline: `vitrail bench classify`."""

import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vitrail.bench.classifying.program import predict_by_program
from vitrail.bench.classifying.tfidf import Texts, predict_by_tfidf, to_flags
from vitrail.config import Override
from vitrail.data.preparing.prepared import PreparedLabels, open_data
from vitrail.data.vocabularies.subwords import EOS
from vitrail.decode.sentences.classify import Classifier
from vitrail.decode.sentences.label_scores import Numbers, Predictions, flags
from vitrail.errors import UsageError
from vitrail.evaluation.kinds.label_report import RESAMPLES
from vitrail.files import write_file
from vitrail.reports.figure import Figure
from vitrail.runtime.machine import Machine, describe_machine
from vitrail.train.request import Request, keep_choices, plan_run, to_run_config

_FIGURES = ("accuracy", "f1", "matthews")
_SECONDS = "bench_seconds.json"
_HEADINGS = ("accuracy", "macro F1", "Matthews")


class Variant(NamedTuple):
    """A classifier to train: its name in the table, and what it has of its own."""

    name: str
    settings: tuple[Override, ...] = ()


@dataclass(frozen=True)
class SystemRow:
    """One system: the mean of its scores over the seeds, and by how much it is better than the first."""

    name: str
    detail: str
    seeds: tuple[int, ...]
    accuracy: Figure
    f1: Figure
    matthews: Figure
    by_seed: dict[str, list[float]]
    seconds: tuple[float, ...]
    """Processor time of each training, preparing, validations and saving included; those that are not known are left out."""
    difference: dict[str, Figure] | None
    """From the first system, with intervals of the same resampled texts; None for the first."""


@dataclass(frozen=True)
class ClassifyReport:
    """All systems on one test set."""

    machine: Machine
    examples: dict[str, int]
    """Of train, dev and test."""
    labels: int
    rows: tuple[SystemRow, ...]

    def to_json(self) -> str:
        """The fields by name, as JSON."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)

    def to_text(self) -> str:
        """A table for people."""
        counts = ", ".join(f"{number:,} {name}" for name, number in self.examples.items())
        width = max(len(row.name) for row in self.rows)
        lines = [
            self.machine.to_text().splitlines()[0],
            f"{self.labels} labels; examples: {counts}; 95 % intervals by the bootstrap over the test texts",
            "",
        ]
        lines.append(f"{'':<{width}}  " + "".join(f"{heading:<25}" for heading in _HEADINGS) + f"{'CPU s':>7}  seeds")
        for row in self.rows:
            cells = "".join(f"{getattr(row, name).to_text():<25}" for name in _FIGURES)
            spent = f"{np.mean(row.seconds):.1f}" if row.seconds else "-"
            lines.append(f"{row.name:<{width}}  {cells}{spent:>7}  {' '.join(map(str, row.seeds)) or '-'}  {row.detail}".rstrip())
        if len(self.rows) > 1:
            lines += ["", f'difference from "{self.rows[0].name}":']
        for row in self.rows:
            if row.difference is not None:
                cells = "".join(f"{_signed(row.difference[name]):<25}" for name in _FIGURES)
                lines.append(f"{row.name:<{width}}  {cells}".rstrip())
        return "\n".join(lines) + "\n"


def _signed(figure: Figure) -> str:
    return f"{figure.value:+.3f} [{figure.low:+.3f}, {figure.high:+.3f}]"


def compare_classifiers(
    data: Sequence[Override],
    folder: Path,
    *,
    variants: Sequence[Variant],
    seeds: Sequence[int],
    tfidf: bool = True,
    program: bool = False,
    say: Callable[[str], None],
) -> ClassifyReport:
    """Train each variant with each seed in a folder of its own, and score all on the same test set; what is finished is not trained again.

    Args:   data: the settings of the data, which all have in common. tfidf, program: train these, too; the program must be installed.
    Raises: UsageError where there is no test set, no variant or no seed; and what a training raises.
    """
    if not variants or not seeds or len({variant.name for variant in variants}) < len(variants):
        raise UsageError("no variant, no seed, or two variants of one name", expected="variants of different names, and seeds")
    found: dict[str, list[Predictions]] = {}
    spent: dict[str, list[float]] = {}
    details: dict[str, str] = {}
    prepared: PreparedLabels | None = None
    for variant in variants:
        for seed in seeds:
            place = folder / f"{_file_name(variant.name)}-{seed}"
            say(f"{variant.name}, seed {seed}: {place}")
            own = _train(Request(overrides=(*data, *variant.settings, Override(("seed",), seed))), place, say=say)
            prepared = own if prepared is None else prepared
            if own.test != prepared.test:
                raise UsageError(f"{variant.name}: has another test set", expected="variants that change the model, not the data")
            if not own.test.source:
                raise UsageError("no test set", remedy="--test FILE, or leave data.holdout.test_examples unset")
            found.setdefault(variant.name, []).append(Classifier.load(place, engine="torch").measure(*own.test).predictions)
            spent.setdefault(variant.name, []).extend(_kept_seconds(place))
    assert prepared is not None
    train, several = _train_texts(prepared), prepared.labels.several
    dev, test = (Texts(part.source, to_flags(part.label, prepared.labels)) for part in (prepared.dev, prepared.test))
    trained = {variant.name: tuple(seeds) for variant in variants}
    if program:
        say(name := "fasttext program")
        found[name], details[name], spent[name] = predict_by_program(train, dev, test, several=several, seeds=seeds)
        trained[name] = tuple(seeds)
    if tfidf:
        say("TF-IDF and logistic regression")
        name, before = "TF-IDF + logistic regression", time.process_time()
        predicted, details[name] = predict_by_tfidf(train, dev, test, several=several)
        found[name], spent[name] = [predicted], [time.process_time() - before]
    sizes = {"train": sum(map(len, prepared.stores)), "dev": len(prepared.dev.source), "test": len(prepared.test.source)}
    rows = _rows(found, seeds=trained, details=details, seconds=spent)
    return ClassifyReport(describe_machine(), sizes, len(prepared.labels.labels), rows)


def _train(request: Request, folder: Path, *, say: Callable[[str], None]) -> PreparedLabels:
    from vitrail.train.run import train

    planned = plan_run(request, folder, gpu=False)
    config = to_run_config(planned.table)
    new, before = not folder.exists(), time.process_time()
    train(
        config, folder, say=lambda line: say(f"  {line}"), begin=lambda: keep_choices(folder, planned.choices) if planned.choices else None
    )
    if new:  # of a training that was stopped on the way, only a part would be known
        write_file(folder / _SECONDS, json.dumps(time.process_time() - before).encode())
    data = open_data(folder / "data")
    assert isinstance(data, PreparedLabels)
    return data


def _kept_seconds(folder: Path) -> list[float]:
    """The processor time of a training; none where it is not known."""
    try:
        return [float(json.loads((folder / _SECONDS).read_bytes()))]
    except (OSError, ValueError, TypeError):
        return []


def _train_texts(prepared: PreparedLabels) -> Texts:
    """The training texts as the models see them."""
    words, labels = prepared.vocabularies.source, prepared.labels
    places = [(store, place) for store in prepared.stores for place in range(len(store))]
    texts = [words.decode(store.row("source", place).tolist()) for store, place in places]
    held = [[id - EOS - 1 for id in store.row("label", place).tolist()] for store, place in places]
    return Texts(texts, flags(held, len(labels.labels)))


def _rows(
    found: dict[str, list[Predictions]],
    *,
    seeds: dict[str, tuple[int, ...]],
    details: dict[str, str],
    seconds: dict[str, list[float]],
    resamples: int = RESAMPLES,
) -> tuple[SystemRow, ...]:
    """All systems, each resample of texts being the same for all of them."""
    number = len(next(iter(found.values()))[0].right)
    draws = np.random.default_rng(12_345).multinomial(number, [1 / number] * number, size=resamples).astype(np.float64)
    values = {name: _means(runs, np.ones((1, number))) for name, runs in found.items()}
    again = {name: _means(runs, draws) for name, runs in found.items()}
    first, rows = next(iter(found)), list[SystemRow]()
    for name, runs in found.items():
        figures: dict[str, Any] = {one: Figure.of(values[name][one][0], again[name][one]) for one in _FIGURES}
        by_seed = {one: [float(getattr(run.rates(), one)[0]) for run in runs] for one in _FIGURES}
        gaps = {one: Figure.of(values[name][one][0] - values[first][one][0], again[name][one] - again[first][one]) for one in _FIGURES}
        told = details.get(name, ""), seeds.get(name, ())
        spent, difference = tuple(seconds.get(name, ())), None if name == first else gaps
        rows.append(SystemRow(name, *told, **figures, by_seed=by_seed, seconds=spent, difference=difference))
    return tuple(rows)


def _means(runs: Sequence[Predictions], weights: Numbers) -> dict[str, Numbers]:
    rates = [run.rates(weights) for run in runs]
    return {name: np.mean([getattr(one, name) for one in rates], axis=0) for name in _FIGURES}


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-") or "variant"
