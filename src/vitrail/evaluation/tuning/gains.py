"""What a fine-tuning gained and lost: each dev and test set before and after it, with the interval of the difference.

The model that it started from translates every set once, at the start (`start.json`): it may be gone at the end.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vitrail.evaluation.scores import Comparison, Recipe, collect_statistics, compare_statistics

if TYPE_CHECKING:
    from vitrail.decode.search_config import SearchConfig
    from vitrail.train.run_config import RunConfig

START, GAINS = "start.json", "gains.json"
_METRICS = ("bleu", "chrf")
_TRIALS = 1_000
_NO_NAME = "dev"


class ScoredSet(NamedTuple):
    """A text that is scored before and after."""

    source: Sequence[str]
    target: Sequence[str]


@dataclass(frozen=True)
class Gain:
    """One set before and after a fine-tuning, by each metric."""

    name: str
    comparisons: tuple[Comparison, ...]

    @property
    def sentences(self) -> int:
        """How many sentences it has."""
        return self.comparisons[0].sentences


@dataclass(frozen=True)
class Gains:
    """All sets."""

    sets: tuple[Gain, ...]

    def to_lines(self) -> list[str]:
        """A table for people: before, after, and the difference with its interval."""
        rows = [["", "sentences", *(one.name for one in self.sets[0].comparisons)]]
        rows += [[gain.name, f"{gain.sentences:,}", *map(_cell, gain.comparisons)] for gain in self.sets]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return [
            "gained and lost since the start (difference with its 95 % interval, paired bootstrap):",
            *("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows),
        ]


def _cell(one: Comparison) -> str:
    return f"{one.baseline:.2f} -> {one.system:.2f}, {one.difference:+.2f} ({one.low:+.2f} to {one.high:+.2f})"


def compare_sets(
    before: Mapping[str, Sequence[str]], after: Mapping[str, Sequence[str]], sets: Mapping[str, ScoredSet], *, language: str
) -> Gains:
    """Score the translations of each set by two models."""
    from vitrail.scoring import bleu_settings_for

    found: list[Gain] = []
    for name, text in sets.items():
        counting = bleu_settings_for(language, list(text.target))
        recipe = Recipe(_METRICS, tokenize=counting.tokenize, effective_order=counting.effective_order, trials=_TRIALS)
        sides = [collect_statistics(side[name], [text.target], recipe=recipe) for side in (before, after)]
        found.append(Gain(name, tuple(compare_statistics(*sides))))
    return Gains(tuple(found))


# ---- of a run -------------------------------------------------------------------------------------------------------------------


def is_tuned(config: "RunConfig") -> bool:
    """Whether a run is the fine-tuning of a translator, whose start is to be compared with its end."""
    return config.train.validate_start and config.task == "translation" and any(part.role == "all" for part in config.init)


def run_sets(folder: Path, *, most: int) -> dict[str, ScoredSet]:
    """The dev sets of a run, each by its name, and its test set. Args: most: sentences of a dev set, as at validations."""
    from vitrail.data.preparing.prepared import open_prepared

    prepared = open_prepared(folder / "data")
    named = {_NO_NAME: prepared.dev, **prepared.more_dev}
    sets = {name: ScoredSet(texts.source[:most], texts.target[:most]) for name, texts in named.items() if texts.source}
    return sets | ({"test": ScoredSet(*prepared.test)} if prepared.test.source else {})


def keep_start(folder: Path, config: "RunConfig", *, say: Callable[[str], None]) -> None:
    """Write the translations of all sets by the model that the run starts from, unless they are there already."""
    from vitrail.files import write_file
    from vitrail.models.stored import digest_of_folder

    donor = next(part.folder for part in config.init if part.role == "all")
    sets = run_sets(folder, most=config.train.validation_sentences)
    asked, kept = _digest(sets, config.search), _read(folder / START)
    if kept is not None and kept.get("of") == asked:
        return
    if not donor.exists() or (kept is not None and kept.get("model") != digest_of_folder(donor)):
        say(f"{donor}: is gone, or another model by now: what is gained and lost cannot be told")
        return
    digest = digest_of_folder(donor)
    say(f"translating the dev and test sets with {donor}, to compare with later ({sum(len(s.source) for s in sets.values()):,} sentences)")
    content = {"model": digest, "of": asked, "translations": _translate(donor, sets, config)}
    write_file(folder / START, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


def measure_gains(folder: Path, config: "RunConfig", *, say: Callable[[str], None]) -> dict[str, Any] | None:
    """Compare the run's model with the one that it started from, on every set. Returns plain values with `lines`; None where that one
    is not known. What was measured before is returned as long as model, sets and search are the same."""
    from vitrail.data.preparing.prepared import open_prepared
    from vitrail.files import MANIFEST, write_file

    sets = run_sets(folder, most=config.train.validation_sentences)
    start, asked = _read(folder / START), _digest(sets, config.search)
    if start is None or start.get("of") != asked or not sets:
        return None
    decided_by = {"start": start["model"], "of": asked, "model": sha256((folder / "model" / MANIFEST).read_bytes()).hexdigest()}
    kept = _read(folder / GAINS)
    if kept is not None and kept.get("decided_by") == decided_by:
        return kept
    say("translating the same sets with the new model")
    after, language = _translate(folder, sets, config), open_prepared(folder / "data").facts["target_language"]
    gains = compare_sets(start["translations"], after, sets, language=language)
    told = json.dumps({"decided_by": decided_by, "lines": gains.to_lines(), **asdict(gains)}, indent=2, ensure_ascii=False)
    write_file(folder / GAINS, f"{told}\n".encode())
    return json.loads(told)


def _translate(model: Path, sets: Mapping[str, ScoredSet], config: "RunConfig") -> dict[str, list[str]]:
    from vitrail.decode.translate import TranslateConfig, Translator

    translator = Translator.load(model, engine="torch", device=config.train.device, config=TranslateConfig(search=config.search))
    return {name: [one.text for one in translator.translate(list(text.source))] for name, text in sets.items()}


def _digest(sets: Mapping[str, ScoredSet], search: "SearchConfig") -> str:
    """Of all that translations depend on, but for the model."""
    told: Iterable[Any] = [search.model_dump(mode="json"), {name: [list(text.source), list(text.target)] for name, text in sets.items()}]
    return sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found: Any = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    match found:
        case {"of": str(), "model": str(), "translations": dict()} | {"decided_by": dict(), "lines": list(), "sets": list()}:
            return found  # pyright: ignore[reportUnknownVariableType]
        case _:
            return None
