"""Maps, ablation and reading of models of plain text: masked ones, classifiers, autoencoders."""

import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from language_models import CORPUS, TEXTS
from readers import classifier, filler

from vitrail.data.batches import collate
from vitrail.data.vocabularies.subwords import EOS, SOS
from vitrail.decode.sentences.autoencoder import Autoencoder
from vitrail.decode.translate import Translator
from vitrail.errors import UsageError
from vitrail.inspection.causes.ablation import ablate_reconstruction
from vitrail.inspection.maps.model_map import TextInspector, map_text
from vitrail.inspection.maps.projector import export_embeddings, export_text_embeddings
from vitrail.inspection.maps.states import read_states
from vitrail.inspection.translator import InspectableTranslator
from vitrail.models.architectures import read_config
from vitrail.models.base import unique_tensors
from vitrail.models.build import build_model
from vitrail.models.kinds.autoencoder import AutoencoderModel
from vitrail.models.model_folder import save_model

LINES = [*CORPUS, *TEXTS]
BLOCKS = {"encoder_layers": 2, "decoder_layers": 1, "width": 16, "heads": 2, "feed_forward": 24, "dropout": 0.0}
AUTOENCODERS: dict[str, dict[str, Any]] = {
    "autoencoder": {"kind": "transformer-autoencoder", **BLOCKS, "bottleneck": 6},
    "autoencoder-first": {"kind": "transformer-autoencoder", **BLOCKS, "bottleneck": 6, "pooling": "first"},
    "autoencoder-lstm": {"kind": "recurrent-autoencoder", "embedding_width": 16, "width": 12, "bottleneck": 6},
}


def _slow(name: str) -> Any:
    return pytest.param(name, marks=pytest.mark.slow)


def autoencoder(name: str) -> InspectableTranslator:
    torch.manual_seed(5)
    words = filler("masked").vocabularies
    return InspectableTranslator(build_model(read_config(AUTOENCODERS[name]), words).eval(), vocabularies=words)  # pyright: ignore[reportArgumentType]


def inspector(name: str) -> TextInspector:
    if name in AUTOENCODERS:
        return autoencoder(name)
    return filler(name) if name.startswith("masked") else classifier(name)


@pytest.mark.parametrize(
    "name", ["masked", "lstm-last-reversed-one-way", "autoencoder-first", *map(_slow, ("softmax-first", "autoencoder", "autoencoder-lstm"))]
)
def test_maps_are_of_what_the_model_reads(name: str) -> None:
    one = inspector(name)
    found = map_text(one, LINES)
    vocabulary = one.vocabularies.source
    starts = name in ("masked", "softmax-first", "autoencoder-first")
    ids = [*([SOS] if starts else []), *vocabulary.encode(LINES[0]), EOS]
    assert list(found.points.piece[: len(ids)]) == [
        "<sos>" if id == SOS else "<eos>" if id == EOS else vocabulary.pieces([id])[0] for id in ids
    ]
    assert [one.text for one in found.sentences] == LINES and found.retrieval == () and found.means.place == "memory"
    assert {part.place for part in found.states} == {
        place for place in found.cka.places if place.startswith(("source", "encoder", "memory"))
    }
    assert ("decoder_output" in found.cka.places) == (name in AUTOENCODERS)
    assert np.allclose(np.diag(np.array(found.cka.values, dtype=float)), 1)
    assert "retrieval" not in found.to_text() and found.embeddings[0].side == ("both" if name in AUTOENCODERS else "text")
    with pytest.raises(UsageError, match="3 different lines"):
        map_text(one, LINES[:3])


@pytest.mark.parametrize("name", ["masked", "autoencoder-first"])
def test_states_are_those_of_a_row_by_itself(name: str) -> None:
    """Padding and the other rows change nothing, and no position is missing."""
    one = inspector(name)
    rows = one.vocabularies.source.encode_batch(LINES[:4])
    pairs = [(row, row if name in AUTOENCODERS else []) for row in rows]
    for states in read_states(one.model, pairs):
        source = collate([rows[states.number]], [[]]).source
        source = torch.nn.functional.pad(source, (1, 0), value=SOS)
        model: Any = one.model
        with torch.inference_mode():
            memory = type(model).__mro__[2].encode(model, source).memory[0] if name in AUTOENCODERS else model.encode(source).memory[0]
        np.testing.assert_allclose(states.source["memory"], memory.numpy(), atol=1e-5)


