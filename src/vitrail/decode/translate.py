"""The translator: text in, `Translation` out, in the order of the input whatever was batched with what."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, overload

import torch
from jaxtyping import Int
from pydantic import Field
from torch import Tensor

from vitrail.config import Config, build
from vitrail.data.subwords import EOS, PAD, UNK, Subwords, Vocabularies
from vitrail.decode.constraints import UNCONSTRAINED, Constraints, repeats
from vitrail.decode.ensemble import Ensemble, Translating
from vitrail.decode.search import Hypothesis, Observation, Query, SearchConfig, beam_search
from vitrail.decode.sending import Packed, pack, unpack
from vitrail.decode.split import Part, split_to_fit
from vitrail.errors import ModelError, UsageError
from vitrail.models.folder import LoadedModel, load_model
from vitrail.runtime import Device, choose_device, fewest_rows, set_threads, survive_forks

AnyTranslator = TypeVar("AnyTranslator", bound="Translator")


class TranslateConfig(Config):
    """How texts are cut, batched and searched."""

    search: SearchConfig | None = None
    """How each sentence's translation is looked for; None: as the run of the (first) model was configured."""
    exact: bool = True
    """Batch only sources of equal length, and never few rows: on the CPU the same tokens whatever is translated in the same call. When
    false, lengths are mixed and padded, which is faster on few or very different texts and may change a translation now and then."""
    batch_sentences: int = Field(default=64, ge=1)
    """Sentences decoded side by side, at most."""
    batch_tokens: int = Field(default=4096, ge=1)
    """Source tokens with padding in one batch, at most, unless a single sentence has more."""
    max_source_tokens: int = Field(default=256, ge=1)
    """A sentence longer than this is cut between words. Texts of several sentences are cut at sentence ends already where they are longer
    than anything that the model was trained on."""
    window_lines: int = Field(default=1024, ge=1)
    """`translate_stream` reads this many lines before it translates them."""
    window_characters: int = Field(default=1_000_000, ge=1)
    """`translate_stream` translates sooner when it has read this many characters."""
    seed: int = 0
    """For sampling. Each text draws from its own generator, made of this and its place in the input."""


@dataclass(frozen=True)
class Wishes:
    """What is asked of every translation of a call.

    Args:
        prefix: the translation begins with this text. Of a text translated in parts, the first part does.
        forbidden: words or phrases that may not occur. Goes by subwords, so that longer words that begin the same way may go too.
        forced: words or phrases that must occur, each on its own and not inside a longer word. Of a text in parts, in the first part.
    """

    prefix: str = ""
    forbidden: tuple[str, ...] = ()
    forced: tuple[str, ...] = ()


class Alternative(NamedTuple):
    """One entry of the n-best list."""

    text: str
    score: float
    tokens: tuple[int, ...]


class Stretch(NamedTuple):
    """One part of a text and its translation: where each begins, in characters, and its tokens without EOS."""

    source_start: int
    source_tokens: tuple[int, ...]
    target_start: int
    target_tokens: tuple[int, ...]
    source_text: str
    """The part as the model reads it."""
    source_end: int
    target_end: int
    cut: bool
    """Whether it begins or ends inside a sentence, which was too long."""


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

    tokens: list[int]
    query: Query
    text: str = ""
    """What was encoded."""


class _Text(NamedTuple):
    """One text and the jobs that its parts became; a part without tokens has None."""

    source: str
    parts: list[Part]
    jobs: list[int | None]


