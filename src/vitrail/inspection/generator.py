"""The language model with inspection, returned by `vitrail.load`."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from vitrail.data.cleaning.normalise import normalise
from vitrail.data.vocabularies.subwords import EOS, Vocabularies
from vitrail.decode.generate import Generator
from vitrail.decode.search.query import Query
from vitrail.decode.search_config import SearchConfig
from vitrail.errors import UsageError
from vitrail.inspection.causes.change import Change, Edit, Given, change_text, hidden_positions, refuse_rewriting
from vitrail.inspection.causes.interventions import intervene
from vitrail.inspection.collect import collect
from vitrail.inspection.contents import ONE_SIDE, Facts, Side, make_side
from vitrail.inspection.decoding import Decoding, TreeRecorder, describe_steps, piece_of
from vitrail.inspection.record import Inspection
from vitrail.inspection.translator import LONGEST


class _Written(NamedTuple):
    """A text to look at, and the search that continued it."""

    side: Side
    truncated: bool
    search: Decoding
    """Without its steps."""


class InspectableGenerator(Generator):
    """A `Generator` that can also be inspected and edited."""

    engines = ("torch",)

    @property
    def vocabularies(self) -> Vocabularies:
        """The vocabulary, as analyses of both sides take it."""
        return Vocabularies(self.vocabulary, self.vocabulary, joint=True)

    @property
    def longest(self) -> int:
        """Tokens of an inspected text at most: `LONGEST`, or one less than the model's context, which also holds the token before."""
        context = self.model.context
        return LONGEST if context is None else min(LONGEST, context - 1)

    def inspect(
        self, text: str, *, more: int = 0, search: SearchConfig | None = None, seed: int = 0, edit: Edit | None = None
    ) -> Inspection:
        """Read a text, or let the model write on from it, and record every layer, head and gate, and its guesses at each position.

        The text is read from its beginning, after the end of a line: nothing comes before. Its own lines end as those in training do.

        Args:
            more: how many tokens to write on at most; 0: the text as it is, its end included.
            search: how to write on; None: greedily. Its limit of length is not used. seed: for sampling.
            edit: inspect the model with this edit applied; one that switches off, hides or patches.
        Raises: UsageError for a text without tokens or with more than `longest`; ModelError for a compiled model.
        """
        edit = Edit() if edit is None else edit
        refuse_rewriting(edit)
        before = self.read(text)
        with self._edited(before, edit) if edit.to_lines() else nullcontext():
            side, truncated, told = self._write_on(before, more, search=search, seed=seed)
            arrays = collect(self.model, (), side.ids, ended=not truncated)
        predicted = side.ids if truncated else (*side.ids, EOS)
        facts = Facts(
            format=ONE_SIDE,
            source=None,
            target=side,
            first=piece_of(self.model.first, self.vocabulary),
            given=more == 0,
            asked=text,
            truncated=truncated,
            model=self.model.config.model_dump(mode="json"),
            languages=("", str(self.facts.get("language") or "")),
            decoding=told.model_copy(update={"steps": describe_steps(arrays["probabilities"], predicted, self.vocabulary)}),
        )
        return Inspection(facts, arrays).with_arrays({}, **({"edits": edit.to_lines()} if edit.to_lines() else {}))

    def edit(self, text: str, edit: Edit, *, more: int = 0, search: SearchConfig | None = None, seed: int = 0) -> Change:
        """The effect of an edit on the probability of a text, and on what the model writes on.

        Args: more, search, seed: as for `inspect`; with `more`, old and new are what is written on without the edit, and with it.
        """
        refuse_rewriting(edit)
        before = self.read(text)
        old = self._write_on(before, more, search=search, seed=seed)
        with self._edited(before, edit):
            new = self._write_on(before, more, search=search, seed=seed)
        given = Given(old.side.ids, old.side.text, old.truncated), Given(new.side.ids, new.side.text, new.truncated)
        return change_text(self.model, self.vocabulary, before.text, edit=edit, given=given, edited=lambda: self._edited(before, edit))

    def applied(self, edit: Edit, inspection: Inspection) -> AbstractContextManager[None]:
        """A context manager: the model with the edit that a record was made with, see `complete`."""
        return self._edited(inspection.target, edit)

    def read(self, text: str) -> Side:
        """A text as the model reads it: line by line, each with its end but the last. Raises UsageError."""
        lines = [line for line in map(normalise, text.split("\n")) if line]
        side = join_lines([make_side(self.vocabulary.encode(line), self.vocabulary, text=line) for line in lines])
        if not side.ids:
            raise UsageError(f"{text!r}: nothing to inspect", expected="a text")
        self._require_room(len(side.ids), "a text")
        return side

    def _write_on(self, before: Side, more: int, *, search: SearchConfig | None, seed: int) -> _Written:
        """The text with what the model writes on."""
        if more < 0:
            raise UsageError(f"{more} more tokens", expected="0 or more")
        if more == 0:
            return _Written(before, False, Decoding(beams=1, length_penalty=0.0, nodes=(), finished=(), steps=()))
        self._require_room(len(before.ids) + more, "a text and what is written on")
        search = (SearchConfig(beams=1) if search is None else search).model_copy(update={"max_extra": more, "max_length": None})
        recorder = TreeRecorder(self.vocabulary, search)
        query = Query((self.model.first, *before.ids), longest=more, shortest=min(search.lengths().shortest, more - 1), seed=seed)
        (found,) = self.engine.search([()], [query], config=search, observe=recorder.observe)
        ids = (*before.ids, *found[0].tokens)
        told = Decoding(
            beams=recorder.beams,
            length_penalty=search.length_penalty,
            sampled=search.sampling is not None,
            prefix=len(before.ids),
            nodes=tuple(recorder.nodes),
            finished=recorder.finish(found),
            steps=(),
        )
        return _Written(join_lines([make_side(line, self.vocabulary) for line in _cut_lines(ids)]), found[0].truncated, told)

    def _edited(self, before: Side, edit: Edit) -> AbstractContextManager[None]:
        """The model with an edit; positions are those of `target_tokens`, where 0 is the token before the text."""
        return intervene(self.model, off=edit.off, hidden=hidden_positions(before, edit, first=1), patches=edit.patches)

    def _require_room(self, tokens: int, what: str) -> None:
        if tokens > self.longest:
            context = self.model.context
            why = f"; the model looks back over {context}, the end of the text before included" if context == self.longest + 1 else ""
            raise UsageError(f"{what} of {tokens} tokens", expected=f"at most {self.longest}{why}", remedy="inspect a shorter text")


def join_lines(lines: Sequence[Side]) -> Side:
    """Lines as one text: each but the last is followed by its end, which is the character between them."""
    text, ids, pieces, spans, words = "", list[int](), list[str](), list[tuple[int, int]](), list[tuple[int, ...]]()
    for number, line in enumerate(lines):
        if number:
            spans.append((len(text), len(text) + 1))
            text, ids, pieces = f"{text}\n", [*ids, EOS], [*pieces, "<eos>"]
        words += [tuple(token + len(ids) for token in word) for word in line.words]
        spans += [(first + len(text), last + len(text)) for first, last in line.spans]
        text, ids, pieces = text + line.text, [*ids, *line.ids], [*pieces, *line.pieces]
    return Side(text=text, ids=tuple(ids), pieces=tuple(pieces), spans=tuple(spans), words=tuple(words))


def _cut_lines(ids: Sequence[int]) -> list[list[int]]:
    """Tokens line by line, without the ends."""
    lines: list[list[int]] = [[]]
    for token in ids:
        if token == EOS:
            lines.append([])
        else:
            lines[-1].append(token)
    return lines
