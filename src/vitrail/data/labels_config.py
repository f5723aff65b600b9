"""Training text of a classifier: texts and their labels, and what is held out."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from vitrail.config import Config
from vitrail.data.preparing.fingerprints import flatten, hash_file
from vitrail.data.preparing.prepared import LABELS_FORMAT
from vitrail.data.reading.formats.layout import TableOptions
from vitrail.data.reading.lines import DEFAULT_LIMITS, count_lines, is_stream
from vitrail.data.reading.parallel_text import Limits, ParallelText
from vitrail.data.vocabularies.subwords import SubwordsConfig
from vitrail.data.vocabularies.taking import fingerprint_of
from vitrail.errors import DataError, UsageError


class Examples(ParallelText):
    """Texts and labels: two plain files, line n of one the label of line n of the other; or a TSV, CSV, JSON or JSONL file with both."""

    @model_validator(mode="after")
    def _refuse_translations(self) -> "Examples":
        if self.kind not in ("plain", "tsv", "csv", "json", "jsonl"):
            raise UsageError(f"{self.source}: {self.kind} has translations, not labels", expected="two plain files, or TSV, CSV or JSON")
        return self

    @property
    def _asked(self) -> TableOptions:
        return TableOptions(self.columns, None, labels=True)

    def count(self, *, limits: Limits = DEFAULT_LIMITS) -> int:
        """See `ParallelText.count`."""
        if self.target is not None and not is_stream(self.source) and not is_stream(self.target):
            texts, labels = (count_lines(path, limits=limits) for path in (self.source, self.target))
            if texts != labels:
                raise DataError(
                    f"{self.source} has {texts:,} lines and {self.target} has {labels:,}",
                    expected="as many lines in both: line n of the labels is that of line n of the text",
                    remedy="look for a line added, split or lost; an example without a label needs an empty line",
                )
        return super().count(limits=limits)


class HoldoutExamples(Config):
    """How many examples are kept out of training, where no dev or test text is given: from each label its share."""

    dev_examples: int | None = Field(default=None, ge=0)
    """Examples to choose the best step by; unset: a tenth, at most 1,000."""
    test_examples: int | None = Field(default=None, ge=0)
    """Examples to report the scores on; unset: a tenth, at most 1,000."""


class LabelsConfig(Config):
    """Training text of a classifier, and its preparation."""

    kind: Literal["labels"] = "labels"
    """Texts with labels, for a classifier; other kinds are `pairs` and `text`."""
    examples: tuple[Examples, ...] = Field(min_length=1)
    """The training text with its labels, in one file or several."""
    dev: Examples | None = None
    """Examples to choose the best step by; by default, they are held out from the training text."""
    test: Examples | None = None
    """Examples to report the scores on; by default, they are held out from the training text."""
    language: str = ""
    """Such as "en"."""
    several: bool = False
    """Labels may hold together: an example has any number of them, also none."""
    separator: str = Field(default=",", min_length=1, max_length=8)
    """The sign between the labels of one example, where it may have several."""
    most_labels: int = Field(default=1_000, ge=2)
    """Refuse more labels than this: then texts were given as labels, most likely."""
    holdout: HoldoutExamples = HoldoutExamples()
    """How much is held out where no dev or test text is given."""
    subwords: SubwordsConfig = SubwordsConfig()
    """How text becomes ids."""

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> "LabelsConfig":
        for name, given, number in (("dev", self.dev, self.holdout.dev_examples), ("test", self.test, self.holdout.test_examples)):
            if given is not None and number:
                raise UsageError(f"data.holdout.{name}_examples: {number}, though data.{name} is given", remedy="give one of the two")
        return self

    @property
    def parting(self) -> str:
        """The sign between the labels of one example; empty where each has one label."""
        return self.separator if self.several else ""

    def texts(self) -> list[tuple[str, Examples]]:
        """All input texts with their names in the configuration."""
        named = [(f"data.examples.{place}", text) for place, text in enumerate(self.examples)]
        return named + [(f"data.{name}", text) for name, text in (("dev", self.dev), ("test", self.test)) if text is not None]

    def fingerprint(self, kept: Mapping[str, Any]) -> dict[str, Any]:
        """See `fingerprints.fingerprint`."""
        found: dict[str, Any] = {"data.format": LABELS_FORMAT}
        for name, text in self.texts():
            files = {"source": text.source} | ({"target": text.target} if text.target else {})
            found |= {f"{name}.{side}": hash_file(path, kept.get(f"{name}.{side}")) for side, path in files.items()}
            found |= {f"{name}.columns": list(text.columns)} if text.columns else {}
            found |= {f"{name}.delimiter": text.delimiter} if text.delimiter else {}
            found |= {f"{name}.weight": text.weight, f"{name}.holdout": text.holdout}
        settings = self.model_dump(mode="json", exclude={"kind", "examples", "dev", "test", "most_labels"})
        settings["subwords"] = fingerprint_of(self.subwords, kept)
        return found | dict(flatten("data", settings))
