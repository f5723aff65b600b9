"""The training film: the same probe sentences, recorded at every validation of a training.

The record, `extras["film"]` of an inspection and `Film.to_record()`; F frames, in the order of their steps:
    format        1; 2 for models that do not translate
    task          the kind of model: translation, language, masked, classification, autoencoding
    steps         [F]
    scores        {name: [F numbers or null]}, results of the validations: dev_bleu, dev_loss_nats_per_token, ...
    probes        [{source, reference, source_tokens: [S texts, <eos> last], target_tokens: [T texts, <eos> last: what is predicted]}]
                  of a language model: source is the beginning that it writes on, source_tokens what it reads of the reference; of a masked
                  one: source has [MASK] where the reference's tokens are hidden; of a classifier: reference is the label, "" unknown
    translations  [probe][frame] -> text, found greedily; the line written on, the text with masks filled, the label, the line given back
    losses        [probe][frame] -> nats per token of the reference, of the hidden tokens, of the label; null where these are not known
    attention     [probe][frame][layer][t][s] -> cross-attention while the reference is read (row t predicts target_tokens[t]), mean of
                  the heads, in per cent 0-100 as whole numbers; [] for a probe that is too long, and for models without attention.
                  Of a model that does not translate: self-attention, rows and columns being source_tokens
    choices       [probe] -> [{position, wanted, chance: [F], rank: [F], candidates: [F] -> [[text, probability]]}]: the likeliest
                  next tokens after each of source_tokens, those at each mask (position among source_tokens), or the labels; wanted is ""
                  if not known
    latents       [probe][frame] -> the first numbers of an autoencoder's vector
    entropies     {"encoder" | "decoder" | "cross": [layer][head][F]}: normalised entropy of each head, the mean over the rows of its
                  weights of entropy / log(positions that may be read): 0 one position only, 1 uniform. Missing kinds are left out
    gradients     {places: [names of groups of weights, input first], norms: [place][F]}: ||dL/dW||, L the loss per token of the references
    norms         [{place, kind: "layer" | "rms" | "batch", input: M, output: M, running: R or null}], each norm of the model, with
                  M = {mean: [F], variance: [F]   over all real tokens and features
                       shift: [F]                 how far features moved since the frame before: |change of mean| / deviation there, the
                                                  mean over the features that are kept; null at the first
                       units: [unit][F] -> [mean, deviation]   of the first `UNITS` features by themselves}
                  R = {mean_drift: [F], variance_drift: [F]}   batch norm's running statistics against those of the probe batch itself:
                      |mean - running mean| / running deviation and |log(variance / running variance)|, means over all features
Numbers that were not finite are null. Of a long film `FRAMES` frames are kept, evenly; the first and the last stay.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from vitrail.config import Config
from vitrail.errors import ModelError
from vitrail.files import read_json_lines
from vitrail.inspection.maps.norm_statistics import Moments, NormStatistics
from vitrail.models.architectures import TaskName
from vitrail.models.places import AttentionType

FORMAT = 2
"""Of frames of models that do not translate; those of translators are as they always were, and say 1."""
ATTENTION: dict[TaskName, AttentionType] = {
    "translation": "cross",
    "language": "decoder",
    "masked": "encoder",
    "classification": "encoder",
    "autoencoding": "encoder",
}
"""Which attention is kept of each kind of model."""
_WORDS: dict[TaskName, tuple[str, str]] = {
    "translation": ("source", "reference"),
    "language": ("beginning", "line"),
    "masked": ("masked", "line"),
    "classification": ("text", "label"),
    "autoencoding": ("", "line"),
}
"""What the two texts of a probe are called; empty: not shown, the other being the same."""
FILE = "film.jsonl"
"""File in a run's folder: one frame per line."""
FRAMES = 40
"""Frames of a record at most."""
UNITS = 4
"""Features of each norm that a record shows one by one, at most."""

Entropies = dict[AttentionType, tuple[tuple[float | None, ...], ...]]
Plain = dict[str, Any]
_log = logging.getLogger(__name__)


