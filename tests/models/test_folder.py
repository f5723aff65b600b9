"""The model folder: what is not exactly a model is refused by name, and nothing in it is ever run."""

import errno
import itertools
import json
import logging
import shutil
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from vitrail import files
from vitrail.data.vocabularies.subwords import CharacterVocabulary, Vocabularies
from vitrail.errors import ModelError, UsageError
from vitrail.files import checked_reading, publish_folder
from vitrail.models.base import unique_tensors
from vitrail.models.build import build_model, count_parameters, make_model
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.models.model_folder import fill, load_model, save_model
from vitrail.models.stored import FORMAT, StoredModel, read_stored
from vitrail.native.transformer.architecture import tensor_shapes

CONFIG = TransformerConfig(encoder_layers=1, decoder_layers=1, width=8, heads=2, feed_forward=8)
BOTH = CharacterVocabulary(list("abcdef"))
VOCABULARIES = Vocabularies(BOTH, BOTH, joint=True)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "model"
    torch.manual_seed(1)
    model = build_model(CONFIG, VOCABULARIES)
    save_model(folder, tensors=unique_tensors(model), config=CONFIG, vocabularies=VOCABULARIES, facts={"languages": ["en", "fr"]})
    return folder


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "model"))


def republish(folder: Path, **changes: bytes) -> None:
    """Change files and write a manifest that is true of them: what a mistaken or ill-meaning author would do."""
    contents = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "manifest.json"}
    names = {name.replace("__", "."): data for name, data in changes.items()}
    with publish_folder(folder) as out:
        for name, data in (contents | names).items():
            out.write(name, data)


def with_document(folder: Path, **changes: Any) -> None:
    document = json.loads((folder / "config.json").read_text()) | changes
    republish(folder, config__json=json.dumps(document).encode())


def with_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = safetensors.torch.load((folder / "model.safetensors").read_bytes())
    change(tensors)
    republish(folder, model__safetensors=safetensors.torch.save(tensors))


def test_the_whole_run_or_the_model_alone_can_be_named(good: Path) -> None:
    for path in (good, good.parent):
        loaded = load_model(path)
        assert loaded.config == CONFIG and loaded.facts == {"languages": ["en", "fr"]}
        assert loaded.vocabularies.digest == VOCABULARIES.digest


def test_it_holds_what_it_says(good: Path) -> None:
    names = {"config.json", "model.safetensors", "joint.vocab.json", "FORMAT", "README.md", "manifest.json"}
    assert {path.name for path in good.iterdir()} == names
    assert (good / "FORMAT").read_text() == f"{FORMAT}\n"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "joint.vocab.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped", "longer", "empty", "link"])
def test_damaged_files_are_refused_by_name(folder: Path, name: str, damage: str, tmp_path: Path) -> None:
    path = folder / name
    data = path.read_bytes()
    match damage:
        case "missing":
            path.unlink()
        case "truncated":
            path.write_bytes(data[:-1])
        case "flipped":
            at = len(data) // 2
            path.write_bytes(data[:at] + bytes([data[at] ^ 0x80]) + data[at + 1 :])
        case "longer":
            path.write_bytes(data + b"x")
        case "empty":
            path.write_bytes(b"")
        case _:
            path.rename(tmp_path / "elsewhere")
            path.symlink_to(tmp_path / "elsewhere")
    if (name, damage) == ("manifest.json", "truncated"):
        load_model(folder)  # what is cut off is the newline at the end
        return
    with pytest.raises(ModelError, match=str(folder) if (name, damage) == ("config.json", "missing") else name.replace(".", r"\.")):
        load_model(folder)


@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", "LICENSE", "config.json~", ".README.md.swp", "source.spm", "notes/a.txt"])
def test_what_other_people_and_programs_put_there_is_told_and_not_read(folder: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"x")
    with caplog.at_level(logging.INFO):
        assert load_model(folder).config == CONFIG
    assert caplog.messages == [f"{folder}: holds {name.partition('/')[0]} besides; not read"]


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_text("# Our model\n\nCC BY 4.0, écrit à la main\n")])
def test_files_for_people_may_be_edited_or_gone(folder: Path, change: Callable[[Path], object]) -> None:
    for name in ("README.md", "FORMAT"):
        change(folder / name)
    assert load_model(folder).vocabularies.digest == VOCABULARIES.digest


