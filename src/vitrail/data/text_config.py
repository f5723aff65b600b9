"""Training text of a language model: files, and what is held out."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from vitrail.config import Config
from vitrail.data.preparing.fingerprints import flatten, hash_file
from vitrail.data.preparing.prepared import TEXT_FORMAT
from vitrail.data.reading.lines import DEFAULT_LIMITS, Notes, count_lines, is_stream, lines, shown_name
from vitrail.data.vocabularies.subwords import SubwordsConfig
from vitrail.data.vocabularies.taking import fingerprint_of
from vitrail.errors import UsageError


class TextFile(Config):
    """A file of text, one sentence or paragraph a line, in the order in which it is read."""

    source: Path
    """Its name. .gz, .bz2, .xz and .zst are unpacked while read."""
    name: str = ""
    """Its name in reports; empty: the name of the file."""

    @property
    def target(self) -> None:
        """None: text has one side."""
        return None

    @property
    def label(self) -> str:
        """Its name in reports."""
        return self.name or shown_name(self.source)

    def count(self) -> int:
        """Count the lines. Raises DataError where it cannot be read, UsageError for stdin and pipes, which are read once."""
        if is_stream(self.source):
            raise UsageError(f"{shown_name(self.source)}: cannot be counted and then read", remedy="store it in a file first")
        return count_lines(self.source, limits=DEFAULT_LIMITS)

    def lines(self, *, notes: Notes | None = None) -> Iterator[str]:
        """Every line as it is in the file. Raises DataError."""
        return lines(self.source, notes=notes)


class HoldoutLines(Config):
    """How many lines are kept out of training, where no dev or test text is given. They are taken in blocks of neighbouring lines."""

    dev_lines: int | None = Field(default=None, ge=0)
    """Lines to choose the best step by; unset: 4 % of the text, at most 1,000."""
    test_lines: int | None = Field(default=None, ge=0)
    """Lines to report the perplexity on; unset: 4 % of the text, at most 1,000."""


class TextConfig(Config):
    """Training text of a language model, and its preparation."""

    kind: Literal["text"] = "text"
    """Plain text, for a language model; another kind is `pairs`, for a translator."""
    text: tuple[TextFile, ...] = Field(min_length=1)
    """The training text: one file or several, which are read one after the other."""
    dev: TextFile | None = None
    """Text to choose the best step by; by default, it is held out from the training text."""
    test: TextFile | None = None
    """Text to report the perplexity on; by default, it is held out from the training text."""
    language: str = ""
    """Such as "en"."""
    documents: Literal["file", "paragraph", "line"] = "file"
    """What a Transformer reads as one document: a file, the lines up to an empty one, or each line. Attention does not reach from one
    document into another. A masked language model reads neighbouring lines of one document together, as many as fit. paragraph keeps empty
    lines."""
    blank_lines: bool = False
    """Keep empty lines, one of several that follow each other: the model then learns where paragraphs end."""
    holdout: HoldoutLines = HoldoutLines()
    """How much is held out where no dev or test text is given."""
    subwords: SubwordsConfig = SubwordsConfig()
    """How text becomes ids."""

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> "TextConfig":
        for name, given, number in (("dev", self.dev, self.holdout.dev_lines), ("test", self.test, self.holdout.test_lines)):
            if given is not None and number:
                raise UsageError(f"data.holdout.{name}_lines: {number}, though data.{name} is given", remedy="give one of the two")
        return self

    @property
    def keeps_blank_lines(self) -> bool:
        """Whether empty lines are part of the text."""
        return self.blank_lines or self.documents == "paragraph"

    def texts(self) -> list[tuple[str, TextFile]]:
        """All input texts with their names in the configuration."""
        named = [(f"data.text.{place}", text) for place, text in enumerate(self.text)]
        return named + [(f"data.{name}", text) for name, text in (("dev", self.dev), ("test", self.test)) if text is not None]

    def fingerprint(self, kept: Mapping[str, Any]) -> dict[str, Any]:
        """See `fingerprints.fingerprint`."""
        hashes = {f"{name}.source": hash_file(text.source, kept.get(f"{name}.source")) for name, text in self.texts()}
        settings = self.model_dump(mode="json", exclude={"kind", "text", "dev", "test"})
        settings["subwords"] = fingerprint_of(self.subwords, kept)
        for name in ("documents", "blank_lines"):  # text prepared before these were settings is still known
            if settings[name] == type(self).model_fields[name].default:
                del settings[name]
        return {"data.format": TEXT_FORMAT} | hashes | dict(flatten("data", settings))
