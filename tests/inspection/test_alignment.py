"""Word alignment: forced attention in batches, links, the choice of heads, and where links stand in whole texts."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import LETTERS, TRANSLATING
from recorded import ATTENTIVE, RECURRENT, model, record, translator

from vitrail.data.vocabularies.subwords import UNK, CharacterVocabulary, Vocabularies
from vitrail.decode.cross_attention import cross_attention, cross_layers
from vitrail.decode.engines.engine import Weights
from vitrail.decode.search.beams import SearchConfig
from vitrail.decode.textual.joining import Segment
from vitrail.decode.translate import TranslateConfig, Translation
from vitrail.errors import ModelError, UsageError
from vitrail.inspection.alignment.links import (
    HeadMatrices,
    LinkMethod,
    link,
    links_between_spaces,
    mutual_information,
    pool_by_word,
    to_pharaoh,
)
from vitrail.inspection.alignment.word_alignment import Aligner, ChosenHeads, align, all_heads, choose_heads, heads_for
from vitrail.inspection.collect import collect
from vitrail.inspection.translator import InspectableTranslator
from vitrail.inspection.words import WordPosition
from vitrail.models.build import build_model

pytestmark = pytest.mark.sampled(6)

ALIGNED = ("pre-layer-sinusoidal", "gru-bahdanau", "lstm-luong-general")
PAIRS = [([4, 5, 6, 7, 8, 9], [5, 6]), ([7], [8, 9, 10, 11, 12]), ([9, 8, 7], [4]), ([], [6, 5]), ([6, 5, 4, 4], [])]


# --- forced attention ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ATTENTIVE)
def test_a_batch_gives_each_pair_what_it_gets_alone(name: str) -> None:
    alone: list[Weights | None] = []
    for source, target in PAIRS:
        seen = collect(model(name), source, target) if source and target else {}
        places = sorted(place for place in seen if re.fullmatch(r"(?:decoder\.\d+\.cross_)?attention\.weights", place))
        alone.append(np.stack([seen[place] for place in places]) if places else None)
    for batch_tokens in (1, 12, 4096):
        found = cross_attention(model(name), [source for source, _ in PAIRS], [target for _, target in PAIRS], batch_tokens=batch_tokens)
        for (source, target), weights, expected in zip(PAIRS, found, alone, strict=True):
            assert weights.shape[2:] == (len(target) + 1, len(source) + 1)
            np.testing.assert_allclose(weights.sum(3), 1, atol=1e-5)
            if expected is not None:
                np.testing.assert_allclose(weights, expected, atol=1e-5)


def test_models_without_attention_or_probes_are_refused() -> None:
    mute = next(name for name in RECURRENT if RECURRENT[name].attention == "none")
    for call in (cross_layers, lambda one: cross_attention(one, [[4]], [[4]])):
        with pytest.raises(UsageError, match="without attention"):
            call(model(mute))
    compiled = TRANSLATING["lstm-luong-general"].build().eval()
    compiled.compile(backend="eager")
    with pytest.raises(ModelError, match="compiled"):
        cross_attention(compiled, [[4]], [[4]])


# --- links -----------------------------------------------------------------------------------------------------------------------


def test_links_by_hand() -> None:
    weights = np.array([[0.6, 0.3, 0.0, 0.1], [0.5, 0.4, 0.0, 0.1], [0.0, 0.1, 0.0, 0.9]], dtype=np.float32)
    assert link(weights, method="target") == {(0, 0), (0, 1), (3, 2)}
    assert link(weights, method="intersection") == {(0, 0), (3, 2)}
    assert link(weights, method="union") == {(0, 0), (0, 1), (1, 1), (3, 2)}  # the third source word has no weight: no link
    assert link(weights) == {(0, 0), (0, 1), (1, 1), (3, 2)}
    assert to_pharaoh(link(weights)) == "0-0 0-1 1-1 3-2"
    assert link(np.zeros((0, 3), dtype=np.float32)) == frozenset()


def test_growing_stays_between_intersection_and_union_and_leaves_out_what_is_far() -> None:
    draw = np.random.default_rng(3)
    grown = 0
    for _ in range(200):
        weights = draw.dirichlet(np.full(draw.integers(1, 9), 0.3), size=draw.integers(1, 9)).astype(np.float32)
        least, between, most = (link(weights, method=method) for method in ("intersection", "grow-diag", "union"))
        assert least <= between <= most
        assert link(weights, method="target") <= most
        for i, j in between - least:
            assert any(abs(i - k) <= 1 and abs(j - m) <= 1 for k, m in between - {(i, j)})
        grown += between != most and between != least
    assert grown > 20
    far = np.zeros((5, 5), dtype=np.float32)
    far[0, 0], far[0, 4] = 0.9, 0.1
    assert link(far) == {(0, 0)}


def test_pooling_sums_over_source_tokens_and_averages_over_target_tokens() -> None:
    weights = np.random.default_rng(0).dirichlet(np.ones(5), size=(2, 4)).astype(np.float32)
    pooled = pool_by_word(weights, sources=[[0, 1], [], [3]], targets=[[0], [1, 2]])
    assert pooled.shape == (2, 2, 3)
    np.testing.assert_allclose(pooled[:, 1, 0], weights[:, 1:3, :2].sum(2).mean(1), rtol=1e-6)
    assert np.all(pooled[:, :, 1] == 0)


def test_the_links_of_marks_say_nothing_of_the_word_that_they_end() -> None:
    """`was hungry. (`, whose second word is a word and a mark, and `avait faim ?`, whose mark stands alone."""
    sources = [WordPosition(0, False, True), WordPosition(1, False, True), WordPosition(1, True, False), WordPosition(2, True, True)]
    targets = [WordPosition(0, False, True), WordPosition(1, False, True), WordPosition(2, True, True), None]
    assert links_between_spaces({(0, 0), (1, 1), (2, 0), (2, 1)}, sources=sources, targets=targets) == {(0, 0), (1, 1)}
    assert links_between_spaces({(2, 2), (3, 0), (3, 2), (1, 3)}, sources=sources, targets=targets) == {(1, 2), (2, 0), (2, 2)}
    assert links_between_spaces({(2, 2)}, sources=sources, targets=sources) == frozenset()  # `hungry.` and another word with its mark


# --- the choice of heads ---------------------------------------------------------------------------------------------------------


def planted(texts: list[str], *, shift: int, heads: int = 6) -> list[Weights]:
    """Heads 1 and 4 each align half of the words to their mirror place; the others look at the first place more than at any."""
    draw = np.random.default_rng(5)
    found: list[Weights] = []
    for size in map(len, texts):
        weights = (0.4 * draw.dirichlet(np.full(size + 1, 0.3), size=(1, heads, size + 1))).astype(np.float32)
        weights[..., 0] += 0.6
        for t in range(size):
            for head, half in ((1, 0), (4, 1)):
                row = np.full(size + 1, 0.2 / size, dtype=np.float32)
                row[size - 1 - t] = 0.8
                weights[0, head, t + shift] = row if t % 2 == half else 1 / (size + 1)
        found.append(weights)
    return found


@pytest.mark.parametrize(("shift", "row"), [(0, "predicted"), (1, "read")])
@pytest.mark.parametrize("with_gold", [False, True])
def test_planted_heads_and_rows_are_found(monkeypatch: pytest.MonkeyPatch, shift: int, row: str, with_gold: bool) -> None:
    draw = np.random.default_rng(4)
    texts = ["".join(draw.choice(list(LETTERS), size=draw.integers(5, 9))) for _ in range(40)]
    weights = planted(texts, shift=shift)
    looker = translator("pre-layer-sinusoidal")
    monkeypatch.setattr(looker.engine, "attention_heads", lambda: [(0, head) for head in range(6)])
    monkeypatch.setattr(looker.engine, "cross_attention", lambda *_, heads: [one[0] for one in weights])
    gold = [[(len(text) - 1 - t, t) for t in range(len(text))] for text in texts] if with_gold else None
    words = (lambda text: [(at, at + 1) for at in range(len(text))]) if with_gold else None
    found = choose_heads(looker, texts, [text[::-1] for text in texts], gold=gold, words=words)
    assert {(0, 1), (0, 4)} <= set(found.heads)
    assert found.row == row
    assert found.worth is not None
    assert found.worth > max(found.scores[0]) + 0.1
    assert sorted(np.argsort(found.scores[0])[-2:].tolist()) == [1, 4]
    assert found.judged_by == ("gold" if with_gold else "agreement")
    assert ("next row" in found.how) == (row == "read")
    assert ChosenHeads.model_validate_json(found.model_dump_json()) == found


def test_mutual_information_is_that_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    pairs = np.random.default_rng(2).integers(0, 4, size=(200, 2))
    pairs[:100, 1] = pairs[:100, 0]
    expected = metrics.mutual_info_score(pairs[:, 0], pairs[:, 1])
    assert mutual_information(map(tuple, pairs.tolist())) == pytest.approx(expected)
    assert mutual_information([]) == 0


def test_judgements_equal_plain_counting() -> None:
    draw = np.random.default_rng(1)
    matrices = [draw.random((3, *draw.integers(1, 7, size=2)), dtype=np.float32) for _ in range(20)]
    gold = [{(int(draw.integers(one.shape[2])), j) for j in range(one.shape[1])} for one in matrices]
    mutual = right = shorter = links = 0
    for matrix, one in zip(matrices, gold, strict=True):
        mean = matrix.mean(0)
        forward = {(int(i), j) for j, i in enumerate(mean.argmax(1))}
        mutual += len(forward & {(i, int(j)) for i, j in enumerate(mean.argmax(0))})
        shorter += min(mean.shape)
        right += len(forward & one)
        links += len(forward) + len(one)
    assert HeadMatrices(matrices).judge(HeadMatrices(matrices).values.sum(0)) == pytest.approx(mutual / shorter)
    with_gold = HeadMatrices(matrices, gold=gold)
    assert with_gold.judge(with_gold.values.sum(0)) == pytest.approx(2 * right / links)


def test_no_pair_to_choose_on_and_models_without_attention() -> None:
    with pytest.raises(UsageError, match="no sentence"):
        choose_heads(translator("pre-layer-sinusoidal"), ["", "a"], ["a", ""])
    mute = next(name for name in RECURRENT if RECURRENT[name].attention == "none")
    with pytest.raises(UsageError, match="without attention"):
        all_heads(translator(mute))


def test_a_run_chooses_on_its_development_set_and_a_model_folder_takes_all(tmp_path: Path) -> None:
    chooser = translator("pre-layer-sinusoidal")
    assert heads_for(chooser, tmp_path).judged_by == "nothing"
    assert len(heads_for(chooser, tmp_path).heads) == 4
    (tmp_path / "data").mkdir()
    for side in ("source", "target"):
        (tmp_path / "data" / f"dev.{side}").write_text("abc\nbad\n\ncab\n" * 80)
    found = heads_for(chooser, tmp_path)
    assert found.judged_by == "agreement"
    assert found.sentences == 150  # 200 lines, of which every fourth is empty


# --- a record --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALIGNED)
def test_what_is_added_to_a_record(name: str) -> None:
    plain = record(name)
    found = align(plain)
    weights = plain.weights("cross")
    np.testing.assert_allclose(found["alignment.weights"], weights.mean((0, 1)), rtol=1e-5)
    assert found["alignment.heads"].shape == (weights.shape[0] * weights.shape[1], 2)
    links = {tuple(pair) for pair in np.asarray(found["alignment.links"]).tolist()}
    assert all(i < len(plain.source.words) and j < len(plain.target.words) for i, j in links)
    extra = found.facts.extras["alignment"]
    assert re.fullmatch(r"(\d+-\d+ ?)*", extra["pharaoh"])
    assert "taken as they are" in extra["how"]
    assert "alignment.weights" not in plain.arrays


def test_heads_that_are_named_and_rows_that_are_read() -> None:
    plain = record("pre-layer-sinusoidal")
    weights = plain.weights("cross")
    found = align(plain, heads=[(1, 0)])
    np.testing.assert_allclose(found["alignment.weights"], weights[1, 0], rtol=1e-6)
    shifted = align(plain, heads=ChosenHeads(heads=((1, 0),), row="read"))["alignment.weights"]
    np.testing.assert_allclose(shifted[:-1], weights[1, 0, 1:], rtol=1e-6)
    np.testing.assert_allclose(shifted[-1], weights[1, 0, -1], rtol=1e-6)
    for heads, what in (([(7, 0)], "layer 7"), ([(0, 9)], "head 9"), ([], "no head")):
        with pytest.raises(UsageError, match=what):
            align(plain, heads=heads)
    mute = next(name for name in RECURRENT if RECURRENT[name].attention == "none")
    with pytest.raises(UsageError, match="has none"):
        align(record(mute))


@pytest.mark.parametrize("method", ["target", "intersection", "union", "grow-diag"])
def test_the_links_of_a_record_are_those_of_many_pairs_at_once(method: LinkMethod) -> None:
    looker = spaced()
    inspection = looker.inspect("ab  cd e", "fa ce")
    found = align(inspection, method=method)
    links = Aligner(looker, all_heads(looker), method=method).align_texts(["ab  cd e"], ["fa ce"])[0]
    assert found.facts.extras["alignment"]["pharaoh"] == to_pharaoh(links)


def test_the_line_of_links_says_what_the_picture_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linked anew between spaces, the full stop that `ba` looks at would take `cd.` along."""
    looker = spaced()
    source, target = "ab cd.", "ba dc."
    ba, dc, stop, end = [0.5, 0, 0, 0.1, 0, 0.35, 0.05], [0, 0, 0, 0.4, 0, 0.1, 0.5], [0, 0, 0, 0, 0, 0.2, 0.8], [0, 0, 0, 0, 0, 0, 1]
    rows = np.array([ba, ba, dc, dc, dc, stop, end], dtype=np.float32)
    plain = looker.inspect(source, target)
    places = [f"{place}.weights" for place in plain.attentions("cross").values()]
    shape = (*plain[places[0]].shape[:-2], 1, 1)
    shown = dataclasses.replace(plain, arrays={**plain.arrays, **{place: np.tile(rows, shape) for place in places}})
    found = align(shown)
    assert found["alignment.links"].tolist() == [[0, 0], [1, 1], [2, 0], [2, 2]]
    assert found.facts.extras["alignment"]["pharaoh"] == "0-0 1-1"

    monkeypatch.setattr(looker.engine, "cross_attention", lambda *_, heads: [np.tile(rows, (len(heads), 1, 1))])
    aligner = Aligner(looker, ChosenHeads(heads=((0, 0), (1, 1))))
    whole = part(looker, source, target, source_start=0, target_start=0)
    assert aligner.align_texts([source], [target]) == aligner.align_translations([translation(source, target, (whole,))])
    assert to_pharaoh(aligner.align_texts([source], [target])[0]) == "0-0 1-1"


