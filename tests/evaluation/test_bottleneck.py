"""Probes of the sentence vector: the solvers against independent ones, and models of which the answer is known."""

import json
from pathlib import Path
from random import Random

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.data.batches import Batch, pad_rows
from vitrail.data.preparing.holdout import HoldoutConfig
from vitrail.data.preparing.prepare import DataConfig, prepare
from vitrail.data.reading.parallel_text import ParallelText
from vitrail.data.vocabularies.subwords import PAD, SubwordsConfig, Vocabularies, WordVocabulary
from vitrail.errors import DataError, ModelError
from vitrail.experiments.bottleneck import CLASSES, LEAST, logistic, mean_over_real, probe_run, probe_vectors, ridge, sentence_vectors
from vitrail.models.base import Encoded, State, Step, TranslationModel, unique_tensors
from vitrail.models.build import build_model
from vitrail.models.configs.recurrent import RecurrentConfig
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.models.model_folder import save_model
from vitrail.nn.losses import LossSum

NAMES = ("anna", "bert", "cleo", "dora", "emil")
ENDS = ("home", "away", "here", "there")
MIDDLES = tuple(f"and{index}" for index in range(40))


def sentences(count: int, *, seed: int) -> list[str]:
    draw = Random(seed)
    return [
        f"{draw.choice(NAMES)} {' '.join(draw.choices(MIDDLES, k=draw.randint(0, 13)))} {draw.choice(ENDS)}.".replace("  ", " ")
        for _ in range(count)
    ]


TEXTS = sentences(400, seed=1)
WORDS = WordVocabulary.train(TEXTS, size=200, least_count=1)
BOTH = Vocabularies(WORDS, WORDS, joint=True)
FIT, TEST = TEXTS[:250], TEXTS[250:]


class Reader(TranslationModel):
    """Its summary says all that is asked, times a rotation and beside a number that never changes; or, `blind`, what no word decides."""

    def __init__(self, *, blind: bool = False) -> None:
        super().__init__()
        self.blind = blind
        size = 2 * WORDS.size + 1
        generator = torch.Generator().manual_seed(0)
        self.mix = nn.Parameter(torch.linalg.qr(torch.randn(size, size, generator=generator))[0])

    def encode(self, source: Tensor) -> Encoded:
        keep = source != PAD
        length = keep.sum(1)
        summary = torch.cat(
            [
                length[:, None].float(),
                F.one_hot(source[:, 0], WORDS.size).float(),
                # Before the full stop and the end.
                F.one_hot(source.gather(1, (length - 3).clamp(min=0)[:, None]).squeeze(1), WORDS.size).float(),
            ],
            dim=1,
        )
        if self.blind:
            noise = torch.Generator().manual_seed(int(source.sum()))
            summary = torch.randn(len(source), 8, generator=noise)
        else:
            summary = torch.cat([summary @ self.mix, torch.full((len(source), 1), 3.0)], dim=1)
        return Encoded(torch.zeros(*source.shape, 4), keep, summary)

    def loss_given(self, encoded: Encoded, batch: Batch, *, label_smoothing: float = 0.0) -> LossSum:
        raise NotImplementedError

    def decode(self, target: Tensor, encoded: Encoded) -> Tensor:
        raise NotImplementedError

    def read_out(self, hidden: Tensor) -> Tensor:
        raise NotImplementedError

    def start(self, encoded: Encoded) -> State:
        raise NotImplementedError

    def step(self, last: Tensor, state: State) -> Step:
        raise NotImplementedError


def test_ridge_is_least_squares_with_rows_added_for_the_penalty() -> None:
    torch.manual_seed(0)
    features, wanted, strength = torch.randn(60, 7).double() + 2, torch.randn(60).double() * 3 + 5, 0.3
    ones = torch.ones(60, 1).double()
    penalty = torch.cat([(60 * strength) ** 0.5 * torch.eye(7).double(), torch.zeros(7, 1).double()], 1)
    table = torch.cat([torch.cat([features, ones], 1), penalty])
    expected = torch.linalg.lstsq(table, torch.cat([wanted, torch.zeros(7).double()])[:, None]).solution.squeeze(1)
    torch.testing.assert_close(ridge(features, wanted, strength), expected, rtol=1e-9, atol=1e-9)


def test_logistic_is_at_the_bottom_of_its_convex_loss() -> None:
    torch.manual_seed(0)
    features, wanted = torch.randn(90, 5).double(), torch.randint(4, (90,))
    found = logistic(features, wanted, classes=4, strength=0.05).requires_grad_()
    loss = F.cross_entropy(features @ found[:, :-1].t() + found[:, -1], wanted) + 0.025 * found[:, :-1].square().sum()
    loss.backward()
    assert found.grad is not None and found.grad.abs().max() < 1e-4
    assert torch.equal(logistic(features, wanted, classes=4, strength=0.05), found.detach()), "the same answer every time"


def test_the_mean_leaves_padding_out() -> None:
    memory = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [torch.inf, torch.nan]]])
    assert mean_over_real(memory, torch.tensor([[True, True, False]])).tolist() == [[2.0, 4.0]]