def test_what_people_put_into_a_model_outlives_the_next_model(folder: Path) -> None:
    (folder / "README.md").write_text("# Notre modèle\n")
    (folder / "LICENSE").write_text("CC0")
    (folder / "notes").mkdir()
    (folder / "notes" / "a.txt").write_text("x")
    model = load_model(folder).model
    for step in (1, 2):
        save_model(folder, tensors=unique_tensors(model), config=CONFIG, vocabularies=VOCABULARIES, facts={"step": step})
        assert load_model(folder).facts == {"step": step}
        assert (folder / "README.md").read_text() == "# Notre modèle\n"
        assert (folder / "LICENSE").read_text() == "CC0" and (folder / "notes" / "a.txt").read_text() == "x"


@pytest.mark.parametrize("names", [("config.json", "model.safetensors", "README.md"), ("pytorch_model.bin",), ("thesis.tex",), ("FORMAT",)])
def test_a_model_is_not_saved_over_somebody_elses_folder(good: Path, tmp_path: Path, names: tuple[str, ...]) -> None:
    theirs = tmp_path / "model"
    theirs.mkdir()
    for name in names:
        (theirs / name).write_text('{"architectures": ["MarianMTModel"], "format": "pt", "model": "x"}')
    model = load_model(good).model
    with pytest.raises(UsageError, match=rf"holds model/ \(with {names[0] if len(names) == 1 else 'README'}(?s:.*)nothing was changed"):
        save_model(theirs, tensors=unique_tensors(model), config=CONFIG, vocabularies=VOCABULARIES, facts={})
    assert sorted(path.name for path in theirs.iterdir()) == sorted(names)
    assert {path.read_text()[:16] for path in theirs.iterdir()} == {'{"architectures"'}
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".DS_Store").write_bytes(b"\0")
    save_model(tmp_path / "empty", tensors=unique_tensors(model), config=CONFIG, vocabularies=VOCABULARIES, facts={})
    assert load_model(tmp_path / "empty").config == CONFIG


def test_what_the_manifest_does_not_list_is_not_loaded(folder: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        copy = Path(shutil.copytree(folder, folder.with_name(f"without-{name}")))
        manifest = json.loads((copy / "manifest.json").read_text())
        del manifest["files"][name]
        (copy / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(ModelError, match=f"{name}: is not in the manifest"):
            load_model(copy)


@pytest.mark.slow
def test_a_reader_finds_the_old_or_the_new_model_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(folder).model
    zeros = {name: torch.zeros_like(tensor) for name, tensor in unique_tensors(model).items()}
    ones = {name: torch.ones_like(tensor) for name, tensor in unique_tensors(model).items()}
    done = threading.Event()

    def publish() -> None:
        for step in itertools.count():
            save_model(folder, tensors=ones if step % 2 else zeros, config=CONFIG, vocabularies=VOCABULARIES, facts={"step": step})
            if done.wait(0.02):
                return

    def no_exchange(one: Path, other: Path) -> None:
        raise OSError(errno.ENOSYS, "no such call")

    for system in (files.FileSystem(), files.FileSystem(exchange=no_exchange)):
        monkeypatch.setattr(files.system, "SYSTEM", system)
        done.clear()
        save_model(folder, tensors=zeros, config=CONFIG, vocabularies=VOCABULARIES, facts={"step": 0})
        writer = threading.Thread(target=publish)
        writer.start()
        seen: set[int] = set()
        try:
            while len(seen) < 12:
                loaded = load_model(folder)
                step = loaded.facts["step"]
                seen.add(step)
                assert {float(tensor.mean()) for tensor in unique_tensors(loaded.model).values()} == {step % 2}, (
                    "facts and weights of one step"
                )
        finally:
            done.set()
            writer.join()


def test_a_model_that_stays_damaged_is_told_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(checked_reading.time, "sleep", waits.append)
    (folder / "model.safetensors").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"model\.safetensors: is truncated"):
        load_model(folder)
    assert not waits


@pytest.mark.parametrize("content", ["folder", "nothing", "pickle"])
def test_what_is_no_model_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "thing"
    if content == "folder":
        path.mkdir()
    elif content == "pickle":
        path.write_bytes(b"\x80\x04N.")
    with pytest.raises(ModelError, match="thing"):
        load_model(path)


def test_a_newer_format_asks_for_a_newer_release(folder: Path) -> None:
    with_document(folder, format=FORMAT + 1)
    with pytest.raises(ModelError, match=f"format {FORMAT + 1}(?s:.*)format {FORMAT} or older(?s:.*)update vitrail"):
        load_model(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "1"},
        {"format": True},
        {"format": 0},
        {"facts": 3},
        {"model": None},
        {"model": {"kind": "transformer", "widht": 8}},
        {"model": {"kind": "oracle"}},
        {"model": {"width": 9, "heads": 3}},
        {"model": {"width": 2**40, "heads": 2**40, "head_width": 2**40}},
        {"model": {"encoder_layers": 10**9}},
    ],
    ids=str,
)
def test_configurations_that_cannot_be_are_refused(folder: Path, changes: dict[str, Any]) -> None:
    with_document(folder, **changes)
    with pytest.raises(ModelError, match=r"config\.json"):
        load_model(folder)


