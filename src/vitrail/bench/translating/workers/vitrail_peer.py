"""Vitrail itself as a system to measure."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from vitrail.decode.search_config import SearchConfig, TranslateConfig
from vitrail.decode.translate import Translator
from vitrail.version import __version__


class VitrailPeer:
    """The translator of a model folder, as `vitrail translate` has it.

    Settings: engine (native, torch), precision, threads; tokens of every translation, if they are fixed.
    """

    versions: Mapping[str, str]

    def __init__(self, folder: Path) -> None:
        self.versions = {"vitrail": __version__}
        self._folder = folder
        self._made: dict[tuple[str, str, int], Translator] = {}
        self._search = cache(_search)

    def translate(self, texts: Sequence[str], beams: int, settings: Mapping[str, Any]) -> list[str]:
        """See `serve.Peer`."""
        engine, precision, threads = wanted = settings["engine"], settings["precision"], settings["threads"]
        if wanted not in self._made:
            config = TranslateConfig(precision=precision)
            self._made = {wanted: Translator.load(self._folder, engine=engine, threads=threads, config=config)}
        translator = self._made[wanted]
        search = self._search(beams, settings.get("tokens", 0), translator.search.length_penalty)
        return [one.text for one in translator.translate(list(texts), search=search)]


def _search(beams: int, tokens: int, length_penalty: float) -> SearchConfig:
    """Args: tokens: of every translation; 0: as the model ends them."""
    fixed = {"min_length": tokens, "max_length": tokens, "repeat_ngram": 0} if tokens else {}
    return SearchConfig.model_validate({"beams": beams, "length_penalty": length_penalty, **fixed})


def make(folder: Path, carried: object) -> VitrailPeer:
    """The system."""
    del carried
    return VitrailPeer(folder)