class ProbeSentence(Config):
    """A sentence that every frame records."""

    source: str
    reference: str
    source_tokens: tuple[str, ...]
    target_tokens: tuple[str, ...]


class Choice(Config):
    """What a model holds likeliest at one place."""

    position: int
    wanted: str
    """What is right there; empty: not known."""
    rank: int | None
    """Its place among all by probability, from 1."""
    chance: float | None
    """Its probability."""
    candidates: tuple[tuple[str, float], ...]
    """The likeliest tokens, best first; of labels all, in the order of the model."""


class Frame(Config):
    """One frame; a line of film.jsonl."""

    format: int = 1
    task: TaskName = "translation"
    step: int
    probes: tuple[ProbeSentence, ...]
    translations: tuple[str, ...]
    losses: tuple[float | None, ...]
    """Nats per token of each reference."""
    attention: tuple[tuple[tuple[tuple[int, ...], ...], ...], ...]
    """[probe][layer][t][s], per cent."""
    entropies: Entropies
    """[layer][head]."""
    gradients: dict[str, float | None]
    norms: dict[str, NormStatistics]
    choices: tuple[tuple[Choice, ...], ...] = ()
    """Of each probe."""
    latents: tuple[tuple[float | None, ...], ...] = ()
    """Of each probe."""

    def line(self) -> Plain:
        """As a line of film.jsonl, without the step; of a translator what every release reads."""
        return self.model_dump(mode="json", exclude={"step", *(_ADDED if self.task == "translation" else ())})


_ADDED = ("task", "choices", "latents")
"""What format 1 did not have."""


@dataclass(frozen=True)
class Film:
    """All frames of a run that have the same probes as the last one."""

    frames: tuple[Frame, ...]
    scores: dict[int, dict[str, float]]
    """Results of the validations, by step."""

    @property
    def steps(self) -> tuple[int, ...]:
        """When frames were taken; none where a run was not filmed."""
        return tuple(frame.step for frame in self.frames)

    def to_record(self, *, frames: int = FRAMES) -> Plain:
        """Plain values as in this module's description, for `extras["film"]` of an inspection; only `steps` without frames."""
        kept = [self.frames[place] for place in _evenly(len(self.frames), frames)]
        if not kept:
            return {"format": FORMAT, "steps": []}
        names = sorted({name for frame in kept for name in self.scores.get(frame.step, {})})
        probes = range(len(kept[0].probes))
        record = {
            "format": kept[0].format,
            "task": kept[0].task,
            "steps": [frame.step for frame in kept],
            "scores": {name: [self.scores.get(frame.step, {}).get(name) for frame in kept] for name in names},
            "probes": [probe.model_dump(mode="json") for probe in kept[0].probes],
            "translations": [[frame.translations[probe] for frame in kept] for probe in probes],
            "losses": [[frame.losses[probe] for frame in kept] for probe in probes],
            "attention": [[frame.attention[probe] for frame in kept] for probe in probes],
            "entropies": {kind: _entropies(kept, kind) for kind in kept[0].entropies},
            "gradients": {
                "places": list(kept[0].gradients),
                "norms": [[frame.gradients.get(place) for frame in kept] for place in kept[0].gradients],
            },
            "norms": [_norm(place, [frame.norms[place] for frame in kept]) for place in kept[0].norms],
            "choices": [_choices([frame.choices[probe] for frame in kept]) for probe in probes if kept[0].choices],
            "latents": [[frame.latents[probe] for frame in kept] for probe in probes if kept[0].latents],
        }
        return {name: _finite(value) for name, value in record.items()}

    def to_text(self) -> str:
        """Each probe's translations, where they changed, with the loss of its reference."""
        if not self.frames:
            return "no frames: this run was not filmed"
        lines = [f"{len(self.frames)} frames, steps {self.steps[0]} to {self.steps[-1]}"]
        unit = "" if self.frames[0].task == "classification" else " a token"
        for number, probe in enumerate(self.frames[0].probes):
            named = zip(_WORDS[self.frames[0].task], (probe.source, probe.reference), strict=True)
            lines += ["", *(f"{word:<9}  {text}" for word, text in named if word and text)]
            said = None
            for frame in self.frames:
                if frame.translations[number] != said:
                    said, loss = frame.translations[number], frame.losses[number]
                    lines.append(f"{frame.step:>9}  {said}" + ("" if loss is None else f"  ({loss:.2f} nats{unit})"))
        return "\n".join(lines)


