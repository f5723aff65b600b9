"""The page of an inspection: what goes into it, and what a person finds in a real browser, by mouse and by keyboard."""

import dataclasses
import json
import zlib
from base64 import b64decode
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_helpers import LETTERS, Tab, tiny, translator
from playwright.sync_api import Browser, Page

from vitrail.errors import UsageError
from vitrail.inspection.page import to_html
from vitrail.inspection.page.packing import pack, round8
from vitrail.inspection.page.payload import BUDGET, check_weights, make_payload
from vitrail.inspection.record import Inspection
from vitrail.models.configs.recurrent import RecurrentConfig
from vitrail.models.configs.transformer import PRESETS

BASE = PRESETS["base"]
ATTACK = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&lt;<!--"


@cache
def plain() -> Inspection:
    return translator(tiny()).inspect("cab dog", "face")


@cache
def base() -> Inspection:
    """20 x 20 tokens through 6 layers of 8 heads."""
    return translator(BASE, beams=1).inspect((LETTERS * 2)[:19], (LETTERS[::-1] * 2)[:19])


def recurrent(attention: str) -> Inspection:
    config = RecurrentConfig.model_validate({"cell": "gru", "embedding_width": 8, "width": 12, "attention": attention})
    return translator(config).inspect("cab dog", "face")


def with_weights(inspection: Inspection, length: int, *, spread: float = 3.0) -> Inspection:
    """The record of a sentence of another length, as far as attention goes."""
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for kind in ("encoder", "decoder", "cross"):
        for place in inspection.attentions(kind).values():
            heads = len(inspection[f"{place}.weights"])
            scores = np.exp(spread * rng.standard_normal((heads, length, length)).astype(np.float32))
            keep = np.tril(np.ones((length, length), dtype=bool)) if kind == "decoder" else np.ones((length, length), dtype=bool)
            scores *= keep
            arrays |= {f"{place}.weights": scores / scores.sum(-1, keepdims=True), f"{place}.keep": keep}
    side = inspection.source.model_copy(update={"pieces": ("a",) * (length - 1), "words": (), "ids": (4,) * (length - 1)})
    facts = inspection.facts.model_copy(update={"source": side, "target": side})
    return Inspection(facts, arrays)


@cache
def inflate(blob: str) -> bytes:
    return zlib.decompress(b64decode(blob))


def unpack(payload: dict[str, Any], name: str) -> np.ndarray[Any, Any]:
    """An array as the page reads it."""
    entry = payload["arrays"][name]
    if "same" in entry:
        other = unpack(payload, entry["same"])
        return (other.swapaxes(0, 1) if entry.get("merged") else other).reshape(entry["shape"])
    kind = {"float32": "<f4", "float16": "<f2", "uint8": "u1", "rounded8": "u1"}[entry["type"]]
    data = inflate(payload["blobs"][entry["blob"]])
    values = np.frombuffer(data, kind, count=int(np.prod(entry["shape"])), offset=entry["at"]).reshape(entry["shape"])
    if entry["type"] == "rounded8":
        return entry["low"] + values / 255 * (entry["high"] - entry["low"])
    return values.astype(bool) if entry["type"] == "uint8" else values


# ---- what goes in ----------------------------------------------------------------------------------------------------------------


