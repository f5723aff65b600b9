"""The walk and recurrent layers in a real browser: every equation is computed anew from the record, and a false number shows."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, Page

from vitrail.data.vocabularies.subwords import CharacterVocabulary, Vocabularies
from vitrail.decode.search.beams import SearchConfig
from vitrail.decode.translate import TranslateConfig
from vitrail.inspection.page import to_html
from vitrail.inspection.record import Inspection
from vitrail.inspection.translator import InspectableTranslator
from vitrail.models.architectures import ModelConfig
from vitrail.models.build import build_model
from vitrail.models.configs.recurrent import RecurrentConfig
from vitrail.models.configs.transformer import TransformerConfig

LETTERS = CharacterVocabulary(list("abcdefghijklmnop"))
SHARED = Vocabularies(LETTERS, LETTERS, joint=True)


def transformer(**changes: object) -> TransformerConfig:
    plain = {"encoder_layers": 2, "decoder_layers": 2, "width": 32, "heads": 2, "feed_forward": 40, "dropout": 0.0}
    return TransformerConfig.model_validate(plain | changes)


def recurrent(**changes: object) -> RecurrentConfig:
    return RecurrentConfig.model_validate({"embedding_width": 12, "width": 20, "dropout": 0.0} | changes)


def inspect(config: ModelConfig, source: str = "dogate", target: str = "chien") -> Inspection:
    """A model with no parameter at 0 or 1, so that a gain or a bias that is left out makes a difference."""
    torch.manual_seed(5)
    model = build_model(config, SHARED)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.2 * torch.randn_like(weight)
        for name, buffer in model.named_buffers():
            if "running" in name:
                buffer += torch.rand_like(buffer)
    search = TranslateConfig(search=SearchConfig(beams=2, max_length=6))
    return InspectableTranslator(model.eval(), vocabularies=SHARED, config=search).inspect(source, target)


TRANSFORMERS: dict[str, tuple[ModelConfig, int]] = {
    "pre-layer-relu": (transformer(), 0),
    "post-layer-gelu": (transformer(norm_position="post", activation="gelu"), 0),
    "pre-rms-swiglu": (transformer(norm="rms", activation="swiglu", positions="none"), 0),
    "post-rms-learned-wide-heads": (transformer(norm="rms", norm_position="post", positions="learned", heads=3, head_width=6), 1),
    "pre-batch-rotary": (transformer(norm="batch", positions="rotary"), 2),
}
"""By name: the model, and how many of a walk's checks cannot be made beside the embedding's: the learned
positions', and with rotary ones q and k of self-attention."""

RECURRENT: dict[str, tuple[ModelConfig, int]] = {
    "rnn": (recurrent(cell="rnn"), 0),
    "gru-one-way-reversed": (recurrent(cell="gru", bidirectional=False, reverse_source=True), 0),
    "lstm-deep-residual": (recurrent(cell="lstm", encoder_layers=2, decoder_layers=3, residual=True), 0),
    "lstm-luong-dot-fed": (recurrent(cell="lstm", attention="luong-dot", input_feeding=True, decoder_layers=2), 0),
    "gru-bahdanau": (recurrent(cell="gru", attention="bahdanau", encoder_layers=2), 1),
    "lstm-luong-general-layer-norm": (recurrent(cell="lstm", attention="luong-general", norm="layer"), 5),
}
"""By name: the model, and how many checks of the first cell and of attention together cannot be made."""


class Tab:
    """A browser's page that stays open from test to test, since starting one takes longer than most tests; and what its console said."""

    def __init__(self, page: Page, folder: Path) -> None:
        self.page, self.said, self._folder, self._opened = page, list[str](), folder, 0
        page.set_default_timeout(120_000)  # a shared machine may be slow
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))

    def open(self, inspection: Inspection, view: str) -> Page:
        """Show a view of a record's page."""
        self._opened += 1
        path = self._folder / f"{self._opened}.html"
        path.write_text(to_html(inspection), encoding="utf-8")
        self.page.goto(f"{path.as_uri()}#{view}")
        self.page.locator("[role=tab]").first.wait_for()
        return self.page


