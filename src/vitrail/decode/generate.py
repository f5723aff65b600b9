"""Text from a language model: continuations of prompts, and the perplexity of given text."""

from collections.abc import Callable, Iterator, Sequence
from collections.abc import Generator as Steps
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, TypeVar, cast, overload

import numpy as np

from vitrail.data.cleaning.blank_lines import BlankLines
from vitrail.data.cleaning.normalise import normalise
from vitrail.data.vocabularies.subwords import EOS, Subwords
from vitrail.decode.engines.engine import Engine
from vitrail.decode.engines.table import make_engine, suitable
from vitrail.decode.search.query import Hypothesis, Query
from vitrail.decode.search_config import BatchConfig, SamplingConfig, SearchConfig
from vitrail.decode.textual.spelling import Spelling, StopRule, StopStrings
from vitrail.errors import UsageError
from vitrail.models.architectures import task_of
from vitrail.models.stored import of_another_task, read_stored
from vitrail.runtime.machine import Device

if TYPE_CHECKING:
    from vitrail.decode.perplexity import TextPerplexity
    from vitrail.models.base import LanguageModel

MOST_TOKENS = 200
"""Default length limit of a line."""

Ended = Literal["line", "stop", "length"]
"""Why a text ends: its last line has ended, a stop string would follow, or the limit of length was reached."""


@dataclass(frozen=True)
class Generated:
    """One text that a model wrote."""

    prompt: str
    """The prompt as the model read it."""
    text: str
    """The whole text, the prompt included. A stop string is not, but the prompt stays whole where one began in it."""
    tokens: tuple[int, ...]
    """The tokens after the prompt, without the end; those that wrote a stop string are among them."""
    log_probability: float
    """Log-probability of these tokens and the end, in nats."""
    token_log_probabilities: tuple[float, ...]
    ended: Ended

    @property
    def truncated(self) -> bool:
        """True when the limit of length was reached before the end of the line."""
        return self.ended == "length"


class Piece(NamedTuple):
    """A piece of a text that is being written."""

    prompt: int
    """Which prompt it continues, from 0."""
    sample: int
    """Which continuation of this prompt, from 0."""
    text: str
    ended: Ended | None
    """Of the last piece of a text: why it ended."""


@dataclass(frozen=True)
class _Written:
    """A text so far: the prompt, and some lines after it."""

    prompt: str
    read: tuple[int, ...]
    """The prompt's tokens."""
    spelling: Spelling
    tokens: tuple[int, ...] = ()
    log_probability: float = 0.0
    scores: tuple[float, ...] = ()
    ended: Ended = "line"

    def opened(self) -> "_Written":
        """Before the next line."""
        return replace(self, spelling=self.spelling.then(EOS), tokens=(*self.tokens, EOS))

    def extended(self, more: Hypothesis, strings: StopStrings) -> "_Written":
        """With the tokens of a search."""
        spelling, before = self.spelling.then_all(more.tokens), len(self.spelling.text)
        stopped = more.stopped or strings.find(spelling.finished, after=before) is not None
        return replace(
            self,
            spelling=spelling,
            tokens=(*self.tokens, *more.tokens),
            log_probability=self.log_probability + more.log_probability,
            scores=(*self.scores, *more.token_log_probabilities),
            ended="stop" if stopped else "length" if more.truncated else "line",
        )

    def result(self, strings: StopStrings) -> Generated:
        """The text without the stop string that ended it; nothing before it has one."""
        text = self.spelling.finished
        found = strings.find(text, after=len(self.prompt)) if self.ended == "stop" else None
        cut = len(text) if found is None else max(found.first, len(self.prompt))
        return Generated(self.prompt, text[:cut], self.tokens, self.log_probability, self.scores, self.ended)

    def safe(self, strings: StopStrings) -> str:
        """What will stay of the text whatever follows: whole characters, and nothing of a stop string."""
        text = self.spelling.text
        found = strings.find(text, after=len(self.prompt))
        return text[: max(strings.begun(text) if found is None else found.first, len(self.prompt))]


