"""The masked language model: against Hugging Face's BERT, against itself read in other ways, and its guesses."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from vitrail.data.batches import pad_rows
from vitrail.data.examples.masking import MaskedBatch, Masking
from vitrail.data.vocabularies.subwords import (
    EOS,
    PAD,
    SOS,
    CharacterVocabulary,
    Subwords,
    SubwordsConfig,
    WordVocabulary,
    train_sentencepiece,
    train_vocabulary,
)
from vitrail.decode.sentences.masked import MASK, MaskFiller, measure_masked
from vitrail.errors import ModelError, UsageError
from vitrail.models.configs.masked import MaskedConfig
from vitrail.models.kinds.masked import MaskedLanguageModel

V = 14
POSITIONS = ["sinusoidal", "learned", "rotary", "none"]


def model(*, vocabulary: int = V, **changes: object) -> MaskedLanguageModel:
    torch.manual_seed(3)
    table = {
        "encoder_layers": 2,
        "width": 16,
        "heads": 2,
        "feed_forward": 24,
        "context": 12,
        "dropout": 0.0,
        "activation": "gelu",
    } | changes
    return MaskedLanguageModel(MaskedConfig.model_validate(table), vocabulary=vocabulary).double().eval()


def ids(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(4, V, shape))


@pytest.mark.parametrize("positions", POSITIONS)
def test_every_token_sees_those_after_it_and_no_padding(positions: str) -> None:
    ours, tokens = model(positions=positions), ids(2, 7)
    other = tokens.clone()
    other[:, 5] = V
    before, after = ours.encode(tokens).memory, ours.encode(other).memory
    assert all(not torch.allclose(before[:, place], after[:, place]) for place in range(7))
    padded = torch.cat([tokens, torch.full((2, 3), PAD)], dim=1)
    torch.testing.assert_close(ours.encode(padded).memory[:, :7], before, atol=1e-12, rtol=0)
    torch.testing.assert_close(ours.embed(padded), ours.embed(tokens), atol=1e-12, rtol=0)


@pytest.mark.parametrize("tie", [True, False])
def test_the_loss_is_that_of_the_hidden_tokens_alone(tie: bool) -> None:
    ours, source = model(tie=tie), ids(3, 6)
    following = torch.full_like(source, PAD)
    following[0, 1], following[0, 4], following[2, 5] = 7, 5, 9
    found = ours.loss(MaskedBatch(source, following))
    shares = ours.read_out(ours.encode(source).memory).log_softmax(2)
    expected = -(shares[0, 1, 7] + shares[0, 4, 5] + shares[2, 5, 9])
    torch.testing.assert_close(found.plain_nats.double(), expected, atol=1e-5, rtol=1e-6)
    assert int(found.tokens) == 3


def test_vectors_of_sentences() -> None:
    tokens = pad_rows([[5, 6, 7], [8]], start=True)
    assert tokens.tolist() == [[SOS, 5, 6, 7, EOS], [SOS, 8, EOS, PAD, PAD]]
    first, mean = model(pooling="first"), model(pooling="mean")
    memory = mean.encode(tokens).memory
    torch.testing.assert_close(first.embed(tokens), memory[:, 0])
    torch.testing.assert_close(mean.embed(tokens), torch.stack([memory[0].mean(0), memory[1, :3].mean(0)]))


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match="max_positions=12"):
        model(positions="learned", max_positions=8)
    for share in (0.0, 1.0, -0.1):
        with pytest.raises(ValueError, match="mask_share"):
            MaskedConfig(mask_share=share)


WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "birds"]


def constant(vocabulary: Subwords, favourite: str) -> MaskFiller:
    """A model that always guesses the token that the favourite text begins with."""
    ours = model(vocabulary=vocabulary.size, context=40)
    with torch.no_grad():
        ours.output_bias.zero_()
        ours.output_bias[vocabulary.encode(favourite)[0]] = 50.0
    return MaskFiller(ours, vocabulary)


def test_guesses_are_put_in_place_of_the_mask() -> None:
    filler = constant(WordVocabulary([" " + word for word in WORDS]), "cat")
    one, other = filler.fill(f"the {MASK} saw a {MASK}", top=3)
    assert [len(one), len(other)] == [3, 3]
    assert (one[0].token, one[0].text, other[0].text) == ("▁cat", "the cat saw a cat", "the cat saw a cat")
    assert one[0].probability > 0.99 > one[1].probability and one[1].text.endswith("saw a cat")
    assert sum(guess.probability for guess in filler.fill(f"a {MASK}", top=100)[0]) == pytest.approx(1)
    assert len(filler.fill(f"a {MASK}", top=100)[0]) == len(WORDS)
    for text, told in (("no hidden word", "no [MASK]"), ("a " * 50 + MASK, "at most 38")):
        with pytest.raises(UsageError) as caught:
            filler.fill(text)
        assert told in str(caught.value)


@pytest.mark.parametrize(
    "lines",
    [["猫が魚を食べる。", "犬が水を飲む。"], ["unhappy people are unable", "an able cat"], ["बिल्ली मछली खाती है", "कुत्ता पानी पीता है"]],
)
@pytest.mark.parametrize("kind", ["bpe", "unigram", "character"])
def test_text_after_a_mask_without_a_space_is_inside_the_word(lines: list[str], kind: str) -> None:
    """Its tokens are those that follow the hidden one where nothing is hidden: no space appears at the mask."""
    vocabulary: Subwords = (
        CharacterVocabulary.train(lines, size=60) if kind == "character" else train_sentencepiece(lines * 30, size=330, kind=kind)
    )  # pyright: ignore
    filler = MaskFiller(model(vocabulary=vocabulary.size, context=60), vocabulary)
    line = lines[0]
    for cut in range(1, len(line)):
        found = filler.encode(line[:cut] + MASK + line[cut:])
        place = found.index(filler.model.mask_id)
        assert found.count(filler.model.mask_id) == 1
        before = vocabulary.decode(found[:place])
        assert before == (line[:cut] if kind == "character" else line[:cut].rstrip(" "))
        after = vocabulary.decode([*vocabulary.encode(line[0]), *found[place + 1 :]]).removeprefix(line[0])
        assert after == line[cut:]


def test_a_text_is_scored_the_same_each_time_whatever_its_order() -> None:
    vocabulary = CharacterVocabulary(list("abcdefghij"))
    ours = model(vocabulary=vocabulary.size)
    lines = ["abc", "defghij" * 4, "", "a"]
    first, again = (measure_masked(ours, vocabulary, lines) for _ in range(2))
    assert first == again and first.tokens >= 4 * 5
    assert first.figures()["loss_nats_per_token"] == pytest.approx(first.nats / first.tokens)
    with pytest.raises(UsageError, match="empty lines"):
        measure_masked(ours, vocabulary, ["", ""])


def test_a_model_of_another_kind_is_no_filler(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model is there"):
        MaskFiller.load(tmp_path / "none")


def test_masking_keeps_the_shares_of_the_paper() -> None:
    hide = Masking(vocabulary=1004, share=0.15)
    rows = [np.random.default_rng(row).integers(4, 1004, 40).tolist() for row in range(500)]
    batch = hide(rows, seed=5)
    whole, chosen = pad_rows(rows, start=True), batch.following != PAD
    assert chosen.sum(1).unique().tolist() == [6] and torch.equal(batch.following[chosen], whole[chosen])
    assert torch.equal(batch.source[~chosen], whole[~chosen])
    masked, kept = (batch.source == 1004)[chosen], (batch.source == whole)[chosen]
    other = batch.source[chosen][~masked & ~kept]
    shares = np.array([int(masked.sum()), len(other), int(kept.sum())]) / int(chosen.sum())
    np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=4 * (0.25 / 3000) ** 0.5)
    assert int(other.min()) >= 4 and int(other.max()) < 1004 and len(other.unique()) > 200
    assert torch.equal(hide(rows, seed=5).source, batch.source) and not torch.equal(hide(rows, seed=6).source, batch.source)


@pytest.mark.parametrize("length", [1, 2, 3, 6])
def test_at_least_one_token_of_each_row_is_to_be_guessed(length: int) -> None:
    batch = Masking(vocabulary=20, share=0.01)([[5] * length], seed=0)
    assert int((batch.following != PAD).sum()) == 1


def test_whole_words_are_hidden_together() -> None:
    lines = ["unbelievable understandings overwhelm", "the interestingly characterised phenomenon"]
    vocabulary = train_sentencepiece(lines * 20, size=320, kind="bpe")
    hide = Masking.of(vocabulary, share=0.3, whole_words=True)
    rows = vocabulary.encode_batch(lines)
    for seed in range(30):
        chosen = (hide(rows, seed=seed).following != PAD)[:, 1:]
        for row, ids_, line in zip(chosen.tolist(), rows, lines, strict=True):
            pieces = vocabulary.pieces(ids_)
            words: list[list[bool]] = []
            for piece, hidden in zip(pieces, row, strict=False):
                if piece.startswith("▁"):
                    words.append([])
                words[-1].append(hidden)
            assert len(words) == len(line.split()) and all(len(set(word)) == 1 for word in words)
            assert any(word[0] for word in words) and not all(word[0] for word in words)


def test_masks_side_by_side_are_each_guessed() -> None:
    for kind in ("character", "word"):
        config = SubwordsConfig.model_validate({"kind": kind, "size": 60, "least_count": 1})
        vocabulary = train_vocabulary(["the dog saw", "犬は猫"], config=config).target
        filler = MaskFiller(model(vocabulary=vocabulary.size, context=60), vocabulary)
        assert len(filler.fill("the [MASK] [MASK]")) == 2
        if kind == "character":
            assert len(filler.fill("犬[MASK][MASK]")) == len(filler.fill("[MASK][MASK]は")) == 2
