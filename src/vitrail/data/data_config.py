"""Training text of a translator, and its preparation."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from vitrail.config import Config
from vitrail.data.cleaning.clean import CleanConfig
from vitrail.data.preparing.fingerprints import flatten, hash_file
from vitrail.data.preparing.holdout import HoldoutConfig
from vitrail.data.preparing.prepared import FORMAT
from vitrail.data.reading.parallel_text import ParallelText
from vitrail.data.reading.unpack import bare_name
from vitrail.data.vocabularies.subwords import SubwordsConfig
from vitrail.data.vocabularies.taking import fingerprint_of
from vitrail.errors import UsageError
from vitrail.languages import find_language, language_of_file, same_language

OLD = "old"
"""The name of the old model's dev text."""
OLD_TEXT = "old text"
"""The name of old text that has none."""
OLD_PART = 0.75
"""How much of a fine-tuning's text is old, unless the configuration says."""


class DataConfig(Config):
    """Training text of a translator, and its preparation."""

    kind: Literal["pairs"] = "pairs"
    """Pairs of sentences, for a translator; another kind is `text`, for a language model."""
    corpora: tuple[ParallelText, ...] = Field(min_length=1)
    """The training text: one corpus or several, mixed by weight. Each is cleaned and deduplicated by itself."""
    dev: ParallelText | None = None
    """Text to choose the best step by; by default, it is held out from the corpora."""
    test: ParallelText | None = None
    """Text to report the score on; by default, it is held out from the corpora."""
    more_dev: tuple[ParallelText, ...] = ()
    """More dev texts, such as one per domain: each is scored at every validation, under its name. Only dev chooses the best step."""
    old_dev: ParallelText | None = None
    """The dev text of the model that the training started from: scored at every validation as `old`, so that forgetting is seen."""
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
    old: tuple[ParallelText, ...] = ()
    """Text of the kind that the model knows already, which is mixed in so that less is forgotten. Nothing is held out from it."""
    old_part: float = Field(default=OLD_PART, gt=0, lt=1)
    """How much of the training text is old, in target tokens; `weight` compares old texts with each other."""
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Mixing of several corpora: 1 draws in proportion to size times weight; a higher value draws small ones more often."""

    @field_validator("old_dev", mode="before")
    @classmethod
    def _none(cls, text: Any) -> Any:
        return None if text is False else text

    @field_validator("old", mode="before")
    @classmethod
    def _nothing(cls, texts: Any) -> Any:
        return () if texts is False else texts

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> "DataConfig":
        for name, given, number in (("dev", self.dev, self.holdout.dev_pairs), ("test", self.test, self.holdout.test_pairs)):
            if given is not None and number:
                raise UsageError(f"data.holdout.{name}_pairs: {number}, though data.{name} is given", remedy="give one of the two")
        labels = [text.label for text in (self.dev, *self.further_dev) if text is not None]
        if len(set(labels)) < len(labels):
            twice = max(labels, key=labels.count)
            raise UsageError(f"data.more_dev: two dev texts are called {twice}", remedy="give each a name: --dev FILE,name=news")
        by_names = next((pair for pair in map(_named_languages, self.corpora) if all(pair)), ("", ""))
        for name, text in ((name, text) for name, text in self.texts() if not text.tag):  # a tag says that it is another language
            _require_languages(name, text, self.languages if all(self.languages) else by_names, ordered=all(self.languages))
        return self

    @property
    def languages(self) -> tuple[str, str]:
        """Source and target language as the user wrote them; empty where they are unknown."""
        found = [_languages_of(corpus) for corpus in self.corpora]
        source = self.source_language or next((pair[0] for pair in found if pair[0]), "")
        target = self.target_language or next((pair[1] for pair in found if pair[1]), "")
        return source, target

    @property
    def training_text(self) -> tuple[ParallelText, ...]:
        """Every text to train on: the corpora, then the old text."""
        return (*self.corpora, *(text.model_copy(update={"name": text.name or OLD_TEXT, "holdout": False}) for text in self.old))

    def texts(self) -> list[tuple[str, ParallelText]]:
        """All input texts with their names in the configuration; first every text to train on, in its order."""
        named = [(f"data.corpora.{place}", corpus) for place, corpus in enumerate(self.corpora)]
        named += [(f"data.old.{place}", text) for place, text in enumerate(self.old)]
        single = (("dev", self.dev), ("test", self.test), ("old_dev", self.old_dev))
        named += [(f"data.{name}", text) for name, text in single if text is not None]
        return named + [(f"data.more_dev.{place}", text) for place, text in enumerate(self.more_dev)]

    @property
    def further_dev(self) -> tuple[ParallelText, ...]:
        """Every dev text that does not choose the best step."""
        old = () if self.old_dev is None else (self.old_dev.model_copy(update={"name": self.old_dev.name or OLD}),)
        return (*self.more_dev, *old)

    def fingerprint(self, kept: Mapping[str, Any]) -> dict[str, Any]:
        """See `fingerprints.fingerprint`: {"data.corpora.0.source": "9f86d0...", "data.max_length": 256, ...}."""
        table = self.model_dump(mode="json", exclude={"kind"})
        table |= dict(zip(("source_language", "target_language"), self.languages, strict=True))

        def several(name: str, texts: Sequence[ParallelText]) -> dict[str, Any]:
            return {str(place): _text_fingerprint(text, f"data.{name}.{place}", kept) for place, text in enumerate(texts)}

        table["subwords"] = fingerprint_of(self.subwords, kept)
        table["corpora"] = several("corpora", self.corpora)
        for name, text in (("dev", self.dev), ("test", self.test)):
            table[name] = None if text is None else _text_fingerprint(text, f"data.{name}", kept)
        del table["more_dev"], table["old_dev"], table["old"], table["old_part"]
        if self.old:
            table |= {"old": several("old", self.old), "old_part": self.old_part}
        if self.old_dev is not None:
            table["old_dev"] = _text_fingerprint(self.old_dev, "data.old_dev", kept)
        if self.more_dev:
            table["more_dev"] = several("more_dev", self.more_dev)
        return {"data.format": FORMAT} | dict(flatten("data", table))


def _languages_of(text: ParallelText) -> tuple[str, str]:
    if text.languages is not None:
        return text.languages
    if text.target is None:
        return "", ""
    return language_of_file(text.source.name), language_of_file(text.target.name)


_PAIR_IN_NAME = re.compile(r"(?:^|[._])([A-Za-z]{2,3}(?:_[A-Za-z]{4})?)-([A-Za-z]{2,3}(?:_[A-Za-z]{4})?)(?=$|[._])")


def _named_languages(text: ParallelText) -> tuple[str, str]:
    """As `_languages_of`, but also by a pair in the name of a single file: corpus.en-de.tsv."""
    if text.languages is not None or text.target is not None:
        return _languages_of(text)
    pairs = _PAIR_IN_NAME.findall(bare_name(text.source).stem)
    source, target = pairs[-1] if pairs and all(map(find_language, pairs[-1])) else ("", "")
    return source, target


def _require_languages(name: str, text: ParallelText, wanted: tuple[str, str], *, ordered: bool) -> None:
    """Refuse a text whose name or `languages` give the wanted languages in the other order, and one whose name gives others.

    Args: ordered: whether it is known which of the wanted ones is the source; the name of a single file (corpus.en-fr.tsv) does not say.
    """
    found = _named_languages(text)
    if not all(wanted) or same_language(*wanted):
        return
    named = " to ".join(code or "?" for code in found)
    if all(found) and same_language(found[0], wanted[1]) and same_language(found[1], wanted[0]):
        # The order in a single file's name says nothing of the order of its columns.
        if not ordered or (text.target is None and text.languages is None):
            return
        raise UsageError(
            f"{name}: from {named}, as its file names say",
            expected=f"from {wanted[0]} to {wanted[1]}, like the other texts",
            remedy="swap its source and target",
        )
    either = text.target is None and set(map(find_language, found)) == set(map(find_language, wanted))
    if text.languages is None and not either and not all(not f or same_language(f, w) for f, w in zip(found, wanted, strict=True)):
        raise UsageError(
            f"{name}: from {named}, as its file names say",
            expected=f"from {wanted[0]} to {wanted[1]}, like the other texts",
            remedy=f"give another text; if the text is right, name its languages: --corpus FILE,languages={wanted[0]}:{wanted[1]}",
        )


def _text_fingerprint(text: ParallelText, name: str, kept: Mapping[str, Any]) -> dict[str, Any]:
    languages = list(text.languages) if text.languages else None
    files = {"source": text.source} | ({"target": text.target} if text.target else {})
    hashes = {side: hash_file(path, kept.get(f"{name}.{side}")) for side, path in files.items()}
    # A newer key is in a fingerprint only where it is used, so that data prepared earlier are still recognised.
    told: dict[str, Any] = {"columns": list(text.columns)} if text.columns else {}
    told |= {"delimiter": text.delimiter} if text.delimiter else {}
    told |= {} if text.holdout else {"holdout": False}
    told |= {"tag": text.tag} if text.tag else {}
    told |= {"most": text.most} if text.most else {}
    return hashes | {"format": text.kind, "languages": languages, "weight": text.weight} | told
