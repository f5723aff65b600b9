"""The model folder: what is not exactly a model is refused by name, and nothing in it is ever run."""

import json
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from vitrail.data.subwords import CharacterVocabulary, Vocabularies
from vitrail.errors import ModelError
from vitrail.files import publish_folder
from vitrail.models.build import build_model, count_parameters
from vitrail.models.folder import FORMAT, fill, load_model, save_model, unique_tensors
from vitrail.models.transformer import TransformerConfig

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


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "joint.vocab.json", "FORMAT", "README.md", "manifest.json"])
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


def test_foreign_files_are_refused(folder: Path) -> None:
    (folder / "extra.bin").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"extra\.bin"):
        load_model(folder)


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
    with pytest.raises(ModelError, match=f"format {FORMAT + 1}(?s:.*)format {FORMAT} or older(?s:.*)newer vitrail"):
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
    monkeypatch.setattr("vitrail.models.folder.build_model", lambda *_: pytest.fail("a model was built"))
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
    with pytest.raises(ModelError, match="vocabulary is of another model"):
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