@dataclass(frozen=True)
class _Ask:
    """How texts are to be written."""

    search: SearchConfig
    lines: int
    seed: int
    strings: StopStrings

    @classmethod
    def of(cls, search: SearchConfig | None, *, lines: int, seed: int, stop: str | Sequence[str]) -> "_Ask":
        """Raises UsageError for less than one line, and for what is no stop string."""
        if lines < 1:
            raise UsageError(f"{lines} lines", expected="at least 1")
        search = default_search() if search is None else search
        if "repeat_ngram" not in search.model_fields_set:
            # Its default is made for translations: a long text of characters has any three of them often.
            search = search.model_copy(update={"repeat_ngram": 0})
        return cls(search, lines, seed, StopStrings.of(stop))

    def line_seed(self, number: int, row: int, sample: int) -> int:
        """The seed of one line of one continuation; all continuations of a prompt draw their first lines from one seed."""
        if number == 0:
            return self.seed + row
        return int(np.random.SeedSequence((self.seed, number, row, sample)).generate_state(1)[0])

    @property
    def further(self) -> SearchConfig:
        """How the lines after the first are searched: one for each text."""
        return self.search.model_copy(update={"n_best": 1})


def default_search(samples: int = 1) -> SearchConfig:
    """Default search: sampling among the tokens that together reach 95 % of the probability."""
    return SearchConfig(n_best=samples, sampling=SamplingConfig(top_p=0.95), max_extra=MOST_TOKENS)


Own = TypeVar("Own", bound="Generator")
"""The class that `load` is called on."""