def test_words_before_all_that_is_read_are_counted() -> None:
    aligner = Aligner(spaced(), all_heads(spaced()))
    alone = aligner.align_texts(["ab cd"], ["ba"])[0]
    # A no-break space is a word of its own only where a space parts it from the next.
    found = aligner.align_texts(["\u00a0 ab cd", "\u00a0ab cd", "", "  ab cd"], ["ba", "ba", "ba", " ba "])
    assert found == [{(i + 1, j) for i, j in alone}, alone, frozenset(), alone]


# --- texts and their translations ------------------------------------------------------------------------------------------------


def spaced() -> InspectableTranslator:
    """A random model that knows spaces, and cuts texts of more than 8 tokens."""
    both = Vocabularies(*[CharacterVocabulary([*LETTERS, " ", "."])] * 2, joint=True)
    search = SearchConfig(beams=1, max_length=7)
    torch.manual_seed(2)
    made = build_model(TRANSLATING["pre-layer-sinusoidal"].config, both).eval()
    return InspectableTranslator(made, vocabularies=both, config=TranslateConfig(max_source_tokens=8, search=search))


def part(looker: InspectableTranslator, source: str, target: str, *, source_start: int, target_start: int) -> Segment:
    encode = looker.vocabularies.source.encode
    ends = source_start + len(source), target_start + len(target)
    return Segment(source_start, tuple(encode(source)), target_start, tuple(encode(target)), source, *ends, cut=False)


