"""A page in a browser, watched: what its console said, and what it asked for."""

from pathlib import Path

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
from vitrail.models.configs.transformer import TransformerConfig

LETTERS = "abcdefghijklmnop "


def tiny(**changes: object) -> TransformerConfig:
    plain = {"encoder_layers": 2, "decoder_layers": 2, "width": 16, "heads": 2, "feed_forward": 24, "dropout": 0.0}
    return TransformerConfig.model_validate(plain | changes)


def translator(config: ModelConfig, *, letters: str = LETTERS, beams: int = 2, seed: int = 0) -> InspectableTranslator:
    """A model as it was born, over single characters."""
    torch.manual_seed(seed)
    both = CharacterVocabulary(sorted(set(letters)))
    vocabularies = Vocabularies(both, both, joint=True)
    search = TranslateConfig(search=SearchConfig(beams=beams, max_length=6))
    model = build_model(config, vocabularies).eval()
    return InspectableTranslator(model, vocabularies=vocabularies, config=search, languages=("en", "fr"))


class Tab:
    """A browser's page that remembers."""

    def __init__(self, browser: Browser, folder: Path) -> None:
        self.page: Page = browser.new_page(viewport={"width": 1280, "height": 900})
        self.said: list[str] = []
        self.asked: list[str] = []
        self._folder, self._opened = folder, 0
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def open(self, inspection: Inspection, view: str = "attention", *, language: str = "en") -> Page:
        """Show a view of a record's page, from disk."""
        self._opened += 1
        path = self._folder / f"{self._opened}.html"
        path.write_text(to_html(inspection, language=language), encoding="utf-8")
        self.page.goto(f"{path.as_uri()}#{view}")
        self.page.locator("[role=tab]").first.wait_for()
        return self.page

    def forget(self) -> None:
        """What the tests before left behind."""
        self.said.clear()
        self.asked.clear()
        self.page.emulate_media(color_scheme="light", media="screen")
