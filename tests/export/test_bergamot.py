"""Students for the engine of browsers: the files are Marian's, the numbers what they say, and the program translates as we do."""

import os
import random
import struct
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import exits
import numpy as np
import pytest
import torch

from vitrail import cli
from vitrail.data.batches import collate
from vitrail.data.vocabularies.subwords import EOS, PAD, SOS, UNK, Vocabularies, train_sentencepiece
from vitrail.decode.shortlists.table import Shortlist, save_shortlist
from vitrail.doctor.checks import programs
from vitrail.errors import ModelError, UsageError
from vitrail.export.marian import browser, engine
from vitrail.export.marian.binary import floats, model_file, rounded, shortlist_file, text
from vitrail.export.marian.browser import export_browser
from vitrail.export.marian.lexical import EightsShortlist, lists_by_token
from vitrail.export.marian.rounding import OUTPUT, input_multipliers, matrices_of, round_matrix, round_weights, rounded_inputs
from vitrail.export.translators import parity
from vitrail.files import read_manifest
from vitrail.models.base import unique_tensors
from vitrail.models.build import build_model
from vitrail.models.configs.transformer import PRESETS, TransformerConfig
from vitrail.models.model_folder import load_model, save_model

WORDS = ["the", "a", "small", "red", "dog", "cat", "bird", "eats", "sees", "throws", "bread", "river", "near", "with", "and", "house"]
MOTS = ["le", "la", "petit", "rouge", "chien", "chat", "oiseau", "mange", "voit", "jette", "pain", "rivière", "près", "avec", "et", "pas"]
SHAPE: dict[str, Any] = PRESETS["student"].model_dump() | {
    "encoder_layers": 2,
    "decoder_layers": 2,
    "width": 64,
    "heads": 4,
    "feed_forward": 128,
    "output_bias": True,
    "dropout": 0.0,
}


STEPS = 250


def sentences(count: int, *, seed: int = 1) -> list[tuple[str, str]]:
    """Words, and the same word by word in the other language."""
    draw, other = random.Random(seed), dict(zip(WORDS, MOTS, strict=True))
    rows = [draw.choices(WORDS, k=draw.randint(2, 6)) for _ in range(count)]
    return [(" ".join(row), " ".join(other[word] for word in row)) for row in rows]


def student(folder: Path, *, kind: Any = "bpe", joint: bool = True, steps: int = 0, **changes: Any) -> Path:
    """A student, with vocabularies of no whole eights, whose biases are drawn or that has learned to translate words for some steps."""
    pairs = sentences(2000)
    sources, targets = ([pair[side] for pair in pairs] for side in (0, 1))
    source = train_sentencepiece(sources[:300] + targets[:300] * joint, size=333, kind=kind)
    target = source if joint else train_sentencepiece(targets[:300], size=307, kind=kind)
    both = Vocabularies(source, target, joint=joint)
    torch.manual_seed(11)
    config = TransformerConfig.model_validate(SHAPE | {"tie": "all" if joint else "target"} | changes)
    made = build_model(config, both)
    optimizer = torch.optim.Adam(made.parameters(), lr=0)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 2e-3 * min(1, (step + 1) / 60)
        some = random.Random(step).sample(range(len(pairs)), 32)
        batch = collate(source.encode_batch([sources[one] for one in some]), target.encode_batch([targets[one] for one in some]))
        optimizer.zero_grad()
        loss = made.loss(batch)
        (loss.nats / loss.tokens).backward()
        optimizer.step()
    tensors = unique_tensors(made)
    if not steps:
        tensors = {name: value + 0.2 * torch.randn_like(value) if value.ndim == 1 else 1.6 * value for name, value in tensors.items()}
    save_model(folder, tensors=tensors, config=config, vocabularies=both, facts={"source_language": "en", "target_language": "fr"})
    return folder


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser, "check_texts", lambda folder, given: parity.check_texts(folder, count=4, given=given))