@pytest.fixture(scope="module")
def only_tab(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    tab = Tab(browser.new_page(), tmp_path_factory.mktemp("pages"))
    yield tab
    tab.page.close()


@pytest.fixture
def tab(only_tab: Tab) -> Iterator[Tab]:
    only_tab.said.clear()
    yield only_tab
    assert only_tab.said == []


def choose(page: Page, **choices: object) -> None:
    """Set the walk's own selects: kind, layer, head."""
    for key, value in choices.items():
        page.evaluate(
            "([key, value]) => { const box = document.querySelector(`[data-key=${key}]`);"
            " box.value = value; box.dispatchEvent(new Event('change')); }",
            [key, str(value)],
        )


def press(page: Page, key: str) -> None:
    """Click a button of the walk by its key; see `test_the_keyboard_walks` for hands."""
    page.evaluate("key => document.querySelector(`[data-key=${key}]`).click()", key)


def checks(page: Page) -> dict[str, list[str]]:
    """What stands in the lines of checks that are shown, by their state."""
    found: dict[str, list[str]] = {"ok": [], "none": [], "differs": []}
    for state, text in page.locator("[data-check]").evaluate_all("all => all.map(one => [one.dataset.check, one.textContent])"):
        found[state].append(text)
    return found


def counts(page: Page) -> tuple[int, int, int]:
    """Checks of the whole walk that hold, that do not, and that cannot be made."""
    found: dict[str, str] = page.locator(".walk-summary").evaluate("one => ({...one.dataset})")
    return int(found["good"]), int(found["bad"]), int(found["without"])


def flagged(page: Page) -> set[str]:
    """The steps of the walk that say that numbers differ."""
    keys: list[str] = page.locator(".walk-jump:has(.differs)").evaluate_all("all => all.map(one => one.dataset.key)")
    return {key.removeprefix("step-") for key in keys}


# ---- Step by step ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_every_equation_of_every_attention_holds(name: str, tab: Tab) -> None:
    config, expected = TRANSFORMERS[name]
    page = tab.open(inspect(config), "steps")
    for kind in ("encoder", "decoder", "cross"):
        for layer in (0, 1):
            choose(page, kind=kind, layer=layer, head=layer)
            good, bad, without = counts(page)
            impossible = 1 + (expected if "rotary" not in name or kind != "cross" else 0)
            assert (bad, without) == (0, impossible)
            assert good >= 15
        press(page, "mode-all")
        shown = checks(page)
        assert (len(shown["ok"]), shown["differs"], len(shown["none"])) == (good, [], without)
        press(page, "mode-one")


FALSE_NUMBERS = {
    ("encoder", 0): {"encoder.0.self_attention.q": {"query", "raw"}, "encoder.0.residual_2.normed": {"norm-feed-forward", "hidden"}},
    ("encoder", 1): {"encoder.1.self_attention.scores": {"scaled", "softmax"}, "encoder.1.residual_1.sum": {"residual"}},
    ("decoder", 0): {"decoder.0.self_attention.weights": {"softmax", "context"}},
    ("cross", 0): {"decoder.0.cross_attention.context": {"context", "heads"}},
    ("decoder", 1): {"parameters.decoder.1.self_attention.output.bias": {"projection"}},
    ("cross", 1): {"parameters.decoder.1.cross_attention.key.weight": {"keys"}, "decoder.1.cross_attention.raw_scores": {"raw", "scaled"}},
}
"""By kind and layer: what is falsified, by one part in 500, and the steps whose equations no longer hold."""


def test_a_false_number_is_flagged_at_its_step(tab: Tab) -> None:
    right = inspect(transformer())
    names = [name for place in FALSE_NUMBERS.values() for name in place]
    page = tab.open(right.with_arrays({name: np.multiply(right.arrays[name], np.float32(1.002)) for name in names}), "steps")
    for (kind, layer), false in FALSE_NUMBERS.items():
        choose(page, kind=kind, layer=layer)
        assert flagged(page) == set[str]().union(*false.values()), (kind, layer)
        assert counts(page)[1] > 0
        press(page, f"step-{min(flagged(page))}")
        assert checks(page)["differs"] != []


def test_the_page_shows_what_numpy_computes_from_the_record(tab: Tab) -> None:
    found = inspect(transformer(width=48, heads=3))
    layer, head, token, key = 1, 2, 3, 1
    place = f"decoder.{layer}.cross_attention"
    q, k, v = (found[f"{place}.{name}"][head].astype(np.float64) for name in "qkv")
    scores = q @ k.T / math.sqrt(q.shape[1])
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    context = powers / powers.sum(axis=1, keepdims=True) @ v
    page = tab.open(found, "steps")
    choose(page, kind="cross", layer=layer, head=head)
    press(page, f"token-{token}")
    press(page, "step-scaled")
    shown = page.locator("[data-step=scaled] tbody tr").nth(key).locator("[data-column=scaled]").inner_text()
    assert number(shown) == pytest.approx(scores[token, key], abs=6e-4)
    press(page, "step-context")
    cells = page.locator("[data-step=context] tr.chosen .walk-value").all_inner_texts()
    assert len(cells) == 8
    assert [number(cell) for cell in cells] == pytest.approx(context[token, :8].tolist(), abs=6e-4)


def number(text: str) -> float:
    return float(text.replace("\u2212", "-").replace(",", "."))


def test_another_word_layer_or_head_has_other_numbers(tab: Tab) -> None:
    page = tab.open(inspect(transformer()), "steps")
    press(page, "step-softmax")
    seen: list[tuple[str, ...]] = []

    def look() -> None:
        seen.append(tuple(page.locator("[data-step=softmax] tbody [data-column=weights]").all_inner_texts()))

    look()
    for change in ({"head": 1}, {"layer": 1}, {"kind": "decoder"}, {"kind": "cross"}):
        choose(page, **change)
        look()
    press(page, "token-1")
    look()
    assert len(set(seen)) == len(seen)
    assert page.locator("[data-key=token-1]").get_attribute("aria-pressed") == "true"


def test_masked_words_get_no_attention(tab: Tab) -> None:
    page = tab.open(inspect(transformer()), "steps")
    choose(page, kind="decoder")
    press(page, "token-2")
    press(page, "step-softmax")
    assert page.locator("tr.masked").count() == 3
    assert page.locator("tr.masked [data-column=weights]").all_inner_texts() == ["0"] * 3
    assert any("exactly 0" in line for line in checks(page)["ok"])


def test_the_keyboard_walks(tab: Tab) -> None:
    page = tab.open(inspect(transformer()), "steps")

    def step() -> str | None:
        return page.locator(".walk-step").get_attribute("data-step")

    assert step() == "embedding"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert step() == "input"
    page.keyboard.press("ArrowLeft")
    assert step() == "positions"
    page.locator("[data-key=next]").focus()
    page.keyboard.press("Enter")
    assert step() == "input"
    assert page.evaluate("document.activeElement.dataset.key") == "next"
    page.locator("[data-key=head]").focus()
    page.keyboard.press("ArrowRight")  # changes the head, not the step
    assert step() == "input"
    assert page.evaluate("document.activeElement.dataset.key") == "head"
    page.locator("#tab-steps").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#view-steps").is_hidden()


def test_it_speaks_french_and_keeps_its_place(tab: Tab) -> None:
    page = tab.open(inspect(transformer()), "steps")
    press(page, "step-softmax")
    page.locator("[data-language=fr]").click()
    assert page.locator(".walk-step").get_attribute("data-step") == "softmax"
    text = page.locator("#view-steps").inner_text()
    assert "Selon l'horizontale" in text and "plus grand écart" in text
    press(page, "mode-all")
    text = page.locator("#view-steps").inner_text()
    assert not [word for word in ("largest", "numbers", "Each", "the key") if word in text]


def test_nothing_in_a_sentence_is_markup_or_an_equation(tab: Tab) -> None:
    strange = CharacterVocabulary(list("<b>$x_{1}√⁄"))
    torch.manual_seed(0)
    model = build_model(transformer(encoder_layers=1, decoder_layers=1), Vocabularies(strange, strange, joint=True)).eval()
    search = TranslateConfig(search=SearchConfig(beams=1, max_length=4))
    vocabularies = Vocabularies(strange, strange, joint=True)
    found = InspectableTranslator(model, vocabularies=vocabularies, config=search).inspect("<b>$x_{", "√⁄$}")
    page = tab.open(found, "steps")
    press(page, "mode-all")
    for token in range(7):
        press(page, f"token-{token}")
        assert checks(page)["differs"] == []
        text = page.locator("#view-steps").inner_text()
        assert f"“{'<b>$x_{'[token]}”" in text
        assert not any("\ufdd0" <= sign <= "\ufdef" for sign in text)
    assert page.locator("#view-steps b").count() == 0


# ---- Through time ----------------------------------------------------------------------------------------------------------------


def pick_cell(page: Page, name: str) -> None:
    page.locator("#view-recurrent select").first.evaluate(
        "(box, name) => { box.value = name; box.dispatchEvent(new Event('change')); }", name
    )


@pytest.mark.parametrize("name", RECURRENT)
def test_every_equation_of_every_cell_holds(name: str, tab: Tab) -> None:
    config, expected = RECURRENT[name]
    page = tab.open(inspect(config), "recurrent")
    cells: list[Any] = page.locator("#view-recurrent select").first.evaluate("one => [...one.options].map(option => option.value)")
    for cell in cells:
        pick_cell(page, cell)
        found = checks(page)
        assert found["differs"] == []
        assert len(found["none"]) == expected, found["none"]
        assert len(found["ok"]) >= 1
    assert page.locator("#view-recurrent .time-gradient").count() == 2


def test_a_false_state_is_flagged(tab: Tab) -> None:
    right = inspect(recurrent(cell="lstm"))
    page = tab.open(right.with_arrays({"decoder.0.cell": np.multiply(right.arrays["decoder.0.cell"], np.float32(1.002))}), "recurrent")
    pick_cell(page, "decoder.0")
    assert len(checks(page)["differs"]) == 2


def test_a_unit_and_a_step_are_chosen_by_click_and_by_keyboard(tab: Tab) -> None:
    found = inspect(recurrent(cell="gru"))
    page = tab.open(found, "recurrent")
    page.locator("#view-recurrent input[type=range]").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.locator("#view-recurrent .token").nth(4).click()
    hidden = found["encoder.0.forward_cell.hidden"]
    row = page.locator(".time-equations tr[data-part=hidden] .walk-value").all_inner_texts()
    assert [number(text) for text in row] == pytest.approx([float(hidden[4, 3])] * 2, abs=6e-4)
    assert "Unit 3" in page.locator(".time-equations caption").inner_text()
    field = page.locator(".time-map[data-part=hidden] .time-field")
    box = field.bounding_box()
    assert box is not None
    field.click(position={"x": box["width"] - 2, "y": 2})
    row = page.locator(".time-equations tr[data-part=hidden] .walk-value").all_inner_texts()
    assert [number(text) for text in row] == pytest.approx([float(hidden[0, -1])] * 2, abs=6e-4)


def test_gradients_are_shown_for_a_transformer_too(tab: Tab) -> None:
    found = inspect(transformer())
    page = tab.open(found, "recurrent")
    page.locator("#view-recurrent .time-gradient summary").first.click()
    cells = page.locator("#view-recurrent .time-gradient table").first.locator("tbody tr").first.locator("td").all_inner_texts()
    shown = [number(cell) for cell in cells]
    assert shown == pytest.approx(found["gradients.encoder.0.residual_2.sum"].tolist(), rel=0.06, abs=6e-4)
    page.locator("[data-language=fr]").click()
    assert "Gradient par étape" in page.locator("#view-recurrent").inner_text()
