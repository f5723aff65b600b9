"""A record comes back as it was written, says what docs/inspection.md says, and what is no record is refused."""

import io
import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from builders import TRANSLATING
from recorded import ATTENTIVE, RECURRENT, TRANSFORMERS, model, record, translator

import vitrail
from vitrail.data.vocabularies.subwords import CharacterVocabulary
from vitrail.errors import ModelError, UsageError
from vitrail.inspection.causes.attribution import attribute
from vitrail.inspection.causes.lens import apply_lens
from vitrail.inspection.contents import BOTH_SIDES, FORMAT, make_side, schema_text
from vitrail.inspection.record import Inspection

pytestmark = pytest.mark.sampled(8)

DOCS = Path(__file__).parent.parent.parent / "docs"
every_kind = pytest.mark.parametrize("name", TRANSLATING)


@every_kind
def test_it_comes_back_to_the_bit(name: str, tmp_path: Path) -> None:
    record(name).save(tmp_path / "one.npz")
    back = Inspection.load(tmp_path / "one.npz")
    assert back.facts == record(name).facts and list(back.arrays) == list(record(name).arrays)
    for what, values in record(name).arrays.items():
        assert back[what].dtype == values.dtype and back[what].shape == values.shape and back[what].tobytes() == values.tobytes(), what
    back.save(tmp_path / "two.npz")
    assert (tmp_path / "two.npz").read_bytes() == (tmp_path / "one.npz").read_bytes()


def test_numpy_reads_it_without_us(tmp_path: Path) -> None:
    record("lstm").save(tmp_path / "one.npz")
    with np.load(tmp_path / "one.npz", allow_pickle=False) as content:
        np.testing.assert_array_equal(content["memory"], record("lstm")["memory"])
        assert json.loads(content["facts.json"])["format"] == BOTH_SIDES


def test_analyses_are_kept_with_it(tmp_path: Path) -> None:
    name = "pre-layer-sinusoidal"
    full = apply_lens(attribute(record(name), model(name)), model(name), TRANSLATING[name].vocabularies.target)
    full.save(tmp_path / "full.npz")
    back = Inspection.load(tmp_path / "full.npz")
    assert back.facts.model_dump(mode="json") == full.facts.model_dump(mode="json")
    assert set(back.facts.extras) == {"attribution", "logit_lens"} and back["logit_lens.top_ids"].dtype == np.int32
    assert set(record(name).facts.extras) == set(), "the record that was analysed is as before"


@pytest.mark.parametrize("name", ["a.html", "a.npz"])
def test_a_record_takes_the_place_of_a_record_alone(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04 <title>mine</title>")
    with pytest.raises(UsageError, match="which vitrail did not write"):
        record("lstm").save(tmp_path / name)
    assert (tmp_path / name).read_bytes() == b"PK\x03\x04 <title>mine</title>"
    (tmp_path / name).unlink()
    record("lstm").save(tmp_path / name)
    record("rnn").save(tmp_path / name)


@pytest.mark.parametrize("name", ["x.npy", "x", "x.json", "npz"])
def test_a_name_that_tells_no_format_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.html or \.npz"):
        record("rnn").save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def rewritten(path: Path, *, facts: str | None = None, leave_out: str = "", **arrays: bytes) -> Path:
    with zipfile.ZipFile(io.BytesIO(record("rnn").to_npz())) as content, zipfile.ZipFile(path, "w") as out:
        for one in content.namelist():
            if one != leave_out and one.removesuffix(".npy") not in arrays:
                out.writestr(one, facts if one == "facts.json" and facts is not None else content.read(one))
        for one, values in arrays.items():
            out.writestr(f"{one}.npy", values)
    return path


def test_what_is_no_record_is_refused(tmp_path: Path) -> None:
    path, document = tmp_path / "x.npz", json.loads(record("rnn").facts.model_dump_json())
    objects = io.BytesIO()
    np.save(objects, np.array([{}], dtype=object), allow_pickle=True)
    foreign = [
        tmp_path / "missing.npz",
        tmp_path,
        rewritten(tmp_path / "no_facts.npz", leave_out="facts.json"),
        *(
            rewritten(tmp_path / f"facts_{number}.npz", facts=facts)
            for number, facts in enumerate(("", "[]", "null", "{", '{"format": 1}', json.dumps(document | {"more": 1})))
        ),
        rewritten(tmp_path / "objects.npz", memory=objects.getvalue()),
        rewritten(tmp_path / "text.npz", memory=b"no array"),
        rewritten(tmp_path / "huge.npz", memory=_header(shape=(10**15,))),
    ]
    for content in (b"", b"PK", b"<html>", np.arange(3).tobytes()):
        path.write_bytes(content)
        with pytest.raises(ModelError, match="not a record"):
            Inspection.load(path)
    np.savez(tmp_path / "other.npz", memory=np.zeros(3))
    for one in (*foreign, tmp_path / "other.npz"):
        with pytest.raises(ModelError, match="not a record"):
            Inspection.load(one)
    newer = rewritten(tmp_path / "newer.npz", facts=json.dumps({"format": FORMAT + 1, "unheard": []}))
    with pytest.raises(ModelError, match=rf"format {FORMAT + 1}[\s\S]*newer vitrail"):
        Inspection.load(newer)


def _header(*, shape: tuple[int, ...]) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return out.getvalue() + bytes(64)


def test_damage_anywhere_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    """A flipped byte, or an end that is missing, here and there all over the file."""
    whole, path = record("rnn").to_npz(), tmp_path / "x.npz"
    arrays, refused = record("rnn").arrays, 0
    for place in range(0, len(whole), len(whole) // 150):
        for content in (whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :], whole[:place]):
            path.write_bytes(content)
            try:
                back = Inspection.load(path)
            except ModelError:
                refused += 1
                continue
            known = {name for name in back.arrays if name in arrays}
            assert all(back[name].tobytes() == arrays[name].tobytes() for name in known)
    assert refused > 250


def test_attentions_by_kind_layer_and_head() -> None:
    deep, flat = record("unequal-depths-wide-heads"), record("gru-bahdanau")
    assert deep.attentions("encoder") == {layer: f"encoder.{layer}.self_attention" for layer in range(3)}
    assert deep.attentions("cross") == {0: "decoder.0.cross_attention"}
    assert flat.attentions("cross") == {0: "attention"} and flat.attentions("encoder") == {} == record("rnn").attentions("cross")
    source, target = len(deep.source_tokens), len(deep.target_tokens)
    assert deep.weights("encoder").shape == (3, 3, source, source) and deep.weights("cross", layer=0).shape == (3, target, source)
    np.testing.assert_array_equal(deep.weights("encoder", layer=2, head=1), deep["encoder.2.self_attention.weights"][1])
    np.testing.assert_array_equal(deep.weights("encoder", head=1), deep.weights("encoder")[:, 1])
    for kind, layer, head, said in (
        ("encoder", None, 3, "encoder head 3"),
        ("crossed", None, None, "crossed"),
        ("cross", 1, None, "cross layer 1"),
        ("encoder", 0, 3, "encoder layer 0 head 3"),
        ("encoder", 0, -1, "head -1"),
    ):
        with pytest.raises(UsageError, match=said):
            deep.weights(kind, layer=layer, head=head)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UsageError, match="this model has none"):
        flat.weights("decoder")


