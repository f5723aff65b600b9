"""The page asks no question about the architecture: it is told places. Read from its sources."""

import re

import pytest
from builders import TRANSLATING
from recorded import record

from vitrail.inspection.page import ASSETS
from vitrail.inspection.page.payload import make_payload

SOURCES = {path.relative_to(ASSETS).as_posix(): path.read_text(encoding="utf-8") for path in sorted(ASSETS.rglob("*.js"))}

ASKED = re.compile(r"\bmodel\??\.(?:kind|norm_position|bidirectional|reverse_source|encoder_layers|decoder_layers|heads)\b")
"""Of the configuration, what one architecture alone has or what places tell. What names an equation that is drawn may be read: the cell,
the norm, the activation, the positions, the attention and what it is fed."""
READ = re.compile(
    r"""/[^/\n]*(?:encoder|decoder|_cell|self_attention|cross_attention|residual)[^/\n]*\\?/\.(?:exec|test)|(?:starts|ends)With\(["'`](?:gradients\.)?(?:encoder|decoder|\.hidden|\.weights)"""
)
"""A pattern, a beginning or an ending that reads the name of a Probe."""
NAMED = {"views/08_maps.js": 1}
"""Maps may hold the layers of another model, of which a record has the names alone."""


@pytest.mark.parametrize(
    "text",
    [
        'if (model.kind === "transformer") {',
        "const pre = record.meta.model.norm_position;",
        "record.meta.model?.reverse_source ? a : b",
        r"const found = /^(encoder|decoder)\.(\d+)/.exec(name);",
        r"if (/^decoder\.(\d+)\./.test(name)) return;",
        'names.filter((name) => name.startsWith("gradients.encoder."))',
        "name.endsWith('.hidden')",
    ],
)
def test_each_way_of_asking_is_seen(text: str) -> None:
    assert ASKED.search(text) or READ.search(text)


@pytest.mark.parametrize(
    "text", ["c.kind !== 'cross'", 'part.endsWith("_gate")', "/^<(sos|eos|pad)>$/.test(piece)", "model.cell", "record.has(name)"]
)
def test_other_questions_are_none(text: str) -> None:
    assert not ASKED.search(text) and not READ.search(text)


def test_the_page_asks_no_question_about_the_architecture() -> None:
    assert len(SOURCES) > 20
    assert {name: found for name, text in SOURCES.items() if (found := ASKED.findall(text))} == {}
    assert {name: len(found) for name, text in SOURCES.items() if (found := READ.findall(text))} == NAMED


@pytest.mark.parametrize("name", list(TRANSLATING))
def test_the_page_is_told_the_places_of_every_kind_of_model(name: str) -> None:
    inspection = record(name)
    told = make_payload(inspection)["meta"]["places"]
    known = {place.name: place for place in inspection.places}
    assert [one["name"] for one in told] == [name for name, place in known.items() if place.role not in ("logits", "score", "mask")]
    for one in told:
        place = known[one["name"]]
        assert (one["role"], one["side"], one["layer"], one["order"], one["path"]) == (
            place.role, place.side, place.layer, place.order, place.path,
        )  # fmt: skip
    assert all(any(one["layer_output"] and one["side"] == side for one in told) for side in ("source", "target"))
