"""The translator with inspection, returned by `vitrail.load`."""

from collections.abc import Generator, Iterable, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

from vitrail import renamed
from vitrail.data.cleaning.normalise import encodable, plain
from vitrail.data.vocabularies.subwords import EOS
from vitrail.decode.engines.torch import TorchEngine
from vitrail.decode.search_config import SearchConfig
from vitrail.decode.textual.results import SearchedPart
from vitrail.decode.textual.text_constraints import TextConstraints
from vitrail.decode.translate import Translator
from vitrail.errors import ModelError, UsageError
from vitrail.inspection.causes.change import Change, Chosen, Edit, apply_edit, change, replace_words, with_edit_prefix
from vitrail.inspection.causes.interventions import intervene
from vitrail.inspection.causes.parts import Head, Part
from vitrail.inspection.causes.patching import Patch
from vitrail.inspection.collect import Arrays, collect
from vitrail.inspection.contents import Facts, make_side
from vitrail.inspection.decoding import Decoding, TreeRecorder, describe_steps
from vitrail.inspection.record import Inspection
from vitrail.models.base import TranslationModel

LONGEST = 256
"""Maximal length in tokens of an inspected sentence or translation: arrays and pages grow with its square."""


_EDITED: ContextVar[tuple[tuple[TranslationModel, tuple[str, ...]], ...]] = ContextVar("edited", default=())


