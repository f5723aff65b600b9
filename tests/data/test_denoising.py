"""Noise of a denoising autoencoder: what it does to words, how much of it, and that it is a pure function of rows and seed."""

import numpy as np
import pytest
import torch

from vitrail.data.batches import collate
from vitrail.data.examples.denoising import MASK, Denoising, NoiseConfig
from vitrail.data.vocabularies.subwords import EOS, PAD, SOS, CharacterVocabulary, WordVocabulary, train_sentencepiece

ROWS = [list(range(4, 4 + size)) for size in (1, 2, 5, 12, 40)]
MANY = [list(range(4, 24)) for _ in range(400)]


def read(batch: object) -> list[list[int]]:
    return [[id for id in row if id not in (PAD, EOS)] for row in batch.source.tolist()]  # pyright: ignore


def spoil(rows: list[list[int]], *, seed: int = 0, **noise: object) -> list[list[int]]:
    return read(Denoising(NoiseConfig.model_validate(noise))(rows, rows, seed=seed))


@pytest.mark.parametrize(
    "noise",
    [
        {"shuffling": 3, "infilling": 0.4, "masking": 0.2, "deletion": 0.1},
        {"shuffling": 3},
        {"deletion": 0.3},
        {"masking": 0.3},
        {"infilling": 0.3},
        {"decoder_input": 0.3},
    ],
    ids=lambda one: next(iter(one)),
)
def test_noise_is_a_pure_function_of_rows_and_seed_and_the_target_stays(noise: dict[str, object]) -> None:
    made = Denoising(NoiseConfig.model_validate(noise))
    first, again, other = (made(ROWS, ROWS, seed=seed) for seed in (5, 5, 6))
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert any(not torch.equal(one, two) if one.shape == two.shape else True for one, two in zip(first, other, strict=True))
    assert torch.equal(first.target_out, collate(ROWS, ROWS).target_out)
    assert [row[-1] for row in ([id for id in line if id != PAD] for line in first.source.tolist())] == [EOS] * len(ROWS)


def test_without_noise_a_batch_is_that_of_pairs() -> None:
    found = Denoising(NoiseConfig())(ROWS, ROWS, seed=1)
    assert all(torch.equal(one, two) for one, two in zip(found, collate(ROWS, ROWS), strict=True))
    assert not NoiseConfig().any and NoiseConfig(shuffling=1).any


@pytest.mark.parametrize("distance", [1, 3, 10])
def test_shuffled_words_move_no_further_than_asked(distance: int) -> None:
    found = spoil(MANY, shuffling=distance)
    moves = np.abs(np.array(found) - 4 - np.arange(20))
    assert all(sorted(row) == MANY[0] for row in found)
    assert moves.max() == distance if distance < 5 else moves.max() <= distance
    assert moves.mean() > 0.15


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_deleted_words_are_the_share_that_was_asked_and_one_stays(share: float) -> None:
    found = spoil(MANY, deletion=share)
    assert 1 - np.mean([len(row) for row in found]) / 20 == pytest.approx(share, abs=0.02)
    assert all(row and row == sorted(row) for row in found)
    assert spoil([[7]] * 50, deletion=0.99) == [[7]] * 50


@pytest.mark.parametrize("share", [0.15, 0.5])
def test_masked_words_are_the_share_that_was_asked_at_their_places(share: float) -> None:
    found = np.array(spoil(MANY, masking=share))
    assert (found == MASK).mean() == pytest.approx(share, abs=0.02)
    assert ((found == MASK) | (found == np.array(MANY))).all()


def test_infilling_hides_spans_behind_one_mask_each() -> None:
    found = spoil(MANY, infilling=0.3)
    hidden = [20 - sum(id != MASK for id in row) for row in found]
    spans = [row.count(MASK) for row in found]
    assert np.mean(hidden) / 20 == pytest.approx(0.3, abs=0.03)
    assert 1.5 < np.sum(hidden) / np.sum(spans) < 3  # 3 but for the last span of a sentence, which is cut, and for empty ones
    assert all([id for id in row if id != MASK] == sorted({id for id in row if id != MASK}) for row in found)


def test_the_decoder_reads_less_and_writes_all() -> None:
    found = Denoising(NoiseConfig(decoder_input=0.4))([*MANY[:50], [9]], [*MANY[:50], [9]], seed=3)
    plain = collate([*MANY[:50], [9]], [*MANY[:50], [9]])
    assert torch.equal(found.source, plain.source) and torch.equal(found.target_out, plain.target_out)
    changed = found.target_in != plain.target_in
    assert changed[:50, 1:].float().mean() == pytest.approx(0.4, abs=0.05)
    assert (found.target_in[changed] == MASK).all() and (found.target_in[:, 0] == SOS).all()
    nothing = Denoising(NoiseConfig(decoder_input=1.0))(MANY[:3], MANY[:3], seed=3)
    assert (nothing.target_in[:, 1:] == MASK).all()


TEXTS = ["the quick brown foxes jumped over lazy dogs", "быстрые лисицы прыгают через собак", "犬が走る", "ο σκύλος τρέχει"]


@pytest.mark.parametrize("kind", ["bpe", "word", "character"])
@pytest.mark.parametrize("text", TEXTS, ids=["latin", "cyrillic", "japanese", "greek"])
def test_words_are_kept_whole_in_every_script_and_vocabulary(text: str, kind: str) -> None:
    vocabulary = {
        "bpe": lambda: train_sentencepiece(TEXTS * 3, kind="bpe", size=340),
        "word": lambda: WordVocabulary.train(TEXTS, size=200, least_count=1),
        "character": lambda: CharacterVocabulary(sorted(set("".join(TEXTS)))),
    }[kind]()
    ids = vocabulary.encode(text)
    made = Denoising.of(vocabulary, NoiseConfig(shuffling=5))
    found = [vocabulary.decode(row) for row in read(made([ids] * 60, [ids] * 60, seed=1))]
    if " " in text:
        assert all(sorted(one.split()) == sorted(text.split()) for one in found)
        assert len(set(found)) > 3
    else:
        assert all(sorted(one.replace(" ", "")) == sorted(text) for one in found)
