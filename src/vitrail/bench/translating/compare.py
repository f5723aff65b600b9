"""Translation with each engine in turn, text to text: `vitrail bench translate`."""

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

from vitrail.bench.translating import ctranslate2_model
from vitrail.bench.translating.ctranslate2_model import CTranslate2Model
from vitrail.decode.search_config import SearchConfig, TranslateConfig
from vitrail.decode.translate import Translator
from vitrail.errors import UsageError
from vitrail.evaluation.scores import evaluate
from vitrail.models.model_folder import load_model
from vitrail.native.matrices.packing import Precision
from vitrail.runtime.device import set_threads
from vitrail.runtime.machine import Machine, describe_machine

Translate = Callable[[Sequence[str], int], list[str]]
"""Texts and the number of beams in, translations out."""
REFERENCE = "torch fp32"
_LATENCY_SENTENCES = 20
_LEGEND = """sentences/s: by the clock; a core: and second of processor time, and x: ratios of it, medians of the rounds
one, ms: processor time of one sentence by itself; equal: sentences translated as by torch in fp32"""


@dataclass(frozen=True)
class TranslateRow:
    """One system with one number of beams."""

    system: str
    beams: int
    seconds: tuple[float, ...]
    """Of all sentences by the clock, in each round."""
    cpu_seconds: tuple[float, ...]
    """The same in processor time of all threads: what counts where other programs are busy."""
    latency_ms: float
    """Processor time of one sentence by itself, the median."""
    equal_share: float
    """Sentences whose translation is that of torch."""
    bleu: float | None

    def sentences_per_second(self, sentences: int) -> float:
        """By the clock, the median of the rounds."""
        return sentences / statistics.median(self.seconds)

    def sentences_per_core_second(self, sentences: int) -> float:
        """By processor time, the median of the rounds."""
        return sentences / statistics.median(self.cpu_seconds)


@dataclass(frozen=True)
class TranslateBench:
    """All rows, the machine, and who was not there."""

    machine: Machine
    model: str
    sentences: int
    threads: int
    missing: tuple[str, ...]
    rows: tuple[TranslateRow, ...]

    def ratio(self, row: TranslateRow, other: str) -> float | None:
        """How many times as fast a row is as another system with as many beams, in processor time: the median of the rounds."""
        found = [one for one in self.rows if one.system == other and one.beams == row.beams]
        return statistics.median(b / a for a, b in zip(row.cpu_seconds, found[0].cpu_seconds, strict=True)) if found else None

    def to_json(self) -> str:
        """The fields by name, as JSON, with speeds and ratios."""
        rows = [
            {
                **asdict(row),
                "sentences_per_second": row.sentences_per_second(self.sentences),
                "sentences_per_core_second": row.sentences_per_core_second(self.sentences),
                "times_torch": self.ratio(row, REFERENCE),
                "times_ctranslate2": self.ratio(row, "ctranslate2 int8"),
            }
            for row in self.rows
        ]
        return json.dumps({**asdict(self), "rows": rows}, indent=2)

    def to_text(self) -> str:
        """A table for people."""
        lines = [self.machine.to_text(), f"{self.model}: {self.sentences:,} sentences, {self.threads} threads"]
        lines += [f"not measured: {one}" for one in self.missing]
        titles = ("beams", "sentences/s", "a core", "x torch", "x CT2 int8", "one, ms", "equal", "BLEU")
        lines += ["", f"{'':<18}" + "".join(f" {title:>11}" for title in titles)]
        for row in self.rows:
            ratios = [self.ratio(row, REFERENCE), self.ratio(row, "ctranslate2 int8")]
            shown = [
                str(row.beams),
                f"{row.sentences_per_second(self.sentences):,.0f}",
                f"{row.sentences_per_core_second(self.sentences):,.0f}",
                *("" if ratio is None else f"{ratio:.2f}" for ratio in ratios),
                f"{row.latency_ms:.2f}",
                f"{row.equal_share:.1%}",
                "" if row.bleu is None else f"{row.bleu:.2f}",
            ]
            lines.append(f"{row.system:<18}" + "".join(f" {one:>11}" for one in shown))
        return "\n".join([*lines, "", _LEGEND]) + "\n"


