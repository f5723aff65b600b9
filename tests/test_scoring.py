"""How BLEU counts a text: right for every script, by whatever code the language is told, and explained where it is unusual."""

import os
from pathlib import Path

import pytest
from sacrebleu.metrics.bleu import BLEU

from vitrail import scoring
from vitrail.languages import language_of_file
from vitrail.scoring import BleuSettings, bleu_settings_for, tokenizer_for

NTREX = Path(os.environ.get("VITRAIL_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data") / "ntrex"

FRENCH = ["Le chat dort sous la table car il est fatigué.", "La voisine achète deux pommes au marché."]
JAPANESE = ["猫は疲れているので、テーブルの下で眠っています。", "隣の人は市場でりんごを二つ買います。"]
CUT_JAPANESE = ["猫 は 疲れ て いる の で 、 テーブル の 下 で 眠っ て い ます 。", "隣 の 人 は 市場 で りんご を 二つ 買い ます 。"]
CHINESE = ["猫累了,所以在桌子下面睡觉。", "邻居在市场买两个苹果。"]
CANTONESE = ["隻貓好攰,所以喺枱底瞓覺。", "隔籬屋喺街市買兩個蘋果。"]
THAI = ["แมวนอนอยู่ใต้โต๊ะเพราะมันเหนื่อย", "เพื่อนบ้านซื้อแอปเปิ้ลสองลูกที่ตลาด"]
KOREAN = ["고양이는 피곤해서 탁자 아래에서 잔다.", "이웃 사람은 시장에서 사과 두 개를 산다."]
KHMER = ["ឆ្មាដេកនៅក្រោមតុព្រោះវាហត់", "អ្នកជិតខាងទិញផ្លែប៉ោមពីរនៅផ្សារ"]
GLOSSARY = ["chat noir", "pomme verte", "table", "deux pommes"]


@pytest.mark.parametrize(
    ("codes", "name"),
    [
        ("fr fra fr_FR fra_Latn en de_DE vi hi ar jv mn", "13a"),
        ("zh zho chi cmn zho_Hans zho_Hant zh-TW zh_CN ZH yue yue-Hant wuu nan lzh", "zh"),
        ("ja jpn JPN jpn_Jpan ja-JP ko kor kor_Hang", "char"),
        ("th tha tha_Thai lo lao km khm my mya bo bod dz dzo shn mnw jv_Java ban-Bali", "char"),
    ],
)
def test_every_code_of_a_language_reaches_its_tokenizer(codes, name, monkeypatch):
    monkeypatch.setattr(scoring, "find_spec", lambda package: None)
    assert {code: tokenizer_for(code).name for code in codes.split()} == dict.fromkeys(codes.split(), name)


def test_mecab_where_it_is_installed(monkeypatch):
    monkeypatch.setattr(scoring, "find_spec", lambda package: None)
    assert tokenizer_for("jpn").name == "char" and "not installed" in tokenizer_for("jpn").reason
    monkeypatch.setattr(scoring, "find_spec", lambda package: object())
    assert tokenizer_for("jpn").name == tokenizer_for("", JAPANESE).name == "ja-mecab"
    assert tokenizer_for("kor").name == tokenizer_for("", KOREAN).name == "ko-mecab"


@pytest.mark.parametrize(
    ("references", "name"),
    [
        (FRENCH, "13a"),
        (JAPANESE, "char"),
        (CUT_JAPANESE, "char"),
        (CHINESE, "zh"),
        (CANTONESE, "zh"),
        (THAI, "char"),
        (KHMER, "char"),
        (KOREAN, "char"),
        (GLOSSARY, "13a"),
        ([], "13a"),
        (["", "12 + 3"], "13a"),
    ],
)
@pytest.mark.parametrize("language", ["", "nothing known", "x-klang"])
def test_without_a_language_the_references_decide(references, name, language, monkeypatch):
    monkeypatch.setattr(scoring, "find_spec", lambda package: None)
    assert tokenizer_for(language, references).name == name


def test_references_that_a_told_language_does_not_fit():
    """What is told decides while it is sound; a text without spaces is never counted by what stands between spaces."""
    name, reason = tokenizer_for("fr", THAI)
    assert name == "char" and "fr was told" in reason
    assert tokenizer_for("en", CHINESE).name == "zh" and tokenizer_for("en", ["lechatdortsouslatablecarilestfatigué"]).name == "char"
    name, reason = tokenizer_for("ja", CUT_JAPANESE)
    assert name == "char" and "spaces in the references do not count" in reason
    assert "spaces" not in tokenizer_for("ja", JAPANESE).reason
    assert tokenizer_for("th", FRENCH).name == "char" and tokenizer_for("ja_Latn", FRENCH) == ("13a", "")
    assert tokenizer_for("fr", FRENCH) == tokenizer_for("fr", KOREAN) == ("13a", "")


def test_spaces_that_a_tokenizer_put_in_change_no_score():
    counting = bleu_settings_for("ja", CUT_JAPANESE)
    bleu = BLEU(tokenize=counting.tokenize)
    assert bleu.corpus_score(JAPANESE, [CUT_JAPANESE]).score == pytest.approx(100)


@pytest.mark.parametrize(("references", "language"), [(GLOSSARY, "fr"), (["是", "不"], "zh"), (["แมว"], "th"), (["a", "", "b c"], "")])
def test_lines_that_are_all_too_short_are_counted_by_what_they_have(references, language):
    counting = bleu_settings_for(language, references)
    assert counting.effective_order
    found = BLEU(tokenize=counting.tokenize, effective_order=counting.effective_order).corpus_score(references, [references])
    assert found.score == pytest.approx(100 if "".join(references) != "แมว" else found.score)
    assert "chrF" in counting.notes[-1] and "4 words" in counting.notes[-1]


def test_lines_that_are_mostly_short_are_told_of():
    assert bleu_settings_for("fr", FRENCH) == BleuSettings("13a", False, ())
    (note,) = bleu_settings_for("fr", [*GLOSSARY, *FRENCH]).notes
    assert (
        note.startswith("4 of 6 references are shorter than 4 words") and not bleu_settings_for("fr", [*GLOSSARY, *FRENCH]).effective_order
    )
    assert bleu_settings_for("fr", ["L'eau, c'est bon."]).notes == (), "words as the tokenizer finds them, not as spaces do"
    assert bleu_settings_for("fr", []) == bleu_settings_for("", [""]) == BleuSettings("13a", False, ())


@pytest.mark.skipif(not NTREX.exists(), reason=f"needs {NTREX}")
def test_a_right_translation_into_any_language_is_seen():
    """In 128 languages equal text scores 100, every second line right some, and characters are counted where nothing parts words."""
    unspaced: list[str] = []
    for path in sorted(NTREX.glob("newstest2019.*")):
        code, references = language_of_file(path.name), path.read_text(encoding="utf-8").splitlines()[:30]
        told, read = bleu_settings_for(code, references), bleu_settings_for("", references)
        assert told.tokenize == read.tokenize and not told.effective_order, code
        if told.tokenize != "13a":
            unspaced.append(code)
        bleu = BLEU(tokenize=told.tokenize, force=True)
        other = [line if place % 2 else references[place - 1] for place, line in enumerate(references)]
        assert bleu.corpus_score(references, [references]).score == pytest.approx(100), code
        assert bleu.corpus_score(other, [references]).score > 20, code
    # Korean parts words, and is counted by their parts all the same, as is its custom: its words are long, and few are met again.
    assert unspaced == ["bod", "dzo", "jpn", "khm", "kor", "lao", "mya", "tha", "yue", "zho_Hans", "zho_Hant"]
