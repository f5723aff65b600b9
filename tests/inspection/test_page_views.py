"""Decoding, alignment, beyond attention, maps and the film in a real browser: what they show is what the record holds."""

from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from page_helpers import Tab
from playwright.sync_api import Browser, Page
from scipy.stats import spearmanr  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

from vitrail.data.vocabularies.subwords import CharacterVocabulary, Vocabularies
from vitrail.decode.search_config import SamplingConfig, SearchConfig
from vitrail.decode.translate import TextConstraints, TranslateConfig
from vitrail.inspection.alignment.links import link, pool_by_word, to_pharaoh
from vitrail.inspection.alignment.word_alignment import ChosenHeads, align
from vitrail.inspection.causes.attribution import attribute
from vitrail.inspection.causes.lens import apply_lens
from vitrail.inspection.contents import Facts
from vitrail.inspection.decoding import Finished, Node
from vitrail.inspection.maps.model_map import map_model
from vitrail.inspection.record import Inspection
from vitrail.inspection.translator import InspectableTranslator
from vitrail.models.architectures import ModelConfig
from vitrail.models.build import build_model
from vitrail.models.configs.recurrent import RecurrentConfig
from vitrail.models.configs.transformer import TransformerConfig

VIEWS = ("decoding", "alignment", "beyond", "maps", "film")
SYMBOLS = CharacterVocabulary(list("abcdefghijklmnopqrstuvwxyz <>=/&'\"()1."))
SHARED = Vocabularies(SYMBOLS, SYMBOLS, joint=True)
EVIL = "<img src=x onerror=hit()>"
TINY = TransformerConfig(encoder_layers=2, decoder_layers=2, width=16, heads=2, feed_forward=24, dropout=0.0)