def test_a_small_record_goes_in_whole_and_exactly() -> None:
    payload = make_payload(plain())
    expected = {name: values for name, values in plain().arrays.items() if name not in ("logits", "probabilities")}
    assert set(payload["arrays"]) == set(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(unpack(payload, name), values, err_msg=name)
    assert payload["meta"]["walk"] == ["encoder.0", "decoder.0", "encoder.1", "decoder.1"]
    assert payload["meta"]["notes"] == []


def test_equal_arrays_are_told_once() -> None:
    entries = make_payload(plain())["arrays"]
    assert entries["encoder.1.residual_1.input"]["same"] == "encoder.0.residual_2.sum"
    assert entries["decoder.1.cross_attention.concatenation"] == {
        "shape": [5, 16], "same": "decoder.1.cross_attention.context", "merged": True, "blob": 4,
    }  # fmt: skip


def test_rounding_to_eight_bits_is_off_by_half_a_step_and_keeps_zero() -> None:
    values = np.random.default_rng(1).uniform(-2, 5, 4000).astype(np.float32)
    values[:50] = 0
    codes, low, high = round8(values)
    assert np.abs(low + codes / 255 * (high - low) - values).max() <= (high - low) / 510 + 1e-6
    positive = np.abs(values)
    codes, low, high = round8(positive)
    assert (low, set(codes[:50].tolist())) == (0.0, {0})
    np.testing.assert_array_equal(round8(np.zeros(3))[0], 0)


def test_half_precision_spares_what_it_cannot_hold() -> None:
    huge = np.array([1.0, 1e9], dtype=np.float32)
    assert pack({"a": huge}, precision="float16", known={}).entries["a"]["type"] == "float32"
    assert pack({"a": huge / 1e6}, precision="float16", known={}).entries["a"]["type"] == "float16"


def test_the_base_model_fits_with_all_its_heads_and_the_first_layers() -> None:
    """In the page as it is, its scripts included."""
    index, *blobs = json.loads(to_html(base()).split('id="vitrail-record">')[1].split("</script>")[0])
    payload = json.loads(inflate(index)) | {"blobs": blobs}
    assert payload["meta"]["walk"][:2] == ["encoder.0", "decoder.0"]
    for place in base().attentions("cross").values():
        np.testing.assert_array_equal(unpack(payload, f"{place}.weights"), base()[f"{place}.weights"])
    q = "encoder.0.self_attention.q"
    np.testing.assert_allclose(unpack(payload, q), base()[q], rtol=2**-10, atol=1e-6)
    assert payload["arrays"]["parameters.encoder.0.self_attention.query.weight"]["shape"][1] >= 1
    assert "rounded to three digits" in payload["meta"]["notes"][0]["en"]


@pytest.mark.parametrize(("length", "heads", "note"), [(80, 8, "rounded to 1/255"), (200, 1, "averaged")])
def test_long_sentences_are_rounded_then_averaged(length: int, heads: int, note: str) -> None:
    config = tiny(encoder_layers=4, decoder_layers=4, heads=8, width=32)
    long = with_weights(translator(config).inspect("a", "a"), length, spread=1.0)
    payload = make_payload(long)
    assert sum(map(len, payload["blobs"])) < BUDGET
    name = "decoder.2.self_attention.weights"
    got, had = unpack(payload, name), np.asarray(long[name])
    assert got.shape == (heads, length, length)
    high = payload["arrays"][name]["high"]
    assert np.abs(got - (had if heads > 1 else had.mean(0, keepdims=True))).max() <= high / 510 + 1e-6
    assert note in payload["meta"]["notes"][0]["en"]
    assert not got[:, np.triu(np.ones((length, length), dtype=bool), 1)].any()


def test_a_record_with_no_room_for_anything_still_makes_a_page() -> None:
    payload = make_payload(plain(), budget=0)
    assert payload["meta"]["walk"] == []
    assert "encoder.1.self_attention.weights" in payload["arrays"]
    assert "only the last layer" in payload["meta"]["notes"][0]["en"]


def test_checks_are_made_before_rounding() -> None:
    arrays = dict(plain().arrays)
    place = "decoder.1.self_attention"
    arrays[f"{place}.weights"] = np.array(arrays[f"{place}.weights"])
    arrays[f"{place}.weights"][1, 0, 3] = 1e-12
    checks = check_weights(arrays, plain().places)
    assert checks[place]["later"] == checks[place]["masked"] == pytest.approx(1e-12)
    others = [check for name, check in checks.items() if name != place]
    assert len(others) == 5
    assert all(check["masked"] == 0 and check["rows"] < 1e-6 for check in others)
    assert checks["encoder.0.self_attention"]["later"] is None


def test_numbers_that_json_does_not_know_and_extras_pass() -> None:
    looked = plain().with_arrays({"alignment.x": np.ones((2, 3), dtype=np.float32)}, table={"rows": [1, float("nan"), "é"]})
    payload = make_payload(looked)
    assert payload["meta"]["extras"]["table"] == {"rows": [1, None, "é"]}
    np.testing.assert_array_equal(unpack(payload, "alignment.x"), 1)
    assert to_html(looked)


def test_another_language_is_a_users_mistake() -> None:
    with pytest.raises(UsageError, match="en or fr"):
        to_html(plain(), language="de")


# ---- in a browser ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def only_tab(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    tab = Tab(browser, tmp_path_factory.mktemp("pages"))
    yield tab
    tab.page.close()


@pytest.fixture
def tab(only_tab: Tab) -> Iterator[Tab]:
    """Whatever a test does: nothing is asked of a network, and the console stays silent."""
    only_tab.forget()
    yield only_tab
    assert only_tab.said == []
    assert all(url.startswith(("file://", "data:")) for url in only_tab.asked), only_tab.asked
    assert len(only_tab.asked) == len([url for url in only_tab.asked if url.split("#")[0].endswith(".html")])


def tabs(page: Page) -> list[str]:
    return [one.removeprefix("tab-") for one in page.locator("[role=tab]").evaluate_all("all => all.map(one => one.id)")]


def selected(page: Page) -> str:
    return str(page.locator("[role=tab][aria-selected=true]").get_attribute("id")).removeprefix("tab-")


def test_every_view_opens_by_mouse_and_by_keyboard(tab: Tab) -> None:
    page = tab.open(plain(), "")
    names = tabs(page)
    assert names[0] == "attention"
    assert "masks" in names
    for name in names:
        page.click(f"#tab-{name}")
        assert page.locator(".panel:visible").count() == 1
        assert page.locator(f"#view-{name} .view > *").count() > 0
        assert page.evaluate("location.hash") == f"#{name}"
    page.focus(f"#tab-{names[-1]}")
    walked: list[str] = []
    for _ in names:
        page.keyboard.press("ArrowRight")
        walked.append(selected(page))
        assert page.evaluate("document.activeElement.id") == f"tab-{walked[-1]}"
    assert walked == names
    page.keyboard.press("End")
    assert selected(page) == names[-1]
    page.keyboard.press("Home")
    page.keyboard.press("ArrowLeft")
    assert selected(page) == names[-1]
    assert page.locator(".note.bad").count() == 0


def test_the_skip_link_leads_to_the_view(tab: Tab) -> None:
    page = tab.open(plain())
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "view-attention"


def test_the_address_opens_a_view_in_a_language(tab: Tab) -> None:
    page = tab.open(plain(), "masks.fr")
    assert selected(page) == "masks"
    assert page.locator("html").get_attribute("lang") == "fr"
    page.evaluate("location.hash = '#attention'")
    page.locator("#tab-attention[aria-selected=true]").wait_for()
    assert page.locator("html").get_attribute("lang") == "en"


def test_pointing_at_a_token_shows_the_weights_of_the_others(tab: Tab) -> None:
    page = tab.open(plain())
    weights = plain().weights("cross", layer=1).mean(0)
    page.locator(".ends.reads .end").nth(2).hover()
    for place, share in enumerate(page.locator(".ends.read .share").all_inner_texts()):
        assert share == (f"{weights[2, place]:.2f}" if weights[2, place] >= 0.005 else "")
    best = int(weights[2].argmax())
    assert f"{weights[2, best]:.3f}" in page.locator(".attention-told").inner_text()
    page.locator(".ends.read .end").nth(3).focus()
    assert page.locator(".ends.reads .share").all_inner_texts() == [f"{row[3]:.2f}" for row in weights]
    page.keyboard.press("ArrowDown")
    assert page.locator(".ends.reads .share").all_inner_texts() == [f"{row[4]:.2f}" for row in weights]


def test_a_click_keeps_a_token(tab: Tab) -> None:
    page = tab.open(plain())
    page.locator(".ends.reads .end").nth(1).click()
    page.mouse.move(5, 5)
    told = page.locator(".attention-told").inner_text()
    assert "reads" in told
    page.click("[data-head='0.1']")
    page.mouse.move(5, 5)
    assert page.locator(".attention-told").inner_text() != told
    assert page.locator(".ends.reads .end").nth(1).get_attribute("aria-pressed") == "true"


def test_the_matrix_answers_to_arrows(tab: Tab) -> None:
    page = tab.open(plain())
    page.click("[data-head='0.1']")
    page.locator(".attention-matrix canvas").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    weight = plain().weights("cross", layer=0, head=1)[1, 1]
    assert page.locator(".attention-told").inner_text().endswith(f": {weight:.3f}")


def test_the_grid_of_heads_says_their_entropy_and_answers_to_arrows(tab: Tab) -> None:
    page = tab.open(plain())
    for layer in range(2):
        for head in range(2):
            weights = plain().weights("cross", layer=layer, head=head).astype(np.float64)
            entropy = -(weights * np.log(weights)).sum(-1).mean()
            assert page.locator(f"[data-head='{layer}.{head}'] .entropy").inner_text() == f"{entropy:.2f}"
    page.focus("[data-head='1.mean']")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    assert page.locator(".attention-large h3").inner_text() == "Layer 0, head 1"
    assert page.evaluate("document.activeElement.dataset.head") == "0.1"


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_rollout_multiplies_half_of_attention_and_half_of_identity(tab: Tab, kind: Any) -> None:
    page = tab.open(plain())
    page.click(f"[data-value={kind}]")
    page.click("[data-head='1.rollout']")
    expected = np.eye(len(plain().weights(kind, layer=0)[0]))
    for layer in plain().weights(kind).astype(np.float64):
        expected = (0.5 * layer.mean(0) + 0.5 * np.eye(len(expected))) @ expected
    page.locator(".attention-large summary").click()
    rows = page.locator(".attention-large tbody tr").evaluate_all(
        "all => all.map(r => [...r.querySelectorAll('td')].map(c => c.innerText))"
    )
    np.testing.assert_allclose(np.array(rows, dtype=float), expected, atol=6e-4)


def test_words_sum_what_is_read_and_average_what_reads(tab: Tab) -> None:
    page = tab.open(plain())
    page.click("[data-value=words]")
    words = [list(tokens) for tokens in plain().source.words] + [[len(plain().source.pieces)]]
    spaces = [[place] for place in range(len(plain().source.pieces)) if not any(place in word for word in words)]
    columns = sorted(words + spaces)
    rows = [list(tokens) for tokens in plain().target.words] + [[len(plain().target.pieces)]]
    weights = plain().weights("cross", layer=1).astype(np.float64).mean(0)
    expected = [[weights[row][:, column].sum(1).mean() for column in columns] for row in rows]
    page.locator(".attention-large summary").click()
    shown = page.locator(".attention-large tbody tr").evaluate_all(
        "all => all.map(r => [...r.querySelectorAll('td')].map(c => c.innerText))"
    )
    np.testing.assert_allclose(np.array(shown, dtype=float), expected, atol=6e-4)
    assert page.locator(".ends.read .end").first.inner_text() == "cab"


def test_masks_are_shown_and_hold(tab: Tab) -> None:
    page = tab.open(plain(), "masks")
    assert page.locator("#view-masks .note.good").count() == 6
    assert page.locator("#view-masks .note.bad").count() == 0
    assert "15 of 25 cells" in page.locator("#view-masks figcaption").first.inner_text()
    page.locator("#view-masks summary").first.click()
    page.locator("#view-masks input[type=range]").press("ArrowRight")
    assert "<pad>" in page.locator("#view-masks .section").last.inner_text()


def test_a_leak_is_flagged_in_words(tab: Tab) -> None:
    arrays = dict(plain().arrays)
    name = "decoder.1.self_attention.weights"
    arrays[name] = np.array(arrays[name])
    arrays[name][1, 0, 3] = 0.25
    page = tab.open(dataclasses.replace(plain(), arrays=arrays), "masks")
    bad = page.locator("#view-masks .note.bad").all_inner_texts()
    assert len(bad) == 2
    assert "Leak." in bad[0]
    assert "<sos> reads c with weight 0.250 (layer 1, head 1)" in bad[0].replace("\n", " ")
    assert "does not sum to 1: it is off by 0.250" in bad[1]


def test_the_language_can_be_switched(tab: Tab) -> None:
    page = tab.open(plain())
    page.click("[data-language=fr]")
    assert page.locator("html").get_attribute("lang") == "fr"
    assert page.locator("#tab-masks").inner_text() == "Masques"
    assert "entropie" in page.locator(".attention-title").inner_text()
    assert page.evaluate("document.activeElement.dataset.language") == "fr"
    assert page.evaluate("location.hash") == "#attention.fr"
    page.reload()
    page.locator("html[lang=fr]").wait_for(state="attached")
    page.click("[data-language=en]")
    assert page.locator("#tab-masks").inner_text() == "Masks"
    assert tab.open(plain(), language="fr").locator("#tab-masks").inner_text() == "Masques"


def test_a_notebooks_cell_has_tabs_languages_and_schemes(tab: Tab, tmp_path: Path) -> None:
    """There the page has an origin of its own and no address: what asks for one fails, and must not take the rest with it."""
    notebook = tmp_path / "notebook.html"
    notebook.write_text(f"<!doctype html><body>{plain()._repr_html_()}</body>", encoding="utf-8")
    tab.page.goto(notebook.as_uri())
    cell = tab.page.frame_locator("iframe")
    cell.locator("#tab-masks").click()
    assert cell.locator("#view-masks .note.good").count() == 6
    cell.locator("[data-language=fr]").click()
    assert cell.locator("#tab-masks[aria-selected=true]").inner_text() == "Masques"
    cell.locator("[data-scheme=dark]").click()
    assert cell.locator("[data-scheme=dark][aria-pressed=true]").count() == 1
    frame = tab.page.frames[1]
    frame.evaluate("window.dispatchEvent(new Event('beforeprint'))")  # what comes last at the start is there too
    assert frame.locator("#view-attention .view > *").count() > 0 and not frame.locator(".panel[hidden]").count()
    assert tab.said == []


@pytest.mark.parametrize("count", [6, 12])
def test_the_last_label_of_a_line_chart_is_whole(count: int, tab: Tab) -> None:
    page = tab.open(plain())
    labels = ["abcdefghi"] * (count - 1) + ["wxyzwxyzw"]  # as long as labels are drawn
    outside = page.evaluate(
        """labels => {
          const series = [{name: "a", values: labels.map((_, place) => place)}];
          const chart = Vitrail["charts.js"].lines({series, labels, label: "chart"});
          document.querySelector("main").append(chart);
          const all = chart.querySelector(".chart").getBoundingClientRect();
          const boxes = [...chart.querySelectorAll("text")].map(one => one.getBoundingClientRect());
          return boxes.filter(own => own.left < all.left || own.right > all.right || own.bottom > all.bottom).length;
        }""",
        labels,
    )
    assert outside == 0


def test_light_and_dark_by_wish_of_the_system_and_of_the_reader(tab: Tab) -> None:
    page = tab.open(plain())
    paper = "getComputedStyle(document.documentElement).backgroundColor"
    # The pixel is read from a copy: Chromium warns on the console of a canvas that is read several times.
    ink = """() => {
        const copy = document.createElement("canvas").getContext("2d");
        copy.drawImage(document.querySelector(".attention-matrix canvas"), 0, 0);
        return [...copy.getImageData(8, 8, 1, 1).data];
    }"""
    light, light_cell = page.evaluate(paper), page.evaluate(ink)
    page.emulate_media(color_scheme="dark")
    # A page hears of another scheme before it draws its next frame: on a busy machine that is after this call.
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    dark, dark_cell = page.evaluate(paper), page.evaluate(ink)
    assert light != dark
    assert light_cell != dark_cell
    page.click("[data-scheme=light]")
    assert (page.evaluate(paper), page.evaluate(ink)) == (light, light_cell)


def test_all_views_are_printed_on_white(tab: Tab) -> None:
    page = tab.open(plain())
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.locator(".panel:visible").count() == len(tabs(page))
    assert page.locator(".walk-step:visible").count() == page.locator(".walk-jump").count() > 10
    page.emulate_media(media="screen")
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator(".panel:visible").count() == 1
    page.click("#tab-steps")
    assert page.locator(".walk-step").count() == 1
    assert page.locator("#view-steps [data-value=one][aria-pressed=true]").count() == 1


def test_the_base_model_opens_in_a_second_from_less_than_2_mb(browser: Browser, tmp_path: Path) -> None:
    """Seconds of processor, of all threads of the page's own process: what a busy machine does not segment."""
    assert len(to_html(base()).encode()) < 2_000_000
    tab = Tab(browser, tmp_path)
    session = tab.page.context.new_cdp_session(tab.page)
    session.send("Performance.enable")
    tab.open(base())
    metrics = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    assert 0.01 < metrics["ProcessTime"] < 1.0
    assert tab.page.locator("[data-head]").count() == 6 * 9
    tab.page.close()


def test_html_in_a_sentence_runs_nothing(tab: Tab) -> None:
    shown = translator(tiny(), letters=ATTACK).inspect(ATTACK, ATTACK)
    page = tab.open(shown)
    assert page.locator(".sentence").first.inner_text() == ATTACK
    for name in tabs(page):
        page.click(f"#tab-{name}")
    page.click("#tab-attention")
    page.click("[data-value=words]")
    page.locator(".ends.read .end").first.hover()
    assert page.locator("img").count() == 0
    assert ATTACK not in to_html(shown)


def test_the_page_lets_no_other_script_through(tab: Tab) -> None:
    page = tab.open(plain())
    page.evaluate("() => document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = true'}))")
    page.evaluate("() => document.body.append(document.createElement('b'))")
    page.evaluate("() => document.body.lastChild.setAttribute('onclick', 'window.ran = true')")
    page.evaluate("() => document.body.lastChild.click()")
    assert page.evaluate("window.ran") is None
    assert len(tab.said) == 2
    tab.said.clear()


@pytest.mark.parametrize("text", ["שלום עולם", "我吃了苹果。", "a"])
def test_any_writing_reads(tab: Tab, text: str) -> None:
    page = tab.open(translator(tiny(), letters=text + "b").inspect(text, text[:1]))
    assert page.locator(".sentence").first.inner_text() == text
    direction = page.locator(".sentence").first.evaluate("one => getComputedStyle(one).direction")
    assert direction == ("rtl" if text[0] == "ש" else "ltr")
    for name in tabs(page):
        page.click(f"#tab-{name}")
    assert page.locator(".note.bad").count() == 0


def test_a_recurrent_model_with_attention_has_one_head(tab: Tab) -> None:
    page = tab.open(recurrent("bahdanau"))
    assert page.locator("[data-head]").count() == 1
    assert "GRU" in page.locator(".facts").inner_text()
    assert "Bahdanau's attention" in page.locator(".facts").inner_text()
    page.click("#tab-masks")
    assert page.locator("#view-masks .note.good").count() == 2


def test_without_attention_the_header_says_why_there_is_none(tab: Tab) -> None:
    page = tab.open(recurrent("none"), "attention")
    assert not {"attention", "masks"} & set(tabs(page))
    assert selected(page) == tabs(page)[0]
    assert "no attention" in page.locator(".header .note").inner_text()


def test_a_damaged_page_says_so(tab: Tab) -> None:
    page = tab.page
    page.set_content(to_html(plain()).replace('id="vitrail-record">["', 'id="vitrail-record">["AAAA'))
    page.locator(".note.bad").wait_for()
    assert "damaged" in page.locator(".note.bad").inner_text()
    tab.said.clear()
