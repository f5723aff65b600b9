"""Parallel text in invented languages: real scripts, and the lengths and spaces that languages written in them have; and what spoils it."""

import random
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from vitrail.data.reading.parallel_text import SentencePair


class Language(NamedTuple):
    """How words are spelled: letters, each with one of the marks now and then, and what stands between words and at the end."""

    name: str
    letters: str
    marks: str = ""
    word: int = 5
    """Letters of a word."""
    between: str = " "
    end: str = "."


LATIN = Language("Latin", "etaoinshrdlucmfwypvbgkq")
LANGUAGES = (
    Language("Hindi", "कखगघचजटडतदनपबमयरलवसह", "ािीुूेैोौं्", word=3, end="।"),
    Language("Burmese", "ကခဂငစညတဒနပဗမယရလဝသဟ", "ာိီုူေဲံ့း်ျြွှ", word=4, between="", end="။"),
    Language("Tibetan", "ཀཁགངཅཇཏཐདནཔཕབམཙཞཟཡརལཤས", "ིེོུྱྲླ", word=3, between="་", end="།"),
    Language("Thai", "กขคงจชซญดตถทนบปผพมยรลวสหอ", "ัิีึืุู่้", word=4, between="", end=""),
    Language("Chinese", "".join(map(chr, range(0x4E00, 0x4E00 + 3000, 7))), word=2, between="", end="。"),
    Language("Arabic", "ابتثجحخدذرزسشصضطظعغفقكلمنهوي", "َُِّْ", word=4),
    Language("Tamil", "கசடதபறஙஞணநமனயரலவழள", "ாிீுூெேைொோௌ்", word=7),
    Language("Yoruba, decomposed", "abdefghijklmnoprstuwy", "\u0301\u0300\u0323", word=5),
    Language("Greenlandic", "aeiouqkprstlnmvg", word=17),
    Language("Kawi", "".join(map(chr, range(0x11F12, 0x11F30))), word=5),  # of Unicode 15, newer than the tables of Python 3.11
)


def words(language: Language, *, count: int, seed: int) -> list[str]:
    """A vocabulary; frequent words are short."""
    draw = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        length = max(1, round(draw.gauss(language.word, language.word / 3)))
        spelled = (
            letter + (draw.choice(language.marks) if language.marks and draw.random() < 0.5 else "")
            for letter in draw.choices(language.letters, k=length)
        )
        found["".join(spelled)] = None
    return list(found)


@lru_cache
def parallel(source: Language, target: Language, *, count: int, seed: int = 0) -> list[SentencePair]:
    """Translations word by word, some of which take two words and some none, of 2 to 30 words."""
    draw = random.Random(seed)
    vocabularies = [words(language, count=1000, seed=seed + place) for place, language in enumerate((source, target))]
    pairs: dict[tuple[str, str], None] = {}
    while len(pairs) < count:
        chosen = [int(1000 ** draw.random()) - 1 for _ in range(draw.randint(2, 30))]
        translated = [word for word in chosen for _ in range(draw.choices((1, 2, 0), (18, 1, 1))[0])] or chosen[:1]
        draw.shuffle(translated)
        sides = [
            language.between.join(vocabulary[word] for word in line) + language.end
            for language, vocabulary, line in zip((source, target), vocabularies, (chosen, translated), strict=True)
        ]
        pairs[sides[0], sides[1]] = None
    return [SentencePair(*both, line) for line, both in enumerate(pairs, 1)]


def misaligned(pairs: list[SentencePair], draw: random.Random) -> list[SentencePair]:
    """Targets of other pairs."""
    targets = [pair.target for pair in pairs]
    draw.shuffle(targets)
    return [pair._replace(target=target) for pair, target in zip(pairs, targets, strict=True)]


def truncated(pairs: list[SentencePair], draw: random.Random) -> list[SentencePair]:
    """A tenth of the target is left."""
    return [pair._replace(target=pair.target[: max(1, len(pair.target) // 10)]) for pair in pairs]


def untranslated(pairs: list[SentencePair], draw: random.Random) -> list[SentencePair]:
    return [pair._replace(target=pair.source) for pair in pairs]


def tagged(pairs: list[SentencePair], draw: random.Random) -> list[SentencePair]:
    return [pair._replace(target=f'<p class="x">{pair.target}') for pair in pairs]


def figures(pairs: list[SentencePair], draw: random.Random) -> list[SentencePair]:
    """Rows of numbers instead of a translation."""
    return [pair._replace(target=" ".join(str(draw.randrange(10**6)) for _ in range(8))) for pair in pairs]


def repeating(pairs: list[SentencePair], draw: random.Random) -> list[SentencePair]:
    """A word over and over, as poor translation machines write."""
    return [pair._replace(target=(pair.target.split() or ["a"])[0][:12] + " " + "ha " * 12) for pair in pairs]


def encoded(pairs: list[SentencePair], draw: random.Random) -> list[SentencePair]:
    """What e-mail attachments look like."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return [pair._replace(target="".join(draw.choices(letters, k=200))) for pair in pairs]


def lost(pairs: list[SentencePair], draw: random.Random) -> list[SentencePair]:
    """Characters that another program replaced."""
    return [pair._replace(target=pair.target[:2] + "\ufffd" + pair.target[3:]) for pair in pairs]


Noise = Callable[[list[SentencePair], random.Random], list[SentencePair]]


def spoil(pairs: list[SentencePair], noise: Noise, *, share: float, seed: int = 1) -> tuple[list[SentencePair], set[int]]:
    """A corpus of which a share is spoiled, and the lines of these pairs."""
    draw = random.Random(seed)
    chosen = sorted(draw.sample(range(len(pairs)), round(share * len(pairs))))
    bad = dict(zip(chosen, noise([pairs[place] for place in chosen], draw), strict=True))
    return [bad.get(place, pair) for place, pair in enumerate(pairs)], {pairs[place].line for place in chosen}