@pytest.fixture(scope="module")
def only_tab(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Tab:
    return Tab(browser, tmp_path_factory.mktemp("pages"))


@pytest.fixture
def tab(only_tab: Tab) -> Iterator[Tab]:
    only_tab.forget()
    yield only_tab
    assert only_tab.said == [] and all(asked.startswith("file:") for asked in only_tab.asked)
    assert only_tab.page.locator(".note.bad").count() == 0


def build(config: ModelConfig) -> InspectableTranslator:
    torch.manual_seed(3)
    model = build_model(config, SHARED)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.3 * torch.randn_like(weight)
    search = TranslateConfig(search=SearchConfig(beams=3, n_best=3, max_length=9))
    return InspectableTranslator(model.eval(), vocabularies=SHARED, config=search, languages=("en", "fr"))


@cache
def translator() -> InspectableTranslator:
    return build(TINY)


@cache
def plain(text: str = "the dog ate", translation: str | None = None) -> Inspection:
    return translator().inspect(text, translation)


@cache
def full(text: str = "the dog ate", translation: str | None = "le chien a") -> Inspection:
    """A record with every analysis."""
    looked = align(plain(text, translation), heads=((0, 1), (1, 0)))
    looked = apply_lens(attribute(looked, translator().model), translator().model, SYMBOLS)
    others = ["a dog", "the cat", "a cat ate", "no dog", "dogs eat", "cats eat a dog", "we ate", "they eat"]
    maps = map_model(translator(), [text, *others], translations=[looked.target.text, *(one[::-1] for one in others)])
    return looked.with_arrays({}, maps=maps.to_record(), film=film(text))


def film(source: str, *, frames: int = 4) -> dict[str, Any]:
    """A film of two sentences, made up."""
    tokens = [*source, "<eos>"]
    attention = [
        [[[(7 * f + 3 * layer + t + s) % 101 for s in range(len(tokens))] for t in range(4)] for layer in range(2)] for f in range(frames)
    ]
    both = {"source": source, "reference": "le chien", "source_tokens": tokens, "target_tokens": ["le", " ", "chien", "<eos>"]}
    moments = {"mean": [0.5] * frames, "variance": [2.0] * frames, "shift": [None, *[0.1] * (frames - 1)], "units": [[[0.0, 1.0]] * frames]}
    return {
        "format": 1,
        "steps": [100, 200, 300, 1000][:frames],
        "scores": {"dev_bleu": [None, 10.0, 20.0, 30.0][:frames]},
        "probes": [both, both | {"source": "another"}],
        "translations": [[f"le mot {step}" for step in range(frames)], ["un chien"] * frames],
        "losses": [[4.0, 3.0, 2.0, 1.0][:frames], [4.0] * frames],
        "attention": [attention, [[]] * frames],
        "entropies": {"cross": [[[0.9, 0.8, 0.7, 0.6][:frames]] * 2] * 2},
        "gradients": {"places": ["embedding", "encoder.0"], "norms": [[1.0, 0.1, 0.01, 0.001][:frames], [0.5, None, 0.5, 0.5][:frames]]},
        "norms": [{"place": "encoder.0.residual_1", "kind": "layer", "input": moments, "output": moments, "running": None}],
    }


def words(page: Page, selector: str) -> list[str]:
    return page.locator(selector).all_inner_texts()


# ---- all of them -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["en", "fr"])
def test_every_view_opens_in_both_languages_without_a_word_on_the_console(language: str, tab: Tab) -> None:
    page = tab.open(full(), "decoding", language=language)
    titles = {"en": ("Position by position", "Links", "One target word"), "fr": ("Position par position", "Liens", "Un mot cible")}
    for view in VIEWS:
        page.locator(f"#tab-{view}").click()
        assert page.locator(f"#view-{view} h3").count() >= 3
    shown = page.locator("h3").all_text_contents()
    assert set(titles[language]) <= set(shown)


def test_french_has_one_word_for_token_and_no_name_of_a_place_is_cut(tab: Tab) -> None:
    page = tab.open(full(), "decoding", language="fr")
    for view in page.locator("[role=tab]").all():
        view.click()
    page.evaluate("() => document.querySelectorAll('details').forEach(one => { one.open = true; })")
    page.wait_for_timeout(50)
    assert "jeton" not in (page.locator("body").text_content() or "").lower()
    page.locator("#tab-maps").click()
    names = page.locator("#view-maps .heatmap :is(.columns, .rows) span")
    assert "plongements cible" in names.all_inner_texts()
    cut = """all => all.filter(one => {
      const [own, all] = [one, one.closest('.scroll')].map(other => other.getBoundingClientRect());
      return one.scrollWidth > one.clientWidth || own.top < all.top - 1 || own.left < all.left - 1 || own.right > all.right + 1;
    }).map(one => one.textContent)"""
    assert names.evaluate_all(cut) == []


def test_views_that_have_nothing_to_show_have_no_tab(tab: Tab) -> None:
    def tabs(page: Page) -> set[str]:
        names: list[str] = page.locator("[role=tab]").evaluate_all("all => all.map(one => one.id.slice(4))")
        return set(names) & set(VIEWS)

    assert tabs(tab.open(plain(), "decoding")) == {"decoding", "alignment", "maps"}
    deaf = build(RecurrentConfig(embedding_width=8, width=12, cell="gru", attention="none", dropout=0.0)).inspect("a cat")
    assert "alignment" not in tabs(tab.open(deaf, "decoding"))


TEXTS = {
    "piece",
    "pieces",
    "text",
    "translation",
    "translations",
    "reference",
    "source_tokens",
    "target_tokens",
    "neighbours",
    "how",
    "says",
}
"""Where a record keeps what came from a sentence, a vocabulary or a file."""


def poisoned(value: Any, *, key: str = "") -> Any:
    """Every text replaced by markup, whatever holds it."""
    match value:
        case dict():
            return {name: poisoned(inner, key=key if key in TEXTS else str(name)) for name, inner in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        case list() | tuple():
            return [poisoned(inner, key=key) for inner in value]  # pyright: ignore[reportUnknownVariableType]
        case str() if key in TEXTS:
            return EVIL
        case _:
            return value


def test_markup_in_a_sentence_is_text_in_every_view(tab: Tab) -> None:
    facts = Facts.model_validate(poisoned(full().facts.model_dump(mode="json")))
    page = tab.open(Inspection(facts, full().arrays), "decoding")
    page.evaluate("() => { window.hit = () => { window.was = true; }; }")
    for view in VIEWS:
        page.locator(f"#tab-{view}").click()
        assert EVIL in (page.locator(f"#view-{view}").text_content() or "")
    page.evaluate("() => document.querySelectorAll('details').forEach(one => { one.open = true; })")
    page.wait_for_timeout(50)
    assert page.locator("img").count() == 0 and not page.evaluate("() => Boolean(window.was)")


def test_no_view_is_wider_than_a_telephone(tab: Tab) -> None:
    tab.page.set_viewport_size({"width": 400, "height": 800})
    page = tab.open(full(), "decoding")
    for view in VIEWS:
        page.locator(f"#tab-{view}").click()
        assert page.evaluate("document.documentElement.scrollWidth") == 400, view
    tab.page.set_viewport_size({"width": 1280, "height": 900})


SHEET = 703
"""Pixels across a sheet of A4 with margins of 12 mm."""


def test_nothing_is_wider_than_a_sheet_of_paper(tab: Tab) -> None:
    tab.page.set_viewport_size({"width": SHEET, "height": 1000})
    page = tab.open(full("the dog ate 'a' cat and we"), "decoding")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.scrollWidth") == SHEET
    assert page.locator(".dec-candidates thead th:visible").count() == 5
    assert page.locator(".bey-lens").count() == 1  # eleven positions stand beside each other; more would be cut into bands
    assert page.locator(".bey-lens tbody tr:first-child td").count() == len(full().predicted_tokens)
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen")
    tab.page.set_viewport_size({"width": 1280, "height": 900})


def test_the_lens_of_a_long_translation_is_printed_in_bands(tab: Tab) -> None:
    translation = "le chien a mange le pain"
    tab.page.set_viewport_size({"width": SHEET, "height": 1000})
    page = tab.open(full("the dog ate", translation), "beyond")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    tables = page.locator(".bey-lens")
    heads = [tables.nth(at).locator("thead th").all_inner_texts() for at in range(tables.count())]
    assert [len(one) for one in heads] == [9, 9, 7]
    assert [head for one in heads for head in one] == [
        piece.replace("\u2581", "\u00b7") for piece in full("the dog ate", translation).predicted_tokens
    ]
    assert page.evaluate("document.documentElement.scrollWidth") == SHEET
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen")
    assert page.locator(".bey-lens").count() == 1
    tab.page.set_viewport_size({"width": 1280, "height": 900})


# ---- decoding --------------------------------------------------------------------------------------------------------------------


def test_candidates_of_a_chosen_position_are_those_of_the_record(tab: Tab) -> None:
    page = tab.open(plain(), "decoding")
    steps = plain().facts.decoding.steps
    for place, step in enumerate(steps):
        page.locator(".dec-stop").nth(place).click()
        rows: list[list[str]] = page.locator(".dec-candidates tr[data-token]").evaluate_all(
            "all => all.map(one => [one.dataset.token, one.dataset.probability, one.className])"
        )
        found = [(int(token), float(probability)) for token, probability, _ in rows]
        listed = list(step.candidates) if step.rank <= len(step.candidates) else [*step.candidates, step.chosen]
        assert [token for token, _ in found] == [one.token for one in listed]
        np.testing.assert_allclose([share for _, share in found], [one.probability for one in listed], rtol=1e-5)
        assert [int(row[0]) for row in rows if row[2]] == [step.chosen.token]
        assert f"{step.entropy:.3f} nats" in page.locator(".dec-facts").inner_text()


def test_the_keyboard_walks_from_position_to_position(tab: Tab) -> None:
    page = tab.open(plain(), "decoding")
    page.locator(".dec-stop").first.focus()
    page.keyboard.press("End")
    last = plain().predicted_tokens
    assert page.locator(".dec-stop[aria-pressed=true]").inner_text().startswith(last[-1])
    page.keyboard.press("ArrowLeft")
    assert f"Position {len(last) - 1} of" in page.locator(".dec-panel").inner_text()


def test_the_winners_score_is_recomputed_and_a_false_one_is_found_out(tab: Tab) -> None:
    page = tab.open(plain(), "decoding")
    proof = page.locator(".dec-proof [data-score]")
    winner = plain().facts.decoding.finished[0]
    assert float(proof.get_attribute("data-score") or "nan") == pytest.approx(winner.score, rel=1e-5)
    assert "✓ as recorded" in proof.inner_text()
    wrong = with_decoding(plain(), finished=(winner.model_copy(update={"score": winner.score - 0.01}),))
    assert "✗ the record says" in tab.open(wrong, "decoding").locator(".dec-proof").inner_text()


def with_decoding(record: Inspection, **changes: object) -> Inspection:
    decoding = record.facts.decoding.model_copy(update=changes)
    return Inspection(record.facts.model_copy(update={"decoding": decoding}), record.arrays)


def finished(text: str, *, log_probability: float, length: int, alpha: float) -> Finished:
    divisor = ((5 + length) / 6) ** alpha
    score = log_probability / divisor
    return Finished(node=None, text=text, length=length, log_probability=log_probability, divisor=divisor, score=score, truncated=False)


def test_it_is_said_when_length_decided_and_another_alpha_turns_the_order(tab: Tab) -> None:
    both = (finished("long", log_probability=-4.0, length=13, alpha=1.0), finished("short", log_probability=-3.0, length=4, alpha=1.0))
    page = tab.open(with_decoding(plain(), finished=both, nodes=(), beams=2), "decoding")
    assert "Length decided: “short” is more probable" in page.locator(".dec-why").inner_text()
    assert words(page, ".dec-results tbody td:nth-child(2)") == ["long", "short"]
    page.locator("#view-decoding input[type=range]").fill("0")
    assert words(page, ".dec-results tbody td:nth-child(2)") == ["short", "long"]
    assert "another would win: “short”" in page.locator(".dec-note").inner_text()


def test_a_whole_hypothesis_goes_before_one_that_was_cut(tab: Tab) -> None:
    whole = finished("whole", log_probability=-4.0, length=4, alpha=1.0)
    cut = finished("cut", log_probability=-1.0, length=9, alpha=1.0).model_copy(update={"truncated": True})
    page = tab.open(with_decoding(plain(), finished=(whole, cut), nodes=(), beams=2), "decoding")
    assert "whole ones come first" in page.locator(".dec-why").inner_text()
    assert words(page, ".dec-results tbody td:nth-child(2)") == ["whole", "cut"]


def test_the_tree_has_every_node_with_its_fate_and_the_winners_path_stands_out(tab: Tab) -> None:
    decoding = plain().facts.decoding
    page = tab.open(plain(), "decoding")
    drawn = page.locator(".dec-tree [data-node]")
    assert drawn.count() == len(decoding.nodes)
    fates = Counter(node.fate for node in decoding.nodes)
    assert page.locator(".dec-tree g.dec-pruned").count() == fates["pruned"]
    assert page.locator(".dec-tree g.dec-ended").count() == fates["ended"]
    path, at = list[int](), decoding.finished[0].node
    while at is not None:
        path.append(at)
        at = decoding.nodes[at].parent
    strong: list[str] = page.locator(".dec-tree g.dec-winner").evaluate_all("all => all.map(one => one.dataset.node)")
    assert sorted(map(int, strong)) == sorted(path)
    page.locator(".dec-check input").uncheck()
    assert drawn.count() == len(decoding.nodes) - fates["pruned"]


def test_the_keyboard_walks_the_tree_and_each_node_is_told(tab: Tab) -> None:
    decoding = plain().facts.decoding
    page = tab.open(plain(), "decoding")
    assert page.locator(".dec-tree [tabindex='0']").count() == 1
    page.locator(".dec-tree [tabindex='0']").focus()
    page.keyboard.press("ArrowRight")
    number = int(page.locator(".dec-tree [aria-selected=true]").get_attribute("data-node") or "-1")
    node: Node = decoding.nodes[number]
    assert node.step == 1
    told = page.locator(".dec-detail").inner_text().replace("−", "-")
    assert f"{node.total:.3f}" in told and f"{node.score:.3f}" in told and f"{node.log_probability:.3f}" in told
    page.keyboard.press("ArrowLeft")
    assert decoding.nodes[number].parent == int(page.locator(".dec-tree [aria-selected=true]").get_attribute("data-node") or "-1")
    page.keyboard.press("ArrowDown")
    assert decoding.nodes[int(page.locator(".dec-tree [aria-selected=true]").get_attribute("data-node") or "-1")].step == 0


def test_greedy_sampled_forced_and_given_ones_each_say_so(tab: Tab) -> None:
    def lead(record: Inspection) -> str:
        return tab.open(record, "decoding").locator("#view-decoding").inner_text()

    greedy = lead(translator().inspect("a dog", search=SearchConfig(beams=1, max_length=9)))
    assert "Greedy search" in greedy and "The greedy walk" in greedy
    sampled = lead(translator().inspect("a dog", search=SearchConfig(n_best=3, max_length=9, sampling=SamplingConfig())))
    assert "drawn at random" in sampled and "The samples" in sampled and "show pruned" not in sampled
    forced = lead(translator().inspect("a dog", constraints=TextConstraints(prefix="le")))
    assert "The first 2 tokens were asked for" in forced
    assert "The first token was asked for" in lead(translator().inspect("a dog", constraints=TextConstraints(prefix="l")))
    given = lead(plain("the dog ate", "le chien a"))
    total = float(
        np.log(
            np.float64(
                plain("the dog ate", "le chien a")["probabilities"][np.arange(11), [*plain("the dog ate", "le chien a").target.ids, 3]]
            )
        ).sum()
    )
    assert "This translation was given" in given and f"{total:.3f}".replace("-", "−") in given


@pytest.mark.parametrize(("language", "said"), [("en", "not allowed: another token was asked for"), ("fr", "interdit : un autre token")])
def test_inside_a_forced_prefix_other_candidates_were_not_allowed(language: str, said: str, tab: Tab) -> None:
    record = translator().inspect("a dog", constraints=TextConstraints(prefix="le"))
    page = tab.open(record, "decoding", language=language)
    for place, step in enumerate(record.facts.decoding.steps):
        page.locator(".dec-stop").nth(place).click()
        others = [text.replace("\u00a0", " ") for text in words(page, ".dec-candidates tr[data-token]:not(.dec-chosen) .dec-fate")]
        assert len(others) >= len(step.candidates) - 1
        assert all(said in text for text in others) if place < 2 else not any(said in text for text in others)
        assert said not in page.locator(".dec-chosen .dec-fate").inner_text().replace("\u00a0", " ")


def test_the_chosen_stop_is_in_sight_and_the_page_stays(tab: Tab) -> None:
    tab.page.set_viewport_size({"width": 500, "height": 600})
    page = tab.open(plain("the dog ate", "le chien a mange"), "decoding")
    inside = """() => {
      const [own, all] = ['.dec-stop[aria-pressed=true]', '.dec-walk'].map(one => document.querySelector(one).getBoundingClientRect());
      return own.left >= all.left - 1 && own.right <= all.right + 1;
    }"""
    page.wait_for_function(inside)
    page.locator(".dec-stop").first.focus()
    page.locator(".dec-walk").scroll_into_view_if_needed()
    before = page.evaluate("scrollY")
    for key in ("End", "Home", "End"):
        page.keyboard.press(key)
        assert page.evaluate(inside) and page.evaluate("scrollY") == before
    page.evaluate("document.querySelector('.dec-walk').scrollLeft = 120")
    page.evaluate("document.querySelectorAll('.dec-stop')[1].click()")  # partly out of sight
    assert page.evaluate(inside) and page.evaluate("scrollY") == before
    tab.page.set_viewport_size({"width": 1280, "height": 900})


def test_a_great_tree_begins_without_its_pruned_branches(tab: Tab) -> None:
    big = translator().inspect("the dog ate", search=SearchConfig(beams=8, max_length=60, early_stop=False))
    nodes = big.facts.decoding.nodes
    assert len(nodes) > 400
    page = tab.open(big, "decoding")
    kept = sum(node.fate != "pruned" for node in nodes)
    assert page.locator(".dec-tree [data-node]").count() == kept
    page.locator(".dec-check input").check()
    assert page.locator(".dec-tree [data-node]").count() == len(nodes)


# ---- alignment -------------------------------------------------------------------------------------------------------------------


def test_weights_between_words_are_those_of_the_analysis(tab: Tab) -> None:
    page = tab.open(plain(), "alignment")
    generator = np.random.default_rng(0)
    for _ in range(40):
        targets, sources = generator.integers(1, 12, size=2)
        weights: npt.NDArray[np.float32] = generator.random((targets, sources)).astype(np.float32)
        words = [np.array_split(np.arange(count), generator.integers(1, count + 1)) for count in (targets, sources)]
        groups = [[{"places": word.tolist()} for word in side] for side in words]
        found: list[float] = page.evaluate(
            '([values, width, rows, columns]) => Array.from(Vitrail["views/00_attention.js"].regroup(values, width, rows, columns))',
            [weights.ravel().tolist(), int(sources), *groups],
        )
        expected = pool_by_word(weights, targets=[word.tolist() for word in words[0]], sources=[word.tolist() for word in words[1]])
        np.testing.assert_allclose(found, expected.ravel(), rtol=1e-5)


def shown_links(page: Page) -> set[tuple[int, int]]:
    pairs: list[list[str]] = page.locator(".ali-link").evaluate_all("all => all.map(one => [one.dataset.source, one.dataset.target])")
    return {(int(source), int(target)) for source, target in pairs}


def test_recorded_links_are_drawn_and_any_head_can_be_asked(tab: Tab) -> None:
    record = full()
    page = tab.open(record, "alignment")
    assert shown_links(page) == {(i, j) for i, j in record["alignment.links"].tolist()}
    line = page.locator(".ali-pharaoh")
    assert line.input_value() == record.facts.extras["alignment"]["pharaoh"]
    for value, weights in (("L1H0", record.weights("cross", layer=1, head=0)), ("all", record.weights("cross").mean((0, 1)))):
        page.locator("#view-alignment select").first.select_option(value)
        matrix = pool_by_word(weights, sources=record.source.words, targets=record.target.words)
        assert shown_links(page) == link(matrix)
        assert line.input_value() == to_pharaoh(link(matrix))  # in these texts words stand between spaces
        page.locator("#view-alignment select").last.select_option("target")
        assert shown_links(page) == link(matrix, method="target")
        page.locator("#view-alignment select").last.select_option("grown")


def test_a_word_lights_its_links_and_the_line_can_be_copied(tab: Tab) -> None:
    page = tab.open(full(), "alignment")
    links = shown_links(page)
    page.locator(".ali-word[data-target='0']").focus()
    assert page.locator(".ali-link.ali-on").count() == sum(target == 0 for _, target in links)
    page.get_by_role("button", name="Copy").click()
    page.locator(".ali-said").filter(has_text="copied").wait_for()


LETTERS = "abcdefghijklmnopqrstuvwxyz"


def middles(page: Page, side: str) -> list[float]:
    return page.locator(f".ali-word[data-{side}] text").evaluate_all("all => all.map(one => Number(one.getAttribute('x')))")


def linked(record: Inspection, pairs: list[tuple[int, int]]) -> Inspection:
    return Inspection(record.facts, dict(record.arrays) | {"alignment.links": np.array(pairs, dtype=np.int64)})


def test_the_few_words_of_a_long_sentences_translation_stand_by_what_they_are_linked_with(tab: Tab) -> None:
    record = align(plain(" ".join(LETTERS * 2), "a b c d e f"))
    page = tab.open(linked(record, [(9 * at, at) for at in range(6)]), "alignment")
    sources, targets = middles(page, "source"), middles(page, "target")
    assert len(sources) == 52
    assert targets == pytest.approx([sources[9 * at] for at in range(6)], abs=3)
    crowded = [(40, at) for at in range(5)]
    page = tab.open(linked(record, crowded), "alignment")
    targets = middles(page, "target")
    assert targets == sorted(targets) and np.diff(targets).min() > 20
    assert np.mean(targets[:5]) == pytest.approx(middles(page, "source")[40], abs=20)  # the sixth goes with the fifth
    page = tab.open(linked(align(plain("a b", "a b c d e f")), []), "alignment")
    assert all(0 < at < 400 for at in middles(page, "source") + middles(page, "target"))


def test_a_script_from_right_to_left_stands_from_right_to_left(tab: Tab) -> None:
    record = align(plain("the dog ate", "le chien a"))
    side = record.source.model_copy(update={"text": "הכל אכל אתה"})
    page = tab.open(Inspection(record.facts.model_copy(update={"source": side}), record.arrays), "alignment")
    sources, targets = middles(page, "source"), middles(page, "target")
    assert sources == sorted(sources, reverse=True) and targets == sorted(targets)
    assert page.locator(".ali-scroll").get_attribute("dir") == "rtl"


HOW = {
    "agreement": ("sur 200 phrases pour que les deux sens s'accordent (92,8", "on 200 sentences so that both directions agree (92.8%"),
    "gold": ("sur les alignements de référence de 200 phrases", "on the gold alignments of 200 sentences"),
    "nothing": ("sans choix", "taken as they are"),
}


@pytest.mark.parametrize("judged_by", HOW)
def test_both_languages_say_how_the_heads_were_chosen(judged_by: Any, tab: Tab) -> None:
    chosen = ChosenHeads(heads=((0, 1), (1, 0)), judged_by=judged_by, worth=0.9276, sentences=200, row="read")
    record = align(plain(), heads=chosen)
    for language, said in zip(("fr", "en"), HOW[judged_by], strict=True):
        shown = tab.open(record, "alignment", language=language).locator("#view-alignment .section").last.inner_text()
        assert said in shown and {"fr": "ligne suivante", "en": "the next row"}[language] in shown
        assert {"fr": "2 têtes", "en": "2 heads"}[language] in shown


# ---- beyond attention ------------------------------------------------------------------------------------------------------------


def rank_correlation(one: Any, other: Any) -> float:
    found: Any = spearmanr(one, other)
    return float(found.statistic)


def test_rank_correlations_are_scipys(tab: Tab) -> None:
    record = full()
    page = tab.open(record, "beyond")
    names = ("attention", "gradient_x_input", "integrated_gradients", "occlusion", "value_zeroing")
    shown: list[str] = page.locator(".bey-cell").evaluate_all("all => all.map(one => one.dataset.value)")
    found = np.array(shown, dtype=np.float64).reshape(5, 5)
    strengths = [np.abs(np.asarray(record[f"attribution.{name}"], dtype=np.float64)) for name in names]
    expected = [
        [float(np.mean([rank_correlation(a, b) for a, b in zip(one, other, strict=True)])) for other in strengths] for one in strengths
    ]
    np.testing.assert_allclose(found, expected, atol=1e-9)
    ties = page.evaluate('() => Vitrail["views/00_shared.js"].spearman([1, 1, 2, 3, 3], [5, 1, 1, 2, 9])')
    assert ties == pytest.approx(rank_correlation([1, 1, 2, 3, 3], [5, 1, 1, 2, 9]))


def test_a_target_words_bars_are_its_row(tab: Tab) -> None:
    record = full()
    page = tab.open(record, "beyond")
    page.locator(".token").nth(2).click()
    shown = words(page, ".bey-bars tbody tr td:nth-child(5) .bey-value")  # occlusion
    row = np.asarray(record["attribution.occlusion"])[2]
    assert len(shown) == len(row)
    for text, value in zip(shown, row, strict=True):
        if "≈" not in text:
            assert float(text.replace("−", "-")) == pytest.approx(value, abs=0.006)
        else:
            assert abs(value) < 0.06 * np.abs(row).max()


def test_the_lens_shows_each_layers_best_token_and_marks_the_right_one(tab: Tab) -> None:
    record = full()
    page = tab.open(record, "beyond")
    ranks = np.asarray(record["logit_lens.rank"])
    pieces = record.facts.extras["logit_lens"]["pieces"]
    shown = words(page, ".bey-lens .bey-top > span:first-child")
    expected = [
        pieces[layer][at][0].replace("▁", "·") + (" ✓" if ranks[layer, at] == 1 else "")
        for layer in reversed(range(3))
        for at in range(ranks.shape[1])
    ]
    assert [text.strip() for text in shown] == [text.strip() for text in expected]
    page.locator(".bey-top[tabindex='0']").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    assert "after layer 0, position 2" in page.locator(".bey-detail").inner_text()
    assert f"has rank {ranks[1, 1]} " in page.locator(".bey-detail").inner_text()


# ---- maps ------------------------------------------------------------------------------------------------------------------------


def test_states_lie_where_the_analysis_puts_them(tab: Tab) -> None:
    record = full()
    page = tab.open(record, "maps")
    choices = page.locator("#view-maps .choice").first.locator("button")
    places: list[str] = choices.evaluate_all("all => all.map(one => one.dataset.value)")
    outputs = [f"encoder.{layer}.residual_2.sum" for layer in range(2)]
    assert places == ["source_embedded", "source_input", *outputs, "memory"]
    for number, place in enumerate(places):
        choices.nth(number).click()
        values = np.asarray(record[place], dtype=np.float64)
        _, sizes, axes = np.linalg.svd(values - values.mean(0), full_matrices=False)
        shares: list[float] = page.locator("[data-shares]").evaluate("one => one.dataset.shares.split(' ').map(Number)")
        np.testing.assert_allclose(shares, (sizes**2 / (sizes**2).sum())[:2], atol=1e-5)
        centres: list[list[float]] = (
            page.locator("#view-maps .sca")
            .first.locator(".sca-point")
            .evaluate_all("all => all.map(one => [Number(one.getAttribute('cx')), -Number(one.getAttribute('cy'))])")
        )
        drawn, expected = np.array(centres), (values - values.mean(0)) @ axes[:2].T
        apart = [np.linalg.norm(points[:, None] - points[None], axis=-1) for points in (drawn, expected)]
        np.testing.assert_allclose(apart[0] / apart[0].max(), apart[1] / apart[1].max(), atol=1e-3)


def test_labels_of_a_map_do_not_cover_each_other(tab: Tab) -> None:
    page = tab.open(full(), "maps")
    for number in range(page.locator(".sca").count()):
        boxes = (
            page.locator(".sca")
            .nth(number)
            .locator("text")
            .evaluate_all(
                "all => all.map(one => one.getBBox()).map(box => [box.x + 1, box.y + 2, box.x + box.width - 1, box.y + box.height - 2])"
            )
        )
        for at, (left, top, right, bottom) in enumerate(boxes):
            assert all(right <= a or c <= left or bottom <= b or d <= top for a, b, c, d in boxes[:at])


def test_maps_tell_neighbours_retrieval_and_likeness_as_recorded(tab: Tab) -> None:
    record = full()
    maps = record.facts.extras["maps"]
    page = tab.open(record, "maps")
    dots = page.locator(".maps-two .sca-dot")
    table = maps["embeddings"][0]
    assert dots.count() == len(table["pieces"])
    page.locator(".maps-two .sca-dot[tabindex='0']").focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    title = page.locator(".maps-near h4").inner_text().removeprefix("Nearest to").strip()
    number = [piece.strip() for piece in table["pieces"]].index(title)
    assert words(page, ".maps-near li .maps-cosine") == [f"{cosine:.2f}".replace("-", "−") for _, cosine in table["neighbours"][number]]
    assert page.locator(".maps-card").count() == len(maps["retrieval"])
    picture = page.locator("#view-maps canvas").last
    picture.focus()
    page.keyboard.press("ArrowRight")
    told = page.locator("#view-maps .heatmap .live").last.inner_text()
    assert told.endswith(f"{maps['cka']['values'][0][1]:.2f}")


# ---- the film --------------------------------------------------------------------------------------------------------------------


def test_the_slider_moves_every_part_of_the_film(tab: Tab) -> None:
    page = tab.open(full(), "film")
    slider = page.locator(".film-bar input")
    assert words(page, ".film-said")[0].strip() == "le mot 3"
    slider.focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert words(page, ".film-said")[0].strip() == "le mot 1"
    assert page.locator(".film-said").first.locator(".film-other").all_inner_texts() == ["mot", "1"]
    assert "step 200" in page.locator(".film-bar output").inner_text() and "3 nats per token" in words(page, ".film-loss")[0]
    page.locator("#view-film canvas").first.focus()
    page.keyboard.press("ArrowDown")
    layers = film("the dog ate")["attention"][0][1]
    assert page.locator("#view-film .heatmap .live").first.inner_text().endswith(f"{(layers[0][1][0] + layers[1][1][0]) / 200:.3f}")
    places: list[str] = page.locator("#view-film .upright").evaluate_all("all => all.map(one => one.getAttribute('x1'))")
    assert len(places) >= 4 and len(set(places)) == 1
    page.locator(".heatmap .columns .current", has_text="200").wait_for()


def test_the_film_plays_to_its_end_and_can_be_halted(tab: Tab) -> None:
    tab.page.clock.install()
    page = tab.open(full(), "film")
    play = page.locator(".film-bar button")
    play.click()
    assert "1 of 4" in page.locator(".film-bar output").inner_text() and "Pause" in play.inner_text()
    page.clock.run_for(1500)
    assert "3 of 4" in page.locator(".film-bar output").inner_text()
    play.click()
    page.clock.run_for(3000)
    assert "3 of 4" in page.locator(".film-bar output").inner_text() and "Play" in play.inner_text()
    play.click()
    page.clock.run_for(3000)
    assert "4 of 4" in page.locator(".film-bar output").inner_text() and "Play" in play.inner_text()