def items(data: bytes) -> dict[str, tuple[int, tuple[int, ...], bytes, int]]:
    """Type, shape, data and place of each item, read by the description of Marian's format."""
    version, count = struct.unpack_from("<QQ", data)
    assert version == 1
    at, headers = 16 + 32 * count, [struct.unpack_from("<QQQQ", data, 16 + 32 * number) for number in range(count)]
    names, shapes = list[str](), list[tuple[int, ...]]()
    for length, *_ in headers:
        assert data[at + length - 1] == 0
        names.append(data[at : at + length - 1].decode())
        at += length
    for _, _, axes, _ in headers:
        shapes.append(struct.unpack_from(f"<{axes}i", data, at))
        at += 4 * axes
    at += 8 + struct.unpack_from("<Q", data, at)[0]
    found: dict[str, tuple[int, tuple[int, ...], bytes, int]] = {}
    for name, shape, (_, kind, _, size) in zip(names, shapes, headers, strict=True):
        found[name] = (kind, shape, data[at : at + size], at)
        at += size
    assert at == len(data)
    return found


def test_a_file_is_marians() -> None:
    one, other = np.arange(6, dtype=np.float32).reshape(1, 6), np.array([[1, -2], [3, -4], [5, 127]], np.int8)
    found = items(model_file({"b": floats(one), "W": rounded(other, (2, 3), 0.5), "special:model.yml": text("a: 1\n")}))
    assert [(name, kind, shape) for name, (kind, shape, *_) in found.items()] == [
        ("W", 0x4101, (2, 3)),
        ("b", 0x404, (1, 6)),
        ("special:model.yml", 0x101, (6,)),
    ]
    assert np.frombuffer(found["b"][2][:24], "<f4").tolist() == one[0].tolist()
    assert np.frombuffer(found["W"][2][:6], np.int8).tolist() == [1, -2, 3, -4, 5, 127]
    assert struct.unpack_from("<f", found["W"][2], 6) == (0.5,) and found["special:model.yml"][2] == b"a: 1\n\0"
    assert all(place % 256 == 0 for *_, place in found.values())


def test_a_shortlist_is_marians() -> None:
    data = shortlist_file([[], [9, 7, 9], [8]], first=4, best=2)
    magic, told, first, best, offsets, ids = struct.unpack_from("<6Q", data)
    assert (magic, first, best, offsets, ids) == (0xF11A48D5013417F5, 4, 2, 4, 3)
    assert struct.unpack_from("<4Q", data, 48) == (0, 0, 2, 3) and struct.unpack_from("<3I", data, 80) == (7, 9, 8) and len(data) == 92
    seed = 0
    for number in range(2, len(data) // 8):
        word = int.from_bytes(data[8 * number : 8 * number + 8], "little")
        seed ^= (word + 0x9E3779B9 + (seed << 6) + (seed >> 2)) % 2**64
    assert seed == told


@torch.no_grad()
def test_rounded_products_are_those_of_whole_numbers(tmp_path: Path) -> None:
    """One layer of a student against whole numbers in double precision."""
    model = load_model(student(tmp_path / "model")).model
    sources, targets = [[260, 270, 265], [261, 262]], [[263, 264], [266, 267, 268]]
    multipliers = input_multipliers(model, sources, targets)
    name, part = next(iter(matrices_of(model).items()))
    assert set(multipliers) == {*matrices_of(model), OUTPUT} and all(value > 0 for value in multipliers.values())
    kept = round_matrix(part.weight)
    values = torch.randn(5, 64) * 2
    whole = np.clip(np.rint(values.double().numpy() * multipliers[name]), -127, 127) @ kept.values.astype(np.float64).T
    expected = whole / (multipliers[name] * kept.multiplier) + part.bias.double().numpy()
    round_weights(model)
    norm = next(one for one in model.modules() if isinstance(one, torch.nn.LayerNorm))
    small = 1e-3 * values  # so that the epsilon of Marian's norms, 1e-6, is seen
    centred = small - small.mean(-1, keepdim=True)
    normed = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt() * norm.weight + norm.bias
    torch.testing.assert_close(norm(small), normed)
    with rounded_inputs(model, multipliers):
        found = part(values)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)
    assert np.abs(found.numpy() - part(values).numpy()).max() > 1e-4, "nothing is rounded any more"