@pytest.mark.parametrize(
    "config",
    [
        RecurrentConfig(cell="lstm", width=8, embedding_width=6, encoder_layers=2),
        TransformerConfig(encoder_layers=1, decoder_layers=1, width=8, heads=2, feed_forward=8),
    ],
)
def test_vectors_are_those_of_each_sentence_alone_in_the_order_of_the_texts(config: RecurrentConfig | TransformerConfig) -> None:
    torch.manual_seed(0)
    model = build_model(config, BOTH).train()
    texts = TEXTS[:70]
    vectors = sentence_vectors(model, BOTH, texts)
    assert model.training and ("states" in vectors.kind) == isinstance(config, RecurrentConfig)
    model.eval()
    for place in (0, 33, 69):
        with torch.no_grad():
            encoded = model.encode(pad_rows([WORDS.encode(texts[place])]))
        alone = encoded.memory.mean(1) if encoded.summary is None else encoded.summary
        torch.testing.assert_close(vectors.values[place], alone[0].double(), rtol=1e-4, atol=1e-5)


def test_what_is_in_the_vector_is_read_back() -> None:
    found = probe_vectors(Reader(), BOTH, FIT, TEST)
    assert found.length.r_squared > 0.99 and found.vector == "last states of the encoder" and found.fitted == len(set(FIT))
    for probe, classes in zip(found.words, (len(NAMES), len(ENDS)), strict=True):
        whole = probe.bands[0]
        assert probe.classes == classes and whole.probe.share == 1.0 and whole.probe.total == found.tested
        assert whole.majority.share is not None and 0.1 < whole.majority.share < 0.5
        assert sum(band.probe.total for band in probe.bands[1:]) == whole.probe.total
    whole = found.length.bands[0]
    assert whole.mean_error is not None and whole.baseline_error is not None and whole.mean_error < 0.2 < whole.baseline_error
    assert [(band.first, band.last) for band in found.length.bands[:3]] == [(0, None), (0, 10), (11, 20)]
    assert found.length.bands[-1].sentences == 0 and found.length.bands[-1].mean_error is None


def test_what_is_not_in_the_vector_is_not_read_back() -> None:
    found = probe_vectors(Reader(blind=True), BOTH, FIT, TEST)
    assert found.length.r_squared < 0.1
    for probe in found.words:
        whole = probe.bands[0]
        assert whole.probe.low is not None and whole.majority.share is not None and whole.probe.low < whole.majority.share + 0.05


def test_test_sentences_are_new_and_different() -> None:
    found = probe_vectors(Reader(), BOTH, [*FIT, *FIT], [*FIT, *TEST, *TEST, "", "."])
    assert (found.fitted, found.tested) == (len(set(FIT)), len(set(TEST) - set(FIT)))


def test_rare_words_are_left_out() -> None:
    fit = [f"{TEXTS[index % 200].split()[0]}{index % (CLASSES + 30)} {TEXTS[index]}" for index in range(250)]
    found = probe_vectors(Reader(), BOTH, fit, TEST)
    assert found.words[0].classes == CLASSES and found.words[0].fitted < found.fitted
    assert found.words[0].bands[0].probe.total == 0 and found.words[0].bands[0].probe.share is None
    assert found.words[1].bands[0].probe.total == found.tested


def test_the_result_is_printed_whole() -> None:
    found = probe_vectors(Reader(), BOTH, FIT, TEST, name="runs/a")
    record = json.loads(json.dumps(found.to_record(), allow_nan=False))
    assert record["words"][1]["name"] == "last word" and record["length"]["bands"][0]["sentences"] == found.tested
    text = found.to_text()
    assert text.startswith("runs/a: last states of the encoder") and "100.0% (" in text
    assert text.count("\n") == 3 + sum(band.sentences > 0 for band in found.length.bands)


@pytest.mark.parametrize(
    ("fit", "test", "purpose"), [(FIT[: LEAST - 1], TEST, "to fit"), (FIT, FIT, "to test"), (["..."] * 99, TEST, "to fit")]
)
def test_too_few_sentences_are_refused(fit: list[str], test: list[str], purpose: str) -> None:
    with pytest.raises(DataError, match=purpose):
        probe_vectors(Reader(), BOTH, fit, test)


def test_a_runs_folder_is_probed_on_what_it_was_not_trained_on(tmp_path: Path) -> None:
    texts = list(dict.fromkeys(sentences(700, seed=3)))
    (tmp_path / "text.a").write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    (tmp_path / "text.b").write_text("".join(f"{' '.join(text.split()[::-1])}\n" for text in texts), encoding="utf-8")
    config = DataConfig(
        corpora=(ParallelText(source=tmp_path / "text.a", target=tmp_path / "text.b"),),
        holdout=HoldoutConfig(dev_pairs=60, test_pairs=60),
        subwords=SubwordsConfig(kind="word", size=200),
    )
    prepared = prepare(config, tmp_path / "run" / "data", workers=1)
    shape = RecurrentConfig(cell="gru", width=8, embedding_width=8)
    torch.manual_seed(0)
    model = build_model(shape, prepared.vocabularies)
    tensors = unique_tensors(model)
    save_model(tmp_path / "run" / "model", tensors=tensors, config=shape, vocabularies=prepared.vocabularies, facts={"step": 7})
    found = probe_run(tmp_path / "run")
    assert (found.name, found.width, found.tested) == (str(tmp_path / "run"), 8, 120) and found.fitted == len(prepared.stores[0])
    with pytest.raises(ModelError):
        probe_run(tmp_path)
