"""The doctor on masked language models, classifiers and autoencoders: what it looks into, the faults it finds there, and its words."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vitrail.config import build
from vitrail.data.labels_config import LabelsConfig
from vitrail.data.preparing.prepare import prepare
from vitrail.data.preparing.prepared import PreparedLabels, open_data
from vitrail.data.text_config import TextConfig
from vitrail.data.vocabularies.subwords import EOS
from vitrail.doctor.checks.activations import heads, neurons
from vitrail.doctor.checks.learning_curves import TrainingHistory, judge_learning
from vitrail.doctor.checks.outputs import judge_labels, same_output
from vitrail.doctor.checks.text_checks import text_leakage
from vitrail.doctor.examine import examine
from vitrail.doctor.findings import Diagnosis, Finding
from vitrail.doctor.run_under_test import read_run_folder
from vitrail.evaluation.gradient_norms import measure_gradients, real_positions
from vitrail.evaluation.learned import word_entropy
from vitrail.models.architectures import MODEL_KINDS, read_config
from vitrail.models.base import unique_tensors
from vitrail.models.build import build_model
from vitrail.models.model_folder import save_model
from vitrail.nn.probe import trace

BLOCKS = {"width": 16, "heads": 2, "feed_forward": 24, "dropout": 0.0}
CELLS = {"embedding_width": 16, "width": 24, "dropout": 0.0}
MODELS: dict[str, dict[str, Any]] = {
    "masked": {"kind": "masked-language", **BLOCKS, "encoder_layers": 2, "context": 24},
    "classifier": {"kind": "transformer-classifier", **BLOCKS, "encoder_layers": 2, "context": 24},
    "classifier-first-several": {
        "kind": "transformer-classifier",
        **BLOCKS,
        "encoder_layers": 2,
        "pooling": "first",
        "several": True,
        "norm_position": "post",
        "context": 24,
    },
    "classifier-gru": {"kind": "recurrent-classifier", **CELLS, "cell": "gru", "reverse_source": True, "pooling": "last"},
    "classifier-bag": {"kind": "bag-classifier", "width": 16, "buckets": 300, "word_ngrams": 3, "context": 24},
    "autoencoder": {"kind": "transformer-autoencoder", **BLOCKS, "encoder_layers": 2, "decoder_layers": 2, "bottleneck": 8, "slots": 4},
    "autoencoder-first": {
        "kind": "transformer-autoencoder",
        **BLOCKS,
        "encoder_layers": 2,
        "decoder_layers": 1,
        "bottleneck": 8,
        "slots": 3,
        "pooling": "first",
        "latent": "variational",
    },
    "autoencoder-lstm": {"kind": "recurrent-autoencoder", **CELLS, "cell": "lstm", "bottleneck": 8},
}
SOME = ["the dog", "犬が", "الكلب", "कुत्ता"]
DO = ["sees it now", "餌を 食べた よ", "يأكل الطعام", "खाना खाता है"]
LAST = ["here .", "。", "! هنا"]
LINES = [f"{some} {do} {last}" for some in SOME for do in DO for last in LAST]
LABELS = ["animal", "पशु", "動物"]
Change = Callable[[dict[str, Tensor]], None]


def make_run(folder: Path, name: str, change: Change = lambda tensors: None) -> Path:
    """An untrained model with data; the third part of the lines is for dev, the fourth for test."""
    shape = read_config(MODELS[name])
    folder.mkdir(parents=True, exist_ok=True)
    several = bool(MODELS[name].get("several"))
    labels = [LABELS[place % 3] + (f",{LABELS[(place + 1) % 3]}" if several and place % 2 else "") for place in range(len(LINES))]
    parts = {"train": slice(0, None, 2), "dev": slice(1, None, 4), "test": slice(3, None, 4)}
    for part, chosen in parts.items():
        (folder / f"{part}.txt").write_text("".join(f"{line}\n" for line in LINES[chosen]), encoding="utf-8")
        (folder / f"{part}.labels").write_text("".join(f"{label}\n" for label in labels[chosen]), encoding="utf-8")
    files: Mapping[str, Any]
    common = {"subwords": {"kind": "character", "size": 200}}
    if MODEL_KINDS[shape.kind].task == "classification":
        files = {part: {"source": str(folder / f"{part}.txt"), "target": str(folder / f"{part}.labels")} for part in parts}
        table = {"examples": [files["train"]], "dev": files["dev"], "test": files["test"], "several": several, **common}
        data = prepare(build(LabelsConfig, table, origin="test"), folder / "data")
    else:
        files = {part: {"source": str(folder / f"{part}.txt")} for part in parts}
        table = {"text": [files["train"]], "dev": files["dev"], "test": files["test"], **common}
        data = prepare(build(TextConfig, table, origin="test"), folder / "data")
    torch.manual_seed(3)
    tensors = {key: tensor.clone() for key, tensor in unique_tensors(build_model(shape, data.vocabularies)).items()}
    change(tensors)
    save_model(folder / "model", tensors=tensors, config=shape, vocabularies=data.vocabularies, facts={})
    return folder


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A run of each kind, made once. Never changed."""
    made: dict[str, Path] = {}

    def find(name: str) -> Path:
        if name not in made:
            made[name] = make_run(tmp_path_factory.mktemp(name), name)
        return made[name]

    return find


def only(diagnosis: Diagnosis, check: str) -> Finding:
    """The one finding of a check."""
    (found,) = [one for one in diagnosis.findings if one.check == check]
    return found


FAST = ("masked", "classifier", "autoencoder-first")