@pytest.mark.parametrize("name", ["masked", "gru-mean", "autoencoder"])
def test_embeddings_for_the_projector(name: str, tmp_path: Path) -> None:
    one = inspector(name)
    wrote = export_embeddings(one, tmp_path) if isinstance(one, InspectableTranslator) else export_text_embeddings(one, tmp_path)  # pyright: ignore[reportArgumentType]
    pieces = [line.split("\t")[0] for line in (tmp_path / "embeddings.metadata.tsv").read_text(encoding="utf-8").splitlines()[1:]]
    vectors = np.loadtxt(tmp_path / "embeddings.vectors.tsv")
    table = one.model.get_parameter("source_embedding.weight").detach().numpy()
    np.testing.assert_allclose(vectors, table, rtol=1e-4, atol=1e-5)
    assert len(pieces) == len(table) == wrote.tables["embeddings"] and (pieces[-1] == "[MASK]") == (name == "masked")
    assert "犬" in pieces


def test_a_head_without_which_nothing_changes_and_one_that_matters() -> None:
    one = autoencoder("autoencoder")
    with torch.no_grad():
        one.model.get_parameter("encoder.0.self_attention.output.weight")[:, :8] = 0
    found = ablate_reconstruction(one, LINES[2:4])
    heads = {(head.kind, head.layer, head.head): head for head in found.heads}
    assert len(heads) == 2 * 2 + 2 + 2 and found.sentences == len(LINES[2:4])
    assert heads["encoder", 0, 0].lost == heads["encoder", 0, 0].nats_lost == 0
    assert all(head.nats_lost != 0 for place, head in heads.items() if place != ("encoder", 0, 0))
    model = one.model
    assert isinstance(model, AutoencoderModel)
    auto = Autoencoder(model, one.vocabularies)
    whole = auto.measure(LINES[2:4])
    rows = one.vocabularies.source.encode_batch(LINES[2:4])
    nats = [float(model.loss(collate([row], [row])).plain_nats) / (len(row) + 1) for row in rows]
    assert found.nats == pytest.approx(-np.mean(nats), rel=1e-5)
    from sacrebleu.metrics import CHRF

    scores = [CHRF().sentence_score(text, [line]).score for text, line in zip(whole.texts, whole.lines, strict=True)]
    assert found.value == pytest.approx(np.mean(scores))
    with pytest.raises(UsageError, match="no attention heads"):
        ablate_reconstruction(autoencoder("autoencoder-lstm"), LINES[2:4])


@pytest.mark.parametrize("name", ["autoencoder", "autoencoder-lstm"])
def test_every_verb_reads_a_sentence_alike(name: str, tmp_path: Path) -> None:
    """Composed or not, with odd spaces or a byte order mark: one sentence to an autoencoder, as it is to `embed`."""
    one = autoencoder(name)
    save_model(
        tmp_path / "model",
        tensors=unique_tensors(one.model),
        config=read_config(AUTOENCODERS[name]),
        vocabularies=one.vocabularies,
        facts={},
    )
    auto, translator = Autoencoder.load(tmp_path / "model"), Translator.load(tmp_path / "model")
    inspectable = InspectableTranslator.load(tmp_path / "model")
    for text in ("कुत्ते ने खाना खाया ।", "قطَّة", "犬ががぶ。", "a dög .", "می\u200cخورد", "a\u00ad d\u00a0og"):
        odd = f"\ufeff{unicodedata.normalize('NFD', text)}\t "
        composed = unicodedata.normalize("NFC", text)
        assert list(inspectable.encode_source(odd)) == auto.encode(odd) == auto.encode(composed)
        assert translator.read(odd) == one.read(odd) == composed
        assert auto.reconstruct([odd, "", composed]) == [auto.reconstruct([composed])[0], "", auto.reconstruct([composed])[0]]