class InspectableTranslator(Translator):
    """A `Translator` on torch that can also be inspected and edited."""

    engines = (TorchEngine.name,)

    @property
    def _model(self) -> object:
        assert isinstance(self.engine, TorchEngine), "no other is accepted"
        return self.engine.model

    @property
    def _edits(self) -> tuple[str, ...]:
        """The edits that `edited` applies to the model for the current thread."""
        return tuple(line for model, lines in _EDITED.get() if model is self._model for line in lines)

    def __getstate__(self) -> dict[str, Any]:
        if self._edits:
            raise UsageError("a translator cannot be sent to another process while it is edited", remedy="edit it there")
        return super().__getstate__()

    @property
    def model(self) -> TranslationModel:
        """The one model behind it. Raises ModelError for an ensemble."""
        model = self._model
        if not isinstance(model, TranslationModel):
            raise ModelError("an ensemble cannot be inspected", remedy="load one of its models by itself")
        return model

    @renamed.keywords(wishes="constraints")
    def inspect(
        self,
        text: str,
        translation: str | None = None,
        *,
        part: int | None = None,
        search: SearchConfig | None = None,
        constraints: TextConstraints | None = None,
        edit: Edit | None = None,
    ) -> Inspection:
        """Translate a text and record every layer, head and gate, and the tree of hypotheses.

        The record is of one part: `translate` splits a text of several sentences, and a sentence that is too long. See `Facts.part`,
        `parts`, `cut` and `truncated`; `Facts.translation` is that of the whole text. For an edited model, `extras["edits"]` lists the
        edits, one line each, as `Edit.to_lines` writes them.

        Args:
            translation: inspect this translation of the part, not the one that the search finds; the search is recorded anyway.
            part: which one, from 1; None: the first.
            search, constraints: as for `translate`; a prefix is of the first part.
            edit: inspect the part and the model with this edit applied.
        Raises: UsageError for a text or translation without tokens or with more than `LONGEST`, for a part that does not exist, for a
            translation of a text in several parts without `part`, and for constraints that cannot be satisfied; ModelError for an ensemble,
            a compiled model or a Transformer autoencoder.
        """
        model = self.model
        if not model.reads_tokens:
            raise ModelError(
                "an autoencoder: its decoder reads one vector of the sentence, and not the words",
                expected="a model that translates",
                remedy='vitrail inspect bottleneck MODEL "A sentence."',
            )
        if edit is not None:
            text, constraints = replace_words(text, edit.words), with_edit_prefix(constraints, edit)
        chosen = self.choose_part(text, part, constraints=constraints, given=translation is not None, edit=edit)
        side = make_side(chosen.ids, self.vocabularies.source, text=chosen.text)
        recorder = TreeRecorder(self.vocabularies.target, self.search if search is None else search, sentence=chosen.number - 1)
        with nullcontext() if edit is None else apply_edit(model, side, edit):
            only = None if edit is None else chosen.number - 1
            searched = self.translate_parts(text, constraints=constraints, search=search, observe=recorder.observe, only=only)
            found = searched.parts[0 if only is not None else chosen.number - 1]
            target = found.segment.target_tokens if translation is None else self.encode_target(translation)
            truncated = translation is None and found.hypotheses[0].truncated
            _check_length(len(target), "a translation")
            arrays = collect(model, chosen.ids, target, ended=not truncated)
        facts = Facts(
            source=side,
            target=make_side(target, self.vocabularies.target, text=None if translation is None else plain(encodable(translation)).strip()),
            given=translation is not None,
            asked=text,
            part=chosen.number,
            parts=chosen.parts,
            source_start=found.segment.source_start,
            source_end=found.segment.source_end,
            cut=found.segment.cut,
            truncated=truncated,
            translation=searched.translation.text if translation is None and edit is None else None,
            target_start=found.segment.target_start if translation is None and edit is None else 0,
            model=model.config.model_dump(mode="json"),
            languages=self.languages,
            decoding=self._tell_search(recorder, searched.search, found, arrays, [*target, *([] if truncated else [EOS])]),
        )
        edits = [*self._edits, *(() if edit is None else edit.to_lines())]
        return Inspection(facts, arrays).with_arrays({}, **({"edits": edits} if edits or edit is not None else {}))

    def applied(self, edit: Edit, inspection: Inspection) -> AbstractContextManager[None]:
        """A context manager: the model with the edit that a record was made with, see `complete`."""
        return apply_edit(self.model, inspection.source, edit)

    def _tell_search(
        self, recorder: TreeRecorder, search: SearchConfig, found: SearchedPart, arrays: Arrays, predicted: Sequence[int]
    ) -> Decoding:
        return Decoding(
            beams=recorder.beams,
            length_penalty=search.length_penalty,
            sampled=search.sampling is not None,
            prefix=len(found.query.constraints.prefix),
            nodes=tuple(recorder.nodes),
            finished=recorder.finish(found.hypotheses),
            steps=describe_steps(arrays["probabilities"], predicted, self.vocabularies.target),
        )

    @renamed.keywords(wishes="constraints")
    def edit(
        self,
        text: str,
        edit: Edit,
        *,
        translation: str | None = None,
        part: int | None = None,
        search: SearchConfig | None = None,
        constraints: TextConstraints | None = None,
    ) -> Change:
        """The effect of an edit on the translation of one part of a text, and on its probability; see `change`."""
        return change(self, text, edit, translation=translation, part=part, search=search, constraints=constraints)

    @contextmanager
    def edited(
        self, *, off: Iterable[str | Part | Head] = (), hidden: Sequence[int] = (), patches: Iterable[Patch] = ()
    ) -> "Generator[InspectableTranslator]":
        """A context manager: this translator with its model edited, for calls from this thread inside the `with` block; see `intervene`."""
        edit = Edit(off=tuple(off), hidden=tuple(hidden), patches=tuple(patches))
        with intervene(self.model, off=edit.off, hidden=hidden, patches=edit.patches):
            token = _EDITED.set((*_EDITED.get(), (self.model, tuple(edit.to_lines()))))
            try:
                yield self
            finally:
                _EDITED.reset(token)

    def choose_part(
        self,
        text: str,
        part: int | None = None,
        *,
        constraints: TextConstraints | None = None,
        given: bool = False,
        edit: Edit | None = None,
    ) -> Chosen:
        """One of the parts that a text is translated in. Args: given: a translation of that part is given. edit: the edit to apply.

        Raises UsageError for a part that does not exist or is too long, for a text without tokens, and where the part must be named.
        """
        parts = self.cut(text, constraints=constraints)
        if not parts:
            raise UsageError(f"{text!r}: nothing to inspect", expected="a sentence; text without letters stays as it is")
        number = 1 if part is None else part
        if not 1 <= number <= len(parts):
            raise UsageError(f"part {number} of a text that is translated in {len(parts)}", expected=f"1 to {len(parts)}")
        if part is None and given and len(parts) > 1:
            raise UsageError(
                f"a translation of a text that is translated in {len(parts)} parts",
                expected="the translation of one of them",
                remedy=f"choose one: part 1 to {len(parts)}",
            )
        if edit is not None and edit.prefix and number > 1:
            raise UsageError(f"a prefix for part {number}", expected="part 1, which begins the translation")
        _check_length(len(parts[number - 1][1]), "a text")
        return Chosen(number, len(parts), *parts[number - 1])

    def encode_source(self, text: str) -> list[int]:
        """The token ids of one sentence, without EOS, in one part. Raises UsageError where there are none, or more than `LONGEST`."""
        tokens = self.vocabularies.source.encode(self.read(text))
        if not tokens:
            raise UsageError(f"{text!r}: nothing to inspect", expected="a sentence")
        _check_length(len(tokens), "a text")
        return tokens

    def encode_target(self, text: str) -> tuple[int, ...]:
        """The token ids of a translation, without SOS and EOS."""
        return tuple(self.vocabularies.target.encode(plain(encodable(text)).strip()))


def _check_length(tokens: int, what: str) -> None:
    if tokens > LONGEST:
        raise UsageError(f"{what} of {tokens} tokens", expected=f"at most {LONGEST}", remedy="inspect one sentence at a time")