class Generator:
    """A language model that generates text.

    generator = Generator.load("runs/lm")
    print(generator.generate("The cat")[0].text)

    Args: model: a language model; or an engine that has one.
    """

    engines: ClassVar[tuple[str, ...]] = ()
    """The suitable engines; empty: all."""

    def __init__(self, model: "LanguageModel | Engine", vocabulary: Subwords, *, facts: dict[str, Any] | None = None) -> None:
        self.engine = model if isinstance(model, Engine) else _on_torch(model)
        """What computes."""
        self.vocabulary, self.facts = vocabulary, facts or {}

    @classmethod
    def load(
        cls: "type[Own]",
        path: str | Path,
        *,
        engine: str = "auto",
        precision: Literal["int8", "bf16", "fp32"] = "fp32",
        device: Device = "cpu",
        threads: int | None = None,
    ) -> "Own":
        """Load a language model from a run's folder or a model folder.

        Args:
            engine: native, torch, or auto for the first of them that can compute with the model; see docs/engine.md.
            precision: of the native engine.
            threads: processor threads (0: one for each core), with torch for this whole process; None leaves them as they are.
        Raises: ModelError where the folder is missing or damaged, or holds another kind of model; UsageError for an unknown engine, or one
            that cannot compute with the model.
        """
        stored = read_stored(Path(path))
        if task_of(stored.config) != "language":
            raise of_another_task(path, stored.config, expected="language")
        names, config = suitable(engine, among=cls.engines), BatchConfig(precision=precision)
        made = make_engine(names, [stored], device=device, threads=threads, config=config)
        return cls(made, stored.vocabularies.target, facts=stored.facts)

    @property
    def model(self) -> "LanguageModel":
        """The model on torch."""
        return cast("LanguageModel", self.engine.on_torch().model)

    def announce(self, say: Callable[[str], None]) -> None:
        """Say what will compute a request."""
        self.engine.announce(SearchConfig(), say=say)

    @overload
    def generate(
        self, prompts: str = "", *, search: SearchConfig | None = None, lines: int = 1, seed: int = 0, stop: str | Sequence[str] = ()
    ) -> list[Generated]: ...
    @overload
    def generate(
        self, prompts: Sequence[str], *, search: SearchConfig | None = None, lines: int = 1, seed: int = 0, stop: str | Sequence[str] = ()
    ) -> list[list[Generated]]: ...
    def generate(
        self,
        prompts: str | Sequence[str] = "",
        *,
        search: SearchConfig | None = None,
        lines: int = 1,
        seed: int = 0,
        stop: str | Sequence[str] = (),
    ) -> list[Generated] | list[list[Generated]]:
        """Continue a line, or each of several, to its end: `search.n_best` continuations of each.

        Args:    prompts: beginnings of lines; empty: no beginning. search: see `default_search`; with `sampling=None`, a beam search.
                 lines: of each result. Each line is generated from all lines before it. seed: each prompt has its own generator, seeded
                 with this and its place. stop: strings that end a text as soon as it contains one, whatever tokens they are made of;
                 those that the prompt contains do not count.
        Returns: the continuations of one prompt, best first (in the order drawn, when sampling); a list of these for several prompts.
        Raises:  UsageError for less than one line, or an empty stop string.
        """
        ask = _Ask.of(search, lines=lines, seed=seed, stop=stop)
        begun = [self._begin(prompt) for prompt in ([prompts] if isinstance(prompts, str) else prompts)]
        queries = [self._query(one, ask, seed=ask.line_seed(0, row, 0)) for row, one in enumerate(begun)]
        results = self.engine.search([()] * len(queries), queries, config=ask.search)
        found = [self._extended(one, row, ask) for one, row in zip(begun, results, strict=True)]
        for number in range(1, lines):
            places = [(row, place) for row, many in enumerate(found) for place, one in enumerate(many) if one.ended == "line"]
            for row, place in places:
                found[row][place] = self._opened(found[row][place], ask)
            places = [(row, place) for row, place in places if found[row][place].ended == "line"]
            queries = [self._query(found[row][place], ask, seed=ask.line_seed(number, row, place)) for row, place in places]
            further = self.engine.search([()] * len(queries), queries, config=ask.further)
            for (row, place), (more, *_) in zip(places, further, strict=True):
                found[row][place] = found[row][place].extended(more, ask.strings)
        written = [[one.result(ask.strings) for one in many] for many in found]
        return written[0] if isinstance(prompts, str) else written

    def stream(
        self, prompt: str = "", *, search: SearchConfig | None = None, lines: int = 1, seed: int = 0, stop: str | Sequence[str] = ()
    ) -> Iterator[str]:
        """The text that `generate` returns with the same arguments, in pieces as it is written, the prompt first.

        A piece has whole characters and nothing of a stop string. Whoever stops reading stops the writing.
        Raises: as `generate`; and UsageError for more than one continuation, or several beams.
        """
        if search is not None and search.n_best > 1:
            raise UsageError(f"a stream of {search.n_best} continuations", expected="one", remedy="n_best=1, or Generator.pieces")
        pieces = self.pieces([prompt], search=search, lines=lines, seed=seed, stop=stop)
        return (piece.text for piece in pieces if piece.text)

    def pieces(
        self, prompts: Sequence[str], *, search: SearchConfig | None = None, lines: int = 1, seed: int = 0, stop: str | Sequence[str] = ()
    ) -> Iterator[Piece]:
        """The same for several prompts and continuations: one text after the other, in the order of `generate`.

        The continuations of a prompt are drawn together; the first one is told as it is drawn, the others after it.
        Raises: as `generate`; and UsageError for several beams.
        """
        ask = _Ask.of(search, lines=lines, seed=seed, stop=stop)
        if ask.search.sampling is None and ask.search.beams > 1:
            raise UsageError(
                f"a stream from {ask.search.beams} beams", expected="drawing, or one beam: which of several is the best is known at the end"
            )
        return (piece for row, prompt in enumerate(prompts) for piece in self._pieces(self._begin(prompt), row, ask))

    def _pieces(self, begun: _Written, row: int, ask: _Ask) -> Iterator[Piece]:
        """The continuations of one prompt."""
        told = 0
        waiting: list[_Written] = [begun]
        for sample in range(ask.search.n_best):
            for number in range(ask.lines):
                if number > 0 or sample == 0:
                    one = waiting[sample] if number == 0 else self._opened(waiting[sample], ask)
                    if one.ended != "line":
                        waiting[sample] = one
                        break
                    steps = self._line(one, ask.further if number else ask.search, ask, seed=ask.line_seed(number, row, sample))
                    while True:
                        try:
                            text = next(steps)
                        except StopIteration as end:
                            waiting[sample : sample + 1] = end.value
                            break
                        if len(text) > told:
                            yield Piece(row, sample, text[told:], None)
                            told = len(text)
            result = waiting[sample].result(ask.strings)
            yield Piece(row, sample, result.text[told:], result.ended)
            told = 0

    def _line(self, one: _Written, search: SearchConfig, ask: _Ask, *, seed: int) -> Steps[str, None, list[_Written]]:
        """Tell what is safe of the first continuation of a text after each step; return all, one line longer."""
        steps = self.engine.steps(self._query(one, ask, seed=seed), config=search)
        now = one
        yield now.safe(ask.strings)
        while True:
            try:
                token = next(steps)
            except StopIteration as end:
                return self._extended(one, end.value, ask)
            if token is not None:
                now = replace(now, spelling=now.spelling.then(token))
                yield now.safe(ask.strings)

    def _begin(self, prompt: str) -> _Written:
        text = normalise(prompt)
        ids = tuple(self.vocabulary.encode(text))
        return _Written(text, ids, Spelling(self.vocabulary, text, ids))

    def _opened(self, one: _Written, ask: _Ask) -> _Written:
        """A text before its next line; unless the line break ends it."""
        if one.ended != "line":
            return one
        opened = one.opened()
        if ask.strings.find(opened.spelling.text, after=len(one.spelling.text)) is not None:
            return replace(one, spelling=opened.spelling, ended="stop")
        return opened

    def _extended(self, one: _Written, found: Sequence[Hypothesis], ask: _Ask) -> list[_Written]:
        """The continuations of a text by the results of a search."""
        ordered = found if ask.search.sampling is None else sorted(found, key=lambda item: item.column)
        return [one.extended(more, ask.strings) for more in ordered]

    def _query(self, one: _Written, ask: _Ask, *, seed: int) -> Query:
        """The search of the next line of a text."""
        longest, shortest = ask.search.lengths()
        return Query(
            (EOS, *one.read, *one.tokens),
            longest=longest,
            shortest=shortest,
            seed=seed,
            spell=None if ask.search.sampling else self._speller(() if one.tokens else one.read),
            stop=StopRule(ask.strings, one.spelling) if ask.strings.strings else None,
        )

    def _speller(self, before: Sequence[int]) -> Callable[[Sequence[int]], str]:
        def spell(tokens: Sequence[int]) -> str:
            return self.vocabulary.decode([*before, *tokens])

        return spell

    def measure(self, lines: Sequence[str]) -> "TextPerplexity":
        """The perplexity of a text per token and word, and bits per byte. Raises UsageError for an empty text.

        Empty lines are read as in the training: one of several, or none.
        """
        blanks = BlankLines(keep=bool(self.facts.get("blank_lines")))
        kept = [normalise(line) for line in lines if not blanks.fault(line)]
        if not kept:
            raise UsageError("an empty text", expected="at least one line that is not empty")
        from vitrail.decode.perplexity import measure_text

        return measure_text(self.model, self.vocabulary, kept)


def _on_torch(model: "LanguageModel") -> Engine:
    from vitrail.decode.engines.torch import TorchEngine

    return TorchEngine(model.eval(), device=next(model.parameters()).device)