def test_no_two_products_leave_16_bits() -> None:
    """Whatever the inputs are: their shifted numbers are 0 to 254, and what WebAssembly adds in 16 bits are products of neighbours."""
    for weight in (torch.randn(40, 64), torch.rand(8, 64), torch.tensor([[1.0, 1.0, -1.0, -1.0]]), torch.zeros(2, 4)):
        kept = round_matrix(weight)
        pairs = kept.values.astype(np.int64).reshape(len(weight), -1, 2)
        assert (254 * np.maximum(pairs, 0).sum(2)).max() <= 32767 and (254 * np.minimum(pairs, 0).sum(2)).min() >= -32768
        assert float((kept.widened() - weight).abs().max()) <= 0.501 / kept.multiplier


@pytest.mark.parametrize("joint", [True, False])
def test_its_items_are_its_weights(tmp_path: Path, joint: bool) -> None:
    export_browser(student(tmp_path / "model", joint=joint), tmp_path / "theirs", check=False)
    sizes = (336, 336) if joint else (336, 312)
    found = items((tmp_path / "theirs" / "model.enfr.intgemm.alphas.bin").read_bytes())
    tensors = unique_tensors(load_model(tmp_path / "model").model)
    settings = found["special:model.yml"][2].decode()
    for line in ('transformer-decoder-autoreg: "rnn"', 'dec-cell: "ssru"', f"dim-vocabs:\n  - {sizes[0]}\n  - {sizes[1]}"):
        assert line in settings
    kind, shape, data, _ = found["decoder_l2_rnn_Wf"]
    weight = tensors["decoder.1.recurrence.forget.weight"].numpy()
    multiplier = struct.unpack_from("<f", data, weight.size)[0]
    assert kind == 0x4101 and shape == (64, 64) and 0.5 * 127 / np.abs(weight).max() < multiplier <= 127 / np.abs(weight).max()
    values = np.frombuffer(data[: weight.size], np.int8).reshape(64, 64)
    np.testing.assert_allclose(values / multiplier, weight, atol=0.501 / multiplier)
    assert found["encoder_l1_ffn_W1"][1] == (64, 128) and found["decoder_l1_context_bq"][0] == 0x404
    assert all(f"{name}_QuantMultA" in found for name, (kind, *_) in found.items() if kind == 0x4101 and "Wemb" not in name)
    assert ("Wemb" in found) == joint and ("encoder_Wemb" in found) != joint and "none_QuantMultA" in found
    bias = np.frombuffer(found["decoder_ff_logit_out_b"][2][: 4 * sizes[1]], "<f4")
    assert (bias[[PAD, UNK, SOS]] == -1e4).all() and (bias[load_model(tmp_path / "model").vocabularies.target.size :] == -1e4).all()
    assert {path.name for path in (tmp_path / "theirs").iterdir()} >= {"config.enfr.yml", "README.md", "manifest.json"}


def test_what_is_no_student_is_refused_by_name(tmp_path: Path) -> None:
    for number, (changes, told) in enumerate(
        (
            ({"decoder": "attention"}, "model.decoder = attention"),
            ({"norm_position": "pre", "positions": "sinusoidal"}, "model.positions = sinusoidal, model.norm_position = pre"),
            ({"feed_forward": 96}, "model.feed_forward = 96"),
        )
    ):
        with pytest.raises(UsageError, match=told):
            export_browser(student(tmp_path / str(number), **changes), tmp_path / "theirs")
    assert not (tmp_path / "theirs").exists()