def translation(source: str, text: str, segments: tuple[Segment, ...]) -> Translation:
    return Translation(source, text, 0.0, 0.0, (), (), (), truncated=False, parts=len(segments), cut=False, segments=segments)


def test_links_of_parts_are_put_together() -> None:
    looker = spaced()
    aligner = Aligner(looker, all_heads(looker))
    source, text = "  ab  cd. \u00a0 ef ag.", "aa bb dd cc. ee"
    first = part(looker, "ab  cd.", "aa bb dd", source_start=2, target_start=0)
    second = part(looker, "ef ag.", "cc. ee", source_start=12, target_start=9)
    assert source[12:14] == "ef" and text[9:11] == "cc"
    whole = aligner.align_translations([translation(source, text, (first, second)), translation("", "", ())])
    alone = aligner.align_texts(["ab cd.", "ef ag."], ["aa bb dd", "cc. ee"])
    # The no-break space in the middle counts as a word, as it does for whoever splits at spaces.
    assert whole == [alone[0] | {(i + 3, j + 3) for i, j in alone[1]}, frozenset()]
    glued = translation(
        "ab.cd",
        "aa.bb",
        (part(looker, "ab.", "aa.", source_start=0, target_start=0), part(looker, "cd", "bb", source_start=3, target_start=3)),
    )
    assert aligner.align_translations([glued]) == [frozenset({(0, 0)})]


def test_translations_name_words_that_are_there() -> None:
    looker = spaced()
    texts = ["ab  cd", " a b. c d. e f g h i. ", "", "\u00a0ab cd", "zz ab\tcd", "a" * 40, "..."]
    found = looker.translate(texts)
    assert any(one.parts > 1 for one in found)
    for one, links in zip(found, Aligner(looker, all_heads(looker)).align_translations(found), strict=True):
        sources, targets = (
            len(one.source.replace("\t", " ").split(" ")) - one.source.replace("\t", " ").split(" ").count(""),
            len(one.text.split()),
        )
        assert all(0 <= i < sources and 0 <= j < targets for i, j in links)
        assert links or not targets
        for segment in one.segments:
            spelled = looker.vocabularies.source.decode(token for token in segment.source_tokens if token != UNK)
            assert one.source[segment.source_start :][: len(spelled.split(" ")[0])] == spelled.split(" ")[0] or UNK in segment.source_tokens
            translated = looker.vocabularies.target.decode(segment.target_tokens).strip()
            assert one.text[segment.target_start :].startswith(translated)