@pytest.mark.parametrize("data", [b"[]", b"{", b"\xff", b"[" * 100_000, b'{"format": 1}'], ids=["list", "cut", "latin", "deep", "bare"])
def test_what_is_no_configuration_is_refused(folder: Path, data: bytes) -> None:
    republish(folder, config__json=data)
    with pytest.raises(ModelError, match=r"config\.json"):
        load_model(folder)


def test_more_layers_than_tensors_are_refused_before_any_is_built(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitrail.models.model_folder.build_model", lambda *_: pytest.fail("a model was built"))
    with_document(folder, model=CONFIG.model_dump(mode="json") | {"encoder_layers": 150, "decoder_layers": 100})
    with pytest.raises(ModelError, match="250 layers"):
        load_model(folder)
    with_document(folder, model=CONFIG.model_dump(mode="json") | {"encoder_layers": 10**9})
    with pytest.raises(ModelError, match="encoder_layers"):
        load_model(folder)


def test_a_configuration_of_many_megabytes_is_refused(folder: Path) -> None:
    with_document(folder, facts={"note": "x" * (17 << 20)})
    with pytest.raises(ModelError, match="larger than"):
        load_model(folder)


def test_the_vocabulary_of_another_model_is_refused(folder: Path) -> None:
    republish(folder, joint__vocab__json=CharacterVocabulary(list("abcdfe")).to_bytes())
    with pytest.raises(ModelError, match="vocabulary belongs to another model"):
        load_model(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(folder: Path, value: float) -> None:
    with_tensors(folder, lambda tensors: tensors["decoder_norm.norm.bias"].fill_(value))
    with pytest.raises(ModelError, match=r"model\.safetensors: decoder_norm\.norm\.bias holds numbers that are not finite"):
        load_model(folder)


def test_weights_of_another_shape_name_or_type_are_refused(folder: Path) -> None:
    def wider(tensors: dict[str, torch.Tensor]) -> None:
        tensors["output_weight"] = torch.zeros(10, 9)

    def another(tensors: dict[str, torch.Tensor]) -> None:
        tensors["output_weihgt"] = tensors.pop("output_weight")

    def whole(tensors: dict[str, torch.Tensor]) -> None:
        tensors["output_weight"] = torch.zeros(10, 8, dtype=torch.int64)

    for change, reason in ((wider, r"\(10, 9\)"), (another, "output_wei"), (whole, "int64")):
        copy = Path(shutil.copytree(folder, folder.with_name(change.__name__)))
        with_tensors(copy, change)
        with pytest.raises(ModelError, match=rf"model\.safetensors: .*{reason}"):
            load_model(copy)


def test_torch_and_arrays_are_read_alike(good: Path, folder: Path) -> None:
    stored, model = read_stored(good), load_model(good).model
    tensors = unique_tensors(model)
    assert stored.tensors.keys() == tensors.keys()
    assert all(np.array_equal(array, tensors[name].numpy()) for name, array in stored.tensors.items())
    again = StoredModel.unpack(stored.pack(), stored.vocabularies)
    assert again.config == stored.config and all(np.array_equal(again.tensors[name], array) for name, array in stored.tensors.items())
    with_tensors(folder, lambda tensors: tensors.update(output_weight=tensors["output_weight"].bfloat16()))
    for read in (read_stored, load_model):
        with pytest.raises(ModelError, match="output_weight holds BF16"):
            read(folder)


@pytest.mark.parametrize("tie", ["all", "target", "none"])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"norm": "rms", "activation": "swiglu", "positions": "rotary", "norm_position": "post"},
        {"norm": "batch", "positions": "learned", "embedding_norm": True, "head_width": 3, "max_positions": 7},
        {"decoder": "ssru", "decoder_layers": 2, "norm_position": "post"},
    ],
    ids=["usual", "rms", "batch", "ssru"],
)
def test_compiled_code_knows_the_shapes_of_its_tensors(tie: str, more: dict[str, Any]) -> None:
    """As torch has them, of both vocabularies."""
    config = TransformerConfig.model_validate(CONFIG.model_dump() | {"tie": tie, "encoder_layers": 2} | more)
    rows = {"source": BOTH.size, "target": BOTH.size if tie == "all" else 31}
    model = make_model(config, source=rows["source"], target=rows["target"])
    expected = {name: tuple(tensor.shape) for name, tensor in unique_tensors(model).items()}
    assert tensor_shapes(config.model_dump(), **rows) == expected
    assert {tensor.dtype for tensor in unique_tensors(model).values()} == {torch.float32}