def test_a_record_of_an_unknown_model_is_told() -> None:
    strange = record("rnn").facts.model_copy(update={"model": {"kind": "perceptron"}})
    with pytest.raises(ModelError, match="perceptron"):
        Inspection(strange, record("rnn").arrays).attentions("cross")


def test_its_repr_is_one_short_line() -> None:
    one = record("gru-bahdanau")
    assert repr(one) == f"<Inspection of recurrent: {one.source.text!r} -> {one.target.text!r}, {len(one.arrays)} arrays>"
    facts = record("rnn").facts
    endless = facts.model_copy(update={"source": facts.source.model_copy(update={"text": "word\n" * 300})})
    assert len(repr(Inspection(endless, {}))) < 250 and "\n" not in repr(Inspection(endless, {}))


def test_a_name_that_is_not_there_is_answered_by_those_like_it() -> None:
    with pytest.raises(UsageError, match=r"decoder\.9\.hidden[\s\S]*decoder\.0\.hidden"):
        record("rnn")["decoder.9.hidden"]
    with pytest.raises(UsageError, match=r"latent[\s\S]*memory"):
        record("rnn")["latent"]


# Texts of all kinds.

TEXTS = [
    "a",
    "The dog's food, isn't it?",
    "הכלב אכל את האוכל.",
    "الكلب أكل الطعام لأنه كان جائعا",
    "犬は餌を食べた。",
    "👩‍👩‍👧 ate 🍎🍎 e\u0301",
    "<script>alert(1)</script> & <b>bold</b>",
    "a\u200bb\u2028c\u00a0d",
]


@pytest.mark.parametrize("text", TEXTS)
def test_spans_and_words_cover_the_text(text: str) -> None:
    vocabulary = CharacterVocabulary(sorted(set("".join(TEXTS))))
    side = make_side(vocabulary.encode(text), vocabulary)
    assert "".join(side.text[first:last] for first, last in side.spans) == side.text
    assert len(side.ids) == len(side.pieces) == len(side.spans)
    owned = [place for word in side.words for place in word]
    assert len(owned) == len(set(owned)) and all(side.word(number).strip() for number in range(len(side.words)))
    spelled = {place for place, (first, last) in enumerate(side.spans) if side.text[first:last].strip()}
    assert spelled <= set(owned) | {place for place in spelled if not re.match(r"\w|[^\w\s]", side.text[slice(*side.spans[place])])}


# What docs/inspection.md and docs/inspection.schema.json say.


def test_the_published_schema_is_that_of_the_facts() -> None:
    """Written by `schema_text()`; a change of it is a change for whoever reads records, and `FORMAT` may have to grow."""
    assert (DOCS / "inspection.schema.json").read_text() == schema_text()
    published = json.loads(schema_text())
    document = json.loads(record("rnn").facts.model_dump_json())
    assert set(published["properties"]) == set(document) and published["additionalProperties"] is False
    assert all("description" in one for name, one in published["$defs"]["Side"]["properties"].items())


