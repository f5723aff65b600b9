"""A head that alone carries something is found by switching heads off, and idle ones lose exactly nothing."""

import json

import pytest
import torch
from grammatical import SHORT, untrained
from recorded import translator

from vitrail.errors import DataError, UsageError
from vitrail.inspection.causes.ablation import Ablation, AblationBaseline, ablate_heads, ablate_pronouns
from vitrail.inspection.causes.parts import heads_of
from vitrail.inspection.studies.ablation_metrics import Bleu, challenge_set
from vitrail.inspection.translator import InspectableTranslator

PLANTED = "decoder.1.cross_attention:1"
SOURCES = [one.source for one in challenge_set()[:8]]


def planted() -> InspectableTranslator:
    """All heads are idle but one: the others' part of the output projection is 0."""
    one = untrained()
    with torch.no_grad():
        for head in heads_of(one.model):
            attention = one.model.get_submodule(head.place)
            columns = slice(head.number * attention.head_width, (head.number + 1) * attention.head_width)
            attention.output.weight[:, columns] *= 8 if str(head) == PLANTED else 0
    return one


@pytest.fixture(scope="module")
def found() -> Ablation:
    one = planted()
    references = [translation.text for translation in one.translate(SOURCES, search=SHORT)]
    assert len(set(references)) > 2, "the planted head makes translations differ"
    return ablate_heads(one, SOURCES, references, search=SHORT)


def test_the_planted_head_is_found(found: Ablation) -> None:
    assert found.value == pytest.approx(100) and len(found.heads) == 12
    best = found.worst(1)[0]
    assert (
        best.parts == (PLANTED,)
        and best.lost > 20
        and abs(best.nats_lost) > 0.01
        and best.low > 1e-9
        and best.low <= best.lost <= best.high
    )
    idle = [one for one in found.heads if one is not best]
    assert all(one.lost == 0 and one.low <= 1e-9 and abs(one.nats_lost) < 1e-6 for one in idle)


def test_the_table_has_a_row_a_layer(found: Ablation) -> None:
    assert [len(row) for row in found.table("cross")] == [2, 2] and found.table("cross")[1][1] == found.worst(1)[0].lost
    text = found.to_text()
    lines = text.splitlines()
    assert any(line.startswith("cross-attention") and "head 1" in line for line in lines)
    assert PLANTED in text and "version:" in text and "sentences/s" in text
    rows = [line for line in lines if line.startswith("layer")]
    assert len(rows) == 12 and len({len(line) for line in rows if len(line.split()) == 4}) <= 2, "columns are aligned"
    assert json.loads(json.dumps(found.to_record()))["heads"][0]["parts"] == ["encoder.0.self_attention:0"]


def test_several_parts_together() -> None:
    one = planted()
    references = [translation.text for translation in one.translate(SOURCES, search=SHORT)]
    trial = AblationBaseline.begin(one, Bleu(SOURCES, references), search=SHORT)
    assert trial.without([PLANTED, "encoder.0"]).parts == (PLANTED, "encoder.0")
    assert trial.without([]).lost == 0
    assert [translation.text for translation in one.translate(SOURCES, search=SHORT)] == references


def test_pronouns_and_progress() -> None:
    said: list[str] = []
    found = ablate_pronouns(untrained(), sentences=4, kinds=("encoder",), search=SHORT, say=said.append)
    assert found.sentences == 4 and len(found.heads) == len(said) == 4 and said[0].startswith("1/4  encoder.0.self_attention:0")
    assert found.score == "pronoun accuracy" and any(one.nats_lost != 0 for one in found.heads)


def test_models_without_heads_and_unequal_counts() -> None:
    with pytest.raises(UsageError, match="no attention heads"):
        ablate_heads(translator("lstm"), ["abc"], ["abc"])
    with pytest.raises(UsageError, match="no encoder heads"):
        ablate_heads(translator("gru-bahdanau"), ["abc"], ["abc"], kinds=("encoder",))
    with pytest.raises(DataError):
        ablate_heads(untrained(), ["a", "b"], ["a"])


def test_recurrent_attention_is_one_head() -> None:
    found = ablate_heads(translator("gru-bahdanau"), ["abc", "fg h"], ["pon", "a b"], search=SHORT)
    assert [one.parts for one in found.heads] == [("attention:0",)] and found.heads[0].nats_lost != 0
