"""A bag of words and n-grams against its definition, one text and one number at a time, and against the fastText program."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vitrail.data.batches import pad_rows
from vitrail.data.vocabularies.labels import LabelVocabulary
from vitrail.data.vocabularies.subwords import EOS, UNK, CharacterVocabulary, Vocabularies, WordVocabulary
from vitrail.data.vocabularies.vocabulary import Subwords
from vitrail.models.build import build_model
from vitrail.models.configs.classifier import BagClassifierConfig
from vitrail.models.kinds.classifier import BagClassifier
from vitrail.nn.bag import ngram_rows
from vitrail.nn.probe import trace
from vitrail.vectors.ngrams import bucket_of, word_hashes

WORDS = ["not", "good", "très", "Straße", "кот", "犬", "好", "ไทย", "👩‍🚀", "naïve", "a" * 300, "x"]
LABELS = LabelVocabulary(["yes", "no", "perhaps"], separator="")


def make(words: Subwords, **settings: Any) -> BagClassifier:
    torch.manual_seed(2)
    config = BagClassifierConfig.model_validate({"width": 8, "buckets": 211} | settings)
    model = build_model(config, Vocabularies(words, LABELS, joint=False))
    assert isinstance(model, BagClassifier)
    if model.source_ngrams is not None:
        torch.nn.init.normal_(model.source_ngrams.weight)
    return model.eval()


def signed(word: str) -> int:
    found = bucket_of(word.encode(), 2**32)
    return found - 2**32 if found >= 2**31 else found


def bag_of(words: Sequence[str | None], *, longest: int, buckets: int) -> list[tuple[int, int, int]]:
    """First word, number of words and row of each n-gram of known words, in the program's arithmetic, with Python's numbers."""
    found: list[tuple[int, int, int]] = []
    for first in range(len(words)):
        for size in range(2, longest + 1):
            part = words[first : first + size]
            if len(part) < size or None in part:
                continue
            known = [word for word in part if word is not None]
            number = signed(known[0]) % 2**64
            for word in known[1:]:
                number = (number * 116049371 + signed(word)) % 2**64
            found.append((first, size, number % buckets))
    return found


def test_hashes_of_words_are_the_published_ones() -> None:
    texts = [*WORDS, "", "</s>", "\ud800"]
    assert word_hashes(texts[:-1]).tolist() == [signed(word) for word in texts[:-1]]
    assert word_hashes(texts)[:-1].tolist() == word_hashes(texts[:-1]).tolist()
    assert word_hashes([]).tolist() == []
    # 32-bit FNV-1a of "a" and "foobar", as its authors publish them; bytes below 0x80 alone.
    assert [number % 2**32 for number in word_hashes(["a", "foobar"]).tolist()] == [0xE40C292C, 0xBF9CF968]


@pytest.mark.parametrize("buckets", [1, 2, 211, 65_536, 2_000_000, 50_000_000])
def test_rows_of_ngrams_wrap_around_as_the_programs_do(buckets: int) -> None:
    hashes = torch.from_numpy(word_hashes(WORDS))[None]
    for size in (2, 3, 7):
        found = ngram_rows(hashes, size=size, buckets=buckets)[0].tolist()
        expected = {first: row for first, own, row in bag_of(WORDS, longest=7, buckets=buckets) if own == size}
        assert found == [expected[first] for first in range(len(WORDS) - size + 1)]


@pytest.mark.parametrize("longest", [1, 2, 3, 5])
@pytest.mark.parametrize(
    ("vocabulary", "text"),
    [
        (WordVocabulary.train(["not good très кот not a Straße not"], size=99), "not good très unheard not not good кот"),
        (WordVocabulary.train(["犬好犬 ไทย"], size=99), "犬好犬好 ไทย"),
        (CharacterVocabulary(list("abcé कि")), "abc é किabq bca"),
    ],
    ids=["words", "unspaced", "characters"],
)
def test_the_vector_of_a_text_is_the_mean_of_its_tokens_and_ngrams(vocabulary: Subwords, text: str, longest: int) -> None:
    model = make(vocabulary, word_ngrams=longest)
    ids = [*vocabulary.encode(text), EOS]
    names = [None if id == UNK else vocabulary.pieces([id])[0] for id in ids]
    names = [name.removeprefix("▁") if isinstance(vocabulary, WordVocabulary) and name else name for name in names]
    rows = [model.source_embedding.weight[id] for id in ids if id != UNK]
    bag = bag_of(names, longest=longest, buckets=211)
    if model.source_ngrams is not None:
        rows += [model.source_ngrams.weight[row] for _, _, row in bag]
    expected = torch.stack(rows).mean(0) * 8**0.5
    source = pad_rows([ids[:-1], [*ids[:-1]] * 2])
    with trace(model) as seen:
        found = model.embed(source)
    torch.testing.assert_close(found[0], expected)
    # What each position is said to give sums to the text's vector.
    torch.testing.assert_close(seen["source_embedded"][0][0].sum(0) / len(rows), expected)
    features = model.features(pad_rows([ids[:-1]]))
    assert sorted((one.first, one.size) for one in features if one.size > 1) == sorted((first, size) for first, size, _ in bag)
    total = torch.stack([one.logits for one in features]).sum(0) + model.head.linear.bias
    torch.testing.assert_close(total, model.classify(source)[0])


def test_the_order_of_words_counts_only_within_ngrams() -> None:
    vocabulary = CharacterVocabulary(list("abcd"))
    texts = pad_rows([vocabulary.encode(text) for text in ("abcdab", "bcdaab", "aabbcd")])
    alone, pairs = (make(vocabulary, word_ngrams=longest).classify(texts) for longest in (1, 2))
    torch.testing.assert_close(alone[0], alone[1])
    torch.testing.assert_close(alone[0], alone[2])
    assert (pairs[0] - pairs[1]).abs().max() > 1e-3 and (pairs[1] - pairs[2]).abs().max() > 1e-3


def test_texts_without_a_known_word_are_their_end_alone() -> None:
    vocabulary = WordVocabulary.train(["known words"], size=99)
    model = make(vocabulary)
    found = model.embed(pad_rows([vocabulary.encode(text) for text in ("", "нет ни слова", "unheard")]))
    torch.testing.assert_close(found, (model.source_embedding.weight[EOS] * 8**0.5).expand(3, -1))


def test_ngrams_never_seen_add_nothing() -> None:
    vocabulary = WordVocabulary.train(["a b c"], size=99)
    config = BagClassifierConfig(width=8, buckets=50)
    model = build_model(config, Vocabularies(vocabulary, LABELS, joint=False))
    assert isinstance(model, BagClassifier)
    assert all(one.size == 1 or not one.logits.any() for one in model.features(pad_rows([vocabulary.encode("a b c")])))


def test_the_rows_of_ngrams_do_not_depend_on_the_order_of_the_vocabulary() -> None:
    first, second = (WordVocabulary.train([text], size=99) for text in ("b b b a a c", "c c c a a b new"))
    one, two = make(first), make(second)
    rows = [
        ngram_rows(model.hashes[torch.tensor([words.encode("a b c")])], size=2, buckets=211)
        for model, words in ((one, first), (two, second))
    ]
    assert torch.equal(*rows)


def test_the_program_takes_the_same_rows(tmp_path: Path) -> None:
    """The vector that the fastText program makes of a text is the mean of the rows of its matrix that ours names."""
    fasttext = pytest.importorskip("fasttext")
    text = "кот не犬 très gut 👩‍🚀 naïve кот gut Straße"
    (tmp_path / "train.txt").write_text(f"__label__a {text}\n__label__b gut кот\n", encoding="utf-8")
    settings = {"dim": 6, "epoch": 1, "wordNgrams": 3, "bucket": 977, "minCount": 1, "thread": 1, "verbose": 0}
    program = fasttext.train_supervised(str(tmp_path / "train.txt"), **settings)
    words = [*text.split(), "</s>"]
    matrix = program.get_input_matrix()
    places = [program.get_word_id(word) for word in words]
    assert min(places) >= 0
    rows = [ngram_rows(torch.from_numpy(word_hashes(words))[None], size=size, buckets=977)[0].tolist() for size in (2, 3)]
    number = len(program.get_words())
    expected = matrix[[*places, *(number + row for one in rows for row in one)]].mean(0)
    np.testing.assert_allclose(program.get_sentence_vector(text), expected, atol=1e-6)


def test_only_rows_that_are_read_get_gradient() -> None:
    vocabulary = CharacterVocabulary(list("abcdef"))
    model = make(vocabulary)
    gradient: Tensor = torch.autograd.grad(model.classify(pad_rows([vocabulary.encode("aba")])).sum(), model.source_embedding.weight)[0]
    assert gradient.ne(0).any(1).nonzero()[:, 0].tolist() == sorted([*set(vocabulary.encode("ab")), EOS])
