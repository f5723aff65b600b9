"""Codes against ISO 639 and BCP 47, scripts against Unicode's own names of its signs, and both against text in many languages."""

import os
import unicodedata
from pathlib import Path

import pytest
import regex

from vitrail.errors import UsageError
from vitrail.languages import UNSPACED_CLASS, find_language, language_of_file, parse_language, same_language, writing_of

UNSPACED = regex.compile(f"[{UNSPACED_CLASS}]")
NTREX = Path(os.environ.get("VITRAIL_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data") / "ntrex"

# "The cat sleeps under the table because it is tired", or much the like: one line for each kind of script.
LINES = {
    "Latn": "Le chat dort sous la table car il est fatigué",
    "Cyrl": "Кошка спит под столом потому что она устала",
    "Arab": "القطة تنام تحت الطاولة لأنها متعبة",
    "Deva": "बिल्ली मेज के नीचे सो रही है क्योंकि वह थकी हुई है",
    "Ethi": "ድመቷ ከጠረጴዛው ስር ተኝታለች",
    "Kore": "고양이는 피곤해서 탁자 아래에서 잔다",
    "Jpan": "猫は疲れているので、テーブルの下で眠っています。",
    "Hani": "貓累了,所以在桌子下面睡覺。",
    "Thai": "แมวนอนอยู่ใต้โต๊ะเพราะมันเหนื่อย",
    "Laoo": "ແມວນອນຢູ່ກ້ອງໂຕະເພາະມັນເມື່ອຍ",
    "Khmr": "ឆ្មាដេកនៅក្រោមតុព្រោះវាហត់",
    "Mymr": "ကြောင်သည်မောပန်းနေသောကြောင့်စားပွဲအောက်တွင်အိပ်နေသည်",
    "Tibt": "ཞི་མི་ཅོག་ཙེའི་འོག་ལ་ཉལ་འདུག",
    "Java": "ꦏꦸꦕꦶꦁꦠꦸꦫꦸꦲꦶꦁꦔꦶꦱꦺꦴꦂꦩꦺꦗ",
}
SPACED = {"Latn", "Cyrl", "Arab", "Deva", "Ethi", "Kore"}


@pytest.mark.parametrize(
    ("codes", "code", "script"),
    [
        ("en eng EN Eng eng_Latn en-Latn en_latn", "en", "Latn"),
        ("zh zho chi cmn zho_Hans cmn-Hans zh-CN zh_CN ZH-cn zh-Hans-CN", "zh", "Hans"),
        ("zh-TW zh_Hant zho_Hant cmn_Hant zh-HK", "zh", "Hant"),
        ("yue yue-Hant yue_Hant zh-yue", "yue", "Hant"),
        ("ja jpn JPN jpn_Jpan ja_JP", "ja", "Jpan"),
        ("th tha tha_Thai", "th", "Thai"),
        ("ko kor kor_Hang kor_Kore ko-KR", "ko", "Kore"),
        ("my mya bur mya_Mymr", "my", "Mymr"),
        ("bo bod tib bod_Tibt", "bo", "Tibt"),
        ("pt por pt_BR pt-PT por_Latn", "pt", "Latn"),
        ("ar arb ara arb_Arab", "ar", "Arab"),
        ("fa fas per pes pes_Arab", "fa", "Arab"),
        ("sr srp srp-Cyrl", "sr", "Cyrl"),
        ("srp_Latn sr-Latn", "sr", "Latn"),
        ("shn shn_Mymr", "shn", "Mymr"),
        ("he iw heb", "he", "Hebr"),
    ],
)
def test_one_language_has_many_codes(codes, code, script):
    found = {find_language(one) for one in codes.split()}
    assert len(found) == 1
    (language,) = found
    assert language is not None and (language.code, language.script) == (code, script)


def test_scripts_and_languages_differ_and_regions_do_not():
    assert find_language("zh-Hans") != find_language("zh-Hant") != find_language("yue")
    assert find_language("pt-BR") == find_language("pt-PT") and find_language("pt_BR").region == "BR"
    assert same_language("eng_Latn", "en") and same_language("Foo!", "foo!") and not same_language("nn", "nb")


@pytest.mark.parametrize("code", ["", "english", "xx-YY", "e", "12", "en fr", "en.fr", "und", "\ud800", "a" * 1000, "train", "zz_Zzzz"])
def test_what_is_no_code_is_none(code):
    assert find_language(code) is None
    with pytest.raises(UsageError, match="language"):
        parse_language(code)


@pytest.mark.parametrize(
    ("codes", "unspaced"),
    [
        ("zh cmn yue wuu nan hak gan lzh ja th tha_Thai lo km my shn mnw bo dz dzo ii jv-Java ban-Bali bug-Bugi nod khb", True),
        ("en fr de ko vi hi ta am he ar ka hy el mn jv ban zh-Latn nan_Latn ja-Latn th_Latn my_Latn dng bug-Latn", False),
    ],
)
def test_spaces_between_words_go_by_the_script(codes, unspaced):
    assert {code for code in codes.split() if find_language(code).unspaced != unspaced} == set()


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("train.en", "en"),
        ("corpus.zho_Hans.gz", "zho_Hans"),
        ("corpus.zh-CN", "zh-CN"),
        ("train.clean.tok.fr.txt", "fr"),
        ("eng_Latn.dev", "eng_Latn"),
        ("jpn_Jpan.devtest", "jpn_Jpan"),
        ("fr.txt", "fr"),
        ("WikiMatrix.en-fr.en", "en"),
        ("train.tok", ""),
        ("train.txt", ""),
        ("train", ""),
        ("all.txt", ""),
        ("in.txt", ""),
        ("new.tsv", ""),
        ("my.corpus.txt", ""),
        ("train.src", ""),
        ("ht.src", ""),
        ("ht.trg", ""),
        ("ht.txt", "ht"),
        ("source.ht", "ht"),
        ("corpus.ht.src", "ht"),
        ("train.dev", ""),
        ("train.2019", ""),
        ("train.en-fr", ""),
        ("train.zh-cn", "zh-cn"),
        ("train.pt-br", "pt-br"),
        ("", ""),
    ],
)
def test_a_files_name_tells_its_language(name, code):
    assert language_of_file(name) == code


