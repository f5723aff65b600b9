"""What is to be prepared, and the fingerprint that tells whether it was: every setting, and the SHA-256 of every input file."""

import re
from collections.abc import Iterator
from hashlib import file_digest
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from vitrail.config import Config
from vitrail.data.clean import CleanConfig
from vitrail.data.holdout import HoldoutConfig
from vitrail.data.prepared import FORMAT
from vitrail.data.subwords import SubwordsConfig
from vitrail.data.text import ParallelText
from vitrail.errors import DataError, UsageError
from vitrail.languages import language_of_file, same_language


class DataConfig(Config):
    """Which text a translator learns from, and how it is prepared."""

    corpora: tuple[ParallelText, ...] = Field(min_length=1)
    """The training text: one corpus or several, which are then mixed by weight. Each is cleaned, and rid of duplicates, by itself."""
    dev: ParallelText | None = None
    """Text to choose the best step by; left out, it is held out of the corpora."""
    test: ParallelText | None = None
    """Text to report the score on; left out, it is held out of the corpora."""
    source_language: str = ""
    """Such as "en"; empty: from the corpora's languages or the endings of their names (train.en)."""
    target_language: str = ""
    """Such as "fr"; empty: as the source language."""
    clean: CleanConfig = CleanConfig()
    """Which pairs are kept."""
    holdout: HoldoutConfig = HoldoutConfig()
    """How much is held out where no dev or test text is given."""
    subwords: SubwordsConfig = SubwordsConfig()
    """How text becomes ids."""
    max_length: int = Field(default=256, ge=1)
    """Subword tokens on either side; longer pairs are left out of training, and counted."""
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Mixing of several corpora: 1 draws in proportion to size times weight, more draws the small ones more often."""

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> "DataConfig":
        for name, given, number in (("dev", self.dev, self.holdout.dev_pairs), ("test", self.test, self.holdout.test_pairs)):
            if given is not None and number:
                raise UsageError(f"data.holdout.{name}_pairs: {number}, though data.{name} is given", remedy="give one of the two")
        languages = self.languages
        for name, text in self.texts():
            if _is_swapped(_languages_of(text), languages):
                raise UsageError(
                    f"{name}: from {languages[1]} to {languages[0]}, by its names",
                    expected=f"from {languages[0]} to {languages[1]}, as the rest",
                    remedy="swap its source and target",
                )
        return self

    @property
    def languages(self) -> tuple[str, str]:
        """Source and target language as they are spelled; empty where nothing tells."""
        found = [_languages_of(corpus) for corpus in self.corpora]
        source = self.source_language or next((pair[0] for pair in found if pair[0]), "")
        target = self.target_language or next((pair[1] for pair in found if pair[1]), "")
        return source, target

    def texts(self) -> list[tuple[str, ParallelText]]:
        """All input texts with their names in the configuration."""
        named = [(f"data.corpora.{place}", corpus) for place, corpus in enumerate(self.corpora)]
        return named + [(f"data.{name}", text) for name, text in (("dev", self.dev), ("test", self.test)) if text is not None]


def _languages_of(text: ParallelText) -> tuple[str, str]:
    if text.languages is not None:
        return text.languages
    if text.target is None:
        return "", ""
    return language_of_file(text.source.name), language_of_file(text.target.name)


def _is_swapped(found: tuple[str, str], wanted: tuple[str, str]) -> bool:
    if not (all(found) and all(wanted)) or same_language(*wanted):
        return False
    return same_language(found[0], wanted[1]) and same_language(found[1], wanted[0])


def fingerprint(config: DataConfig) -> dict[str, Any]:
    """What the prepared folder depends on, by name: every value of the configuration, and for each input file the SHA-256 of its bytes.

        {"data.corpora.0.source": "9f86d0...", "data.max_length": 256, ...}

    Where a file lies, and what reports call it, does not count. Raises DataError when a file cannot be read. Cost: reads all of it.
    """
    table = config.model_dump(mode="json") | dict(zip(("source_language", "target_language"), config.languages, strict=True))
    table["corpora"] = {str(place): _text_fingerprint(corpus) for place, corpus in enumerate(config.corpora)}
    for name, text in (("dev", config.dev), ("test", config.test)):
        table[name] = None if text is None else _text_fingerprint(text)
    return {"data.format": FORMAT} | dict(_flatten("data", table))


def _text_fingerprint(text: ParallelText) -> dict[str, Any]:
    languages = list(text.languages) if text.languages else None
    hashes = {"source": _hash(text.source)} | ({"target": _hash(text.target)} if text.target else {})
    return hashes | {"format": text.kind, "languages": languages, "weight": text.weight}


def _hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def _flatten(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, below in value.items():
            yield from _flatten(f"{prefix}.{key}", below)
    else:
        yield prefix, value


def differences(recorded: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    """What differs between two fingerprints, one line each: `data.max_length: 256, now 128`."""
    absent = "absent"
    names = [*recorded, *(name for name in asked if name not in recorded)]
    return [
        f"{name}: {_brief(recorded.get(name, absent))}, now {_brief(asked.get(name, absent))}"
        for name in names
        if recorded.get(name, absent) != asked.get(name, absent)
    ]


def _brief(value: Any) -> str:
    text = str(value)
    return text[:12] if re.fullmatch("[0-9a-f]{64}", text) else text


def stamps(config: DataConfig) -> dict[Path, tuple[int, int, int]]:
    """What changes of each input file when it is replaced or written to. Raises DataError when one is not there."""
    paths = [path for _, text in config.texts() for path in (text.source, text.target) if path is not None]
    try:
        return {path: (found.st_ino, found.st_size, found.st_mtime_ns) for path in paths if (found := path.stat())}
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from None
