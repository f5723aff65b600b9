"""A folder that CTranslate2 loads without any other program: weights, vocabularies, the SentencePiece model, and how to run it."""

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

from vitrail.data.vocabularies.subwords import SentencePieceSubwords, Vocabularies
from vitrail.errors import UsageError
from vitrail.export.translators.ctranslate2_spec import OURS, AlignmentHeads, CTranslate2Model, make_spec, names_of, obstacle, save_spec
from vitrail.export.translators.parity import CheckTexts, GivenPairs, Parity, check_texts, compare, run_of
from vitrail.export.translators.staging import publish_checked
from vitrail.files import write_file
from vitrail.inspection.alignment.word_alignment import choose_heads, development_pairs
from vitrail.inspection.translator import InspectableTranslator
from vitrail.models.model_folder import LoadedModel, load_model

Compute = Literal["float32", "int8", "int8_float32", "int8_bfloat16", "int8_float16", "int16", "bfloat16", "float16"]
ALIGNMENT, README = "alignment.json", "README.md"
_NO_PENALTY = 1e-9
"""With 0 that program ends when its best beam has ended; with any other number as ours does, when as many have ended as there are beams."""


class ExportedAlignment(NamedTuple):
    """The heads whose attention that program returns, and how well they align."""

    heads: AlignmentHeads
    row: str
    """predicted: a token's weights are those returned for it; read: those returned for the token after it."""
    worth: float | None
    """Share of the tokens on which both directions agree."""


def export_ctranslate2(
    model: Path, output: Path, *, compute: Compute = "float32", check: bool = True, given: GivenPairs | None = None
) -> Parity | None:
    """Write the translator of a run's folder or a model folder for CTranslate2, and translate with both.

    Raises: UsageError for a model that cannot be carried, naming what; ModelError where that program translates otherwise: then nothing is
    written.
    """
    loaded = load_carried(model)
    align = find_alignment(model)

    def write(folder: Path) -> None:
        save_spec(make_spec(loaded, align=None if align is None else align.heads), folder, compute=compute)
        for name, content in _beside(loaded, align, compute).items():
            write_file(folder / name, content)

    def compared(folder: Path) -> Parity | None:
        if not check:
            return None
        found = compare(model, theirs(folder, loaded.vocabularies), program=program(), texts=check_texts(model, given=given))
        found.require(exact=compute == "float32")
        return found

    return publish_checked(output, write=write, check=compared)


def load_carried(model: Path) -> LoadedModel:
    """Read a model that CTranslate2 can carry. Raises UsageError for another, and where ctranslate2 is not installed."""
    if find_spec("ctranslate2") is None:
        raise UsageError("ctranslate2 is not installed", remedy="pip install ctranslate2")
    loaded = load_model(model)
    if lacks := obstacle(loaded.config):
        raise UsageError(lacks, expected="a Transformer with layer or rms norm", remedy="vitrail export --list shows the other exits")
    return loaded


def program() -> str:
    """The program's name and version."""
    from importlib.metadata import version

    return f"ctranslate2 {version('ctranslate2')}"


def find_alignment(model: Path) -> ExportedAlignment | None:
    """The heads of one layer that align the development set of a run best; None where there is no such set: then none are named."""
    pairs = development_pairs(run_of(model))
    if not pairs:
        return None
    translator = InspectableTranslator.load(model)
    chosen = choose_heads(translator, [one for one, _ in pairs], [other for _, other in pairs], one_layer=True)
    heads = AlignmentHeads(chosen.heads[0][0], tuple(head for _, head in chosen.heads))
    return ExportedAlignment(heads, chosen.row, chosen.worth)


def theirs(folder: Path, vocabularies: Vocabularies) -> Any:
    """Translate with CTranslate2, and with the SentencePiece model beside it where there is one: with nothing of ours."""
    peer = CTranslate2Model(folder, names=(names_of(vocabularies.source), names_of(vocabularies.target)))
    if not isinstance(vocabularies.source, SentencePieceSubwords) or not isinstance(vocabularies.target, SentencePieceSubwords):

        def by_ids(texts: CheckTexts, beams: int) -> list[str]:
            found = peer.translate(texts.tokens, beams=beams, longest=texts.longest, length_penalty=_NO_PENALTY)
            return [vocabularies.target.decode(one) for one in found]

        return by_ids
    import ctranslate2
    import sentencepiece

    names = list(vocabularies.files())
    source, target = (sentencepiece.SentencePieceProcessor(model_file=str(folder / name)) for name in (names[0], names[-1]))
    translator: Any = ctranslate2.Translator(str(folder))  # pyright: ignore[reportPrivateImportUsage]

    def by_text(texts: CheckTexts, beams: int) -> list[str]:
        found = translator.translate_batch(
            [source.encode(text, out_type=str) for text in texts.sources],
            beam_size=beams,
            max_batch_size=32,
            length_penalty=_NO_PENALTY,
            max_decoding_length=texts.longest,
            min_decoding_length=0,
            disable_unk=True,
        )
        return [target.decode(one.hypotheses[0]) for one in found]

    return by_text


def _beside(loaded: LoadedModel, align: ExportedAlignment | None, compute: str) -> Mapping[str, bytes]:
    """The files that are not CTranslate2's own."""
    found = {name: one.to_bytes() for name, one in loaded.vocabularies.files().items()}
    if align is not None:
        table = {"layer": align.heads.layer, "heads": list(align.heads.heads), "row": align.row, "agreement": align.worth}
        found[ALIGNMENT] = (json.dumps(table, indent=2) + "\n").encode()
    ours = {"model": loaded.config.model_dump(mode="json"), "facts": loaded.facts}
    found[OURS] = (json.dumps(ours, indent=2, ensure_ascii=False) + "\n").encode()
    found[README] = _readme(loaded, align, compute).encode()
    return found


def _readme(loaded: LoadedModel, align: ExportedAlignment | None, compute: str) -> str:
    names = list(loaded.vocabularies.files())
    facts = loaded.facts
    pair = f"{facts.get('source_language', '?')} to {facts.get('target_language', '?')}"
    text = f"""# A translator ({pair}) for CTranslate2

Written by `vitrail export --to ctranslate2 --compute {compute}`. It needs `pip install ctranslate2 sentencepiece`.
"""
    if isinstance(loaded.vocabularies.source, SentencePieceSubwords):
        text += f"""
```python
import ctranslate2, sentencepiece

source = sentencepiece.SentencePieceProcessor(model_file="{names[0]}")
target = sentencepiece.SentencePieceProcessor(model_file="{names[-1]}")
translator = ctranslate2.Translator(".")
tokens = source.encode("A sentence.", out_type=str)
found = translator.translate_batch([tokens], beam_size=5, disable_unk=True)
text = target.decode(found[0].hypotheses[0])
```
"""
    else:
        text += f"\nIts tokens are those of {' and '.join(names)}, Vitrail's vocabularies; a space is written as ▁.\n"
    text += """
One sentence at a time; with spaces alone between words, and without invisible marks. The length penalty of CTranslate2 divides by
length^p, Vitrail's by ((5 + length) / 6)^p.
"""
    if align is not None:
        where = (
            "the row of the token itself" if align.row == "predicted" else "the row after the token's own (ask with return_end_token=True)"
        )
        text += f"""
`return_attention=True` gives the average of {len(align.heads.heads)} heads of layer {align.heads.layer}, chosen to align words
({ALIGNMENT}, numbers as in Vitrail): {where}; without the weights of the sentence's end.
"""
    return text
