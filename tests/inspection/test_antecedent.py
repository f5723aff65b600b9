"""Heads that look at the antecedent are found among others, and agree with what a record says of each sentence."""

import json
from collections.abc import Generator
from contextlib import contextmanager

import pytest
import torch
from grammatical import SHORT, untrained
from recorded import translator
from torch import Tensor, nn

from vitrail.errors import DataError, UsageError
from vitrail.inspection.studies.ablation_metrics import challenge_set, pronoun_place
from vitrail.inspection.studies.antecedent import find_antecedents, most_damaging, read_heads
from vitrail.inspection.studies.phrasebook_words import source_words
from vitrail.inspection.translator import InspectableTranslator
from vitrail.phrasebook.grammar import tokenise

CHALLENGES = challenge_set()[:16]


def tokens_of(one: InspectableTranslator, text: str, word: int) -> list[int]:
    return [place for place, owner in enumerate(source_words(one, text)[1]) if owner == word]


def test_words_are_those_of_the_phrasebook() -> None:
    one = untrained()
    several = 0
    for challenge in CHALLENGES:
        ids, owners = source_words(one, challenge.source)
        assert len(owners) == len(ids) + 1 and owners == sorted(owners)
        for number, word in enumerate(tokenise(challenge.source)):
            tokens = [ids[place] for place, owner in enumerate(owners[:-1]) if owner == number]
            assert one.vocabularies.source.decode(tokens).strip() == word
            several += len(tokens) > 1
        assert owners[-1] == len(tokenise(challenge.source))
    assert several > 10, "some words are more than one token"


def test_readings_agree_with_records() -> None:
    one = untrained()
    found = {reader.part: reader for reader in read_heads(one, CHALLENGES)}
    assert len(found) == 8
    hits = dict.fromkeys(("encoder.1.self_attention:0", "decoder.0.cross_attention:1"), 0)
    weights = dict.fromkeys(hits, 0.0)
    for challenge in CHALLENGES:
        record = one.inspect(challenge.source, challenge.target)
        at = pronoun_place(one, challenge).place
        for part in hits:
            place, _, head = part.partition(":")
            asker = at if "cross" in part else tokens_of(one, challenge.source, challenge.pronoun_position)[-1]
            row = record[f"{place}.weights"][int(head), asker]
            by_word = {
                word: row[tokens_of(one, challenge.source, word)].sum()
                for word in range(len(tokenise(challenge.source)) + 1)
                if word != challenge.pronoun_position
            }
            hits[part] += max(by_word, key=lambda word: by_word[word]) == challenge.antecedent_position
            weights[part] += by_word[challenge.antecedent_position]
    for part, count in hits.items():
        assert found[part].antecedent == pytest.approx(count / len(CHALLENGES))
        assert found[part].antecedent_weight == pytest.approx(weights[part] / len(CHALLENGES), abs=1e-5)


@contextmanager
def looking_at(one: InspectableTranslator, place: str, head: int, *, distractor: bool) -> Generator[None]:
    """Let a head look, from everywhere, at the antecedent (or the other noun) of each of CHALLENGES, in one batch."""

    def look(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        weights = output.clone()
        weights[:, head] = 0
        for row, challenge in enumerate(CHALLENGES):
            word = challenge.distractor_position if distractor else challenge.antecedent_position
            weights[row, head, :, tokens_of(one, challenge.source, word)[0]] = 1
        return weights

    handle = one.model.get_submodule(f"{place}.weights").register_forward_hook(look)
    try:
        yield
    finally:
        handle.remove()


def test_planted_readers_are_found() -> None:
    one = untrained()
    with (
        looking_at(one, "encoder.1.self_attention", 1, distractor=False),
        looking_at(one, "encoder.0.self_attention", 0, distractor=True),
        looking_at(one, "decoder.0.cross_attention", 1, distractor=False),
    ):
        found = {reader.part: reader for reader in read_heads(one, CHALLENGES)}
    for part in ("encoder.1.self_attention:1", "decoder.0.cross_attention:1"):
        reader = found[part]
        assert (reader.antecedent, reader.antecedent_or_itself, reader.first, reader.second, reader.distractor) == (1, 1, 1, 1, 0)
        assert reader.antecedent_weight == 1
    assert (found["encoder.0.self_attention:0"].antecedent, found["encoder.0.self_attention:0"].distractor) == (0, 1)
    assert found["encoder.0.self_attention:1"].antecedent < 1


def test_the_most_damaging_heads_are_those_that_are_not_idle() -> None:
    """In sentences whose wrong pronoun is the more probable one, contrast and target change places: margins are positive."""
    one = untrained()
    with torch.no_grad():
        for name, part in one.model.named_modules():
            if name.endswith("attention.output"):
                part.weight.zero_()
        one.model.get_submodule("decoder.1.cross_attention.output").weight.normal_(std=3)
    pair, found = most_damaging(one, CHALLENGES, count=2)
    assert {head.place for head in found[:1]} == {"decoder.1.cross_attention"}
    assert "decoder.1.cross_attention" in {head.place for head in pair}


@pytest.mark.slow
def test_the_whole_study() -> None:
    said: list[str] = []
    found = find_antecedents(untrained(), sentences=8, traced=2, search=SHORT, say=said.append)
    assert found.sentences == 4 and len(found.readers) == len(found.confirmed) == 8
    assert [one.part for one in found.readers] == [one.part for one in found.confirmed]
    shares = [one.antecedent for one in found.best("encoder")]
    assert shares == sorted(shares, reverse=True)
    names = [arm.name for arm in found.arms]
    for name in (
        "best encoder head",
        "best two encoder heads",
        "all encoder heads",
        "best cross-attention head",
        "the pair that costs most",
    ):
        assert name in names
    for number, arm in enumerate(found.arms):
        if arm.name.startswith("  control"):
            tested = next(other for other in reversed(found.arms[:number]) if not other.name.startswith("  control"))
            assert len(arm.lost.parts) == len(tested.lost.parts) and not set(arm.lost.parts) & set(tested.lost.parts)
    text = found.to_text()
    assert "The largest weight of it is dog in" in text and "log p" not in text.splitlines()[0]
    assert json.loads(json.dumps(found.to_record()))["sentences"] == 4 and said


def test_bad_input() -> None:
    with pytest.raises(DataError, match="3 sentences"):
        find_antecedents(untrained(), sentences=3)
    with pytest.raises(UsageError, match="no attention"):
        find_antecedents(translator("lstm"))
