"""A model that takes another's weights computes what the other computes."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))

from builders import KINDS, Kind, random_batch, settled, vocabularies

from vitrail.data.vocabularies.subwords import CharacterVocabulary, Vocabularies
from vitrail.errors import UsageError
from vitrail.models.base import LanguageModel, Model, unique_tensors
from vitrail.models.build import build_model
from vitrail.models.configs.causal import CausalConfig
from vitrail.models.configs.language import LanguageConfig
from vitrail.models.configs.recurrent import RecurrentConfig
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.models.kinds.language import RecurrentLanguageModel
from vitrail.models.model_folder import LoadedFolder
from vitrail.models.transfer import Asked, Part, Role, describe_parts, fitting_settings, require_fitting, require_untangled, take

TEXT = Vocabularies(*(CharacterVocabulary(list("abcdefgh")),) * 2, joint=True)
BLOCKS = {"width": 16, "heads": 2, "feed_forward": 24, "dropout": 0.0}
CELLS = {"embedding_width": 12, "width": 16, "dropout": 0.0}


def loaded(model: Any, vocabularies: Vocabularies) -> LoadedFolder:
    return LoadedFolder(model, model.config, vocabularies, {})


def built(config: Any, words: Vocabularies, *, seed: int) -> Any:
    torch.manual_seed(seed)
    return build_model(config, words).eval()


def give(role: Role, model: Model, words: Vocabularies, donor: LoadedFolder) -> set[str]:
    """Take and write; returns the common names of what was written."""
    own = model.shared_weights()
    part = Part(role, "donor", take(role, model, words, donor, named="donor"))
    require_untangled([part], own)
    for name, value in part.transfer.values.items():
        own[name].copy_(value)
    return set(part.transfer.values)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_all_of_a_translator_makes_the_same_translator(kind: Kind) -> None:
    donor, model = settled(kind), kind.build(seed=5).eval()
    batch = random_batch(kind)
    assert not torch.equal(donor.loss(batch).nats, model.loss(batch).nats)
    give("all", model, kind.vocabularies, loaded(donor, kind.vocabularies))
    assert torch.equal(donor.loss(batch).nats, model.loss(batch).nats)
    for name, tensor in unique_tensors(donor).items():
        assert torch.equal(unique_tensors(model)[name], tensor), name


TRANSLATORS = {name: kind for name, kind in KINDS.items() if not name.startswith("autoencoder")}
"""Models whose encoder is all that reads; behind that of an autoencoder is its bottleneck."""


@pytest.mark.parametrize("kind", TRANSLATORS.values(), ids=TRANSLATORS)
def test_an_encoder_reads_as_it_did_in_the_other_translator(kind: Kind) -> None:
    donor, model = settled(kind), kind.build(seed=5).eval()
    before = {name: tensor.clone() for name, tensor in model.shared_weights().items()}
    taken = give("encoder", model, kind.vocabularies, loaded(donor, kind.vocabularies))
    source = random_batch(kind).source
    found, expected = model.encode(source), donor.encode(source)
    assert torch.equal(found.memory, expected.memory)
    after = model.shared_weights()
    tied = {after[name].data_ptr() for name in taken}
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items() if after[name].data_ptr() not in tied)
    assert any(name.startswith("decoder") for name in before if after[name].data_ptr() not in tied)


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param({"positions": "rotary", "activation": "swiglu"}, id="rotary-swiglu"),
        pytest.param({"positions": "learned", "max_positions": 32, "embedding_norm": True}, id="learned-embedding-norm"),
        pytest.param({"norm": "rms", "heads": 3, "head_width": 4}, id="rms-wide-heads"),
    ],
)
@pytest.mark.parametrize("tie", [True, False], ids=["tied", "untied"])
def test_a_decoder_that_ignores_its_source_continues_text_as_the_language_model_does(shape: dict[str, Any], tie: bool) -> None:
    """Pre-norm blocks whose cross-attention adds zero: the rest of the block is the language model's."""
    donor = built(CausalConfig.model_validate(BLOCKS | shape | {"layers": 3, "context": 16, "tie": tie}), TEXT, seed=1)
    words = vocabularies(joint=False)
    words = Vocabularies(words.source, TEXT.target, joint=False)
    table = BLOCKS | shape | {"decoder_layers": 3, "encoder_layers": 1, "tie": "target" if tie else "none"}
    model = built(TransformerConfig.model_validate(table), words, seed=2)
    taken = give("decoder", model, words, loaded(donor, TEXT))
    assert not any("cross_attention" in name or name.startswith(("encoder", "source")) for name in taken)
    for block in model.decoder:
        torch.nn.init.zeros_(block.cross_attention.output.weight)
    target = torch.tensor([[2, 4, 7, 9, 11], [2, 5, 6, 8, 10]])
    found = model.read_out(model.decode(target, model.encode(torch.tensor([[4, 3], [5, 3]]))))
    assert torch.equal(found, donor.logits(donor.hidden(target) @ donor.output_weight.t()))


