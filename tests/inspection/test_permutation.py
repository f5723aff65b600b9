"""Without positions, an encoder's output is the same set of vectors for any order of its words; with them it is not."""

import pytest
import torch
from builders import TRANSLATING
from recorded import RECURRENT, TRANSFORMERS, model, translator

from vitrail.decode.search.beams import SearchConfig
from vitrail.errors import UsageError
from vitrail.inspection.causes.permutation import encode, permute, shuffle, without_positions
from vitrail.inspection.contents import Side
from vitrail.models.kinds.transformer import Transformer

TEXT = "afcbdgmkhp"
SHORT = SearchConfig(beams=1, max_length=3)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_the_law(name: str) -> None:
    found = permute(translator(name), TEXT, search=SHORT)
    assert sorted(found.shuffled) == sorted(TEXT) and found.shuffled != TEXT
    bare = found.as_it_is if TRANSFORMERS[name].positions == "none" else found.without
    assert bare is not None and bare.same and bare.distance <= 1e-5 * max(1, bare.size)
    assert bare.translations[0] == bare.translations[1], "attention sums over the same set"
    if found.without is not None:
        assert not found.as_it_is.same and found.as_it_is.distance > 1e-2


@pytest.mark.parametrize("name", RECURRENT)
def test_recurrence_is_order_itself(name: str) -> None:
    found = permute(translator(name), TEXT, search=SHORT)
    assert found.positions == "recurrent" and found.without is None and not found.as_it_is.same


@pytest.mark.parametrize("name", [name for name, config in TRANSFORMERS.items() if config.positions in ("sinusoidal", "rotary", "learned")])
def test_without_positions_is_the_model_that_has_none(name: str) -> None:
    """The same weights in a model that was built without positions, and every hook gone afterwards."""
    one = model(name)
    size = TRANSLATING[name].vocabularies.source.size, TRANSLATING[name].vocabularies.target.size
    bare = Transformer(
        TRANSFORMERS[name].model_copy(update={"positions": "none"}), source_vocabulary=size[0], target_vocabulary=size[1]
    ).eval()
    weights = {key: value for key, value in one.state_dict().items() if "positions" not in key}
    bare.load_state_dict(weights)
    source = [4, 9, 6, 12, 7]
    before = encode(one, source)
    with without_positions(one):
        assert torch.allclose(encode(one, source), encode(bare, source), atol=1e-6)
    assert torch.equal(encode(one, source), before)


def side(ids: tuple[int, ...], words: tuple[tuple[int, ...], ...]) -> Side:
    return Side(text="a text", ids=ids, pieces=("a",) * len(ids), spans=((0, 1),) * len(ids), words=words)


def test_words_stay_whole_and_the_order_is_another() -> None:
    assert all(shuffle(side((4, 5, 6), ((0, 1), (2,))), seed=seed) == [2, 0, 1] for seed in range(5))
    assert all(shuffle(side((4, 5), ((0, 1),)), seed=seed) == [1, 0] for seed in range(5)), "one word: its tokens"
    assert all(shuffle(side((4, 4, 5), ((0,), (1,))), seed=seed) in ([0, 2, 1], [1, 2, 0], [2, 0, 1], [2, 1, 0]) for seed in range(5))
    for wrong in (side((4, 4), ((0,), (1,))), side((4,), ((0,),))):
        with pytest.raises(UsageError, match="cannot be reordered"):
            shuffle(wrong, seed=1)


def test_the_experiment_in_words() -> None:
    told = permute(translator("pre-layer-sinusoidal"), TEXT, search=SHORT).to_text()
    assert "different vectors for another order" in told and "without positions, the encoder gives the same set of vectors" in told
    record = permute(translator("lstm"), TEXT, search=SHORT).to_record()
    assert record["as_it_is"]["same"] is False and record["without"] is None