@pytest.mark.parametrize("script", LINES)
def test_a_text_tells_its_script_and_whether_words_are_parted(script):
    writing = writing_of([LINES[script]])
    assert writing.script == script
    assert writing.unspaced == (script not in SPACED)
    assert bool(UNSPACED.search(LINES[script])) == (script not in SPACED)


def test_what_text_quotes_does_not_decide():
    assert writing_of([LINES["Thai"] + " Windows Server"]).script == "Thai"
    assert not writing_of([LINES["Latn"] * 3 + " 東京"]).unspaced
    assert writing_of(["これは Windows Server のバージョンです"]).unspaced
    assert writing_of(["他說:「の」字很好看,大家都喜歡用,招牌上到處都是這個字。"]).script == "Hani"


def test_letters_with_marks_apart_belong_to_their_script():
    """Unicode lends many marks to Bopomofo as well: Yoruba, whose vowels carry them, is Latin all the same."""
    text = unicodedata.normalize("NFD", "Ológbò náà ń sùn lábẹ́ tábìlì nítorí pé ó rẹ̀ ẹ́")
    assert writing_of([text]).scripts == {"Latn": 1.0} and not UNSPACED.search(text)


def test_text_without_spaces_is_so_in_any_script():
    assert writing_of(["lechatdortsouslatablecarilestfatigué"]).unspaced
    assert not writing_of(["Rindfleischetikettierungsüberwachungsaufgabenübertragungsgesetz ist ein langes Wort im Recht"]).unspaced


def test_words_that_were_cut_apart_are_noticed():
    assert writing_of(["猫 は 疲れ て いる の で 、 テーブル の 下 で 眠っ て い ます 。"]).parted
    assert not writing_of([LINES["Jpan"], LINES["Mymr"]]).parted and not writing_of([LINES["Latn"]]).parted


@pytest.mark.parametrize("texts", [[], [""], ["1234 ---"], ["\ud800"]])
def test_text_without_letters_says_nothing(texts):
    writing = writing_of(texts)
    assert (writing.script, writing.unspaced, writing.letters_between_spaces) == ("", False, 0.0)
    assert find_language("ja").is_written(writing)


def test_unicode_calls_each_unspaced_sign_by_its_script():
    words = "CJK HIRAGANA KATAKANA BOPOMOFO YI TANGUT NUSHU KHITAN THAI LAO KHMER MYANMAR TAI AHOM TIBETAN JAVANESE"
    words += " BALINESE BUGINESE BATAK MAKASAR NEW KANGXI IDEOGRAPHIC HALFWIDTH CIRCLED SQUARE VERTICAL"
    words += " VIETNAMESE HANGZHOU PARTNERSHIP NEGATIVE COUNTING HENTAIGANA OLD MODIFIER"
    signs = [chr(code) for code in range(0x110000) if UNSPACED.match(chr(code))]
    names = {unicodedata.name(sign, "").split(" ")[0].split("-")[0] for sign in signs}
    assert len(signs) > 90_000 and {name for name in names if name and name not in words.split()} == set()


@pytest.mark.skipif(not NTREX.exists(), reason=f"needs {NTREX}")
def test_every_language_of_ntrex_is_written_as_its_code_says():
    wrong: list[str] = []
    paths = sorted(NTREX.glob("newstest2019.*"))
    assert len(paths) == 128
    for path in paths:
        language, writing = find_language(language_of_file(path.name)), writing_of(path.read_text(encoding="utf-8").splitlines()[:200])
        if language is None or not language.is_written(writing) or language.unspaced != writing.unspaced or writing.parted:
            wrong.append(path.name.rpartition(".")[2])
    assert wrong == ["shi"], "CLDR has Tachelhit in Tifinagh, NTREX in Arabic letters"