@pytest.mark.parametrize("name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in MODELS])
def test_every_kind_is_looked_into(untrained: Callable[[str], Path], name: str) -> None:
    """Everything inside is checked; what does not apply says of which kind of model, and is no note of a missing file."""
    found = examine(untrained(name))
    for check in ("gradients", "heads", "neurons"):
        assert only(found, check).severity == "ok", (check, only(found, check))
    assert [one.severity for one in found.findings if one.check == "leakage"] == ["ok", "ok"]
    assert only(found, "vocabulary").severity == "ok"
    what = {"m": "a masked language model", "c": "a classifier", "a": "an autoencoder"}[name[0]]
    applies = {"m": set(), "c": {"same output"}, "a": {"same output", "unheard source", "repetition"}}[name[0]]
    for check in ("misaligned lines", "unheard source", "same output", "repetition"):
        one = only(found, check)
        if check in applies:
            assert one.severity != "unchecked", one
        else:
            assert one.severity == "unchecked" and one.found.startswith(f"it does not apply: {what} "), one
    assert "language model" not in found.to_text() or name == "masked"


@pytest.mark.parametrize("name", ["masked", "classifier", "autoencoder-first"])
def test_idle_heads_and_dead_neurons_are_found(tmp_path: Path, name: str) -> None:
    def change(tensors: dict[str, Tensor]) -> None:
        for key, tensor in tensors.items():
            if key.startswith("encoder.1.self_attention.output.weight"):
                tensor[:, :8] = 0  # the first head's columns
            if key.startswith("encoder.0.feed_forward") and key.endswith("expand.bias"):
                tensor.fill_(-1e4)

    run = read_run_folder(make_run(tmp_path, name, change))
    assert "encoder.1.self_attention head 0 has near-zero output" in heads(run)[0].found
    assert neurons(run)[0].severity == "fault" and "encoder.0" in neurons(run)[0].found


@pytest.mark.parametrize("name", MODELS)
def test_real_positions_are_those_that_the_model_reads(untrained: Callable[[str], Path], name: str) -> None:
    """Also where the model puts a position of its own before the sentence."""
    run = read_run_folder(untrained(name))
    batch = run.batch(range(6))
    with trace(run.model) as seen:
        run.model.loss(batch)
    real = real_positions(run.model, batch)["source"]
    (place,) = [place for place in run.model.places() if (place.role, place.side) == ("embedded", "source")]
    assert seen[place.name][0].shape[:2] == real.shape
    assert all(len(one.norms) == int(real.sum(1).min()) for one in measure_gradients(run.model, [batch]) if one.side == "source")


def test_an_autoencoder_is_looked_into_with_its_own_sentences(untrained: Callable[[str], Path]) -> None:
    """Not with empty sources, where no neuron is active and every head has one key."""
    run = read_run_folder(untrained("autoencoder"))
    assert run.dev_pairs.source == run.dev_pairs.target and all(len(row) > 3 for row in run.dev_pairs.source)
    assert heads(run)[0].numbers["heads"] == 2 * 2 + 2 * 2 * 2


def test_an_autoencoder_whose_decoder_ignores_the_vector(tmp_path: Path) -> None:
    def change(tensors: dict[str, Tensor]) -> None:
        tensors["expansion.weight"].zero_()

    found = examine(make_run(tmp_path, "autoencoder-first", change))
    one = only(found, "unheard source")
    assert one.severity == "fault" and "the decoder ignores the vector of the sentence" in one.found and "kl_weight" in one.remedy
    assert "different reconstructions of 12 dev sentences" in only(found, "same output").found
    assert "translation" not in found.to_text()


def test_a_classifier_that_gives_all_texts_the_same_label(tmp_path: Path) -> None:
    def change(tensors: dict[str, Tensor]) -> None:
        tensors["head.linear.bias"].copy_(torch.tensor([9.0, -9.0, -9.0]))

    for name in ("classifier", "classifier-first-several"):
        (one,) = same_output(read_run_folder(make_run(tmp_path / name, name, change)))
        assert one.severity == "fault" and one.found.startswith("1 different answers for 12 dev texts"), one
    rare = judge_labels([(4,)] * 40, [(4,)] * 38 + [(5,)] * 2)
    assert rare.severity == "warning" and "right for 95%" in rare.found
    assert judge_labels([(4,)] * 20 + [(5,)], [(4,)] * 20 + [(5,)]).severity == "ok"
    assert judge_labels([(4,)] * 21, [(4,)] * 21).severity == "unchecked"


def test_the_loss_of_a_classifier_is_held_against_the_entropy_of_its_labels(untrained: Callable[[str], Path]) -> None:
    """Three labels, each for a third of the texts: log 3 nats a text."""
    run = read_run_folder(untrained("classifier"))
    assert word_entropy(run.data) == pytest.approx(torch.tensor(3.0).log().item(), abs=1e-6)
    several = read_run_folder(untrained("classifier-first-several"))
    train = several.data.stores[0]
    counted = torch.tensor([sum(label in train.row("label", row) for row in range(len(train))) for label in range(EOS + 1, EOS + 4)]) / len(
        train
    )
    wanted = -(counted * counted.log() + (1 - counted) * (1 - counted).log()).sum().item()
    assert word_entropy(several.data) == pytest.approx(wanted, abs=1e-6)
    course = TrainingHistory([100], [1.05], [100], [1.07], [True], [(1.0, 1.0)], 0, 1.0, True)
    found = judge_learning(course, 1.0986, most=0.95, labels=True)
    assert found.severity == "warning" and "1.070 nats per text, 97% of the entropy of the labels" in found.found


def test_texts_of_dev_that_were_trained_on_are_found(untrained: Callable[[str], Path]) -> None:
    data = open_data(untrained("classifier") / "data")
    assert isinstance(data, PreparedLabels)
    (one,) = text_leakage(data, {"dev": LINES[:3]})
    assert one.severity == "fault" and one.found.startswith("2 of 3 dev texts also occur in the 24 training texts")
