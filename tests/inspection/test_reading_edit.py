"""Edits of what masked language models and classifiers read: the same as what the edit means, done by hand."""

import copy
import math
from typing import Any

import pytest
import torch
from language_models import TEXTS
from readers import CLASSIFIERS, MASKED, classifier, filler

from vitrail.decode.encoding.table import with_torch
from vitrail.errors import UsageError
from vitrail.inspection.causes.change import Edit
from vitrail.inspection.causes.interventions import intervene
from vitrail.inspection.causes.patching import Patch
from vitrail.inspection.reading.reader import InspectableClassifier, InspectableFiller, Reader
from vitrail.models.architectures import read_config
from vitrail.models.build import build_model
from vitrail.models.kinds.autoencoder import AutoencoderModel

READERS = [*MASKED, *CLASSIFIERS]
BLOCKS = {"encoder_layers": 2, "decoder_layers": 1, "width": 16, "heads": 2, "feed_forward": 24, "dropout": 0.0, "bottleneck": 6}
Numbers = list[tuple[float, ...]]


def reader(name: str) -> Reader:
    return filler(name) if name in MASKED else classifier(name)


def ask(one: Reader, text: str, edit: Edit | None = None) -> Numbers:
    """The probabilities of labels, or of every token at the masks."""
    record = one.inspect(text, edit=edit)
    rows = [0] if isinstance(one, InspectableClassifier) else [guess["position"] for guess in record.facts.extras["guesses"]]
    return [tuple(record["probabilities"][row].tolist()) for row in rows]


def texts(one: Reader, text: str) -> tuple[str, str, int]:
    """A text, the same with its second character changed, and the position of that; with a mask after it where there can be one."""
    other = text[0] + ("t" if text[1] != "t" else "c") + text[2:]
    masked = isinstance(one, InspectableFiller)
    found = [f"{each[:3]}[MASK]{each[4:]}" if masked else each for each in (text, other)]
    return found[0], found[1], one.inspect(found[0]).source.ids.index(one.vocabulary.encode(text[1])[-1]) + int(one.model.marks_start)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("text", [pytest.param(TEXTS[1], marks=pytest.mark.slow), TEXTS[2]])
