"""Translation with each system in turn, text to text: `vitrail bench translate`."""

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from vitrail.bench.translating.systems import REFERENCE
from vitrail.bench.translating.tuning import Wanted, at_their_best
from vitrail.errors import UsageError
from vitrail.evaluation.scores import evaluate
from vitrail.runtime.machine import Machine, describe_machine

_LEGEND = """sentences/s: by the clock; a core: a second of processor time; x: ratios of it, medians of the rounds
words: source words a second of processor time; equal: sentences translated as by torch in fp32"""


@dataclass(frozen=True)
class TranslateRow:
    """One system with one number of beams."""

    system: str
    beams: int
    seconds: tuple[float, ...]
    """Of all sentences by the clock, in each round."""
    cpu_seconds: tuple[float, ...]
    """The same in processor time of all threads: what counts where other programs are busy."""
    settings: str
    """The best ones, as they were found."""
    equal_share: float
    """Sentences whose translation is that of torch."""
    bleu: float | None

    def by_the_clock(self, count: int) -> float:
        """Of so many things a second by the clock, the median of the rounds."""
        return count / statistics.median(self.seconds)

    def per_core(self, count: int) -> float:
        """The same a second of processor time."""
        return count / statistics.median(self.cpu_seconds)


@dataclass(frozen=True)
class TranslateBench:
    """All rows, the machine, and who was not there."""

    machine: Machine
    model: str
    sentences: int
    words: int
    """Of the sources, divided by spaces."""
    threads: int
    versions: Mapping[str, Mapping[str, str]]
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
                "sentences_per_second": row.by_the_clock(self.sentences),
                "sentences_per_core_second": row.per_core(self.sentences),
                "words_per_core_second": row.per_core(self.words),
                "times": {other.system: self.ratio(row, other.system) for other in self.rows if other.beams == row.beams},
            }
            for row in self.rows
        ]
        return json.dumps({**asdict(self), "rows": rows}, indent=2)

    def to_text(self) -> str:
        """A table for people."""
        lines = [self.machine.to_text(), f"{self.model}: {self.sentences:,} sentences, {self.words:,} words, {self.threads} threads"]
        lines += [f"not measured: {one}" for one in self.missing]
        lines += [f"{name}: {', '.join(f'{part} {one}' for part, one in found.items())}" for name, found in self.versions.items()]
        titles = ("beams", "sentences/s", "a core", "words", "x torch", "x CT2 int8", "equal", "BLEU")
        lines += ["", f"{'':<18}" + "".join(f" {title:>11}" for title in titles)]
        for row in self.rows:
            ratios = [self.ratio(row, REFERENCE), self.ratio(row, "ctranslate2 int8")]
            shown = [
                str(row.beams),
                f"{row.by_the_clock(self.sentences):,.0f}",
                f"{row.per_core(self.sentences):,.0f}",
                f"{row.per_core(self.words):,.0f}",
                *("" if ratio is None else f"{ratio:.2f}" for ratio in ratios),
                f"{row.equal_share:.1%}",
                "" if row.bleu is None else f"{row.bleu:.2f}",
            ]
            lines.append(f"{row.system:<18}" + "".join(f" {one:>11}" for one in shown))
        lines += ["", *(f"{row.system}, {row.beams} beams: {row.settings}" for row in self.rows if row.settings), "", _LEGEND]
        return "\n".join(lines) + "\n"


def compare_engines(
    wanted: Wanted, texts: Sequence[str], *, references: Sequence[str], repeats: int, say: Callable[[str], None]
) -> TranslateBench:
    """Translate the texts with each system in turn, once before the rounds that count.

    Args: references: of each text; empty for no BLEU.
    """
    if not texts or (references and len(references) != len(texts)):
        raise UsageError(f"{len(texts)} sentences and {len(references)} references", expected="one for each other, and at least one")
    rows: list[TranslateRow] = []
    with at_their_best(wanted, texts, say=say) as best:
        for beams in wanted.beams:
            say(f"{beams} beams: once without counting, then {repeats} rounds")
            first = {name: one.translate(texts, beams) for name, one in best.systems.items()}
            rounds = [{name: one.translate(texts, beams) for name, one in best.systems.items()} for _ in range(repeats)]
            for name, one in best.systems.items():
                times = [(sum(found[name].seconds), sum(found[name].cpu_seconds)) for found in rounds]
                seconds, cpu_seconds = zip(*times, strict=True)
                said = first[name].translations
                equal = sum(a == b for a, b in zip(said, first[REFERENCE].translations, strict=True)) / len(texts)
                bleu = evaluate(said, [list(references)], metrics=("bleu",), bootstrap=0)[0].value if references else None
                rows.append(TranslateRow(name, beams, seconds, cpu_seconds, one.describe(beams), equal, bleu))
    words = sum(len(text.split()) for text in texts)
    model, threads = wanted.model.name, wanted.threads
    return TranslateBench(describe_machine(), model, len(texts), words, threads, best.versions, tuple(best.missing), tuple(rows))
