"""Take the vocabulary of another model, as it is or with new tokens."""

import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from vitrail.data.vocabularies.subwords import VOCABULARY_FILES, SubwordsConfig, Vocabularies, train_vocabularies, train_vocabulary
from vitrail.data.vocabularies.vocabulary import Subwords
from vitrail.errors import ModelError
from vitrail.files import MANIFEST, read_manifest, verify_file

SIDES = ("source", "target")
MOST_SPELLED = 0.1
"""Share of the tokens of a text that a fitting vocabulary may spell in bytes; a text in a script that it has never seen has nine tenths."""
_SHOWN = 30
"""Of new tokens, in words for people."""


def find_vocabularies(folder: Path) -> Vocabularies:
    """The vocabularies of a run, a model, or prepared data. Raises ModelError where there are none, or damaged ones."""
    for place in (folder, folder / "model", folder / "data"):
        names = [name for name in VOCABULARY_FILES if (place / name).exists()]
        if names:
            entries = read_manifest(place) if (place / MANIFEST).exists() else {}
            for name in names:
                if name in entries:
                    verify_file(place / name, entries[name])
            return Vocabularies.load(place, listed=names)
    raise ModelError(f"{folder}: no vocabulary is there", expected="the folder of a run, of a model, or of prepared data")


def fingerprint_of(config: SubwordsConfig, kept: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a vocabulary, one that is taken by its digest; a newer setting only where it is used."""
    table = config.model_dump(mode="json")
    for name in ("taken_from", "source_from", "target_from"):
        folder: Path | None = getattr(config, name)
        known = kept.get(f"data.subwords.{name}")
        if folder is None:
            del table[name]
        else:
            table[name] = known if known is not None and not os.path.lexists(folder) else find_vocabularies(folder).digest
    if not config.new_tokens:
        del table["new_tokens"]
    return table


def make_vocabularies(source: Iterable[str], target: Iterable[str], *, config: SubwordsConfig) -> Vocabularies:
    """The vocabularies of both sides: learned from their text, or taken as the settings say."""
    if config.taken_from is None and config.source_from is None and config.target_from is None:
        return train_vocabularies(source, target, config=config)
    if config.taken_from is not None:
        found = find_vocabularies(config.taken_from)
        if found.joint:
            both = _extended(found.source, chain(source, target), config)
            return Vocabularies(both, both, joint=True)
        return Vocabularies(_extended(found.source, source, config), _extended(found.target, target, config), joint=False)
    sides = ((config.source_from, "source", source), (config.target_from, "target", target))
    made = [
        train_vocabulary(texts, config=config).target if folder is None else _extended(find_vocabularies(folder).of(side), texts, config)
        for folder, side, texts in sides
    ]
    return Vocabularies(made[0], made[1], joint=False)


def make_vocabulary(texts: Iterable[str], *, config: SubwordsConfig) -> Vocabularies:
    """The vocabulary of a text: learned from it, or taken; of a translator's two, that of its target."""
    if config.taken_from is None:
        return train_vocabulary(texts, config=config)
    text = _extended(find_vocabularies(config.taken_from).target, texts, config)
    return Vocabularies(text, text, joint=True)


def warn_of_spelling(config: SubwordsConfig, made: Vocabularies, texts: Mapping[str, Sequence[str]], *, name: str) -> list[str]:
    """A warning for each side of which a vocabulary that was taken knows little. Args: texts: some of each side. name: the corpus."""
    lines: list[str] = []
    for side, lines_of_side in texts.items() if config.folders() else ():
        rows = made.of(side).encode_batch(lines_of_side)
        tokens, spelled = sum(map(len, rows)), sum(map(made.of(side).spelled, rows))
        if spelled >= MOST_SPELLED * max(1, tokens):
            cure = "" if config.new_tokens else "; --set data.subwords.new_tokens=1000 adds its characters and pieces"
            lines.append(
                f"WARNING: {name}: the vocabulary that was taken hardly knows the {side}:"
                f" {spelled / tokens:.0%} of its tokens are unknown, or spelled in single bytes{cure}"
            )
    return lines


def taken_sides(config: SubwordsConfig, made: Vocabularies) -> dict[str, tuple[Subwords, Subwords]]:
    """Of each vocabulary that was taken, what it was and what it is now, by `source`, `target`, or `joint`."""
    if config.taken_from is not None:
        found = find_vocabularies(config.taken_from)
        return {"joint": (found.target, made.source)} if made.joint else {side: (found.of(side), made.of(side)) for side in SIDES}
    folders = {"source": config.source_from, "target": config.target_from}
    return {side: (find_vocabularies(folder).of(side), made.of(side)) for side, folder in folders.items() if folder is not None}


def new_tokens(config: SubwordsConfig, made: Vocabularies) -> tuple[dict[str, Any], list[str]]:
    """What was added to vocabularies that were taken: as facts, and in words for people. Both are empty where nothing was."""
    facts, lines = dict[str, Any](), list[str]()
    for side, (old, new) in taken_sides(config, made).items() if config.new_tokens else ():
        ids = range(old.size, new.size)
        pieces = new.pieces(ids)
        characters = sum(len(piece) == 1 for piece in pieces)
        facts[side] = {"from_id": old.size, "characters": characters, "longer": len(pieces) - characters}
        shown = " ".join(pieces[:_SHOWN]) + " ..." * (len(pieces) > _SHOWN)
        amount = (
            f"{len(pieces):,} new tokens ({characters:,} characters) behind {old.size:,}" if pieces else f"no new token behind {old.size:,}"
        )
        lines.append(f"{side} vocabulary: {amount}{': ' * bool(pieces)}{shown}")
    return ({"new_tokens": facts} if facts else {}), lines


def _extended(vocabulary: Subwords, texts: Iterable[str], config: SubwordsConfig) -> Subwords:
    if not config.new_tokens:
        return vocabulary
    return vocabulary.extended(texts, most=config.new_tokens, least_count=config.least_count)