STANDING_FOR = {
    "ATTENTION": (
        ("encoder", r"encoder\.\d+\.self_attention"),
        ("self", r"decoder\.\d+\.self_attention"),
        ("", r"decoder\.\d+\.cross_attention"),
    ),
    "RESIDUAL": (("encoder", r"encoder\.\d+\.residual_[12]"), ("", r"decoder\.\d+\.residual_[123]")),
    "FEEDFORWARD": (("encoder", r"encoder\.\d+\.feed_forward"), ("", r"decoder\.\d+\.feed_forward")),
    "CELL": (("encoder", r"encoder\.\d+\.(?:forward|backward)_cell"), ("", r"decoder\.\d+")),
}


def documented(section: str) -> list[tuple[str, str, str]]:
    """Name, shape and condition of each row of a section's tables."""
    text = (DOCS / "inspection.md").read_text().split(f"### {section}\n")[1].split("\n#")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| `")]
    return [(name.strip("`"), shape, where) for name, shape, where, *_ in rows]


def expected(name: str) -> dict[str, set[tuple[int, ...]]]:
    """Pattern -> the shapes that the arrays it matches may have, for one model."""
    config, found = TRANSLATING[name].config, dict[str, set[tuple[int, ...]]]()
    sizes = {"S": len(record(name).source_tokens), "T": len(record(name).target_tokens), "D": config.width, "1": 1, "5": 5}
    sizes["V"] = TRANSLATING[name].vocabularies.target.size
    if name in TRANSFORMERS:
        shape = TRANSFORMERS[name]
        sizes |= {"H": shape.heads, "E": shape.width_of_head, "HE": shape.heads * shape.width_of_head, "F": shape.feed_forward}
        sizes["N"] = shape.decoder_layers + 1
    else:
        sizes["W"] = RECURRENT[name].embedding_width
    rows = documented("Of every model") + documented("Of a Transformer" if name in TRANSFORMERS else "Of a recurrent model")
    rows += [row for row in documented("Of analyses") if name in TRANSFORMERS or row[0].startswith("attribution")]
    for what, shape, where in rows:
        if (where == "attention" and name not in ATTENTIVE) or (where.startswith("cell") and where != f"cell = {RECURRENT[name].cell}"):
            continue
        recurs = name in TRANSFORMERS and TRANSFORMERS[name].decoder == "ssru"
        if where == "decoder = ssru" and not recurs:
            continue
        head, _, tail = what.partition(".")
        for side, place in STANDING_FOR.get(head, (("", ""),)):
            if side == "self" and recurs:
                continue
            own = dict(sizes)
            if side == "encoder":
                own["T"] = own["S"]
                own["D"] = config.width // 2 if head == "CELL" and RECURRENT[name].bidirectional else config.width
            elif side == "self":
                own["S"] = own["T"]
            pattern = rf"{place}\.{re.escape(tail)}" if place else re.escape(what).replace(r"\.L\.", r"\.\d+\.")
            found.setdefault(pattern, set()).add(tuple(own[letter] for letter in shape.split()))
    return found


@every_kind
def test_every_array_is_documented_and_everything_documented_is_there(name: str) -> None:
    full = attribute(record(name), model(name), methods=None if name in ("lstm", "gru-bahdanau") else ["occlusion"])
    full = apply_lens(full, model(name), TRANSLATING[name].vocabularies.target) if name in TRANSFORMERS else full
    patterns = {
        pattern: shapes
        for pattern, shapes in expected(name).items()
        if not pattern.startswith("attribution") or name in ("lstm", "gru-bahdanau") or pattern.endswith("occlusion")
    }
    for pattern, shapes in patterns.items():
        matching = [array for array in full.arrays if re.fullmatch(pattern, array)]
        assert matching, f"{pattern} is documented and not there"
        assert {full[array].shape for array in matching} == shapes, pattern
    told = re.compile("|".join([*patterns, r"parameters\..*"]))
    assert [array for array in full.arrays if not told.fullmatch(array)] == [], "not documented"


def test_the_example_of_the_documentation_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = (DOCS / "inspection.md").read_text().split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(vitrail, "load", lambda path: translator("pre-layer-sinusoidal"))
    exec(text.replace("A dog ate the food because it was hungry.", "afc bd"), {})
    assert {path.name for path in tmp_path.iterdir()} == {"dog.html", "dog.npz"} and capsys.readouterr().out.count("\n") > 7


def test_a_small_archive_that_holds_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.npz"
    monkeypatch.setattr("vitrail.inspection.record.MOST_BYTES", 10_000_000)
    monkeypatch.setattr("vitrail.inspection.record.MOST_FACTS", 1_000_000)
    for name, size, told in (
        ("facts.json", 1_000_001, "1,000,001 bytes of facts"),
        ("memory.npy", 10_000_001, "10,000,001 bytes unpacked"),
    ):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, bytes(size))
        assert path.stat().st_size < 20_000
        with pytest.raises(ModelError, match=rf"a record of {told}[\s\S]*at most 10?,000,000"):
            Inspection.load(path)