class Translator:
    """Translates texts with one model, or several that vote.

    Args:
        model: any translation model or `Ensemble`, in evaluation mode and on `device`.
        longest_source: tokens of the longest source that the model was trained on, if known.
        languages: of source and target, where they are known.
    """

    def __init__(
        self,
        model: Translating,
        *,
        vocabularies: Vocabularies,
        config: TranslateConfig | None = None,
        device: torch.device | None = None,
        longest_source: int | None = None,
        languages: tuple[str, str] = ("", ""),
    ) -> None:
        self.vocabularies, self.languages = vocabularies, languages
        self.config = TranslateConfig() if config is None else config
        self.search = self.config.search or SearchConfig()
        """How sentences are searched where a call does not say otherwise."""
        self._model = model
        self._device = torch.device("cpu") if device is None else device
        limit = self.config.max_source_tokens
        self._comfortable = limit if longest_source is None else min(limit, longest_source)
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
    ) -> AnyTranslator:
        """Load a run's folder or a model folder; several make an ensemble.

        Args:
            threads: processor threads for this whole process (0: one for each core); None leaves them as they are.
        Raises:  ModelError where a folder is missing or damaged, or the models have different vocabularies.
        """
        if threads is not None:
            set_threads(threads)
        place = choose_device(device)
        loaded = [load_model(Path(folder), device=place) for folder in (path, *others)]
        digests = [one.vocabularies.digest for one in loaded]
        model = loaded[0].model if len(loaded) == 1 else Ensemble([one.model for one in loaded], digests=digests)
        longest = _longest_source(loaded)
        config = TranslateConfig() if config is None else config
        if config.search is None and "search" in loaded[0].facts:
            stored = build(SearchConfig, loaded[0].facts["search"], origin=f"{path}: search")
            config = config.model_copy(update={"search": stored})
        facts = loaded[0].facts
        languages = (str(facts.get("source_language", "")), str(facts.get("target_language", "")))
        return cls(model, vocabularies=loaded[0].vocabularies, config=config, device=place, longest_source=longest, languages=languages)

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
        search = _with_banks(search, wanted)
        jobs: list[_Job] = []
        prepared = [self._prepare(text, wanted, search, jobs, place=first + number) for number, text in enumerate(texts)]
        results = self._search_all(jobs, search)
        return [self._assemble(text, jobs, results, search) for text in prepared]

    def _search_all(
        self, jobs: list[_Job], search: SearchConfig, observe: Callable[[Observation], None] | None = None
    ) -> list[list[Hypothesis]]:
        """The n-best list of each job; `observe` sees every step, the sentences being numbers of jobs, -1 for a row that only fills up."""
        results: list[list[Hypothesis]] = [[] for _ in jobs]
        for batch in make_batches([len(job.tokens) for job in jobs], config=self.config):
            watch = None if observe is None else _renumbered(observe, batch)
            for number, found in zip(batch, self._search([jobs[number] for number in batch], search, watch), strict=True):
                results[number] = found
        return results

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
        search = _with_banks(search, wanted)
        jobs: list[_Job] = []
        prepared = self._prepare(text, wanted, search, jobs, place=0)
        if only is None:
            results = self._search_all(jobs, search, observe)
        else:
            watch = None if observe is None else _renumbered(observe, [only])
            results = [self._search([job], search, watch)[0] if number == only else [] for number, job in enumerate(jobs)]
        whole = self._assemble(prepared, jobs, results, search)
        done = [(job.query, tuple(found)) for job, found in zip(jobs, results, strict=True) if found]
        parts = [SearchedPart(stretch, *one) for stretch, one in zip(whole.stretches, done, strict=True)]
        return Searched(whole, tuple(parts), search)

    def cut(self, text: str) -> list[tuple[str, tuple[int, ...]]]:
        """The parts that a text is translated in, as the model reads them: the text and the tokens of each that has any."""
        jobs: list[_Job] = []
        self._prepare(text, UNCONSTRAINED, self.search, jobs, place=0)
        return [(job.text, tuple(job.tokens)) for job in jobs]

    def read(self, text: str) -> str:
        """A whole text as the model reads it."""
        return plain(encodable(text)).strip()

    def _prepare(self, source: str, wanted: Constraints, search: SearchConfig, jobs: list[_Job], *, place: int) -> _Text:
        """Cut one text into parts and add a job for each to `jobs`."""
        encode = self.vocabularies.source.encode
        text = encodable(source).strip()
        parts = split_to_fit(
            text,
            length=lambda part: len(encode(plain(part))),
            comfortable=self._comfortable,
            limit=self.config.max_source_tokens,
        )
        numbers: list[int | None] = []
        for part in parts:
            read = plain(part.text)
            tokens = encode(read)
            if not tokens:
                numbers.append(None)
                continue
            constraints = wanted if not any(number is not None for number in numbers) else replace(wanted, prefix=(), forced=())
            constraints = _unguarded(constraints, tokens, search)
            seed = blake2b(f"{self.config.seed} {place} {len(numbers)}".encode(), digest_size=7).digest()
            numbers.append(len(jobs))
            jobs.append(_Job(tokens, Query(len(tokens), constraints, int.from_bytes(seed, "big")), read))
        return _Text(source, parts, numbers)

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
        job = _Job(list(source), Query(len(source), _unguarded(wanted, source, search), self.config.seed))
        return self._search([job], _with_banks(search, wanted), observe)[0]

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

    def _assemble(self, text: _Text, jobs: Sequence[_Job], results: Sequence[list[Hypothesis]], search: SearchConfig) -> Translation:
        """Join the translations of the parts by the white space that stood between them."""
        found = [results[number] if number is not None else [] for number in text.jobs]
        depth = max(map(len, found), default=0)
        # The n-th alternative is made of the n-th of each part, or the last where a part has fewer.
        ranked = [[items[min(rank, len(items) - 1)] if items else None for items in found] for rank in range(depth)]
        joined = [self._join(text.parts, items, search) for items in ranked]
        if not joined:
            return Translation(text.source, "", 0.0, 0.0, (), (), (), truncated=False, parts=0, cut=False)
        best = [item for item in ranked[0] if item is not None]
        return Translation(
            source=text.source,
            text=joined[0].text,
            score=joined[0].score,
            log_probability=sum(item.log_probability for item in best),
            tokens=joined[0].tokens,
            pieces=tuple(self.vocabularies.target.pieces(joined[0].tokens)),
            alternatives=tuple(joined),
            truncated=any(item.truncated for item in best),
            parts=len(best),
            cut=any(part.cut for part in text.parts),
            stretches=self._stretches(text, jobs, ranked[0]),
        )

    def _stretches(self, text: _Text, jobs: Sequence[_Job], items: Sequence[Hypothesis | None]) -> tuple[Stretch, ...]:
        """Where the parts and their translations stand; `_join` drops the white space at the ends of the whole."""
        source = len(text.source) - len(text.source.lstrip())
        target, found = 0, list[Stretch]()
        for part, number, item in zip(text.parts, text.jobs, items, strict=True):
            spelled = "" if item is None else self._spell(item)
            if number is not None and item is not None:
                job, ends = jobs[number], (source + len(part.text), target + len(spelled))
                found.append(Stretch(source, tuple(job.tokens), target, item.tokens, job.text, *ends, part.cut))
            source += len(part.text) + len(part.separator)
            # White space before the first word of the whole is dropped.
            target += len(spelled) + len(part.separator) if target or spelled else 0
        return tuple(found)

    def _spell(self, item: Hypothesis) -> str:
        """Its text. A model with byte pieces can write any character; a line must stay a line."""
        return plain(self.vocabularies.target.decode(item.tokens)).strip()

    def _join(self, parts: Sequence[Part], items: Sequence[Hypothesis | None], search: SearchConfig) -> Alternative:
        kept = [item for item in items if item is not None]
        texts = ["" if item is None else self._spell(item) for item in items]
        text = "".join(piece + part.separator for piece, part in zip(texts, parts, strict=True)).strip()
        length = sum(len(item.token_log_probabilities) for item in kept)
        score = search.score(sum(item.log_probability for item in kept), length)
        return Alternative(text, score, tuple(token for item in kept for token in item.tokens))

    def _constraints(self, wishes: Wishes) -> Constraints:
        target = self.vocabularies.target
        forced = tuple(spellings(word, target) for word in wishes.forced)
        for word, found in zip(wishes.forced, forced, strict=True):
            if not found:
                raise UsageError(f"the forced word {word!r} cannot be written in this model's vocabulary", remedy="choose another word")
        forbidden = tuple(dict.fromkeys(spelling for word in wishes.forbidden for spelling in spellings(word, target)))
        prefix = tuple(target.encode(plain(encodable(wishes.prefix))))
        return Constraints(prefix=prefix, forbidden=forbidden, forced=forced, joins=self._joins)


