"""What the page is told of links and planes is what the analyses find."""

from functools import cache

import numpy as np
import pytest
from recorded import record
from scipy.stats import ortho_group  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

from vitrail.inspection.alignment.links import link, pool_by_word, to_pharaoh
from vitrail.inspection.alignment.word_alignment import align
from vitrail.inspection.page.derived import tell_links, tell_planes
from vitrail.inspection.page.payload import make_payload
from vitrail.inspection.record import Inspection

DEEP = "pre-layer-sinusoidal"


@cache
def looked(name: str = DEEP) -> Inspection:
    return record(name)


def test_links_of_every_choice_are_those_of_its_mean() -> None:
    inspection = align(looked(), heads=[(0, 1)])
    cross = inspection.weights("cross")
    choices = {"all": cross.mean((0, 1)), "chosen": inspection.weights("cross", layer=0, head=1)}
    choices |= {f"L{layer}": heads.mean(0) for layer, heads in enumerate(cross)}
    choices |= {f"L{layer}H{number}": head for layer, heads in enumerate(cross) for number, head in enumerate(heads)}
    told = tell_links(inspection, layers=range(len(cross)))
    assert set(told) == set(choices) and len(told) > 5
    for choice, weights in choices.items():
        matrix = pool_by_word(weights, sources=inspection.source.words, targets=inspection.target.words)
        assert told[choice]["grown"]["links"] == to_pharaoh(link(matrix))
        assert told[choice]["target"]["links"] == to_pharaoh(link(matrix, method="target"))
    chosen = told["chosen"]["grown"]
    assert chosen.get("pharaoh", chosen["links"]) == inspection.facts.extras["alignment"]["pharaoh"]


def test_links_of_the_analysis_are_told_as_it_recorded_them() -> None:
    inspection = align(looked(), heads=[(0, 1)], method="intersection")
    recorded = to_pharaoh([(int(i), int(j)) for i, j in inspection["alignment.links"]])
    assert tell_links(inspection, layers=[0])["chosen"]["grown"]["links"] == recorded


def test_where_the_page_holds_the_last_layer_alone_links_are_of_that_layer() -> None:
    payload = make_payload(looked(), budget=1)
    held = [name for name in payload["arrays"] if name.endswith("cross_attention.weights")]
    last = len(looked().weights("cross")) - 1
    assert held == [looked().attentions("cross")[last] + ".weights"]
    assert payload["meta"]["links"] == tell_links(looked(), layers=[last])
    assert f"L{last}" in payload["meta"]["links"] and "L0" not in payload["meta"]["links"]


@pytest.mark.parametrize("name", [DEEP, "post-layer-untied", "gru-one-way-reversed", "lstm-deep-residual-untied"])
def test_planes_go_from_the_embeddings_through_all_layers_to_the_memory(name: str) -> None:
    inspection = looked(name)
    told = tell_planes(inspection)
    outputs = [place.name for place in inspection.places if place.layer_output and place.side == "source"]
    assert [one["place"] for one in told if one["place"] not in ("source_embedded", "source_input")] == [*outputs, "memory"]
    for one in told:
        values = np.asarray(inspection[one["place"]], dtype=np.float64)
        centred = values - values.mean(0)
        sizes = np.sort(np.linalg.eigvalsh(centred @ centred.T))[::-1]
        np.testing.assert_allclose(one["explained"], (sizes / sizes.sum())[:2], atol=1e-5)
        points = np.array(one["points"])
        np.testing.assert_allclose((points**2).sum(0), sizes[:2], rtol=1e-3, atol=1e-4)


def test_planes_do_not_depend_on_how_the_space_is_turned() -> None:
    inspection = looked()
    turn = ortho_group.rvs(inspection["memory"].shape[1], random_state=0)
    turned = Inspection(inspection.facts, {**inspection.arrays, "memory": np.asarray(inspection["memory"] @ turn, dtype=np.float32)})
    before, after = (np.array(tell_planes(one)[-1]["points"]) for one in (inspection, turned))
    np.testing.assert_allclose(np.abs(before), np.abs(after), atol=1e-3)
