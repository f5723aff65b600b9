"""The translator: text in, `Translation` out, in the order of the input whatever was batched with what."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, overload

import regex
import torch
from jaxtyping import Int
from torch import Tensor

from vitrail.config import build, merge
from vitrail.data.normalise import BEFORE, Normalisation, has_letters
from vitrail.data.subwords import EOS, PAD, UNK, Subwords, Vocabularies
from vitrail.decode.config import SearchConfig, TranslateConfig
from vitrail.decode.constraints import UNCONSTRAINED, Constraints, TokenIds, contains, repeats
from vitrail.decode.ensemble import Ensemble, Translating
from vitrail.decode.forcing import share_out
from vitrail.decode.joining import Alternative, Stretch, Translated, join, write
from vitrail.decode.query import Hypothesis, Query
from vitrail.decode.search import Observation, beam_search
from vitrail.decode.sending import Packed, pack, unpack
from vitrail.decode.split import Part, split_to_fit
from vitrail.errors import ModelError, UsageError
from vitrail.models.folder import LoadedModel, load_model
from vitrail.runtime import Device, choose_device, fewest_rows, set_threads, survive_forks

AnyTranslator = TypeVar("AnyTranslator", bound="Translator")

SEEN_SEVERAL = 0.05
"""From this share of training lines with several sentences on, a model is trusted to translate them together. Corpora of sentences have
0 to 0.02, of paragraphs 0.35 to 0.42 (Multi30k, Tatoeba, WMT news, the documentation of Python, Wikipedia)."""
_MOST_STORED_BEAMS = 1000
_BATCH_ROWS = 1024
"""Hypotheses decoded side by side, at most, unless one sentence has more."""


@dataclass(frozen=True)
class Wishes:
    """What is asked of every translation of a call.

    Args:
        prefix: the translation begins with this text. Of a text translated in parts, the first part does.
        forbidden: words or phrases that may not occur. Goes by subwords, so that longer words that begin the same way may go too.
        forced: words or phrases that must occur, each on its own and not inside a longer word. Of a text in parts, each in the part that
            holds it anyway, or else in the one where it costs least.

    One text stands for a list of itself. Raises UsageError for anything else that is no text.
    """

    prefix: str = ""
    forbidden: Sequence[str] = ()
    forced: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.prefix, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise UsageError(f"Wishes: prefix is {self.prefix!r}", expected="one text")
        for name in ("forbidden", "forced"):
            given: Any = getattr(self, name)
            words: tuple[Any, ...] = (given,) if isinstance(given, str) else tuple(given)
            if not all(isinstance(word, str) for word in words):
                raise UsageError(f"Wishes: {name} is {given!r}", expected="words or phrases")
            object.__setattr__(self, name, words)
        for text in (self.prefix, *self.forbidden, *self.forced):
            if encodable(text) != text:
                raise UsageError(f"Wishes: {text!a} is not UTF-8", remedy="set the terminal to UTF-8, or write the words anew")


@dataclass(frozen=True)
class Translation:
    """One text translated. An empty text has an empty translation of score 0."""

    source: str
    text: str
    score: float
    """Natural logarithm of the probability, normalised by length as `SearchConfig.length_penalty` says."""
    log_probability: float
    tokens: tuple[int, ...]
    pieces: tuple[str, ...]
    """The tokens as people read them."""
    alternatives: tuple[Alternative, ...]
    """The n-best list, best first; the first is the translation itself."""
    truncated: bool
    """Whether some part reached the limit of length before its end."""
    parts: int
    """In how many pieces the text was translated."""
    cut: bool
    """Whether a sentence had to be cut because it was too long."""
    stretches: tuple[Stretch, ...] = ()
    """The parts that have tokens, as they stand in `source` and `text`."""
    passed_through: bool = False
    """Whether there was nothing to translate, no letter, so that the text stayed as it is."""
    token_log_probabilities: tuple[float, ...] = ()
    """One for each token and, after those of each part, one for its end unless it was truncated."""


class SearchedPart(NamedTuple):
    """One part of a text that has tokens, with all that the search found for it."""

    stretch: Stretch
    query: Query
    hypotheses: tuple[Hypothesis, ...]
    """Best first; the first one is in the translation."""


class Searched(NamedTuple):
    """A translation with its parts, and the search as it was done: with more beams where words are forced."""

    translation: Translation
    parts: tuple[SearchedPart, ...]
    search: SearchConfig


class _Job(NamedTuple):
    """One part of one text, ready for the model."""

    tokens: tuple[int, ...]
    query: Query
    text: str = ""
    """What was encoded."""


class _Text(NamedTuple):
    """One text and the jobs that its parts became; a part that is not translated has None."""

    source: str
    parts: list[Part]
    jobs: list[int | None]
    copies: list[str]
    """What stands in the translation for each part without a job: the part itself where it has no letter to translate."""
    places: list[tuple[int, int]]
    """Where each part begins and ends in the source."""


class Translator:
    """Translates texts with one model, or several that vote.

    Args:
        model: any translation model or `Ensemble`, in evaluation mode and on `device`.
        longest_source: tokens of the longest source that the model was trained on, if known.
        several_sentences: share of the source lines that the model was trained on that hold several sentences, if known.
        languages: of source and target, where they are known.
        normalisation: how sources are read; as they were in training.
    """

    def __init__(
        self,
        model: Translating,
        *,
        vocabularies: Vocabularies,
        config: TranslateConfig | None = None,
        device: torch.device | None = None,
        longest_source: int | None = None,
        several_sentences: float | None = None,
        languages: tuple[str, str] = ("", ""),
        normalisation: Normalisation = BEFORE,
    ) -> None:
        self.vocabularies, self.languages, self.normalisation = vocabularies, languages, normalisation
        self.config = TranslateConfig() if config is None else config
        self.search = self.config.search or SearchConfig()
        """How sentences are searched where a call does not say otherwise."""
        self._model = model
        self._device = torch.device("cpu") if device is None else device
        limit = self.config.max_source_tokens
        # A model that has hardly seen two sentences in a line drops the second one. Nor is it known of a model that does not say.
        seen = several_sentences is not None and several_sentences >= SEEN_SEVERAL
        self._comfortable = (limit if longest_source is None else min(limit, longest_source)) if seen else 0
        self._joins = lru_cache(maxsize=65536)(_joining(vocabularies.target))
        survive_forks()

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs: plain bytes in place of models and vocabularies. See docs/programs.md."""
        kept = {name: value for name, value in vars(self).items() if name not in ("_model", "_device", "_joins", "vocabularies")}
        return {**kept, "packed": tuple(pack(self._model, self.vocabularies, self._device))}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._model, self.vocabularies, self._device = unpack(Packed(*state.pop("packed")))
        self._joins = lru_cache(maxsize=65536)(_joining(self.vocabularies.target))
        vars(self).update(state)
        survive_forks()

    @classmethod
    def load(
        cls: type[AnyTranslator],
        path: str | Path,
        *others: str | Path,
        device: Device = "cpu",
        threads: int | None = None,
        config: TranslateConfig | None = None,
        search: SearchConfig | Mapping[str, Any] | None = None,
    ) -> AnyTranslator:
        """Load a run's folder or a model folder; several make an ensemble.

        Args:
            threads: processor threads for this whole process (0: one for each core); None leaves them as they are.
            search: how to search, or what to change of how the (first) model was configured to, such as {"beams": 1}.
        Raises:  ModelError where a folder is missing or damaged, or the models have different vocabularies.
        """
        if threads is not None:
            set_threads(threads)
        place = choose_device(device)
        loaded = [load_model(Path(folder), device=place) for folder in (path, *others)]
        digests = [one.vocabularies.digest for one in loaded]
        model = loaded[0].model if len(loaded) == 1 else Ensemble([one.model for one in loaded], digests=digests)
        longest, several = _longest_source(loaded), _several_sentences(loaded)
        config = TranslateConfig() if config is None else config
        config = config.model_copy(update={"search": _search_of(loaded[0].facts, config.search, search, origin=str(path))})
        facts = loaded[0].facts
        return cls(
            model,
            vocabularies=loaded[0].vocabularies,
            config=config,
            device=place,
            longest_source=longest,
            several_sentences=several,
            languages=(str(facts.get("source_language", "")), str(facts.get("target_language", ""))),
            normalisation=Normalisation.from_fact(facts.get("source_normalization")),
        )

    @overload
    def translate(  # pyright: ignore[reportOverlappingOverload]  (a str is a sequence of str, too)
        self, texts: str, *, wishes: Wishes | None = None, search: SearchConfig | None = None
    ) -> Translation: ...
    @overload
    def translate(self, texts: Sequence[str], *, wishes: Wishes | None = None, search: SearchConfig | None = None) -> list[Translation]: ...
    def translate(
        self, texts: str | Sequence[str], *, wishes: Wishes | None = None, search: SearchConfig | None = None
    ) -> Translation | list[Translation]:
        """Translate one text, or several in order. Any text will do: what cannot be encoded is replaced, and no text raises an error.

        Args:    search: how to search, instead of as `search` says.
        Raises:  UsageError for wishes that cannot be granted.
        """
        if isinstance(texts, str):
            return self._translate([texts], wishes, search, first=0)[0]
        return self._translate(texts, wishes, search, first=0)

    def translate_stream(
        self, lines: Iterable[str], *, wishes: Wishes | None = None, search: SearchConfig | None = None
    ) -> Iterator[Translation]:
        """Translate lines as they come, one translation for each, in order, with memory for one window of them.

        The first translation waits for a whole window: where lines come slowly and somebody waits for each, `translate_portions`.
        """
        return self.translate_portions(self._windows(lines), wishes=wishes, search=search)

    def translate_portions(
        self, portions: Iterable[Sequence[str]], *, wishes: Wishes | None = None, search: SearchConfig | None = None
    ) -> Iterator[Translation]:
        """Translate one portion of the input after the other, without waiting for the next one.

        What is drawn for a text depends on its place in the whole input, not on how that was divided.
        """
        first = 0
        for portion in portions:
            yield from self._translate(portion, wishes, search, first=first)
            first += len(portion)

    def _windows(self, lines: Iterable[str]) -> Iterator[list[str]]:
        window: list[str] = []
        characters = 0
        for line in lines:
            window.append(line)
            characters += len(line)
            if len(window) >= self.config.window_lines or characters >= self.config.window_characters:
                yield window
                window, characters = [], 0
        yield window

    def _translate(self, texts: Sequence[str], wishes: Wishes | None, search: SearchConfig | None, *, first: int) -> list[Translation]:
        search = self.search if search is None else search
        wanted = UNCONSTRAINED if wishes is None else self._constraints(wishes)
        jobs: list[_Job] = []
        prepared = [self._prepare(text, wanted, search, jobs, place=first + number) for number, text in enumerate(texts)]
        results = self._search_all(jobs, search)
        for text in prepared if wanted.forced else ():
            numbers = [number for number in text.jobs if number is not None]
            if len(numbers) > 1:
                self._force(wanted, numbers, jobs, results, search)
        return [self._assemble(text, jobs, results, search) for text in prepared]

    def _search_all(
        self, jobs: list[_Job], search: SearchConfig, observe: Callable[[Observation], None] | None = None
    ) -> list[list[Hypothesis]]:
        """The n-best list of each job; `observe` sees every step, the sentences being numbers of jobs, -1 for a row that only fills up."""
        results: list[list[Hypothesis]] = [[] for _ in jobs]
        for batch in make_batches([len(job.tokens) for job in jobs], config=self.config, width=search.width):
            watch = None if observe is None else _renumbered(observe, batch)
            for number, found in zip(batch, self._search([jobs[number] for number in batch], search, watch), strict=True):
                results[number] = found
        return results

    def _force(
        self, wanted: Constraints, numbers: Sequence[int], jobs: list[_Job], results: list[list[Hypothesis]], search: SearchConfig
    ) -> None:
        """Force each word in one part of a text: in `jobs`, and put what is found instead in `results`."""

        def forcing(job: _Job, words: tuple[tuple[TokenIds, ...], ...]) -> _Job:
            return job._replace(query=replace(job.query, constraints=replace(job.query.constraints, forced=words)))

        def again(places: Sequence[int], words: Sequence[tuple[tuple[TokenIds, ...], ...]]) -> list[list[Hypothesis]]:
            return self._search_all([forcing(jobs[numbers[place]], forced) for place, forced in zip(places, words, strict=True)], search)

        found = share_out(wanted, [results[number] for number in numbers], search=again)
        for number, items, words in zip(numbers, *found, strict=True):
            jobs[number], results[number] = forcing(jobs[number], words), items

    def translate_parts(
        self,
        text: str,
        *,
        wishes: Wishes | None = None,
        search: SearchConfig | None = None,
        observe: Callable[[Observation], None] | None = None,
        only: int | None = None,
    ) -> Searched:
        """Translate one text as `translate` does, and tell what was found for each of its parts that have tokens.

        Args:
            observe: sees every step of the search; the sentences are the numbers of the parts, -1 for a row that only fills a batch.
            only: the number of the one part to translate; the others are left out.
        Raises:  UsageError for wishes that cannot be granted.
        """
        search = self.search if search is None else search
        wanted = UNCONSTRAINED if wishes is None else self._constraints(wishes)
        jobs: list[_Job] = []
        prepared = self._prepare(text, wanted, search, jobs, place=0)
        if wanted.forced and len(jobs) > 1:
            # Which part is to hold which word shows when all are translated; then each is searched with its words, to be observed.
            self._force(wanted, range(len(jobs)), jobs, self._search_all(jobs, search), search)
        if only is None:
            results = self._search_all(jobs, search, observe)
        else:
            watch = None if observe is None else _renumbered(observe, [only])
            results = [self._search([job], search, watch)[0] if number == only else [] for number, job in enumerate(jobs)]
        whole = self._assemble(prepared, jobs, results, search)
        done = [(job.query, tuple(found)) for job, found in zip(jobs, results, strict=True) if found]
        parts = [SearchedPart(stretch, *one) for stretch, one in zip(whole.stretches, done, strict=True)]
        return Searched(whole, tuple(parts), search)

    def cut(self, text: str, *, wishes: Wishes | None = None) -> list[tuple[str, tuple[int, ...]]]:
        """The parts that a text is translated in, as the model reads them: the text and the tokens of each; none that stays as it is."""
        jobs: list[_Job] = []
        self._prepare(text, UNCONSTRAINED if wishes is None else self._constraints(wishes), self.search, jobs, place=0)
        return [(job.text, tuple(job.tokens)) for job in jobs]

    def _prepare(self, source: str, wanted: Constraints, search: SearchConfig, jobs: list[_Job], *, place: int) -> _Text:
        """Cut one text into parts and add a job for each to `jobs`."""
        encode = self.vocabularies.source.encode
        text = self.read(source)
        if self._stays(text, wanted):
            whole = plain(encodable(source)).strip()
            return _Text(source, [Part(whole, "")], [None], [whole], [(0, len(source))])
        parts = split_to_fit(
            text,
            length=lambda part: len(encode(plain(part))),
            comfortable=self._comfortable,
            limit=self.config.max_source_tokens,
        )
        numbers, copies = list[int | None](), list[str]()
        for part in parts:
            begun = any(number is not None for number in numbers)
            constraints = replace(wanted, prefix=(), forced=()) if begun else wanted
            # What must stand at the beginning keeps the first part from standing there as it is.
            stays = self.normalisation.passes(part.text) and not constraints.prefix and has_letters(text)
            read = plain(part.text)
            tokens = [] if stays else encode(read)
            copies.append(part.text if stays else "")
            if not tokens:
                numbers.append(None)
                continue
            # Of several parts, which one is to hold a forced word shows when all are translated.
            constraints = constraints if len(parts) == 1 else replace(constraints, forced=())
            constraints = _unguarded(constraints, tokens, search)
            seed = blake2b(f"{self.config.seed} {place} {len(numbers)}".encode(), digest_size=7).digest()
            numbers.append(len(jobs))
            jobs.append(_Job(tuple(tokens), self._query(tokens, constraints, search, seed=int.from_bytes(seed, "big")), read))
        return _Text(source, parts, numbers, copies, self._places(source, parts))

    def read(self, source: str) -> str:
        """A source as the model reads it."""
        return self.normalisation.source(encodable(source))

    def _stays(self, text: str, wanted: Constraints) -> bool:
        """Whether a text is its own translation: it has no letter, and nothing else is asked for."""
        if not self.normalisation.passes(text) or wanted.prefix or wanted.forced:
            return False
        return not wanted.forbidden or not any(contains(self.vocabularies.target.encode(text), banned) for banned in wanted.forbidden)

    def _places(self, source: str, parts: Sequence[Part]) -> list[tuple[int, int]]:
        """Where each part begins and ends in the source, as it was given."""
        if len(parts) <= 1:
            return [(len(source) - len(source.lstrip()), len(source.rstrip()))] * len(parts)
        origins = [*self.normalisation.origins(encodable(source)), len(source)]
        starts = [0, *accumulate(len(part.text) + len(part.separator) for part in parts)]
        ends = [start + len(part.text) for start, part in zip(starts, parts, strict=False)]
        return [
            (origins[min(start, len(origins) - 1)], origins[min(end, len(origins) - 1)]) for start, end in zip(starts, ends, strict=False)
        ]

    def search_one(
        self,
        source: Sequence[int],
        *,
        wishes: Wishes | None = None,
        search: SearchConfig | None = None,
        observe: Callable[[Observation], None] | None = None,
    ) -> list[Hypothesis]:
        """The n-best list of one sentence, not cut, by its token ids without EOS; `observe` sees every step, the sentence being number 0.

        Precondition: at least one token. Raises UsageError for wishes that cannot be granted.
        """
        search = self.search if search is None else search
        wanted = UNCONSTRAINED if wishes is None else self._constraints(wishes)
        job = _Job(tuple(source), self._query(source, _unguarded(wanted, source, search), search, seed=self.config.seed))
        return self._search([job], search, observe)[0]

    @torch.inference_mode()
    def _search(
        self, jobs: list[_Job], search: SearchConfig, observe: Callable[[Observation], None] | None = None
    ) -> list[list[Hypothesis]]:
        min_rows = fewest_rows(torch.get_num_threads()) if self.config.exact else 1
        # The decoder has a row for each beam, the encoder one for each token and the end.
        sentences = -(-min_rows // min(search.width, len(jobs[0].tokens) + 1))
        padded = jobs + jobs[:1] * (sentences - len(jobs))
        state = self._model.start(self._model.encode(_stack([job.tokens for job in padded]).to(self._device)))
        queries = [job.query for job in padded]
        found = beam_search(self._model.step, state, queries, config=search, observe=observe, min_rows=min_rows, device=self._device)
        return found[: len(jobs)]

    def _query(self, source: Sequence[int], constraints: Constraints, search: SearchConfig, *, seed: int) -> Query:
        """An n-best list has each text once; draws are what they are."""
        longest, shortest = search.lengths(len(source))
        spell = self._spell if search.n_best > 1 and search.sampling is None else None
        return Query(longest=longest, shortest=shortest, constraints=constraints, seed=seed, spell=spell)

    def _spell(self, tokens: Sequence[int]) -> str:
        """Their text. A model with byte pieces can write any character; a line must stay a line."""
        return plain(self.vocabularies.target.decode(tokens)).strip()

    def _assemble(self, text: _Text, jobs: Sequence[_Job], results: Sequence[list[Hypothesis]], search: SearchConfig) -> Translation:
        """Join the translations of the parts."""
        parts = [
            Translated(part, where, copy)
            if number is None
            else Translated(part, where, copy, jobs[number].text, jobs[number].tokens, results[number])
            for part, where, copy, number in zip(text.parts, text.places, text.copies, text.jobs, strict=True)
        ]
        joined = join(parts, search=search, spell=lambda item: self._spell(item.tokens))
        if not joined:
            copy, _ = write(text.parts, text.copies)
            passed = bool(copy)
            return Translation(text.source, copy, 0.0, 0.0, (), (), (), truncated=False, parts=0, cut=False, passed_through=passed)
        best = joined[0]
        return Translation(
            source=text.source,
            text=best.text,
            score=best.score,
            log_probability=best.log_probability,
            tokens=best.tokens,
            pieces=tuple(self.vocabularies.target.pieces(best.tokens)),
            token_log_probabilities=best.token_log_probabilities,
            alternatives=tuple(joined),
            truncated=best.truncated,
            parts=len(best.stretches),
            cut=any(part.cut for part in text.parts),
            stretches=best.stretches,
        )

    def _constraints(self, wishes: Wishes) -> Constraints:
        target = self.vocabularies.target
        forced = tuple(spellings(word, target) for word in wishes.forced)
        for word, found in zip(wishes.forced, forced, strict=True):
            if not found:
                raise UsageError(f"the forced word {word!r} cannot be written in this model's vocabulary", remedy="choose another word")
        forbidden = tuple(dict.fromkeys(spelling for word in wishes.forbidden for spelling in spellings(word, target)))
        for word, found in zip(wishes.forced, forced, strict=True):
            if all(any(contains(spelling, banned) for banned in forbidden) for spelling in found):
                raise UsageError(f"{word!r} is forced and forbidden at once", remedy="leave it out of one of the two lists")
        prefix = tuple(target.encode(plain(encodable(wishes.prefix))))
        return Constraints(prefix=prefix, forbidden=forbidden, forced=forced, joins=self._joins)


def _renumbered(observe: Callable[[Observation], None], batch: Sequence[int]) -> Callable[[Observation], None]:
    """Tell of the sentences of a batch by other numbers."""
    return lambda seen: observe(seen._replace(sentences=tuple(batch[row] if 0 <= row < len(batch) else -1 for row in seen.sentences)))


def _unguarded(wanted: Constraints, source: Sequence[int], search: SearchConfig) -> Constraints:
    """Let a translation repeat itself as often as it likes where its source does."""
    repetitive = search.repeat_ngram and repeats(source, ngram=search.repeat_ngram, times=search.max_repeats)
    return replace(wanted, guard_repeats=False) if repetitive else wanted


def make_batches(lengths: Sequence[int], *, config: TranslateConfig, width: int = 1) -> Iterator[list[int]]:
    """Group jobs into batches, longest first; in exact mode only those of equal length share one. `width`: rows that each job takes."""
    batch: list[int] = []
    most = min(config.batch_sentences, max(1, _BATCH_ROWS // width))
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        if batch:
            longest = lengths[batch[0]] + 1
            full = len(batch) >= most or (len(batch) + 1) * longest > config.batch_tokens
            if full or (config.exact and lengths[number] != lengths[batch[0]]):
                yield batch
                batch = []
        batch.append(number)
    if batch:
        yield batch


def spellings(word: str, vocabulary: Subwords) -> tuple[tuple[int, ...], ...]:
    """The token sequences that write a word: after a space, and right after another character, as in "(word"."""
    word = plain(encodable(word)).strip()
    found = [tuple(vocabulary.encode(word))]
    for lead in ("(", "-", '"'):
        alone, together = vocabulary.encode(lead), vocabulary.encode(lead + word)
        if together[: len(alone)] == alone:
            found.append(tuple(together[len(alone) :]))
            break
    return tuple(dict.fromkeys(spelling for spelling in found if spelling and UNK not in spelling))


_WORD_SIGN = regex.compile(r"[\p{L}\p{M}\p{N}\u200c\u200d]")


def _joining(vocabulary: Subwords) -> Callable[[int, int], bool]:
    """Tell whether two neighbouring tokens write letters, their marks or digits without a space between them."""

    def joins(previous: int, following: int) -> bool:
        left, both = vocabulary.decode([previous]), vocabulary.decode([previous, following])
        right = both.removeprefix(left)
        return both.startswith(left) and _WORD_SIGN.match(left[-1:]) is not None and _WORD_SIGN.match(right[:1]) is not None

    return joins


def _stack(rows: Sequence[Sequence[int]]) -> Int[Tensor, "B S"]:
    source = torch.full((len(rows), max(map(len, rows)) + 1), PAD)
    for place, row in enumerate(rows):
        source[place, : len(row) + 1] = torch.tensor([*row, EOS])
    return source


def _longest_source(loaded: Sequence[LoadedModel]) -> int | None:
    known = [one.facts["longest_source"] for one in loaded if "longest_source" in one.facts]
    if any(type(length) is not int or length < 1 for length in known):
        raise ModelError(f"the model's fact longest_source is {known}", expected="a number of tokens")
    return min(known, default=None)


def _search_of(
    facts: dict[str, Any], own: SearchConfig | None, wanted: SearchConfig | Mapping[str, Any] | None, *, origin: str
) -> SearchConfig:
    """How to search: as is wanted, else as the configuration says, else as the model's facts do. What comes with a model has a ceiling."""
    if isinstance(wanted, SearchConfig):
        return wanted
    table = own.model_dump(mode="json") if own is not None else facts.get("search", {})
    if not isinstance(table, dict):
        raise ModelError(f"{origin}: the model's fact search is no table", remedy="take a good copy of the folder")
    try:
        found = build(SearchConfig, merge(table, dict(wanted or {})), origin=f"{origin}: search")
    except UsageError as error:
        raise (UsageError if wanted or own is not None else ModelError)(error.found, remedy="search with settings of your own") from None
    if own is None and max(found.beams, found.n_best) > _MOST_STORED_BEAMS:
        raise ModelError(
            f"{origin}: asks for {found.beams:,} beams", expected=f"at most {_MOST_STORED_BEAMS:,}", remedy="say how many beams you want"
        )
    return found


def _several_sentences(loaded: Sequence[LoadedModel]) -> float | None:
    """Of an ensemble, the smallest; None where one of them does not know."""
    found: list[Any] = [one.facts.get("several_sentences_share") for one in loaded]
    if any(type(share) not in (int, float, type(None)) for share in found):
        raise ModelError(f"the model's fact several_sentences_share is {found}", expected="a number from 0 to 1")
    return None if None in found else min(found)


_SURROGATES = re.compile("[\ud800-\udfff]")
_CONTROLS = re.compile("[\0-\x1f\x7f\x85\u2028\u2029]")


def encodable(text: str) -> str:
    """Replace lone surrogates (bytes that were not UTF-8) by U+FFFD, as any reader of UTF-8 does."""
    return _SURROGATES.sub("\ufffd", text)


def plain(text: str) -> str:
    """Turn control characters and line breaks of every kind into spaces: sentences have none."""
    return _CONTROLS.sub(" ", text)
