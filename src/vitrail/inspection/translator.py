"""A translator that can be looked into: what `vitrail.load` gives."""

from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager

from vitrail.data.subwords import EOS
from vitrail.decode.search import SearchConfig
from vitrail.decode.translate import Translator, Wishes, encodable, plain
from vitrail.errors import ModelError, UsageError
from vitrail.inspection.change import Change, Edit, begun, change, edit_applied, replace_words
from vitrail.inspection.collect import collect
from vitrail.inspection.decoding import Decoding, TreeRecorder, describe_steps
from vitrail.inspection.edit import applied
from vitrail.inspection.parts import Head, Part
from vitrail.inspection.patching import Patch
from vitrail.inspection.record import Facts, Inspection, make_side
from vitrail.models.base import TranslationModel

LONGEST = 256
"""Tokens of a sentence, or of a translation, that can be inspected: arrays and pages grow with their square."""


class InspectableTranslator(Translator):
    """Translates as `Translator` does, and tells how."""

    _edits: tuple[str, ...] = ()
    """What `edited` has changed, while it is open."""

    @property
    def model(self) -> TranslationModel:
        """The one model behind it. Raises ModelError for an ensemble."""
        if not isinstance(self._model, TranslationModel):
            raise ModelError("an ensemble has no inside of its own", remedy="load one of its models by itself")
        return self._model

    def inspect(
        self,
        text: str,
        translation: str | None = None,
        *,
        search: SearchConfig | None = None,
        wishes: Wishes | None = None,
        edit: Edit | None = None,
    ) -> Inspection:
        """Translate one sentence and keep all that was computed on the way: every layer, head and gate, and the tree of hypotheses.

        Of an edited model `extras["edits"]` tells what was changed, a line each as `Edit.to_lines` writes them.

        Args:
            translation: look at this one rather than at what the search finds; the search is recorded all the same.
            search, wishes: as for `translate`.
            edit: look at the sentence and at the model with this changed.
        Raises: UsageError for a text or translation without tokens or with more than `LONGEST`, and for wishes that cannot be granted;
            ModelError for an ensemble or a compiled model.
        """
        if edit is not None:
            text = replace_words(text, edit.words)
            with edit_applied(self, text, edit):
                found = self.inspect(text, translation, search=search, wishes=begun(wishes, edit))
            return found.with_arrays({}, edits=[*self._edits, *edit.to_lines()])
        model = self.model
        source = self.encode_source(text)
        search = self.search if search is None else search
        recorder = TreeRecorder(self.vocabularies.target, search)
        found = self.search_one(source, wishes=wishes, search=search, observe=recorder.observe)
        target = found[0].tokens if translation is None else self.encode_target(translation)
        if len(target) > LONGEST:
            raise UsageError(
                f"a translation of {len(target)} tokens", expected=f"at most {LONGEST}", remedy="inspect one sentence at a time"
            )
        arrays = collect(model, source, target)
        vocabulary = self.vocabularies.target
        decoding = Decoding(
            beams=search.width,
            length_penalty=search.length_penalty,
            sampled=search.sampling is not None,
            prefix=0 if wishes is None else len(self.encode_target(wishes.prefix)),
            nodes=tuple(recorder.nodes),
            finished=recorder.finish(found),
            steps=describe_steps(arrays["probabilities"], [*target, EOS], vocabulary),
        )
        facts = Facts(
            source=make_side(source, self.vocabularies.source),
            target=make_side(target, vocabulary),
            given=translation is not None,
            asked=text,
            model=model.config.model_dump(mode="json"),
            languages=self.languages,
            decoding=decoding,
            extras={"edits": list(self._edits)} if self._edits else {},
        )
        return Inspection(facts, arrays)

    def edit(
        self,
        text: str,
        edit: Edit,
        *,
        translation: str | None = None,
        search: SearchConfig | None = None,
        wishes: Wishes | None = None,
    ) -> Change:
        """What an edit does to the translation of one sentence, and to its probability; see `change`."""
        return change(self, text, edit, translation=translation, search=search, wishes=wishes)

    @contextmanager
    def edited(
        self, *, off: Iterable[str | Part | Head] = (), hidden: Sequence[int] = (), patches: Iterable[Patch] = ()
    ) -> "Generator[InspectableTranslator]":
        """This translator with parts of its model changed, whatever it is asked while this is open; see `applied`."""
        edit, before = Edit(off=tuple(off), hidden=tuple(hidden), patches=tuple(patches)), self._edits
        with applied(self.model, off=edit.off, hidden=hidden, patches=edit.patches):
            self._edits = (*before, *edit.to_lines())
            try:
                yield self
            finally:
                self._edits = before

    def encode_source(self, text: str) -> list[int]:
        """The token ids of one sentence, without EOS. Raises UsageError where there are none, or more than `LONGEST`."""
        tokens = self.vocabularies.source.encode(plain(self.read(text)))
        if not tokens:
            raise UsageError(f"{text!r}: nothing to inspect", expected="a sentence")
        if len(tokens) > LONGEST:
            raise UsageError(f"a text of {len(tokens)} tokens", expected=f"at most {LONGEST}", remedy="inspect one sentence at a time")
        return tokens

    def encode_target(self, text: str) -> tuple[int, ...]:
        """The token ids of a translation, without SOS and EOS."""
        return tuple(self.vocabularies.target.encode(plain(encodable(text)).strip()))