def test_what_is_hidden_has_no_effect(name: str, text: str) -> None:
    """Whatever character stands there: no attention reads it, and it does not count in the mean of all."""
    one = reader(name)
    first, second, position = texts(one, text)
    edit = Edit(hidden=(position,))
    assert ask(one, first) != ask(one, second)
    for mine, other in zip(ask(one, first, edit), ask(one, second, edit), strict=True):
        assert mine == pytest.approx(other, abs=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_what_is_hidden_from_an_autoencoder_has_no_effect(pooling: str) -> None:
    one = classifier("softmax-first")
    torch.manual_seed(0)
    model = build_model(read_config({"kind": "transformer-autoencoder", **BLOCKS, "pooling": pooling}), filler("masked").vocabularies)
    assert isinstance(model, AutoencoderModel)
    model.eval()
    rows = torch.tensor([one.vocabulary.encode(text) for text in ("the dog", "thx dog")])
    position = 2 + int(model.adds_start)
    with torch.inference_mode(), intervene(model, hidden=[position]):
        hidden = model.latent(rows)
    whole = model.latent(rows)
    assert not torch.allclose(whole[0], whole[1])
    torch.testing.assert_close(hidden[0], hidden[1])


@pytest.mark.parametrize("name", [name for name in READERS if not {"gru", "lstm", "bag"} & {*name.split("-")}])
def test_a_head_that_is_off_is_one_without_its_columns(name: str) -> None:
    one = reader(name)
    text = texts(one, TEXTS[1])[0]
    cut: Any = copy.copy(one)
    cut.encoder = with_torch(copy.deepcopy(one.model))
    with torch.no_grad():
        cut.model.get_parameter("encoder.1.self_attention.output.weight")[:, :8] = 0
    for mine, other in zip(ask(one, text, Edit(off=("encoder.1.self_attention:0",))), ask(cut, text), strict=True):
        assert mine == pytest.approx(other, abs=1e-6)


@pytest.mark.parametrize("name", ["masked", "softmax-first", "gru-mean"])
def test_values_of_another_text_give_what_that_text_gives(name: str) -> None:
    one = reader(name)
    first, second, _ = texts(one, TEXTS[2])
    patch = Patch.take(one.inspect(second), "memory")
    for mine, other in zip(ask(one, first, Edit(patches=(patch,))), ask(one, second), strict=True):
        assert mine == pytest.approx(other, abs=1e-6)


def test_a_change_tells_the_guesses_of_both() -> None:
    one = filler("masked")
    text, edit = "the [MASK]og saw [MASK] .", Edit(words=(("saw", "ate"),), off=("encoder.0",))
    found = one.edit(text, edit)
    before, after = ask(one, text), ask(one, "the [MASK]og ate [MASK] .", Edit(off=edit.off))
    assert found.edited_text == "the [MASK]og ate [MASK] ." and [answer.position for answer in found.answers] == [5, 13]
    for answer, old, new in zip(found.answers, before, after, strict=True):
        divergence = sum(p * math.log(p / q) for p, q in zip(old, new, strict=True) if p > 0)
        assert answer.divergence == pytest.approx(divergence, abs=1e-5)
        assert {chance.before for chance in answer.chances} >= set(sorted(old)[-3:])
        assert {chance.after for chance in answer.chances} >= set(sorted(new)[-3:])
    assert "saw -> ate" in found.to_text() and "p before  p after" in found.to_text()
    assert found.to_record()["changed"] == any(answer.before != answer.after for answer in found.answers)


@pytest.mark.parametrize("name", ["sigmoid-two", "several"])
def test_a_change_tells_the_labels_of_both(name: str) -> None:
    one = classifier(name)
    found = one.edit(TEXTS[3], Edit(hidden=("बिल्ली",)))
    (answer,) = found.answers
    before, after = one.inspect(TEXTS[3]), one.inspect(TEXTS[3], edit=Edit(hidden=("बिल्ली",)))
    wanted = {label["label"]: label["probability"] for label in after.facts.extras["labels"]["labels"]}
    assert {chance.name: chance.after for chance in answer.chances} == wanted and after.facts.extras["edits"] == ["hidden: बिल्ली"]
    shares = torch.tensor([[chance.before, chance.after] for chance in answer.chances], dtype=torch.float64)
    parts = [shares, 1 - shares] if name == "several" else [shares]
    assert answer.divergence == pytest.approx(float(sum((p[:, 0] * (p[:, 0] / p[:, 1]).log()).sum() for p in parts)), abs=1e-6)
    assert "edits" not in before.facts.extras


def test_edits_that_make_no_sense_are_refused() -> None:
    masked, one = filler("masked"), classifier("softmax-first")
    with pytest.raises(UsageError, match="a prefix, for a masked language model"):
        masked.edit("the [MASK]og", Edit(prefix="a"))
    with pytest.raises(UsageError, match="a prefix, for a classifier"):
        one.edit("the dog", Edit(prefix="a"))
    with pytest.raises(UsageError, match="number of masks: 1, and then 2"):
        masked.edit("the [MASK]og saw", Edit(words=(("saw", "[MASK]"),)))
    with pytest.raises(UsageError, match=r"without \[MASK\]"):
        masked.edit("the dog", Edit(off=("encoder.0",)))
    with pytest.raises(UsageError, match="no such part"):
        one.edit("the dog", Edit(off=("decoder.0",)))
    with pytest.raises(UsageError, match="source position 99"):
        one.edit("the dog", Edit(hidden=(99,)))
    with pytest.raises(UsageError, match="further positions, with other words"):
        masked.edit("the [MASK]og saw", Edit(words=(("saw", "ate"),)), at=[2])