def read_film(folder: Path) -> Film:
    """Read the film of a run; unreadable lines are skipped with a warning in the log. Without a film there are no frames.

    Raises: ModelError where it is of a newer format.
    """
    path = folder / FILE
    if not path.is_file():
        return Film((), {})
    frames: list[Frame] = []
    for line in read_json_lines(path):
        if type(line.get("format")) is int and line["format"] > FORMAT:
            raise ModelError(f"{path}: format {line['format']}", expected=f"format {FORMAT}", remedy="a newer vitrail reads it")
        try:
            frames.append(Frame.model_validate(line))
        except ValidationError as error:
            place = ".".join(map(str, error.errors()[0]["loc"]))
            _log.warning("%s: a line of step %s is not a frame of a film (%s); left out", path, line.get("step"), place)
    same = [frame for frame in frames if (frame.task, frame.probes) == (frames[-1].task, frames[-1].probes)]
    return Film(tuple(same), _scores(folder / "metrics.jsonl"))


def _scores(path: Path) -> dict[int, dict[str, float]]:
    """Step -> results of its validation, without those of averaged checkpoints, which are another model."""
    found: dict[int, dict[str, float]] = {}
    for line in read_json_lines(path, needs={"validation": ("step",)}) if path.is_file() else []:
        if line.get("kind") == "validation" and "averaged_checkpoints" not in line:
            values = {name: float(value) for name, value in line.items() if name.startswith("dev_") and isinstance(value, int | float)}
            found[line["step"]] = values
    return found


def _evenly(count: int, most: int) -> list[int]:
    """At most so many of `count` places, the first and the last among them."""
    assert most >= 2
    return list(range(count)) if count <= most else [round(place * (count - 1) / (most - 1)) for place in range(most)]


def _entropies(frames: Sequence[Frame], kind: AttentionType) -> list[list[list[float | None]]]:
    layers = frames[0].entropies[kind]
    return [[[frame.entropies[kind][layer][head] for frame in frames] for head in range(len(heads))] for layer, heads in enumerate(layers)]


def _choices(frames: Sequence[tuple[Choice, ...]]) -> list[Plain]:
    """The choices of one probe, place by place."""
    return [
        {
            "position": frames[0][place].position,
            "wanted": frames[0][place].wanted,
            "chance": [frame[place].chance for frame in frames],
            "rank": [frame[place].rank for frame in frames],
            "candidates": [frame[place].candidates for frame in frames],
        }
        for place in range(len(frames[0]))
    ]


def _norm(place: str, frames: Sequence[NormStatistics]) -> Plain:
    running = [frame.running for frame in frames]
    drift = {
        "mean_drift": [None if one is None else one.mean_drift for one in running],
        "variance_drift": [None if one is None else one.variance_drift for one in running],
    }
    return {
        "place": place,
        "kind": frames[0].kind,
        "input": _moments([frame.input for frame in frames]),
        "output": _moments([frame.output for frame in frames]),
        "running": None if running[0] is None else drift,
    }


def _moments(frames: Sequence[Moments]) -> Plain:
    shown = range(min(UNITS, len(frames[0].units)))
    return {
        "mean": [frame.mean for frame in frames],
        "variance": [frame.variance for frame in frames],
        "shift": [None, *(shift(before, after) for before, after in pairwise(frames))],
        "units": [[list(frame.units[unit]) for frame in frames] for unit in shown],
    }


def shift(before: Moments, after: Moments) -> float | None:
    """The shift of features: |change of mean| / deviation before, the mean over the features whose deviation is not 0."""
    moved = [
        abs(new[0] - old[0]) / old[1]
        for old, new in zip(before.units, after.units, strict=True)
        if old[0] is not None and new[0] is not None and old[1]
    ]
    return round(sum(moved) / len(moved), 4) if moved else None


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value