def _renumbered(observe: Callable[[Observation], None], batch: Sequence[int]) -> Callable[[Observation], None]:
    """Tell of the sentences of a batch by other numbers."""
    return lambda seen: observe(seen._replace(sentences=tuple(batch[row] if 0 <= row < len(batch) else -1 for row in seen.sentences)))


def _with_banks(search: SearchConfig, wanted: Constraints) -> SearchConfig:
    """One bank of hypotheses for every number of forced tokens that stand; each bank needs a beam."""
    if not wanted.forced:
        return search
    banks = 1 + sum(min(map(len, word)) for word in wanted.forced)
    return search.model_copy(update={"beams": max(search.beams, banks)})


def _unguarded(wanted: Constraints, source: Sequence[int], search: SearchConfig) -> Constraints:
    """Let a translation repeat itself as often as it likes where its source does."""
    repetitive = search.repeat_ngram and repeats(source, ngram=search.repeat_ngram, times=search.max_repeats)
    return replace(wanted, guard_repeats=False) if repetitive else wanted


def make_batches(lengths: Sequence[int], *, config: TranslateConfig) -> Iterator[list[int]]:
    """Group jobs into batches, longest first; in exact mode only those of equal length share one."""
    batch: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        if batch:
            longest = lengths[batch[0]] + 1
            full = len(batch) >= config.batch_sentences or (len(batch) + 1) * longest > config.batch_tokens
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


def _joining(vocabulary: Subwords) -> Callable[[int, int], bool]:
    """Tell whether two neighbouring tokens write letters or digits without a space between them."""

    def joins(previous: int, following: int) -> bool:
        left, both = vocabulary.decode([previous]), vocabulary.decode([previous, following])
        right = both.removeprefix(left)
        return left[-1:].isalnum() and right[:1].isalnum() and both.startswith(left)

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


_SURROGATES = re.compile("[\ud800-\udfff]")
_CONTROLS = re.compile("[\0-\x1f\x7f\x85\u2028\u2029]")


def encodable(text: str) -> str:
    """Replace lone surrogates (bytes that were not UTF-8) by U+FFFD, as any reader of UTF-8 does."""
    return _SURROGATES.sub("\ufffd", text)


def plain(text: str) -> str:
    """Turn control characters and line breaks of every kind into spaces: sentences have none."""
    return _CONTROLS.sub(" ", text)