def test_after_post_norm_the_residual_around_the_feed_forward_is_the_third() -> None:
    table = BLOCKS | {"norm_position": "post"}
    donor = built(CausalConfig.model_validate(table | {"layers": 2}), TEXT, seed=1)
    model = built(TransformerConfig.model_validate(table | {"decoder_layers": 2}), TEXT, seed=2)
    fill_norms(donor)
    fresh = model.decoder[1].residual_2.norm.norm.weight.clone()
    give("decoder", model, TEXT, loaded(donor, TEXT))
    for own, other in zip(model.decoder, donor.decoder, strict=True):
        assert torch.equal(own.residual_1.norm.norm.weight, other.residual_1.norm.norm.weight)
        assert torch.equal(own.residual_3.norm.norm.weight, other.residual_2.norm.norm.weight)
        assert torch.equal(own.residual_2.norm.norm.weight, fresh)
    back = built(donor.config, TEXT, seed=3)
    give("decoder", back, TEXT, loaded(model, TEXT))
    assert all(torch.equal(unique_tensors(back)[name], tensor) for name, tensor in unique_tensors(donor).items())


def fill_norms(model: torch.nn.Module) -> None:
    """Norms begin as ones and zeros: make each different."""
    for name, parameter in model.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(parameter)


@pytest.mark.parametrize("tie", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_a_recurrent_decoder_continues_text_as_the_language_model_does(cell: str, norm: str, tie: bool) -> None:
    table = CELLS | {"cell": cell, "norm": norm}
    donor: RecurrentLanguageModel = built(LanguageConfig.model_validate(table | {"layers": 2, "tie": tie}), TEXT, seed=1)
    config = RecurrentConfig.model_validate(table | {"decoder_layers": 2, "tie": "target" if tie else "none"})
    model = built(config, TEXT, seed=2)
    torch.nn.init.normal_(donor.output_bias)
    taken = give("decoder", model, TEXT, loaded(donor, TEXT))
    assert "readout.weight" in taken and not any(name.startswith(("encoder", "source", "bridge")) for name in taken)
    state = model.start(model.encode(torch.tensor([[4, 3]])))
    other = donor.start(1)
    other = other.filled({f"{n}.{p}": part for n, carry in enumerate(state.carries) for p, part in enumerate(carry)})
    for token in (2, 5, 9):
        found, expected = model.step(torch.tensor([token]), state), donor.step(torch.tensor([token]), other)
        torch.testing.assert_close(found.logits, expected.logits, rtol=0, atol=1e-6)
        state, other = found.state, expected.state


def test_a_readout_that_also_reads_the_source_is_another_one() -> None:
    donor = built(LanguageConfig.model_validate(CELLS), TEXT, seed=1)
    model = built(RecurrentConfig.model_validate(CELLS | {"attention": "luong-general"}), TEXT, seed=2)
    taken = give("decoder", model, TEXT, loaded(donor, TEXT))
    assert taken == {"target_embedding.weight", "output_weight", "output_bias"} | {
        name for name in model.shared_weights() if name.startswith("decoder.")
    }


CAUSAL = CausalConfig.model_validate(BLOCKS)
LANGUAGE = LanguageConfig.model_validate(CELLS)


@pytest.mark.parametrize("config", [CAUSAL, LANGUAGE], ids=lambda config: config.kind)
def test_a_language_model_of_other_tokens_knows_the_old_ones(config: Any) -> None:
    """The same letters under other ids, and one more: every text of old letters has its old likelihood, up to the new letters' share."""
    donor: LanguageModel = built(config, TEXT, seed=1)
    words = Vocabularies(*(CharacterVocabulary(list("hxgfedcbay")),) * 2, joint=True)
    model = built(config, words, seed=2)
    fresh = model.shared_weights()["target_embedding.weight"].clone()
    give("all", model, words, loaded(donor, TEXT))
    old, new = (torch.tensor([[2, *text.encode("bad cafe".replace(" ", ""))]]) for text in (TEXT.target, words.target))
    expected, _ = donor.read(old, donor.start(1))
    found, _ = model.read(new, model.start(1))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    table = model.shared_weights()["target_embedding.weight"]
    for letter in "xy":
        (id,) = words.target.encode(letter)
        assert torch.equal(table[id], fresh[id])


def test_new_tokens_are_the_mean_of_the_old_ones() -> None:
    donor = built(CAUSAL, TEXT, seed=1)
    from vitrail.data.vocabularies.subwords import train_sentencepiece

    pieces = train_sentencepiece(["cafe bead", "bead cafe", "face bead"] * 9, size=300)
    model = built(CAUSAL, Vocabularies(pieces, pieces, joint=True), seed=2)
    give("embeddings", model, Vocabularies(pieces, pieces, joint=True), loaded(donor, TEXT))
    own, other = (one.shared_weights()["target_embedding.weight"] for one in (model, donor))
    word = next(id for id in range(260, pieces.size) if len(pieces.pieces([id])[0]) == 5)
    (text,) = [pieces.decode([word])]
    expected = torch.stack([other[TEXT.target.encode(letter)[0]] for letter in text]).double().mean(0)
    torch.testing.assert_close(own[word].double(), expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("most", ["characters", 12])
@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_a_vocabulary_that_grew_keeps_every_row_and_spells_the_new_ones(kind: Any, most: Any) -> None:
    from vitrail.data.vocabularies.subwords import train_sentencepiece

    old = train_sentencepiece(["cafe bead", "bead cafe", "face bead"] * 9, size=300, kind=kind)
    new = old.extended(["η γάτα ♞", "η γάτα bead"] * 3, most=most)
    before, after = (Vocabularies(words, words, joint=True) for words in (old, new))
    donor, model = built(CAUSAL, before, seed=1), built(CAUSAL, after, seed=2)
    give("all", model, after, loaded(donor, before))
    for name, table in model.shared_weights().items():
        theirs = donor.shared_weights()[name]
        assert torch.equal(table[: old.size] if table.shape != theirs.shape else table, theirs), name
    table, theirs = (one.shared_weights()["target_embedding.weight"].double() for one in (model, donor))
    for id in range(old.size, new.size):
        text = new.decode([id])
        spelled = old.encode(text)
        inside = spelled[1:] if not new.pieces([id])[0].startswith("▁") and old.pieces(spelled[:1]) == ["▁"] else spelled
        torch.testing.assert_close(table[id], theirs[inside].mean(0), rtol=0, atol=1e-7)
    texts = [torch.tensor([[2, *words.encode("cafe bead face")]]) for words in (old, new)]
    assert torch.equal(texts[0], texts[1]) or most == 12
    (expected, _), (found, _) = donor.read(texts[0], donor.start(1)), model.read(texts[0], model.start(1))
    assert torch.equal(found, expected)


def test_rows_beyond_the_vocabulary_are_no_tokens() -> None:
    """A table may have more rows than its vocabulary, for what stands for no text: a mask."""
    donor = built(CAUSAL, TEXT, seed=1)
    extra = torch.randn(1, 16)
    donor.target_embedding.weight = torch.nn.Parameter(torch.cat([donor.target_embedding.weight.detach(), extra]))
    donor.output_weight = donor.target_embedding.weight
    model = built(TransformerConfig.model_validate(BLOCKS), TEXT, seed=2)
    give("embeddings", model, TEXT, loaded(donor, TEXT))
    assert torch.equal(model.target_embedding.weight, donor.target_embedding.weight[:-1])


def test_an_encoder_goes_from_a_masked_model_to_a_translator_and_a_classifier_and_back() -> None:
    """The rows of the mask and of what else stands for no text are not tokens of the others."""
    from vitrail.models.configs.classifier import TransformerClassifierConfig
    from vitrail.models.configs.masked import MaskedConfig

    donor = built(MaskedConfig.model_validate(BLOCKS | {"encoder_layers": 2}), TEXT, seed=1)
    assert len(donor.source_embedding.weight) > TEXT.source.size
    labels = Vocabularies(TEXT.source, CharacterVocabulary(list("yn")), joint=False)
    source = torch.tensor([[4, 5, 9, 3], [7, 3, 0, 0]])
    expected = donor.encode(source).memory
    for config, words in (
        (TransformerConfig.model_validate(BLOCKS | {"encoder_layers": 2}), TEXT),
        (TransformerClassifierConfig.model_validate(BLOCKS | {"encoder_layers": 2}), labels),
    ):
        model = built(config, words, seed=2)
        give("encoder", model, words, loaded(donor, TEXT))
        assert torch.equal(model.encode(source).memory, expected)
        back = built(donor.config, TEXT, seed=3)
        give("encoder", back, TEXT, loaded(model, words))
        assert torch.equal(back.encode(source).memory, expected)


def test_one_table_of_source_and_target_is_not_made_of_two() -> None:
    kind = KINDS["no-positions-target-tied"]
    donor = loaded(kind.build(seed=1), kind.vocabularies)
    joint = vocabularies(joint=True)
    model = built(kind.config.model_copy(update={"tie": "all"}), joint, seed=2)
    with pytest.raises(UsageError, match=r"source_embedding.*one weight of this model") as error:
        give("all", model, joint, donor)
    assert "model.tie=target" in str(error.value)


@pytest.mark.parametrize(
    ("role", "config", "donor", "found"),
    [
        ("encoder", TransformerConfig(), CausalConfig(), "causal-language has no encoder"),
        ("decoder", TransformerConfig(), LanguageConfig(), "is made of recurrent cells"),
        ("decoder", RecurrentConfig(), CausalConfig(), "is made of Transformer blocks"),
        ("encoder", TransformerConfig(), TransformerConfig(width=64, activation="gelu"), "model.width = 128, model.activation = relu"),
        ("encoder", TransformerConfig(positions="learned"), TransformerConfig(), "model.positions = learned"),
        ("decoder", TransformerConfig(decoder_layers=2), CausalConfig(feed_forward=256, layers=3), "model.decoder_layers = 2"),
        ("all", LanguageConfig(cell="gru"), LanguageConfig(), "model.cell = gru"),
        ("decoder", CausalConfig(feed_forward=256), TransformerConfig(tie="none"), "model.tie = True"),
        ("embeddings", RecurrentConfig(embedding_width=32), CausalConfig(), "model.embedding_width = 32"),
    ],
)
def test_settings_that_contradict_are_named_with_those_that_fit(role: Role, config: Any, donor: Any, found: str) -> None:
    with pytest.raises(UsageError, match=r"init .* = runs/a: ") as error:
        require_fitting([Asked(role, "runs/a", donor)], config)
    assert found in error.value.found and error.value.expected


def test_two_models_that_contradict_each_other_are_named_both() -> None:
    parts = [Asked("encoder", "runs/a", TransformerConfig()), Asked("decoder", "runs/b", CausalConfig(activation="gelu"))]
    for activation in ("relu", "gelu"):
        with pytest.raises(UsageError, match=r"encoder = runs/a, with model.activation = relu; init decoder = runs/b, with .* gelu"):
            require_fitting(parts, TransformerConfig.model_validate({"activation": activation}))


def test_heads_may_be_written_in_two_ways() -> None:
    require_fitting([Asked("encoder", "a", TransformerConfig())], TransformerConfig(head_width=32))
    with pytest.raises(UsageError, match="head_width"):
        require_fitting([Asked("encoder", "a", TransformerConfig())], TransformerConfig(head_width=16))


@pytest.mark.parametrize("name", KINDS)
def test_a_model_fits_itself(name: str) -> None:
    config: Any = KINDS[name].config
    settings = fitting_settings(Asked("all", "a", config), type(config))
    assert {"encoder_layers", "decoder_layers", "width"} <= settings.keys()
    require_fitting([Asked("all", "a", config)], config)


def test_parts_are_told_in_few_words() -> None:
    names = list(built(TransformerConfig.model_validate(BLOCKS | {"decoder_layers": 3}), TEXT, seed=0).shared_weights())
    assert describe_parts(names, of=names)[-4:] == ["encoder_norm", "decoder.0-2", "decoder_norm", "output_weight"]
    crossed = [name for name in names if "cross_attention" in name]
    assert describe_parts(crossed, of=names) == ["decoder.0-2.cross_attention", "decoder.0-2.residual_of_cross_attention"]
    assert describe_parts([name for name in names if name.startswith(("encoder.0", "encoder.2"))], of=names) == ["encoder.0,2"]