def test_without_its_program_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once: before the sentences of the check are translated."""
    model = student(tmp_path / "model")
    monkeypatch.setattr(browser, "check_texts", lambda folder, given: pytest.fail("sentences are read"))
    monkeypatch.setattr(engine, "find_bergamot", lambda: None)
    monkeypatch.setattr(engine.shutil, "which", lambda name: "/usr/bin/node")
    monkeypatch.delenv(engine.BERGAMOT_FOLDER, raising=False)
    with pytest.raises(UsageError, match="npm install @browsermt/bergamot-translator"):
        export_browser(model, tmp_path / "theirs")
    monkeypatch.setenv(engine.BERGAMOT_FOLDER, str(tmp_path))
    with pytest.raises(UsageError, match=f"{engine.BERGAMOT_FOLDER}=.*: not the folder of"):
        export_browser(model, tmp_path / "theirs")
    monkeypatch.setattr(engine.shutil, "which", lambda name: None)
    with pytest.raises(UsageError, match="node is not installed"):
        export_browser(model, tmp_path / "theirs")
    assert not (tmp_path / "theirs").exists()


def test_a_package_is_found_by_its_folder_or_the_one_it_was_installed_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs.shutil, "which", lambda name: "/usr/bin/node")
    package = tmp_path / "node_modules" / programs.BERGAMOT
    for given in (tmp_path, package):
        monkeypatch.setenv(programs.BERGAMOT_FOLDER, str(given))
        assert programs.find_bergamot() is None
    (package / "worker").mkdir(parents=True)
    (package / "worker" / "bergamot-translator-worker.wasm").touch()
    for given in (tmp_path, package):
        monkeypatch.setenv(programs.BERGAMOT_FOLDER, str(given))
        assert programs.find_bergamot() == package


def test_sentences_for_the_check_are_given(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model, source, reference = student(tmp_path / "model"), tmp_path / "new.en", tmp_path / "new.fr"
    source.write_text("the red dog\n\na cat eats\n", encoding="utf-8")
    reference.write_text("le rouge chien\n\nla chat mange\n", encoding="utf-8")
    given = parity.GivenPairs([("the red dog", "le rouge chien"), ("", ""), ("a cat eats", "la chat mange")], "new.en")
    texts = parity.check_texts(model, given=given)
    assert (texts.sources, texts.references, texts.origin) == (["the red dog", "a cat eats"], ["le rouge chien", "la chat mange"], "new.en")
    assert parity.check_texts(model, count=1, given=given).sources == ["the red dog"]
    assert not parity.check_texts(model, given=given._replace(pairs=[("the red dog", "")])).references
    with pytest.raises(UsageError, match=r"new\.en: no line of one sentence"):
        parity.check_texts(model, given=given._replace(pairs=[("", "")]))
    command = ["export", str(model), "--to", "bergamot", "-o", str(tmp_path / "theirs")]
    assert cli.run([*command, "--reference", str(reference)]) == 2 and "--reference without --source" in capfd.readouterr().err
    assert cli.run([*command, "--no-check", "--source", str(source)]) == 2 and "--no-check" in capfd.readouterr().err
    reference.write_text("le rouge chien\n", encoding="utf-8")
    assert cli.run([*command, "--source", str(source), "--reference", str(reference)]) != 0 and "lines" in capfd.readouterr().err
    assert not (tmp_path / "theirs").exists()


def listed(model: Path, *, leave_out: str = "") -> Shortlist:
    """Put a shortlist into a model folder: the words that are right, but for the tokens of one of them that no other has."""
    both = load_model(model).vocabularies
    rows: list[list[int]] = [[] for _ in range(both.source.size)]
    for word, mot in zip(WORDS, MOTS, strict=True):
        for token in both.source.encode(word):
            rows[token] += both.target.encode(mot) if mot != leave_out else []
    ids = [sorted(set(row)) for row in rows]
    made = Shortlist(
        starts=np.cumsum([0, *map(len, ids)], dtype=np.int32),
        tokens=np.array([one for row in ids for one in row], np.int32),
        probabilities=np.ones(sum(map(len, ids)), np.float32),
        always=np.array([PAD, UNK, SOS, EOS, 290], np.int32),
        copies=np.array([-1] * 250 + [250] + [-1] * (both.source.size - 251), np.int32),
        target_size=both.target.size,
        vocabularies=both.digest,
    )
    save_shortlist(model, made)
    return made


def lists_of(data: bytes) -> list[list[int]]:
    """The list of each source token of a file."""
    count = struct.unpack_from("<Q", data, 32)[0]
    starts = struct.unpack_from(f"<{count}Q", data, 48)
    ids = struct.unpack_from(f"<{starts[-1]}I", data, 48 + 8 * count)
    assert all(start < len(ids) for start in starts[:-1]), "a reader that checks refuses this file"
    return [list(ids[first:last]) for first, last in pairwise(starts)]


def test_the_shortlist_of_the_model_goes_along_unless_it_may_not(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = student(tmp_path / "model")
    command = ["export", str(model), "--to", "bergamot", "--no-check", "-o"]
    assert cli.run([*command, str(tmp_path / "none"), "--shortlist"]) != 0 and "has no shortlist" in capfd.readouterr().err
    assert not (tmp_path / "none").exists()
    made = listed(model)
    assert cli.run([*command, str(tmp_path / "with")]) == 0 and cli.run([*command, str(tmp_path / "without"), "--no-shortlist"]) == 0
    name = "lex.enfr.s2t.bin"
    for folder, there in (("with", True), ("without", False)):
        place = tmp_path / folder
        assert (place / name).exists() == (name in read_manifest(place)) == there
        for told in ("README.md", "config.enfr.yml"):
            assert (name in (place / told).read_text(encoding="utf-8")) == there
    rows = lists_of((tmp_path / "with" / name).read_bytes())
    assert len(rows) == 336 and 290 in rows[EOS] and rows[250] == [250] and rows[335] == [EOS]
    sentence = load_model(model).vocabularies.source.encode("the red dog")
    theirs = {one for token in [*sentence, EOS] for one in rows[token]}
    ours = made.tokens_for(sentence)
    assert theirs == {*ours.shared.tolist(), *ours.own.tolist()} and len(theirs) > 6
    assert cli.run(["export", str(model), "--no-shortlist", "-o", str(tmp_path / "other")]) == 2


def test_lists_are_filled_up_to_eights_with_the_first_tokens(tmp_path: Path) -> None:
    made = listed(student(tmp_path / "model"))
    sentence = load_model(tmp_path / "model").vocabularies.source.encode("a small cat")
    before, after = made.tokens_for(sentence), EightsShortlist.of(made).tokens_for(sentence)
    plain = {*before.shared.tolist(), *before.own.tolist()}
    filled = [one for one in range(made.target_size) if one not in plain][: -len(plain) % 8]
    assert filled and after.own.tolist() == sorted([*before.own.tolist(), *filled]) and after.shared.tolist() == before.shared.tolist()
    assert lists_by_token(made, sources=made.target_size)[EOS][-1] == 290


@pytest.fixture
def bergamot(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program, where an export finds it or in the folder of VITRAIL_PROGRAMS; without it the test is skipped."""
    if engine.find_bergamot() is None:
        monkeypatch.setenv(engine.BERGAMOT_FOLDER, str(exits.program("bergamot")))
        if engine.find_bergamot() is None:
            pytest.skip("node is not installed")