def compare_engines(
    model: Path,
    *,
    texts: Sequence[str],
    references: Sequence[str],
    beams: Sequence[int],
    threads: int,
    repeats: int,
    say: Callable[[str], None],
) -> TranslateBench:
    """Translate the texts with each system in turn, once before the rounds that count.

    Args: references: of each text; empty for no BLEU.
    """
    if not texts or (references and len(references) != len(texts)):
        raise UsageError(f"{len(texts)} sentences and {len(references)} references", expected="one for each other, and at least one")
    threads = set_threads(threads)
    systems, missing = _systems(model, threads=threads)
    rows: list[TranslateRow] = []
    for count in beams:
        say(f"{count} beams: once without counting, then {repeats} rounds")
        found = {name: translate(texts, count) for name, translate in systems.items()}
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in systems}
        for _ in range(repeats):
            for name, translate in systems.items():
                times[name].append(_time(translate, texts, count))
        for name, translate in systems.items():
            alone = statistics.median(_time(translate, [text], count)[1] for text in texts[:_LATENCY_SENTENCES])
            equal = sum(one == other for one, other in zip(found[name], found[REFERENCE], strict=True)) / len(texts)
            bleu = evaluate(found[name], [list(references)], metrics=("bleu",), bootstrap=0)[0].value if references else None
            wall, cpu = (tuple(one[part] for one in times[name]) for part in (0, 1))
            rows.append(TranslateRow(name, count, wall, cpu, 1000 * alone, equal, bleu))
    return TranslateBench(describe_machine(), model.name, len(texts), threads, tuple(missing), tuple(rows))


def _time(translate: Translate, texts: Sequence[str], beams: int) -> tuple[float, float]:
    """Seconds by the clock, and of all threads' processor time."""
    began, used = time.perf_counter(), time.process_time()
    translate(texts, beams)
    return time.perf_counter() - began, time.process_time() - used


def _systems(model: Path, *, threads: int) -> tuple[dict[str, Translate], list[str]]:
    systems: dict[str, Translate] = {REFERENCE: _ours(Translator.load(model, engine="torch"))}
    missing: list[str] = []
    for precision in get_args(Precision):
        try:
            one = Translator.load(model, engine="native", config=TranslateConfig(precision=precision))
        except UsageError as error:
            missing.append(str(error.found))
            break
        systems[f"native {precision}"] = _ours(one)
    loaded = load_model(model)
    lacks = ctranslate2_model.obstacle(loaded.config) if find_spec("ctranslate2") else "not installed: pip install ctranslate2"
    if lacks:
        missing.append(f"ctranslate2: {lacks}")
        return systems, missing
    for name, compute in (("int8", "int8"), ("fp32", "float32")):
        peer = CTranslate2Model(loaded, compute=compute, threads=threads)
        systems[f"ctranslate2 {name}"] = _theirs(peer, Translator.load(model, engine="torch"))
    return systems, missing


def _ours(translator: Translator) -> Translate:
    def translate(texts: Sequence[str], beams: int) -> list[str]:
        search = SearchConfig(beams=beams, length_penalty=translator.search.length_penalty)
        return [one.text for one in translator.translate(list(texts), search=search)]

    return translate


def _theirs(peer: CTranslate2Model, translator: Translator) -> Translate:
    """With our reading of texts, so that both get the same tokens; a line is one sentence."""

    def translate(texts: Sequence[str], beams: int) -> list[str]:
        source, target = translator.vocabularies.source, translator.vocabularies.target
        tokens = source.encode_batch([translator.read(text) for text in texts])
        longest = 2 * max(map(len, tokens)) + 50
        penalty = translator.search.length_penalty
        return [target.decode(one) for one in peer.translate(tokens, beams=beams, longest=longest, length_penalty=penalty)]

    return translate
