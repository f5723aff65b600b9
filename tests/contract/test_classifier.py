"""Laws of every classifier, and that sigmoid and softmax are what the literature says they are."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vitrail.data.batches import pad_rows
from vitrail.data.examples.labelled import LabelledBatch
from vitrail.data.labels_config import Examples, LabelsConfig
from vitrail.data.vocabularies.labels import LabelVocabulary
from vitrail.data.vocabularies.subwords import EOS, CharacterVocabulary, Vocabularies
from vitrail.decode.sentences.classify import Classifier
from vitrail.decode.sentences.sigmoid_softmax import compare_outputs
from vitrail.errors import UsageError
from vitrail.models.architectures import ClassifierConfig
from vitrail.models.base import Classifies, Embeds, unique_tensors
from vitrail.models.build import build_model
from vitrail.models.configs.classifier import BagClassifierConfig, RecurrentClassifierConfig, TransformerClassifierConfig
from vitrail.models.kinds.classifier import ClassifierModel
from vitrail.models.model_folder import load_folder, save_model
from vitrail.runtime.ranks import Ranks
from vitrail.train.loop import Learner, accumulate_gradients
from vitrail.train.optim import Optimizer
from vitrail.train.run_config import RunConfig

pytestmark = pytest.mark.sampled(6)

LETTERS = list("abcdefghij")


def transformer(**changes: object) -> TransformerClassifierConfig:
    plain = {"encoder_layers": 2, "width": 16, "heads": 2, "feed_forward": 24, "dropout": 0.0, "head_dropout": 0.0, "context": 32}
    return TransformerClassifierConfig.model_validate(plain | changes)


def recurrent(**changes: object) -> RecurrentClassifierConfig:
    plain = {"embedding_width": 8, "width": 16, "dropout": 0.0, "head_dropout": 0.0, "context": 32}
    return RecurrentClassifierConfig.model_validate(plain | changes)


def bag(**changes: object) -> BagClassifierConfig:
    return BagClassifierConfig.model_validate({"width": 16, "buckets": 300, "context": 32} | changes)


KINDS: dict[str, tuple[ClassifierConfig, int]] = {
    "transformer-mean": (transformer(), 3),
    "transformer-first-post": (transformer(pooling="first", norm_position="post"), 2),
    "transformer-rotary-several": (transformer(positions="rotary", several=True), 4),
    "transformer-two-logits": (transformer(output="softmax"), 2),
    "lstm-mean": (recurrent(), 3),
    "lstm-last-two-layers": (recurrent(pooling="last", encoder_layers=2), 2),
    "gru-last-one-direction": (recurrent(cell="gru", pooling="last", bidirectional=False), 5),
    "rnn-reversed-several": (recurrent(cell="rnn", reverse_source=True, pooling="last", several=True), 3),
    "bag-words": (bag(word_ngrams=1), 3),
    "bag-pairs": (bag(), 2),
    "bag-runs-several": (bag(word_ngrams=4, several=True), 4),
}
every_kind = pytest.mark.parametrize("name", KINDS)


def vocabularies(labels: int, *, several: bool = False) -> Vocabularies:
    names = LabelVocabulary([f"label {number}" for number in range(labels)], separator=";" if several else "")
    return Vocabularies(CharacterVocabulary(LETTERS), names, joint=False)


def build(name: str) -> tuple[ClassifierModel, Vocabularies]:
    config, labels = KINDS[name]
    words = vocabularies(labels, several=config.several)
    torch.manual_seed(3)
    model = build_model(config, words)
    assert isinstance(model, ClassifierModel) and isinstance(model, Classifies) and isinstance(model, Embeds)
    return model, words


def batch_for(name: str, *, rows: int = 8, longest: int = 9) -> LabelledBatch:
    config, labels = KINDS[name]
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(1, longest, (rows,), generator=generator).tolist()
    ids = [torch.randint(EOS + 1, EOS + 1 + len(LETTERS), (length,), generator=generator).tolist() for length in lengths]
    held = torch.rand(rows, labels, generator=generator) < 0.5
    one = F.one_hot(torch.randint(labels, (rows,), generator=generator), labels)
    marks_start = isinstance(config, TransformerClassifierConfig)
    return LabelledBatch(pad_rows(ids, start=marks_start), (held if config.several else one).float())


@every_kind
def test_added_padding_and_other_texts_change_nothing(name: str) -> None:
    model, batch = build(name)[0].eval(), batch_for(name)
    expected = model.classify(batch.source)
    padded = F.pad(batch.source, (0, 4))
    torch.testing.assert_close(model.classify(padded), expected, atol=1e-5, rtol=1e-5)
    for row, length in enumerate((batch.source != 0).sum(1).tolist()):
        torch.testing.assert_close(model.classify(batch.source[row : row + 1, :length])[0], expected[row], atol=1e-5, rtol=1e-5)
    assert (expected[0] - expected[1]).abs().max() > 1e-4, "the text is not read"


@every_kind
def test_the_loss_is_torchs(name: str) -> None:
    model, batch = build(name)[0].eval(), batch_for(name)
    config, labels = KINDS[name]
    logits = model.classify(batch.source)
    for smoothing in (0.0, 0.2):
        if logits.shape[1] == 1:
            pair = torch.cat([torch.zeros_like(logits), logits], dim=1)
            expected = F.cross_entropy(pair, batch.labels.argmax(1), reduction="sum", label_smoothing=smoothing)
        elif config.several:
            wanted = batch.labels * (1 - smoothing) + smoothing / 2
            expected = F.binary_cross_entropy(logits.sigmoid(), wanted, reduction="sum")
        else:
            assert logits.shape[1] == labels
            expected = F.cross_entropy(logits, batch.labels.argmax(1), reduction="sum", label_smoothing=smoothing)
        found = model.loss(batch, label_smoothing=smoothing)
        torch.testing.assert_close(found.nats, expected, atol=1e-4, rtol=1e-5)
        assert int(found.tokens) == len(batch.labels)
        torch.testing.assert_close(found.plain_nats, model.loss(batch).nats, atol=1e-4, rtol=1e-5)
    chosen = model.head.probabilities(logits)
    assert chosen.shape == batch.labels.shape and (config.several or torch.allclose(chosen.sum(1), torch.ones(len(chosen))))
    picked = torch.where(batch.labels > 0, chosen, 1 - chosen if config.several else torch.ones_like(chosen)).log().sum(1)
    torch.testing.assert_close(-picked, model.head.nats(logits, batch.labels), atol=1e-5, rtol=1e-5)


def gradients(name: str, parts: int) -> tuple[tuple[float, float, int], list[Tensor]]:
    model, batch = build(name)[0].train(), batch_for(name)
    texts = (Examples(source=Path("a.txt"), target=Path("labels.txt")),)
    config = RunConfig(data=LabelsConfig(examples=texts, several=KINDS[name][0].several), model=KINDS[name][0])
    optimizer = Optimizer(model, config.optimizer)
    learner = Learner(model, optimizer, [], lambda first: [], Ranks(0, 1), torch.device("cpu"), torch.float32, config)
    pieces = [
        LabelledBatch(source[:, (source != 0).any(0)], labels)
        for source, labels in zip(*(part.chunk(parts) for part in batch), strict=True)
    ]
    sums = accumulate_gradients(learner, list(enumerate(pieces)))
    return sums, [parameter.grad for parameter in optimizer.parameters if parameter.grad is not None]


@every_kind
def test_accumulated_gradients_are_those_of_the_whole_and_reach_every_parameter(name: str) -> None:
    sums, whole = gradients(name, 1)
    assert sums[2] == 8 and len(whole) == len(list(build(name)[0].parameters()))
    assert all(float(part.abs().max()) > 0 for part in whole)
    for parts in (2, 8):
        again, pieces = gradients(name, parts)
        assert again == pytest.approx(sums, rel=1e-5)
        for one, other in zip(pieces, whole, strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


@every_kind
def test_eight_texts_are_memorised(name: str) -> None:
    model, batch = build(name)[0].train(), batch_for(name)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(60):
        optimizer.zero_grad()
        model.loss(batch).nats.backward()
        optimizer.step()
    chosen = model.eval().head.probabilities(model.classify(batch.source))
    assert torch.equal(chosen > 0.5, batch.labels > 0.5)


@every_kind
def test_saved_and_loaded_it_is_the_same(tmp_path: Path, name: str) -> None:
    model, words = build(name)
    save_model(tmp_path / "model", tensors=unique_tensors(model), config=KINDS[name][0], vocabularies=words, facts={})
    loaded = load_folder(tmp_path / "model")
    source = batch_for(name).source
    assert isinstance(loaded.model, ClassifierModel)
    assert torch.equal(loaded.model.classify(source), model.eval().classify(source))
    labels = loaded.vocabularies.target
    assert isinstance(labels, LabelVocabulary) and isinstance(words.target, LabelVocabulary)
    assert (labels.labels, labels.separator, loaded.vocabularies.digest) == (words.target.labels, words.target.separator, words.digest)


@pytest.mark.parametrize("name", [name for name, (config, _) in KINDS.items() if config.kind != "bag-classifier"])
def test_the_vector_of_a_text_is_what_the_head_reads(name: str) -> None:
    model, batch = build(name)[0].eval(), batch_for(name)
    vectors, encoded = model.embed(batch.source), model.encode(batch.source)
    torch.testing.assert_close(model.head(vectors), model.classify(batch.source))
    match KINDS[name][0].pooling:
        case "first":
            torch.testing.assert_close(vectors, encoded.memory[:, 0])
        case "mean":
            rows = [memory[keep].mean(0) for memory, keep in zip(encoded.memory, encoded.keep, strict=True)]
            torch.testing.assert_close(vectors, torch.stack(rows), atol=1e-6, rtol=1e-5)
        case "last" if not KINDS[name][0].reverse_source:
            ends, half = encoded.keep.sum(1) - 1, vectors.shape[1] // 2
            last = encoded.memory[torch.arange(len(ends)), ends]
            if KINDS[name][0].bidirectional:
                last = torch.cat([last[:, :half], encoded.memory[:, 0, half:]], dim=1)
            torch.testing.assert_close(vectors, last, atol=1e-6, rtol=1e-5)
        case _:
            assert vectors.shape == (8, 16)


def test_two_logits_are_one_sigmoid_of_their_difference() -> None:
    """The same model with one logit and with two: with w = w_1 - w_0 all probabilities and gradients of the text are the same."""
    words, batch = vocabularies(2), batch_for("transformer-two-logits")
    two, one = (build_model(transformer(output=output), words).eval() for output in ("softmax", "sigmoid"))
    assert isinstance(two, ClassifierModel) and isinstance(one, ClassifierModel)
    own = unique_tensors(one)
    with torch.no_grad():
        for name, tensor in unique_tensors(two).items():
            own[name].copy_(tensor[1:] - tensor[:1] if name.startswith("head.") else tensor)
    assert one.head.linear.out_features == 1 and two.head.linear.out_features == 2
    found = [model.head.probabilities(model.classify(batch.source)) for model in (one, two)]
    torch.testing.assert_close(found[0], found[1], atol=1e-6, rtol=1e-5)
    losses = [model.loss(batch).nats for model in (one, two)]
    torch.testing.assert_close(losses[0], losses[1], atol=1e-5, rtol=1e-5)
    for loss in losses:
        loss.backward()
    torch.testing.assert_close(one.source_embedding.weight.grad, two.source_embedding.weight.grad, atol=1e-6, rtol=1e-4)


@every_kind
def test_the_user_sees_where_sigmoid_and_softmax_agree(name: str) -> None:
    model, words = build(name)
    found = compare_outputs(Classifier(model, words), "abc")
    if len(words.target.pieces(range(EOS + 1, words.target.size))) == 2 and not found.several:
        assert found.difference < 1e-6 and sum(found.sigmoid) == pytest.approx(1)
        assert "rounding" in found.to_text()
    else:
        assert sum(found.softmax) == pytest.approx(1) and abs(sum(found.sigmoid) - 1) > 1e-3
        assert f"{sum(found.sigmoid):.4f} with sigmoids" in found.to_text()


@pytest.mark.parametrize(
    ("config", "labels", "told"),
    [
        (transformer(output="sigmoid"), 3, "sigmoid with 3 labels"),
        (recurrent(output="softmax", several=True), 3, "softmax with labels that may hold together"),
        (transformer(positions="learned", max_positions=16), 2, "16 learned positions"),
    ],
)
def test_an_output_that_cannot_be_is_refused(config: ClassifierConfig, labels: int, told: str) -> None:
    with pytest.raises(UsageError, match=told) as caught:
        build_model(config, vocabularies(labels))
    assert caught.value.remedy