with_program = pytest.mark.usefixtures("bergamot")


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> parity.CheckTexts:
    """New sentences of words."""
    pairs = sentences(60, seed=2)
    found = parity.CheckTexts([pair[0] for pair in pairs], [], [pair[1] for pair in pairs], "words")

    def check(folder: Path, given: parity.GivenPairs | None) -> parity.CheckTexts:
        assert given is None
        vocabulary = load_model(folder).vocabularies.source
        return found._replace(tokens=[tuple(row) for row in vocabulary.encode_batch(found.sources)])

    monkeypatch.setattr(browser, "check_texts", check)
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return student(tmp_path_factory.mktemp("trained") / "model", steps=STEPS)


@with_program
@pytest.mark.slow
@pytest.mark.parametrize(("compute", "joint", "kind"), [("int8", True, "bpe"), ("float32", True, "unigram"), ("int8", False, "unigram")])
def test_the_program_translates_as_we_do(tmp_path: Path, compute: Any, joint: bool, kind: str, texts: parity.CheckTexts) -> None:
    found = export_browser(student(tmp_path / "model", kind=kind, joint=joint, steps=STEPS), tmp_path / "theirs", compute=compute)
    assert found is not None and found.equal == 60 and found.program.startswith("bergamot-translator"), found
    assert found.theirs_bleu is not None and found.theirs_bleu > 20, "this student says too little to compare"