def test_headers_that_lie_are_refused(folder: Path) -> None:
    header = json.dumps({"output_weight": {"dtype": "F32", "shape": [2**62, 8], "data_offsets": [0, 4]}}).encode()
    for data in (struct.pack("<Q", len(header)) + header + b"\0" * 4, struct.pack("<Q", 2**63) + b"{}", b"\x80\x04N."):
        republish(folder, model__safetensors=data)
        with pytest.raises(ModelError, match=r"model\.safetensors"):
            load_model(folder)


_WATCHED: list[str] = []
_watching = False


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and event.split(".")[0] in ("pickle", "exec", "compile", "socket", "subprocess", "os.system", "ctypes", "marshal"):
        _WATCHED.append(event)


def test_loading_runs_nothing(good: Path) -> None:
    global _watching
    load_model(good)  # imports what is imported late
    sys.addaudithook(_audit)
    _watching = True
    try:
        load_model(good)
        assert _WATCHED == []
        compile("1", "x", "eval")
        assert _WATCHED == ["compile"], "the watch sleeps"
    finally:
        _watching = False


@pytest.mark.parametrize(("tie", "tables"), [("all", 1), ("target", 2), ("none", 3)])
def test_tied_tensors_are_kept_once(tie: str, tables: int) -> None:
    config = TransformerConfig.model_validate(CONFIG.model_dump() | {"tie": tie, "norm": "batch"})
    model = build_model(config, VOCABULARIES)
    tensors = unique_tensors(model)
    assert sum(tensor.shape == (BOTH.size, 8) for tensor in tensors.values()) == tables
    assert len({tensor.data_ptr() for tensor in tensors.values()}) == len(tensors)
    assert any(name.endswith("running_variance") for name in tensors) and not any("table" in name for name in tensors)
    parameters = sum(tensor.numel() for name, tensor in tensors.items() if "running" not in name)
    assert count_parameters(model)["total"] == parameters == sum(parameter.numel() for parameter in model.parameters())
    torch.manual_seed(99)
    other = build_model(config, VOCABULARIES)
    fill(other, tensors)
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_a_folder_that_is_there_is_replaced(folder: Path) -> None:
    model = load_model(folder).model
    with torch.no_grad():
        unique_tensors(model)["output_weight"].zero_()
    save_model(folder, tensors=unique_tensors(model), config=CONFIG, vocabularies=VOCABULARIES, facts={})
    assert unique_tensors(load_model(folder).model)["output_weight"].eq(0).all()


def test_a_folder_that_is_replaced_all_the_time_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checked_reading, "_MOST_SECONDS", 0.3)
    path = tmp_path / "folder"
    path.mkdir()

    def read() -> int:
        path.rename(tmp_path / f"old-{time.monotonic_ns()}")
        path.mkdir()
        return 1

    with pytest.raises(ModelError, match="is replaced again and again while it is read"):
        checked_reading.read_whole(path, read)
    assert checked_reading.read_whole(path, lambda: 2) == 2
