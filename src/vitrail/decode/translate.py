"""The translator: text in, `Translation` out, in the order of the input."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, overload

from vitrail import renamed
from vitrail.data.cleaning.normalise import AS_TEXT, Normalisation
from vitrail.data.vocabularies.subwords import Vocabularies
from vitrail.decode.engines.engine import Engine, Observe, StopSignal, renumbered
from vitrail.decode.engines.table import engine_named, make_engine, suitable
from vitrail.decode.search.constraints import UNCONSTRAINED, Constraints, TokenIds
from vitrail.decode.search.query import Hypothesis
from vitrail.decode.search_config import SearchConfig, TranslateConfig
from vitrail.decode.shortlists.table import Shortlist, read_shortlist
from vitrail.decode.textual.ahead import ahead
from vitrail.decode.textual.facts import longest_source, search_of, several_sentences, tags_of
from vitrail.decode.textual.forcing import assign_forced_words
from vitrail.decode.textual.jobs import Begun, CutPortion, CutText, FoundPortion, PartJob, TextCutter
from vitrail.decode.textual.joining import Translated, join, join_parts
from vitrail.decode.textual.results import Searched, SearchedPart, Translation
from vitrail.decode.textual.text_constraints import TextConstraints, joining, to_constraints
from vitrail.models.architectures import task_of
from vitrail.models.stored import read_stored_translator
from vitrail.runtime.machine import Device

if TYPE_CHECKING:
    import torch

    from vitrail.decode.ensemble import Translating

AnyTranslator = TypeVar("AnyTranslator", bound="Translator")

SEVERAL_SENTENCES_SHARE = 0.05
"""From this share of training lines with several sentences on, a model translates several sentences together. Corpora of sentences have
0 to 0.02, of paragraphs 0.35 to 0.42 (Multi30k, Tatoeba, WMT news, the documentation of Python, Wikipedia)."""

PORTION = 256
"""Texts of a list that are searched together, while the next ones are cut and the last ones joined, where the engine works beside."""

__getattr__ = renamed.names(__name__, {"Wishes": "vitrail.decode.textual.text_constraints:TextConstraints"})


class Translator:
    """Translates texts with one model, or an ensemble.

    It handles text (parts, vocabularies, constraints, joining); its engine computes.

    Args:
        model: any translation model or `Ensemble`, in evaluation mode and on `device`; or an engine that has one.
        longest_source: tokens of the longest source that the model was trained on, if known.
        several_sentences: share of training source lines with several sentences, if known.
        languages: of source and target, if known.
        normalisation: how sources are read, as they were in training; None: as by a model that does not say.
        tags: words that the model knows at the start of a source.
        shortlist: the target tokens that source tokens may become; None: all.
    """

    engines: ClassVar[tuple[str, ...]] = ()
    """The suitable engines; empty: all."""

    def __init__(
        self,
        model: "Translating | Engine",
        *,
        vocabularies: Vocabularies,
        config: TranslateConfig | None = None,
        device: "torch.device | None" = None,
        longest_source: int | None = None,
        several_sentences: float | None = None,
        languages: tuple[str, str] = ("", ""),
        normalisation: Normalisation | None = None,
        tags: Sequence[str] = (),
        shortlist: Shortlist | None = None,
    ) -> None:
        self.vocabularies, self.languages, self.tags = vocabularies, languages, tuple(tags)
        self.normalisation = _reading(None, autoencoder=_is_autoencoder(model)) if normalisation is None else normalisation
        self.config = TranslateConfig() if config is None else config
        self._shortlist = shortlist
        self.search = self.config.search or SearchConfig()
        """The default search settings of calls."""
        self.engine: Engine = model if isinstance(model, Engine) else _with_torch(model, device, self.config)
        """What searches."""
        suitable(self.engine.name, among=self.engines)
        limit = self.config.max_source_tokens
        # A model that has rarely seen two sentences in a line drops the second one. A model without this fact may do so, too.
        seen = several_sentences is not None and several_sentences >= SEVERAL_SENTENCES_SHARE
        self._comfortable = (limit if longest_source is None else min(limit, longest_source)) if seen else 0
        self._begin()

    def _begin(self) -> None:
        """Values that are not sent to another process."""
        limit, seed = self.config.max_source_tokens, self.config.seed
        self._cutter = TextCutter(self.vocabularies, self.normalisation, self._comfortable, limit, seed, self.tags, self._shortlist)
        self._joins = lru_cache(maxsize=65536)(joining(self.vocabularies.target))

    def __getstate__(self) -> dict[str, Any]:
        """The state for another process: plain bytes in place of models and vocabularies. See docs/programs.md."""
        apart = ("engine", "_cutter", "_joins", "vocabularies", "_shortlist")
        kept = {name: value for name, value in vars(self).items() if name not in apart}
        files = {name: vocabulary.to_bytes() for name, vocabulary in self.vocabularies.files().items()}
        shortlist = None if self._shortlist is None else self._shortlist.to_bytes()
        return {**kept, "packed": (self.engine.name, self.engine.pack(self.vocabularies), files, shortlist)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        name, packed, files, shortlist = state.pop("packed")
        vars(self).update(state)
        self._shortlist = None if shortlist is None else Shortlist.from_bytes(shortlist, origin="the shortlist of another process")
        self.vocabularies = Vocabularies.from_bytes(files)
        self.engine = engine_named(name).unpack(packed, self.vocabularies, config=self.config)
        self._begin()

    @classmethod
    def load(
        cls: type[AnyTranslator],
        path: str | Path,
        *others: str | Path,
        engine: str = "auto",
        device: Device = "cpu",
        threads: int | None = None,
        config: TranslateConfig | None = None,
        search: SearchConfig | Mapping[str, Any] | None = None,
    ) -> AnyTranslator:
        """Load a run's folder or a model folder; several make an ensemble.

        Args:
            engine: native, torch, or auto for the first of them that can compute with the models; see docs/engine.md.
            threads: processor threads (0: one for each core), with torch for this whole process; None leaves them as they are.
            search: search settings, or changes to those of the (first) model, such as {"beams": 1}.
        Raises:  ModelError where a folder is missing or damaged, has no shortlist that is asked for, or the models have different
        vocabularies; UsageError for an unknown engine, or one that cannot compute with the models.
        """
        names = suitable(engine, among=cls.engines)
        stored = [read_stored_translator(Path(folder)) for folder in (path, *others)]
        facts = stored[0].facts
        config = TranslateConfig() if config is None else config
        config = config.model_copy(update={"search": search_of(facts, config.search, search, origin=str(path))})
        return cls(
            make_engine(names, stored, device=device, threads=threads, config=config),
            vocabularies=stored[0].vocabularies,
            config=config,
            longest_source=longest_source(stored),
            several_sentences=several_sentences(stored),
            languages=(str(facts.get("source_language", "")), str(facts.get("target_language", ""))),
            normalisation=_reading(facts.get("source_normalization"), autoencoder=task_of(stored[0].config) == "autoencoding"),
            tags=tags_of(facts),
            shortlist=read_shortlist(Path(path), stored[0].vocabularies) if config.shortlist else None,
        )

    @overload
    def translate(  # pyright: ignore[reportOverlappingOverload]  (a str is a sequence of str, too)
        self, texts: str, *, constraints: TextConstraints | None = None, search: SearchConfig | None = None
    ) -> Translation: ...
    @overload
    def translate(
        self, texts: Sequence[str], *, constraints: TextConstraints | None = None, search: SearchConfig | None = None
    ) -> list[Translation]: ...
    @renamed.keywords(wishes="constraints")
    def translate(
        self, texts: str | Sequence[str], *, constraints: TextConstraints | None = None, search: SearchConfig | None = None
    ) -> Translation | list[Translation]:
        """Translate one text, or several in order. Every text is accepted: what cannot be encoded is replaced.

        Args:    search: settings that replace `self.search`.
        Raises:  UsageError for constraints that cannot be satisfied.
        """
        if isinstance(texts, str):
            return self._translate([texts], constraints, search)[0]
        return self._translate(texts, constraints, search)

    @renamed.keywords(wishes="constraints")
    def translate_stream(
        self, lines: Iterable[str], *, constraints: TextConstraints | None = None, search: SearchConfig | None = None
    ) -> Iterator[Translation]:
        """Translate lines as they come, one translation for each, in order, with memory for one window of them.

        The first translation comes after a whole window: where lines arrive slowly, use `translate_portions`.
        """
        return self.translate_portions(self._windows(lines), constraints=constraints, search=search)

    @renamed.keywords(wishes="constraints")
    def translate_portions(
        self, portions: Iterable[Sequence[str]], *, constraints: TextConstraints | None = None, search: SearchConfig | None = None
    ) -> Iterator[Translation]:
        """Translate one portion of the input after the other, without waiting for the next one.

        Samples of a text depend on its place in the whole input, not on the division into portions. Where the engine can search beside
        other work, the next portion is read and cut, and searched, while this one is joined and used.
        """
        search = self.search if search is None else search
        wanted, stop = self._constraints(constraints), StopSignal()

        places = count()

        def begin(portion: Sequence[str]) -> Begun:
            return self._begin_search(self._cut(portion, wanted, search, places=places, stop=stop), search, stop)

        for portion in ahead(iter(portions), begin, on_close=stop.set) if self.engine.works_beside else map(begin, portions):
            yield from self._join(self._found(portion, wanted, search), search)

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

    def _translate(self, texts: Sequence[str], constraints: TextConstraints | None, search: SearchConfig | None) -> list[Translation]:
        search = self.search if search is None else search
        wanted, stop, places = self._constraints(constraints), StopSignal(), count()
        if len(texts) <= PORTION or not self.engine.works_beside:
            portion = self._cut(texts, wanted, search, places=places, stop=stop)
            return self._join(self._found(Begun(portion, lambda: self._search(portion.jobs, search)), wanted, search), search)
        try:
            begun = [
                self._begin_search(self._cut(texts[at : at + PORTION], wanted, search, places=places, stop=stop), search, stop)
                for at in range(0, len(texts), PORTION)
            ]
            return [one for portion in begun for one in self._join(self._found(portion, wanted, search), search)]
        finally:
            stop.set()

    def _cut(
        self, texts: Sequence[str], wanted: Constraints, search: SearchConfig, *, places: Iterator[int], stop: StopSignal
    ) -> CutPortion:
        """The texts with their jobs. Args: places: numbers them in the whole input."""
        jobs: list[PartJob] = []
        cut: list[CutText] = []
        for text in texts:
            stop.check()
            cut.append(self._cutter.cut(text, wanted, search, jobs, place=next(places)))
        return CutPortion(cut, jobs)

    def _begin_search(self, portion: CutPortion, search: SearchConfig, stop: StopSignal) -> Begun:
        sources, queries = [job.tokens for job in portion.jobs], [job.query for job in portion.jobs]
        return Begun(portion, self.engine.begin(sources, queries, config=search, stop=stop))

    def _found(self, begun: Begun, wanted: Constraints, search: SearchConfig) -> FoundPortion:
        (texts, jobs), finish = begun
        results = finish()
        for text in texts if wanted.forced else ():
            numbers = [number for number in text.jobs if number is not None]
            if len(numbers) > 1:
                self._force(wanted, numbers, jobs, results, search)
        return FoundPortion(begun.portion, results)

    def _join(self, found: FoundPortion, search: SearchConfig) -> list[Translation]:
        (texts, jobs), results = found
        spelled = self._cutter.spell_all([item.tokens for items in results for item in items])
        return [self._assemble(text, jobs, results, search, spelled) for text in texts]

    def _constraints(self, constraints: TextConstraints | None) -> Constraints:
        return UNCONSTRAINED if constraints is None else to_constraints(constraints, self.vocabularies.target, joins=self._joins)

    def _search(self, jobs: Sequence[PartJob], search: SearchConfig, observe: Observe | None = None) -> list[list[Hypothesis]]:
        """The n-best list of each job; `observe` gets every step; sentences are numbered as jobs."""
        sources, queries = [job.tokens for job in jobs], [job.query for job in jobs]
        return self.engine.search(sources, queries, config=search, observe=observe)

    def _force(
        self, wanted: Constraints, numbers: Sequence[int], jobs: list[PartJob], results: list[list[Hypothesis]], search: SearchConfig
    ) -> None:
        """Force each word in one part of a text: changes `jobs` and `results`."""

        def forcing(job: PartJob, words: tuple[tuple[TokenIds, ...], ...]) -> PartJob:
            return job._replace(query=replace(job.query, constraints=replace(job.query.constraints, forced=words)))

        def again(places: Sequence[int], words: Sequence[tuple[tuple[TokenIds, ...], ...]]) -> list[list[Hypothesis]]:
            return self._search([forcing(jobs[numbers[place]], forced) for place, forced in zip(places, words, strict=True)], search)

        found = assign_forced_words(wanted, [results[number] for number in numbers], search=again)
        for number, items, words in zip(numbers, *found, strict=True):
            jobs[number], results[number] = forcing(jobs[number], words), items

    def translate_parts(
        self,
        text: str,
        *,
        constraints: TextConstraints | None = None,
        search: SearchConfig | None = None,
        observe: Observe | None = None,
        only: int | None = None,
    ) -> Searched:
        """Translate one text as `translate` does, and return the search results of each part that has tokens.

        Args:
            observe: gets every step of the search; sentences are numbered as parts, -1 for a row that only fills a batch.
            only: the number of the one part to translate; the others are left out.
        Raises:  UsageError for constraints that cannot be satisfied.
        """
        search = self.search if search is None else search
        wanted = self._constraints(constraints)
        jobs: list[PartJob] = []
        prepared = self._cutter.cut(text, wanted, search, jobs, place=0)
        if wanted.forced and len(jobs) > 1:
            # The parts of forced words are chosen after all are translated; then each part is searched with its words, and observed.
            self._force(wanted, range(len(jobs)), jobs, self._search(jobs, search), search)
        if only is None:
            results = self._search(jobs, search, observe)
        else:
            watch = None if observe is None else renumbered(observe, [only])
            results = [self._search([job], search, watch)[0] if number == only else [] for number, job in enumerate(jobs)]
        (whole,) = self._join(FoundPortion(CutPortion([prepared], jobs), results), search)
        done = [(job.query, tuple(found)) for job, found in zip(jobs, results, strict=True) if found]
        parts = [SearchedPart(segment, *one) for segment, one in zip(whole.segments, done, strict=True)]
        return Searched(whole, tuple(parts), search)

    def cut(self, text: str, *, constraints: TextConstraints | None = None) -> list[tuple[str, tuple[int, ...]]]:
        """The parts of a text as the model reads them: text and tokens of each; without parts that are copied."""
        jobs: list[PartJob] = []
        self._cutter.cut(text, self._constraints(constraints), self.search, jobs, place=0)
        return [(job.text, tuple(job.tokens)) for job in jobs]

    def search_one(
        self,
        source: Sequence[int],
        *,
        constraints: TextConstraints | None = None,
        search: SearchConfig | None = None,
        observe: Observe | None = None,
    ) -> list[Hypothesis]:
        """The n-best list of one sentence, not cut, by its token ids without EOS; `observe` gets every step; the sentence is number 0.

        Precondition: at least one token. Raises UsageError for constraints that cannot be satisfied.
        """
        search = self.search if search is None else search
        job = self._cutter.job(source, self._constraints(constraints), search, seed=self.config.seed)
        return self._search([job], search, observe)[0]

    def read(self, source: str) -> str:
        """A source as the model reads it."""
        return self._cutter.read(source)

    def _assemble(
        self,
        text: CutText,
        jobs: Sequence[PartJob],
        results: Sequence[list[Hypothesis]],
        search: SearchConfig,
        spelled: Mapping[TokenIds, str],
    ) -> Translation:
        """Join the translations of the parts. Args: spelled: the text of all tokens in `results`."""
        parts = [
            Translated(part, where, copy)
            if number is None
            else Translated(part, where, copy, jobs[number].text, jobs[number].tokens, results[number])
            for part, where, copy, number in zip(text.parts, text.places, text.copies, text.jobs, strict=True)
        ]
        joined = join(parts, search=search, spell=lambda item: spelled[item.tokens])
        if not joined:
            copy, _ = join_parts(text.parts, text.copies)
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
            parts=len(best.segments),
            cut=any(part.cut for part in text.parts),
            segments=best.segments,
        )


def _with_torch(model: "Translating", device: "torch.device | None", config: TranslateConfig) -> Engine:
    from vitrail.decode.engines.torch import TorchEngine

    return TorchEngine(model, device=device, config=config)


def _is_autoencoder(model: "Translating | Engine") -> bool:
    if isinstance(model, Engine):
        return False
    from vitrail.models.kinds.autoencoder import AutoencoderModel

    return isinstance(model, AutoencoderModel)


def _reading(fact: Any, *, autoencoder: bool) -> Normalisation:
    """How a model reads sources. Args: fact: what its folder says of it."""
    return AS_TEXT if fact is None and autoencoder else Normalisation.from_fact(fact)
