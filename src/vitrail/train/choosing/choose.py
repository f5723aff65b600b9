"""Zero configuration: from facts about a corpus to settings, each with its reason and the option that changes it."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple

from vitrail.config import Override, with_overrides
from vitrail.data.reading.parallel_text import ParallelText
from vitrail.data.vocabularies.subwords import BEFORE_CHARACTERS, count_characters, needed_characters, roomy_size
from vitrail.errors import UsageError
from vitrail.languages import writing_of

PRESET = "preset"
"""Name of the choice of a whole model; every other name is a configuration key."""


class Needed(NamedTuple):
    """Share of a text whose characters a vocabulary should have."""

    source: int
    target: int
    both: int


class CorpusFacts(NamedTuple):
    """The facts behind the choices."""

    pairs: int
    mean_target_words: float
    """Estimated in scripts without spaces: see LETTERS_PER_WORD."""
    shared_letters: float
    """Share of letters in common on both sides, 0 to 1: see `shared_letters`."""
    cores: int
    gpu: bool
    characters: Needed = Needed(0, 0, 0)
    unspaced_letters: float | None = None
    """Letters per pair of the longer side without spaces between words; None where both sides have spaces."""


class Choice(NamedTuple):
    """One automatic setting."""

    name: str
    value: Any
    reason: str

    @property
    def option(self) -> str:
        """The option to choose another value."""
        if isinstance(self.value, dict | list):  # texts
            return f"--set {self.name}=false"
        return f"--preset {self.value}" if self.name == PRESET else f"--set {self.name}={_shown(self.value)}"

    def to_text(self) -> str:
        """The choice in one line."""
        return f"{self.name} = {_shown(self.value)}: {self.reason}  [{self.option}]"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return " ".join(map(_shown, value))  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(value, dict):
        return str(value["source"])  # pyright: ignore[reportUnknownArgumentType]
    return f"'{value}'" if isinstance(value, str) and " " in value else str(value)


class CorpusDefaults(NamedTuple):
    """Settings for corpora of up to `pairs` pairs."""

    pairs: float
    vocabulary: int
    few_cores: str
    """Preset on a processor of fewer than MANY_CORES cores."""
    many_cores: str
    gpu: str
    dropout: float
    batch_tokens: int
    epochs: int


# Little text: few subwords, so that each is seen often; small batches, so that there are many steps; much dropout.
TABLE = (
    #   pairs     vocabulary  few cores  many cores  GPU      dropout  batch tokens  epochs
    CorpusDefaults(5_000, 2_000, "tiny", "tiny", "tiny", 0.3, 1_024, 60),
    CorpusDefaults(15_000, 4_000, "tiny", "tiny", "tiny", 0.25, 2_048, 50),
    CorpusDefaults(60_000, 8_000, "tiny", "tiny", "tiny", 0.2, 2_048, 40),
    CorpusDefaults(250_000, 12_000, "tiny", "small", "small", 0.1, 4_096, 20),
    CorpusDefaults(1_000_000, 16_000, "small", "small", "small", 0.1, 8_192, 15),
    CorpusDefaults(10_000_000, 24_000, "small", "small", "base", 0.1, 16_384, 10),
    CorpusDefaults(math.inf, 32_000, "small", "small", "base", 0.1, 32_768, 4),
)

MANY_CORES = 8
_RECURRENT = ("rnn", "gru", "lstm", "lstm-attention", "gru-attention")
LEARNING_RATES = {"tiny": 3e-3, "small": 1.5e-3, "base": 7e-4, "big": 5e-4, "student": 7e-4} | dict.fromkeys(_RECURRENT, 3e-3)
WARMUPS = {"tiny": 600, "small": 1_500, "base": 4_000, "big": 6_000, "student": 4_000} | dict.fromkeys(_RECURRENT, 200)
WARMUP_SHARE = "10%"
"""The warm-up is at most this share of the training."""
VALIDATION_SHARE = "25%"
"""The time between two validations is at most this share, so that even a training of a minute has four."""
LEAST_STEPS = 2_000
"""The least steps of a training."""
TOKENS_PER_WORD = 1.4
"""Subwords, ends and padding to a word, roughly."""
VALIDATE_STEPS = (200, 2_000)
"""Steps between validations, at least and at most, where an epoch is shorter or longer."""
JOINT_FROM = 0.4
"""Share of letters in common from which on both languages share one vocabulary. Of 128 languages against English, those in another script
have 0.18 at most (Chinese, with Latin names), those in the same 0.58 at least (Vietnamese)."""
LETTERS_PER_WORD = 2.5
"""In scripts without spaces, roughly: 2 in Japanese and Chinese, 4 in Thai."""
LETTERS_PER_SUBWORD = 100
"""Without spaces, subwords grow over word boundaries: in 3,000 similar sentences, 2,000 subwords are whole phrases, and a model of them
memorises sentences (BLEU 91 on new ones, falling while it trains). With this many letters of text per subword, subwords stay about as short
as words."""
_SAMPLE = 10_000
_BATCH = {"batch_tokens": None, "accumulate": 1}


def choose(facts: CorpusFacts, *, preset: str | None = None, asked: Mapping[str, Any] | None = None) -> list[Choice]:
    """Choose vocabulary, model, dropout, batch, schedule and length. A pure function.

    Choices for the prepared data (`data.*`) depend on the text alone, not on the machine.

    Args:   preset: the model, if the user chose it; the rest depends on it.
    asked: the user's settings, a nested table: the length depends on their batch size.
    Raises: UsageError for a preset that does not exist.
    """
    if preset is not None and preset not in LEARNING_RATES:
        raise UsageError(f"preset {preset!r}", expected=" ".join(LEARNING_RATES))
    row = next(row for row in TABLE if facts.pairs <= row.pairs)
    corpus = f"{facts.pairs:,} pairs"
    model = preset or (row.gpu if facts.gpu else row.many_cores if facts.cores >= MANY_CORES else row.few_cores)
    machine = "a GPU" if facts.gpu else f"{facts.cores} cores"
    joint = facts.shared_letters >= JOINT_FROM
    letters = f"source and target have {facts.shared_letters:.0%} of their letters in common"
    characters = facts.characters.both if _asked_joint(asked or {}, joint) else max(facts.characters[:2])
    a_step = tokens_a_step(asked or {}, row.batch_tokens)
    steps_per_epoch = max(1, math.ceil(facts.pairs * facts.mean_target_words * TOKENS_PER_WORD / a_step))
    epochs = max(row.epochs, math.ceil(LEAST_STEPS / steps_per_epoch))
    steps = epochs * steps_per_epoch
    return [
        _vocabulary_size(row, facts, characters),
        Choice("data.subwords.joint", joint, letters),
        *([] if preset else [Choice(PRESET, model, f"{corpus} on {machine}")]),
        *([] if joint else [Choice("model.tie", "target", "separate vocabularies cannot share one embedding")]),
        Choice("model.dropout", row.dropout, f"{corpus}: small corpora overfit sooner"),
        Choice("train.batch_tokens", row.batch_tokens, f"{corpus} make about {steps_per_epoch:,} steps an epoch so"),
        Choice("optimizer.learning_rate", LEARNING_RATES[model], f"the highest stable rate for the {model} model"),
        Choice("schedule.warmup", f"{WARMUPS[model]} steps, at most {WARMUP_SHARE}", "a short training needs time to learn after it"),
        Choice("train.duration", f"{epochs} epochs", f"{corpus}: about {steps:,} steps"),
        Choice("train.validate_every", validate_every(steps_per_epoch), f"an epoch has about {steps_per_epoch:,} steps"),
    ]


def _vocabulary_size(row: CorpusDefaults, facts: CorpusFacts, characters: int) -> Choice:
    name, corpus = "data.subwords.size", f"{facts.pairs:,} pairs"
    size = roomy_size(row.vocabulary, characters)
    if facts.unspaced_letters is not None:
        letters = facts.pairs * facts.unspaced_letters
        most = 100 * math.ceil((BEFORE_CHARACTERS + characters + letters / LETTERS_PER_SUBWORD) / 100)
        if most < size:
            return Choice(name, most, f"{corpus} with {letters:,.0f} letters and no spaces between words: subwords about as long as these")
    many = f"; {characters:,} characters need ids of their own" if size > row.vocabulary else ""
    return Choice(name, size, f"{corpus}: few enough subwords to see each often{many}")


def _asked_joint(asked: Mapping[str, Any], chosen: bool) -> bool:
    """Whether there will be one vocabulary. A setting that cannot be is refused later, with all others."""
    table: Any = asked
    for name in ("data", "subwords", "joint"):
        table = table.get(name) if isinstance(table, Mapping) else None  # pyright: ignore[reportUnknownVariableType]
    return table if isinstance(table, bool) else chosen


def tokens_a_step(asked: Mapping[str, Any], chosen: int) -> int:
    """Target positions of one update. A setting that cannot be is refused later, with all others."""
    table: Any = asked.get("train", {})
    values = [table.get(name, default) if isinstance(table, dict) else default for name, default in _BATCH.items()]
    batch, accumulate = (value if isinstance(value, int) and value > 0 else None for value in values)
    return (batch or chosen) * (accumulate or 1)


def validate_every(steps_per_epoch: int) -> str:
    """How often to validate, as a setting."""
    least, most = VALIDATE_STEPS
    interval = "1 epochs" if least <= steps_per_epoch <= most else f"{min(max(steps_per_epoch, least), most)} steps"
    return f"{interval}, at most {VALIDATION_SHARE}"


def gather_facts(corpora: Sequence[ParallelText], *, cores: int, gpu: bool) -> CorpusFacts:
    """Count the pairs of all corpora, and examine the first of each. Raises DataError, UsageError where a corpus cannot be read."""
    pairs = sum(corpus.count() for corpus in corpora)
    sides: tuple[list[str], list[str]] = ([], [])
    for corpus in corpora:
        for pair in islice(corpus.pairs(), _SAMPLE):
            sides[0].append(pair.source)
            sides[1].append(pair.target)
    characters = tuple(map(count_characters, sides))
    needed = Needed(*map(needed_characters, (*characters, characters[0] + characters[1])))
    source, target = map(unspaced_letters, sides)
    words = sum(len(text.split()) for text in sides[1]) / max(1, len(sides[1])) if target is None else target / LETTERS_PER_WORD
    unparted = max((letters for letters in (source, target) if letters is not None), default=None)
    return CorpusFacts(pairs, max(1.0, words), shared_letters(*characters), cores, gpu, needed, unparted)


def unspaced_letters(texts: Sequence[str]) -> float | None:
    """Mean number of letters in a text of an unspaced script; None where words are separated by spaces, even by a tokeniser."""
    writing = writing_of(texts)
    if not writing.unspaced or writing.parted:
        return None
    return sum(map(str.isalpha, chain.from_iterable(texts))) / len(texts)


def shared_letters(source: Counter[str], target: Counter[str]) -> float:
    """The overlap of the letters of two texts: the sum over letters of the smaller share of the two; 0 to 1.

    Letters count as often as they occur: a few names in another script make no common alphabet.
    """
    sides: list[Counter[str]] = []
    for counts in (source, target):
        letters: Counter[str] = Counter()
        for character, number in counts.items():
            if character.isalpha():
                letters[character.lower()] += number
        sides.append(letters)
    totals = [side.total() for side in sides]
    if not all(totals):
        return 1.0
    return round(sum(min(sides[0][letter] / totals[0], sides[1][letter] / totals[1]) for letter in sides[0].keys() & sides[1].keys()), 3)


def to_table(choices: Iterable[Choice]) -> dict[str, Any]:
    """The choices as a nested table of settings; the preset is given by name."""
    return with_overrides({}, (Override(tuple(choice.name.split(".")), choice.value) for choice in choices))


def still_automatic(choices: Iterable[Choice], asked: dict[str, Any]) -> list[Choice]:
    """The choices that the user's settings do not replace.

    Args: asked: a nested table; `{"preset": ...}` and `{"model": {...}}` where the user asked for these.
    Raises: UsageError for a value in place of a table.
    """
    return [choice for choice in choices if not _holds(asked, choice.name)]


def _holds(table: dict[str, Any], name: str) -> bool:
    value: Any = table
    for part in name.split("."):
        if not isinstance(value, dict):
            raise UsageError(f"{name}: found {value!r}, expected a table")
        if part not in value:
            return False
        value = value[part]  # pyright: ignore[reportUnknownVariableType]
    return True
