"""States of another sentence, put in place: all of them carry the whole effect, those of words that are alike none."""

import pytest
import torch
from grammatical import SHORT, TINY, untrained

from vitrail.decode.forced import distributions
from vitrail.inspection.causes.interventions import intervene
from vitrail.inspection.causes.tracing import REGIONS, make_counterfactual, trace_pair, trace_pronouns, with_antecedent
from vitrail.inspection.studies.ablation_metrics import challenge_set
from vitrail.models.architectures import ModelConfig
from vitrail.models.configs.recurrent import RecurrentConfig
from vitrail.phrasebook.grammar import tokenise

MODELS: dict[str, ModelConfig] = {
    "pre": TINY,
    "post": TINY.model_copy(update={"norm_position": "post"}),
    "recurrent": RecurrentConfig(embedding_width=16, width=32, attention="luong-dot", encoder_layers=2, dropout=0.0),
}
OPENING = next(one for one in challenge_set() if one.source == "A dog ate the food because it was hungry.")


def test_another_antecedent() -> None:
    assert with_antecedent(OPENING, "magpie") == "A magpie ate the food because it was hungry."
    assert with_antecedent(OPENING, "owl") == "An owl ate the food because it was hungry."
    for challenge in challenge_set()[:50]:
        words, changed = tokenise(challenge.source), tokenise(with_antecedent(challenge, "owl"))
        assert len(words) == len(changed) and changed[challenge.antecedent_position] == "owl"
        assert sum(a != b for a, b in zip(words, changed, strict=True)) <= 2
        assert with_antecedent(challenge, challenge.antecedent) == challenge.source


@pytest.mark.parametrize("name", MODELS)
def test_the_embeddings_of_the_antecedent_carry_the_whole_effect(name: str) -> None:
    one = untrained(MODELS[name])
    challenges = [challenge for challenge in challenge_set()[:60] if challenge.antecedent in ("cat", "dog", "cow")]
    pairs = [pair for challenge in challenges if (pair := make_counterfactual(one, challenge, "pig")) is not None][:2]
    assert len(pairs) == 2
    for pair in pairs:
        logs = distributions(one.model, pair.other, pair.prefix)[-1]
        assert pair.other_margin == pytest.approx(float(logs[pair.right] - logs[pair.wrong]), abs=1e-5)
        found = trace_pair(one, pair)
        values = list(dict.fromkeys(value for value, _ in found))
        assert values[0] == "source_embedded" and values[-1] == "memory" and len(values) == 4
        for region in REGIONS:
            effect, flipped = found["source_embedded", region]
            assert effect == pytest.approx(1 if region == "antecedent" else 0, abs=1e-3)
            assert flipped == ((pair.other_margin if region == "antecedent" else pair.margin) < 0)
        if name != "recurrent":  # whose decoder also starts from the encoder's last state
            assert any(abs(found["memory", region][0]) > 1e-3 for region in REGIONS if region != "antecedent")
        assert sum(map(len, pair.regions.values())) == len(pair.source) + 1


def test_a_study_of_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """An untrained model resolves nothing, so that every pair is let through."""
    from vitrail.inspection.causes import tracing

    one = untrained()

    def find(translator: object, challenge: object, donors: object, *, search: object) -> object:
        pair = make_counterfactual(one, challenge, "pig")  # pyright: ignore[reportArgumentType]
        return None if pair is None else (pair, -1.0)

    assert trace_pronouns(one, challenge_set()[:2], search=SHORT) is None
    monkeypatch.setattr(tracing, "_find_pair", find)
    found = trace_pronouns(one, challenge_set()[:30], sentences=2)
    assert found is not None and found.sentences == 2 and found.tried >= 2 and found.prefix_alone == 1
    assert [unread.region for unread in found.unread] == list(REGIONS) and any(unread.lost != 0 for unread in found.unread)
    text = found.to_text().splitlines()
    assert len({len(line) for line in text[2:7]}) == 1, "columns are aligned"
    assert found.to_record()["traced"][0]["value"] == "source_embedded"


def test_hidden_words_are_read_by_nobody() -> None:
    """Hiding a region costs what leaving its tokens to padding costs."""
    one = untrained()
    pair = make_counterfactual(one, OPENING, "pig") or pytest.fail("no pair")
    padded = [0 if place in pair.regions["antecedent"] else token for place, token in enumerate(pair.source)]
    with intervene(one.model, hidden=pair.regions["antecedent"]):
        hidden = distributions(one.model, pair.source, pair.prefix)
    assert torch.allclose(hidden, distributions(one.model, padded, pair.prefix), atol=1e-6)
