"""Moses-tokenised text: what the Perl scripts give for sentences written for this test."""

import sys

import pytest

from vitrail.errors import DataError, UsageError
from vitrail.evaluation.published import moses_tokenise, published_style


@pytest.fixture
def sacremoses():
    return pytest.importorskip("sacremoses")


CASES = [
    ("fr", "L'Homme lit « Le Pont », à l'ombre.", "l&apos; homme lit &quot; le pont &quot; , à l&apos; ombre ."),
    ("fr", 'Elle porte un sac "Vert."', "elle porte un sac &quot; vert &quot; ."),
    # Between two letters a-z a right quotation mark is an apostrophe, elsewhere a quote: a slip of the Perl script, in its files too.
    ("fr", "L’étoile d’or brille.", "l &quot; étoile d&apos; or brille ."),
    ("fr", "Un coup d’œil.", "un coup d &quot; œil ."),
    ("en", "The baker's son didn't wear a T-shirt.", "the baker &apos;s son didn &apos;t wear a t-shirt ."),
    ("de", "Ein Mann ruft: „Halt!“", "ein mann ruft : &quot; halt ! &quot;"),
]


@pytest.mark.parametrize(("language", "raw", "tokenised"), CASES)
def test_known_forms(sacremoses, language, raw, tokenised):
    assert moses_tokenise([raw], language=language) == [tokenised]


def test_published_style_scores_like_with_like(sacremoses):
    raw = [raw for language, raw, _ in CASES if language == "fr"]
    references = [tokenised for language, _, tokenised in CASES if language == "fr"]
    perfect = published_style(raw, [references], language="fr", bootstrap=20)
    assert perfect.value == pytest.approx(100)
    assert "tok:none" in perfect.signature and "|text:lc.norm.moses-fr|sacremoses:" in perfect.signature
    assert published_style([*raw[:-1], "Un autre texte."], [references], language="fr", bootstrap=20).value < 100


@pytest.mark.parametrize(("references", "said"), [(["Le chat dort ."], "line 1: upper-case"), (["l' eau ."], "line 1: a plain")])
def test_references_of_another_kind_are_refused(references, said):
    with pytest.raises(DataError, match=said):
        published_style(["Le chat dort."], [references], language="fr")


def test_missing_package_is_a_usage_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacremoses", None)
    with pytest.raises(UsageError, match=r"vitrail\[moses\]"):
        moses_tokenise(["a"], language="en")