@with_program
@pytest.mark.slow
@pytest.mark.parametrize(("compute", "joint"), [("int8", True), ("float32", False)])
def test_a_shortlist_says_what_may_be_written(tmp_path: Path, compute: Any, joint: bool, texts: parity.CheckTexts) -> None:
    """With it the program translates as we do with it; a word that is in no list is never written, others are as without it."""
    made = student(tmp_path / "model", kind="unigram", joint=joint, steps=STEPS)
    without = export_browser(made, tmp_path / "free", compute=compute)
    files = engine.BrowserFiles.named({"source_language": "en", "target_language": "fr"}, rounded=compute == "int8", joint=joint)
    program = engine.find_engine(unigram=True)
    free = program.translate(files.within(tmp_path / "free"), texts.sources, rounded=compute == "int8")
    listed(made, leave_out="chien")
    found = export_browser(made, tmp_path / "theirs", compute=compute)
    assert found is not None and without is not None and found.equal >= 59 and found.shortlisted and not without.shortlisted, found
    texts_found = program.translate(files.within(tmp_path / "theirs"), texts.sources, rounded=compute == "int8")
    assert any("chien" in one for one in free) and not any("chien" in one for one in texts_found)
    others = [number for number, one in enumerate(texts.sources) if "dog" not in one]
    assert sum(texts_found[number] == free[number] for number in others) >= len(others) - 1


@with_program
@pytest.mark.slow
def test_the_folder_translates_as_its_readme_says(trained: Path, tmp_path: Path, texts: parity.CheckTexts) -> None:
    """Its script, with the package in node_modules above it; and the command of its check, on sentences that are given."""
    package = engine.find_bergamot()
    assert package is not None
    (tmp_path / "node_modules" / engine.BERGAMOT).parent.mkdir(parents=True)
    (tmp_path / "node_modules" / engine.BERGAMOT).symlink_to(package.resolve(), target_is_directory=True)
    export_browser(trained, tmp_path / "theirs", check=False)
    command = next(
        line for line in (tmp_path / "theirs" / "README.md").read_text(encoding="utf-8").splitlines() if line.startswith("node ")
    )
    lines = [texts.sources[0], "", *texts.sources[1:3]]
    done = subprocess.run(
        command.removesuffix("< source.txt").split(),
        cwd=tmp_path / "theirs",
        input="\n".join(lines).encode(),
        capture_output=True,
        check=True,
        env={name: value for name, value in os.environ.items() if name != engine.BERGAMOT_FOLDER},
    )
    found = done.stdout.decode("utf-8").split("\n")
    assert found.pop() == "" and found[1] == "" and len(found) == 4 and found[0] != found[2], found
    names = engine.BrowserFiles.named({"source_language": "en", "target_language": "fr"}, rounded=True, joint=True)
    again = engine.find_engine(unigram=False).translate(names.within(tmp_path / "theirs"), texts.sources[:3], rounded=True)
    assert [found[0], *found[2:]] == again


@with_program
@pytest.mark.slow
def test_the_check_can_fail(tmp_path: Path, trained: Path, texts: parity.CheckTexts, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = browser.student_items

    def wrong(*args: Any, **settings: Any) -> Any:
        made = whole(*args, **settings)
        return made | {"decoder_l1_rnn_W": made["decoder_l1_rnn_Wf"]}

    monkeypatch.setattr(browser, "student_items", wrong)
    with pytest.raises(ModelError, match="translates otherwise"):
        export_browser(trained, tmp_path / "theirs")
    assert not (tmp_path / "theirs").exists()
