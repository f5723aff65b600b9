"""What stands in the texts is held against what they are said to be, before anything is made of them."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from vitrail.data.cleaning.check import check_texts
from vitrail.data.data_config import DataConfig
from vitrail.data.reading.parallel_text import ParallelText
from vitrail.data.vocabularies.subwords import SubwordsConfig
from vitrail.errors import DataError, UsageError
from vitrail.phrasebook.corpus import phrasebook

NTREX = Path(os.environ.get("VITRAIL_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data") / "ntrex"
ENGLISH, FRENCH = ([getattr(pair, side) for pair in phrasebook(train_pairs=400).train] for side in ("source", "target"))
RUSSIAN = [f"Кошка номер {n} видит старую собаку у реки, но она не боится." for n in range(100)]
GERMAN = [f"Der alte Hund sieht die {n}. Katze am Fluss, aber er fürchtet sich nicht vor ihr und schläft." for n in range(100)]
Write = Callable[..., ParallelText]


@pytest.fixture
def text(tmp_path: Path) -> Write:
    def write(name: str, source: list[str], target: list[str], **fields: object) -> ParallelText:
        paths = [tmp_path / f"{name}.{side}" for side in ("a1", "b2")]
        for path, side in zip(paths, (source, target), strict=True):
            path.write_text("".join(f"{line}\n" for line in side), encoding="utf-8")
        return ParallelText(source=paths[0], target=paths[1], **fields)  # pyright: ignore[reportArgumentType]

    return write


def told(config: DataConfig) -> str:
    said: list[str] = []
    check_texts(config, say=said.append)
    return "\n".join(said)


def test_texts_of_the_same_languages_are_passed_in_silence(text: Write) -> None:
    train, dev = text("train", ENGLISH[:300], FRENCH[:300]), text("dev", ENGLISH[300:], FRENCH[300:])
    assert told(DataConfig(corpora=(train,), dev=dev, source_language="en", target_language="fr")) == ""


CUTS: dict[str, Callable[[str], str]] = {
    "@@": lambda word: f"{word[:2]}@@ {word[2:]}",
    "▁": lambda word: f"▁{word[:2]} {word[2:]}",
    "￭": lambda word: f"{word[:2]} ￭{word[2:]}",
    "##": lambda word: f"{word[:2]} ##{word[2:]}",
}


@pytest.mark.parametrize(("mark", "cut"), CUTS.items())
def test_text_in_subwords_is_refused_unless_its_tokens_are_wanted(text: Write, mark: str, cut: Callable[[str], str]) -> None:
    pieces = [" ".join(cut(word) if len(word) > 3 else word for word in line.split()) for line in FRENCH]
    corpus = text("train", ENGLISH, pieces)
    with pytest.raises(DataError, match=f"the target is in subwords already \\({mark}") as caught:
        told(DataConfig(corpora=(corpus,)))
    assert "sed" in caught.value.remedy
    assert "marks of subwords" in told(DataConfig(corpora=(corpus,), subwords=SubwordsConfig(kind="word")))
    some = text("some", ENGLISH, [*pieces[:20], *FRENCH[20:]])
    assert f"has marks of subwords ({mark}) in" in told(DataConfig(corpora=(some,)))
    hunks = text("hunks", [f"@@ -{n} +1 @@ {line}" for n, line in enumerate(ENGLISH)], FRENCH)
    assert told(DataConfig(corpora=(hunks,))) == ""


def test_text_tokenised_by_moses_is_told(text: Write) -> None:
    tokens = [line.replace("'", "&apos; ").replace(".", " .") for line in FRENCH]
    assert "tokenised by Moses" in told(DataConfig(corpora=(text("train", ENGLISH, tokens),)))


def test_sides_the_other_way_round_are_refused_by_script_and_by_letters(text: Write) -> None:
    with pytest.raises(DataError, match=r"data\.corpora\.0 .*the other way round"):
        told(DataConfig(corpora=(text("x", RUSSIAN, ENGLISH[:100]),), source_language="en", target_language="rus"))
    train = text("train", ENGLISH, FRENCH)
    with pytest.raises(DataError, match=r"data\.dev .*the other way round"):
        told(DataConfig(corpora=(train,), dev=text("dev", FRENCH, ENGLISH)))
    with pytest.raises(DataError, match=r"data\.corpora\.1 .*the other way round"):
        told(DataConfig(corpora=(text("ru", ENGLISH[:100], RUSSIAN), text("ur", RUSSIAN, ENGLISH[:100]))))


def test_another_language_is_refused_where_it_is_scored_on_in_another_script_and_told_elsewhere(text: Write) -> None:
    train, other = text("train", ENGLISH[:100], FRENCH[:100]), text("other", ENGLISH[:100], RUSSIAN)
    with pytest.raises(DataError, match=r"data\.test .*the target is written in Cyrl script, that of data\.corpora\.0 in Latn: Кошка"):
        told(DataConfig(corpora=(train,), test=other))
    assert "is written in Cyrl" in told(DataConfig(corpora=(train, other)))
    assert "is written in Cyrl" in told(DataConfig(corpora=(train,), test=text("o", ENGLISH[:100], RUSSIAN, languages=("en", "ru"))))
    german = told(DataConfig(corpora=(text("t", ENGLISH, FRENCH),), dev=text("de", ENGLISH[:100], GERMAN)))
    assert "data.dev" in german and "the target does not look like the language of data.corpora.0" in german and "Der alte Hund" in german
    assert "source" not in german


def test_old_text_and_its_dev_set_may_be_in_another_script(text: Write) -> None:
    new, old = text("new", RUSSIAN, GERMAN), text("old", ENGLISH[:300], FRENCH[:300])
    found = told(DataConfig(corpora=(new,), old=(old,), old_dev=text("dev", ENGLISH[300:], FRENCH[300:])))
    for name in ("data.old.0", "data.old_dev"):
        assert f"{name} (" in found
    assert found.count("the source is written in Latn script") == 2


def test_a_code_that_the_script_belies_is_told(text: Write) -> None:
    assert "is named fr, but is written in Cyrl" in told(
        DataConfig(corpora=(text("x", ENGLISH[:100], RUSSIAN),), source_language="en", target_language="fr")
    )


@pytest.mark.parametrize(
    ("language", "lines", "encoding"),
    [("ru", [f"{line} (BBC)" for line in RUSSIAN], "koi8-r"), ("ja", ["彼女は DVD を見た。"] * 90, "shift-jis")],
)
def test_bytes_of_another_encoding_say_nothing_of_the_script(language: str, lines: list[str], encoding: str, text: Write) -> None:
    written = text("x", ENGLISH[: len(lines)], lines)
    (written.target or Path()).write_bytes("".join(f"{line}\n" for line in lines).encode(encoding))
    assert told(DataConfig(corpora=(written,), source_language="en", target_language=language)) == ""


@pytest.mark.parametrize(
    ("names", "refused"),
    [
        (("train.en", "train.fr", "dev.en", "dev.de"), "from en to de, as its file names say"),
        (("train.eng_Latn", "train.fra_Latn", "eng_Latn.dev", "deu_Latn.dev"), "from eng_Latn to deu_Latn"),
        (("newstest2019.eng", "newstest2019.fra", "corpus.en-de.en.gz", "corpus.en-de.de.gz"), "from en to de"),
        (("en.txt", "fr.txt", "corpus.en-de.tsv", ""), "from en to de"),
        (("corpus.en-fr.tsv", "", "dev.en", "dev.de"), "from en to de"),
        (("corpus.en-fr.tsv", "", "dev.fr", "dev.en"), ""),
        (("train.en", "train.fr", "eng.dev", "fra.dev"), ""),
        (("train.en", "train.fr", "corpus.fr-en.tsv", ""), ""),
        (("train.en", "train.pt", "dev.en_GB", "dev.pt_BR"), ""),
        (("train.en", "train.fr", "dev.src", "dev.tgt"), ""),
    ],
)
def test_names_tell_of_another_language(names: tuple[str, str, str, str], refused: str) -> None:
    train = ParallelText(source=Path(names[0]), target=Path(names[1]) if names[1] else None)
    dev = ParallelText(source=Path(names[2]), target=Path(names[3]) if names[3] else None)
    if not refused:
        DataConfig(corpora=(train,), dev=dev)
        return
    with pytest.raises(UsageError, match=refused) as caught:
        DataConfig(corpora=(train,), dev=dev)
    assert "languages=" in caught.value.remedy
    DataConfig(corpora=(train,), dev=dev.model_copy(update={"languages": ("en", "fr")}))


@pytest.mark.skipif(not NTREX.exists(), reason="needs shared/data/ntrex")
@pytest.mark.parametrize("every", [12, pytest.param(1, marks=pytest.mark.slow)])
def test_no_language_is_taken_for_another(tmp_path: Path, every: int) -> None:
    """Of 128 languages, the last lines are taken for the same language as the first."""
    said: list[str] = []
    for path in sorted(NTREX.glob("newstest2019.*"))[::every]:
        texts = []
        for part, lines in (("first", slice(0, 300)), ("last", slice(300, 600))):
            sides = [tmp_path / f"{part}.a1", tmp_path / f"{part}.b2"]
            for side, origin in zip(sides, (NTREX / "newstest2019.eng", path), strict=True):
                side.write_text("\n".join(origin.read_text(encoding="utf-8").split("\n")[lines]), encoding="utf-8")
            texts.append(ParallelText(source=sides[0], target=sides[1]))
        code = path.suffix[1:]
        check_texts(
            DataConfig(corpora=(texts[0],), dev=texts[1], target_language=code), say=lambda line, c=code: said.append(f"{c} {line}")
        )
    # Tachelhit, which CLDR has in Tifinagh, is in Latin letters; four files are English, nearly or wholly the same as the source.
    english = [line for line in said if line.startswith("eng") and "source and target are the same" in line]
    assert [line for line in said if line not in english and not line.startswith("shi ")] == []


def test_the_same_text_twice_is_told(text: Write) -> None:
    said = told(DataConfig(corpora=(text("train", ENGLISH, FRENCH), text("twice", FRENCH, [f" {line} " for line in FRENCH]))))
    assert (
        said.startswith("warning: data.corpora.1 (") and "twice.a1): source and target are the same in 400 of the first 400 pairs" in said
    )
    some = [english if place % 5 else french for place, (english, french) in enumerate(zip(ENGLISH, FRENCH, strict=True))]
    assert "are the same" not in told(DataConfig(corpora=(text("some", ENGLISH, some),)))
