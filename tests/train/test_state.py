"""Checkpoints: what comes back is what went in, to the bit, or is refused by name; the previous good one takes over."""

import errno
import itertools
import json
import logging
import os
import pickle
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from vitrail import files
from vitrail.errors import ModelError, UsageError
from vitrail.files import Damaged, FileSystem, NotWritten, publish_folder
from vitrail.train.resume.checkpoints import (
    ABSENT,
    Difference,
    Spec,
    average,
    checkpoints,
    differences,
    flatten_optimizer,
    load_checkpoint,
    load_latest,
    prune,
    require_same,
    restore_optimizer,
    save_checkpoint,
    specs,
)

GROUPS = ("model", "optimizer")


def some_tensors(seed: int) -> dict[str, dict[str, Tensor]]:
    torch.manual_seed(seed)
    return {
        "model": {
            "embed": torch.randn(7, 3),
            "norm": torch.randn(3).bfloat16(),
            "seen": torch.tensor([1, 2]),
            "keep": torch.tensor([True]),
        },
        "optimizer": {"0.exp_avg": torch.randn(7, 3), "0.step": torch.tensor(float(seed))},
    }


EXPECTED = {group: specs(named) for group, named in some_tensors(0).items()}


def save(folder: Path, step: int, **facts: Any) -> Path:
    return save_checkpoint(folder, step=step, tensors=some_tensors(step), facts=facts)


def same_bits(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype
        and one[name].shape == other[name].shape
        and one[name].contiguous().view(-1).view(torch.uint8).equal(other[name].contiguous().view(-1).view(torch.uint8))
        for name in one
    )


def is_step(folder: Path, step: int) -> bool:
    found = load_latest(folder, expected=EXPECTED)
    return found is not None and found.step == step and all(same_bits(found.tensors[group], some_tensors(step)[group]) for group in GROUPS)


def rewrite(path: Path, name: str, data: bytes) -> None:
    """Replace one file of a checkpoint and its manifest entry: what someone could do on purpose, not a damage."""
    contents = {file: (path / file).read_bytes() for file in files.read_manifest(path)} | {name: data}
    with publish_folder(path) as folder:
        for file, content in contents.items():
            folder.write(file, content)


# ---- there and back


def test_what_comes_back_is_what_went_in(tmp_path: Path) -> None:
    facts = {"loss": 0.1 + 0.2, "nested": {"list": [1, None, True], "text": "été"}}
    path = save(tmp_path, 2000, **facts)
    assert path == tmp_path / "state" / "step-002000"
    assert sorted(file.name for file in path.iterdir()) == ["manifest.json", "model.safetensors", "optimizer.safetensors", "state.json"]
    found = load_latest(tmp_path, expected=EXPECTED)
    assert found is not None and (found.path, found.step, found.facts) == (path, 2000, facts)
    assert all(same_bits(found.tensors[group], some_tensors(2000)[group]) for group in GROUPS)


def test_loaded_tensors_are_no_longer_tied_to_the_file(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    found = load_checkpoint(path, expected=EXPECTED)
    (path / "model.safetensors").write_bytes(b"\0" * (path / "model.safetensors").stat().st_size)
    found.tensors["model"]["embed"].add_(0)  # may be written to
    assert same_bits(found.tensors["model"], some_tensors(1)["model"])


@settings(max_examples=30, deadline=None)
@given(
    shape=st.lists(st.integers(0, 4), max_size=3),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8, torch.bool]),
    seed=st.integers(0, 2**31),
)
def test_any_shape_and_dtype(tmp_path_factory: pytest.TempPathFactory, shape: list[int], dtype: torch.dtype, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    tensor = (torch.rand(shape, generator=generator) * 100).to(dtype)
    tensors = {"model": {"a": tensor, "turned": tensor.transpose(0, -1) if shape else tensor.clone()}}
    path = save_checkpoint(tmp_path_factory.mktemp("run"), step=0, tensors=tensors, facts={})
    loaded = load_checkpoint(path, expected={"model": specs(tensors["model"])}).tensors["model"]
    assert same_bits(loaded, tensors["model"])


def test_tied_tensors_are_stored_once_and_tied_again(tmp_path: Path) -> None:
    embed = nn.Embedding(50, 8)
    out = nn.Linear(8, 50, bias=False)
    out.weight = embed.weight
    model = nn.ModuleDict({"embed": embed, "out": out})
    path = save_checkpoint(tmp_path, step=1, tensors={"model": model.state_dict()}, facts={})
    assert (path / "model.safetensors").stat().st_size < 2 * 50 * 8 * 4
    loaded = load_checkpoint(path, expected={"model": specs(model.state_dict())}).tensors["model"]
    assert loaded["embed.weight"] is loaded["out.weight"]
    assert same_bits(loaded, model.state_dict())


def test_parts_of_one_memory_are_not_tied(tmp_path: Path) -> None:
    flat = torch.arange(12.0)
    tensors = {
        "a": flat[:4],
        "b": flat[4:8],
        "same start": flat[:8],
        "none": torch.empty(0),
        "nil": torch.empty(0),
        "square": flat[:4].view(2, 2),
    }
    path = save_checkpoint(tmp_path, step=1, tensors={"model": tensors, "optimizer": {}}, facts={})
    found = load_checkpoint(path, expected={"model": specs(tensors), "optimizer": {}})
    assert same_bits(found.tensors["model"], tensors) and found.tensors["optimizer"] == {}
    assert len({loaded.data_ptr() for loaded in found.tensors["model"].values() if loaded.numel()}) == 4


def test_only_expected_groups_are_loaded_and_none_leaves_shapes_to_the_caller(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    found = load_checkpoint(path, expected={"optimizer": None})
    assert found.tensors.keys() == {"optimizer"} and same_bits(found.tensors["optimizer"], some_tensors(1)["optimizer"])


def test_the_same_step_can_be_saved_again(tmp_path: Path) -> None:
    save(tmp_path, 3)
    (tmp_path / "state" / "step-000003" / "model.safetensors").write_bytes(b"damaged")
    save(tmp_path, 3)
    assert is_step(tmp_path, 3)


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert load_latest(tmp_path, expected=EXPECTED) is None
    for name in ("step-000001.vitrail-tmp-7", "step-1", "step-x", "other"):
        (tmp_path / "state" / name).mkdir(parents=True)
    assert load_latest(tmp_path, expected=EXPECTED) is None


def test_checkpoints_are_ordered_by_number_not_by_name(tmp_path: Path) -> None:
    for step in (1_000_000, 999_999, 5):
        save(tmp_path, step)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-000005", "step-999999", "step-1000000"]
    assert is_step(tmp_path, 1_000_000)


# ---- damage


def spoilt_copies(tmp_path: Path, spoil: Callable[[random.Random, bytes], bytes], count: int, caplog: pytest.LogCaptureFixture) -> None:
    """Damage one file of the newest checkpoint, `count` times: refused by name each time, and the previous one takes over."""
    save(tmp_path, 1)
    path = save(tmp_path, 2)
    chance = random.Random(0)
    for _ in range(count):
        file = chance.choice(sorted(path.iterdir()))
        good = file.read_bytes()
        file.write_bytes(spoil(chance, good))
        with pytest.raises(ModelError) as caught:
            load_checkpoint(path, expected=EXPECTED)
        assert file.name in caught.value.found or file.name == "manifest.json"
        if isinstance(caught.value, Damaged):
            caplog.clear()
            assert is_step(tmp_path, 1)
            (line,) = caplog.messages
            assert (
                str(path) in line and caught.value.found in line and line.endswith("resuming from step-000001 instead") and "\n" not in line
            )
        file.write_bytes(good)
    assert is_step(tmp_path, 2)


def test_300_flipped_bits_are_all_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def flip(chance: random.Random, data: bytes) -> bytes:
        bit = chance.randrange(len(data) * 8)
        return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]

    spoilt_copies(tmp_path, flip, 300, caplog)


def test_100_truncations_are_all_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spoilt_copies(tmp_path, lambda chance, data: data[: chance.randrange(len(data))], 100, caplog)


def test_extra_bytes_are_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spoilt_copies(tmp_path, lambda chance, data: data + chance.randbytes(9), 20, caplog)


def test_missing_swapped_and_linked_files_fall_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path, 1)
    for spoil, reason in (
        (lambda path: (path / "model.safetensors").unlink(), "model.safetensors: is missing"),
        (lambda path: shutil.copy(path / "model.safetensors", path / "optimizer.safetensors"), "optimizer.safetensors: "),
        (
            lambda path: ((path / "model.safetensors").unlink(), (path / "model.safetensors").symlink_to("/dev/zero")),
            "model.safetensors: is a symbolic link",
        ),
        (lambda path: path.rename(path.with_name("step-000009")), "state.json: is not the state of step-000009"),
    ):
        spoil(save(tmp_path, 2))
        caplog.clear()
        assert is_step(tmp_path, 1)
        assert len(caplog.messages) == 1 and reason in caplog.messages[0]
        shutil.rmtree(checkpoints(tmp_path)[-1])


def test_each_damaged_one_is_named_and_all_damaged_is_an_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = [save(tmp_path, step) for step in (1, 2, 3)]
    for path in paths[1:]:
        (path / "model.safetensors").unlink()
    assert is_step(tmp_path, 1)
    assert [message.partition(":")[0] for message in caplog.messages] == [f"{path}/model.safetensors" for path in reversed(paths[1:])]
    (paths[0] / "manifest.json").unlink()
    with pytest.raises(
        ModelError, match=r"no checkpoint can be used: .*step-000003.*step-000002.*step-000001/manifest\.json: is missing"
    ) as caught:
        load_latest(tmp_path, expected=EXPECTED)
    assert caught.value.remedy


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture, value: float) -> None:
    save(tmp_path, 1)
    bad = some_tensors(2)
    bad["model"]["norm"][1] = value
    save_checkpoint(tmp_path, step=2, tensors=bad, facts={})
    assert is_step(tmp_path, 1)
    assert "model.safetensors: norm holds NaN or infinity" in caplog.text


def test_a_newer_format_is_refused_not_passed_over(tmp_path: Path) -> None:
    save(tmp_path, 1)
    path = save(tmp_path, 2)
    rewrite(path, "state.json", json.dumps({"format": 2, "whatever": 1}).encode())
    with pytest.raises(ModelError, match=r"has format 2(.|\n)*update vitrail"):
        load_latest(tmp_path, expected=EXPECTED)


def test_other_shapes_are_refused_before_a_tensor_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 1)
    model = dict(EXPECTED["model"])
    del model["seen"]
    model |= {"embed": Spec((7, 4), torch.float32), "norm": Spec((3,), torch.float16), "new": Spec((), torch.int64)}
    monkeypatch.setattr(Tensor, "clone", None)  # every tensor read is cloned
    with pytest.raises(ModelError) as caught:
        load_latest(tmp_path, expected={"model": model})
    for part in (
        "embed: [7, 3] float32 instead of [7, 4] float32",
        "norm: [3] bfloat16 instead of [3] float16",
        "new: nothing instead of [] int64",
        "seen: [2] int64 instead of nothing",
    ):
        assert part in caught.value.found
    with pytest.raises(ModelError, match="and 37 more"):
        load_latest(tmp_path, expected={"model": EXPECTED["model"] | {f"w{i}": Spec((), torch.int64) for i in range(42)}})
    with pytest.raises(ModelError, match=r"has no average\.safetensors"):
        load_latest(tmp_path, expected={"average": EXPECTED["model"]})


def huge_header() -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [2**63 - 1, 4], "data_offsets": [0, 16]}}).encode()
    return len(header).to_bytes(8, "little") + header + b"\0" * 16


@pytest.mark.parametrize(
    "data",
    [pickle.dumps({"embed": 1}), b"\0", (2**63).to_bytes(8, "little") + b"{}", huge_header(), b"\x02" + b"\0" * 7 + b"{}" + b"extra"],
    ids=["pickle", "one byte", "header of 2^63 bytes", "shape of 2^63", "bytes behind"],
)
def test_a_hostile_file_under_a_true_manifest_is_refused(tmp_path: Path, data: bytes) -> None:
    path = save(tmp_path, 1)
    rewrite(path, "model.safetensors", data)
    with pytest.raises(Damaged, match=r"model\.safetensors: is not a safetensors file"):
        load_checkpoint(path, expected=EXPECTED)


def test_swapped_groups_under_a_true_manifest_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    rewrite(path, "model.safetensors", (path / "optimizer.safetensors").read_bytes())
    with pytest.raises(ModelError, match="does not fit this configuration"):
        load_checkpoint(path, expected=EXPECTED)


def test_a_header_of_100000_tensors_is_refused_in_short(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    header = json.dumps({f"w{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(100_000)}).encode()
    rewrite(path, "model.safetensors", len(header).to_bytes(8, "little") + header)
    with pytest.raises(ModelError, match="more") as caught:
        load_checkpoint(path, expected=EXPECTED)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "change",
    [
        {"aliases": {"model": {"embed": "norm"}}},
        {"aliases": {"model": {"x": "nowhere"}}},
        {"aliases": {"model": {"x": 3}}},
        {"aliases": {"model": []}},
        {"aliases": None},
        {"facts": []},
        {"step": "1"},
        {"step": 2},
        {"format": 0},
    ],
    ids=str,
)
def test_a_state_that_makes_no_sense_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = save(tmp_path, 1)
    rewrite(path, "state.json", json.dumps(json.loads((path / "state.json").read_bytes()) | change).encode())
    with pytest.raises(Damaged):
        load_checkpoint(path, expected=EXPECTED)
    rewrite(path, "state.json", b"{" * 10_000)
    with pytest.raises(Damaged, match=r"state\.json: cannot be read as JSON"):
        load_checkpoint(path, expected=EXPECTED)


LISTEN = """
import os, sys
from pathlib import Path
import torch
from vitrail.errors import ModelError
from vitrail.train.resume.checkpoints import Spec, load_latest, save_checkpoint
run, hostile = Path(sys.argv[1]), Path(sys.argv[2])
expected = {"model": {"w": Spec((2,), torch.float32)}}
save_checkpoint(run, step=1, tensors={"model": {"w": torch.ones(2)}}, facts={})
load_latest(run, expected=expected)  # what is imported on first use is imported now
heard = []
def listen(event, arguments):
    if event in ("pickle.find_class", "exec", "compile", "os.system", "os.exec", "os.posix_spawn", "os.fork", "import") or event.startswith(
        ("socket.", "subprocess.", "ctypes.dlopen", "urllib.")
    ):
        heard.append(event)
sys.addaudithook(listen)
assert load_latest(run, expected=expected).step == 1
try:
    load_latest(hostile, expected=expected)
except ModelError as error:
    assert "is not a safetensors file" in str(error)
    print("refused")
print(heard)
import pickle
try:
    pickle.loads(b"cos\\nsystem\\n.")  # the ear works
finally:
    print("pickle.find_class" in heard)
"""


class _Planted:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.mark),)


def test_loading_runs_no_code_and_opens_no_connection(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "hostile", step=1, tensors={"model": {"w": torch.ones(2)}}, facts={})
    rewrite(path, "model.safetensors", pickle.dumps(_Planted(tmp_path / "it ran")))
    ended = subprocess.run([sys.executable, "-c", LISTEN, str(tmp_path / "run"), str(tmp_path / "hostile")], capture_output=True, text=True)
    assert ended.stdout.splitlines() == ["refused", "[]", "True"], ended.stderr
    assert not (tmp_path / "it ran").exists()


# ---- the disk


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EROFS], ids=errno.errorcode.get)
@pytest.mark.parametrize("for_good", [False, True])
def test_whatever_call_fails_the_previous_checkpoint_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: int, for_good: bool
) -> None:
    save(tmp_path, 1)
    refused = 0
    for number in itertools.count(1):
        calls = itertools.count(1)

        def failing(call: Callable[..., Any], calls: "itertools.count[int]" = calls, number: int = number) -> Callable[..., Any]:
            def wrapped(*arguments: Any) -> Any:
                count = next(calls)
                if count == number or (for_good and count > number):
                    if call is os.close:
                        os.close(*arguments)
                    raise OSError(error, os.strerror(error))
                return call(*arguments)

            return wrapped

        names = ("open", "write", "fsync", "close", "rename", "mkdir", "unlink", "rmdir")
        real = FileSystem()
        monkeypatch.setattr(files.system, "SYSTEM", FileSystem(**{name: failing(getattr(real, name)) for name in names}))
        try:
            save(tmp_path, 2)
        except NotWritten:
            refused += 1
        finally:
            monkeypatch.setattr(files.system, "SYSTEM", real)
        visible = [path.name for path in checkpoints(tmp_path)]
        assert visible[0] == "step-000001" and is_step(tmp_path, len(visible)) and not caplog.messages
        files.remove_leftovers(tmp_path)
        assert sorted(path.name for path in (tmp_path / "state").iterdir()) == visible
        if len(visible) == 2:
            shutil.rmtree(tmp_path / "state" / "step-000002")
        if next(calls) <= number:
            break
    assert refused >= 20


def test_a_full_disk_keeps_the_previous_checkpoint(tmp_path: Path) -> None:
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root on Linux can mount a small disk")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path)], capture_output=True).returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        save(tmp_path, 1)
        with pytest.raises(NotWritten, match=r"step-000002/optimizer\.safetensors: cannot be written: No space left on device"):
            save_checkpoint(tmp_path, step=2, tensors=some_tensors(2) | {"optimizer": {"w": torch.zeros(100_000)}}, facts={})
        assert [path.name for path in (tmp_path / "state").iterdir()] == ["step-000001"]
        assert is_step(tmp_path, 1)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


# ---- optimizers


def adamw(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    groups = [{"params": parameters[:1], "weight_decay": 0.1}, {"params": parameters[1:], "weight_decay": 0.0, "initial_lr": 0.3}]
    return torch.optim.AdamW(groups, lr=3e-3, betas=(0.9, 0.98), fused=True)


def amsgrad_with_a_tensor_rate(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=torch.tensor(3e-3), amsgrad=True)


def named(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.AdamW([(f"layer.{number}", parameter) for number, parameter in enumerate(parameters)], lr=3e-3)


def sgd(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True)


def plain_sgd(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1)


def muon(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.Muon(parameters, lr=0.02)


def parameters_of(seed: int) -> list[nn.Parameter]:
    torch.manual_seed(seed)
    return [nn.Parameter(torch.randn(5, 3)), nn.Parameter(torch.randn(4, 5))]


def train(parameters: list[nn.Parameter], optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        torch.manual_seed(step)
        hidden = torch.tanh(torch.randn(2, 3) @ parameters[0].T)
        optimizer.zero_grad()
        (hidden @ parameters[1].T).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize("build", [adamw, amsgrad_with_a_tensor_rate, named, sgd, plain_sgd, muon])
@pytest.mark.parametrize("stop", [0, 1, 7])
def test_a_stopped_training_goes_on_to_the_same_bits(
    tmp_path: Path, build: Callable[[list[nn.Parameter]], torch.optim.Optimizer], stop: int
) -> None:
    unbroken = parameters_of(0)
    train(unbroken, build(unbroken), range(12))

    first = parameters_of(0)
    optimizer = build(first)
    train(first, optimizer, range(stop))
    flat = flatten_optimizer(optimizer)
    model = {str(number): parameter.detach() for number, parameter in enumerate(first)}
    path = save_checkpoint(tmp_path, step=stop, tensors={"model": model, "optimizer": flat.tensors}, facts={"optimizer": flat.facts})

    found = load_checkpoint(path, expected={"model": specs(model), "optimizer": None})
    second = parameters_of(1)
    with torch.no_grad():
        for number, parameter in enumerate(second):
            parameter.copy_(found.tensors["model"][str(number)])
    again = build(second)
    restore_optimizer(again, tensors=found.tensors["optimizer"], facts=found.facts["optimizer"])
    before, after = optimizer.state_dict(), again.state_dict()
    assert before["param_groups"] == after["param_groups"]
    assert {key: type(value) for key, value in before["param_groups"][0].items()} == {
        key: type(value) for key, value in after["param_groups"][0].items()
    }
    assert before["state"].keys() == after["state"].keys()
    for index, values in before["state"].items():
        held = {key: value for key, value in values.items() if isinstance(value, Tensor)}
        assert same_bits(held, {key: after["state"][index][key] for key in held}) and values.keys() == after["state"][index].keys()
    train(second, again, range(stop, 12))
    assert same_bits(dict(zip("ab", second, strict=True)), dict(zip("ab", unbroken, strict=True)))


def test_another_optimizer_is_refused() -> None:
    parameters = parameters_of(0)
    optimizer = adamw(parameters)
    train(parameters, optimizer, range(1))
    flat = flatten_optimizer(optimizer)

    def refuses(reason: str, other: torch.optim.Optimizer, tensors: dict[str, Tensor] | None = None) -> None:
        with pytest.raises(ModelError, match=reason):
            restore_optimizer(other, tensors=flat.tensors | (tensors or {}), facts=flat.facts)

    refuses("is of AdamW, not of SGD", sgd(parameters))
    refuses("is of other parameters", amsgrad_with_a_tensor_rate(parameters))
    refuses(r"0.exp_avg of shape \[3, 5\] for a parameter of shape \[5, 3\]", adamw(parameters), {"0.exp_avg": torch.zeros(3, 5)})
    for name in ("2.exp_avg", "x.exp_avg", "-1.exp_avg", "group7.lr", "groupx.lr", "exp_avg"):
        refuses("which belongs to no parameter", adamw(parameters), {name: torch.zeros(1)})


def test_parameters_in_another_order_are_refused_where_they_have_names() -> None:
    first, second = parameters_of(0)
    flat = flatten_optimizer(torch.optim.AdamW([("a", first), ("b", second)]))
    with pytest.raises(ModelError, match="is of other parameters"):
        restore_optimizer(torch.optim.AdamW([("b", second), ("a", first)]), tensors=flat.tensors, facts=flat.facts)


# ---- keeping and averaging


def kept(folder: Path) -> list[int]:
    return [int(path.name[5:]) for path in checkpoints(folder)]


@settings(max_examples=25, deadline=None)
@given(
    losses=st.lists(st.one_of(st.none(), st.integers(0, 5)), min_size=1, max_size=6),
    keep_last=st.integers(1, 3),
    keep_best=st.integers(0, 2),
    data=st.data(),
)
def test_prune_keeps_the_last_the_best_and_the_newest_good_one(
    tmp_path_factory: pytest.TempPathFactory, losses: list[int | None], keep_last: int, keep_best: int, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("run")
    for step, loss in enumerate(losses):
        save_checkpoint(folder, step=step, tensors={"model": {"w": torch.ones(1)}}, facts={"loss": loss})
    damaged = data.draw(st.sets(st.integers(0, len(losses) - 1)))
    for step in damaged:
        (folder / "state" / f"step-{step:06d}" / "model.safetensors").write_bytes(b"x")
    removed = prune(folder, keep_last=keep_last, keep_best=keep_best, metric=lambda facts: facts["loss"])
    steps = list(range(len(losses)))
    good = [step for step in steps if step not in damaged]
    best = sorted((step for step in steps if losses[step] is not None), key=lambda step: (losses[step], -step))[:keep_best]
    assert set(kept(folder)) == ({*steps[-keep_last:], *best, good[-1]} if good else set(steps))
    assert sorted(path.name for path in (folder / "state").iterdir()) == [path.name for path in checkpoints(folder)]
    assert {int(path.name[5:]) for path in removed} == set(steps) - set(kept(folder))


def test_prune_never_leaves_a_run_without_a_good_checkpoint(tmp_path: Path) -> None:
    for step in range(4):
        save(tmp_path, step, loss=step)
    for path in checkpoints(tmp_path)[2:]:
        (path / "model.safetensors").write_bytes(b"x")
    prune(tmp_path, keep_last=2, keep_best=1, metric=lambda facts: facts["loss"])
    assert kept(tmp_path) == [0, 1, 2, 3]  # the best, the newest good one, the last two
    prune(tmp_path, keep_last=1)
    assert kept(tmp_path) == [1, 3] and is_step(tmp_path, 1)


def test_a_figure_of_a_damaged_or_odd_state_does_not_count(tmp_path: Path) -> None:
    for step, loss in enumerate([1.0, 2.0, 0.0, 3.0, 4.0]):
        save(tmp_path, step, loss=loss)
    state = tmp_path / "state" / "step-000002" / "state.json"
    state.write_bytes(state.read_bytes().replace(b"0.0", b"0.5"))
    prune(tmp_path, keep_last=1, keep_best=1, metric=lambda facts: float("nan") if facts["loss"] == 1.0 else facts["loss"])
    assert kept(tmp_path) == [1, 4]


def test_prune_without_a_metric_or_without_checkpoints(tmp_path: Path) -> None:
    assert prune(tmp_path, keep_last=1) == []
    for step in range(3):
        save(tmp_path, step)
    assert [path.name for path in prune(tmp_path, keep_last=1, keep_best=5)] == ["step-000000", "step-000001"]


def test_a_kill_while_removing_leaves_no_half_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in range(2):
        save(tmp_path, step)

    def unlink(path: Path) -> None:
        if path.name == "state.json":
            raise KeyboardInterrupt
        path.unlink()

    monkeypatch.setattr(files.system, "SYSTEM", FileSystem(unlink=unlink))
    with pytest.raises(KeyboardInterrupt):
        prune(tmp_path, keep_last=1)
    monkeypatch.setattr(files.system, "SYSTEM", FileSystem())
    assert kept(tmp_path) == [1] and is_step(tmp_path, 1)
    files.remove_leftovers(tmp_path)
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["step-000001"]


@settings(max_examples=20, deadline=None)
@given(count=st.integers(1, 5), seed=st.integers(0, 1000), dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]))
def test_average_is_the_float64_mean(tmp_path_factory: pytest.TempPathFactory, count: int, seed: int, dtype: torch.dtype) -> None:
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(seed)
    weights = [torch.randn(4, 3).to(dtype) for _ in range(count)]
    paths = [
        save_checkpoint(folder, step=step, tensors={"model": {"w": weight, "tied": weight, "count": torch.tensor(step)}}, facts={})
        for step, weight in enumerate(weights)
    ]
    mean = average(paths)
    assert mean["w"] is mean["tied"] and mean["count"] == count - 1
    assert mean["w"].dtype == dtype
    assert mean["w"].equal(torch.stack(weights).double().sum(0).div(count).to(dtype))


def test_the_average_of_equals_is_the_same_bits(tmp_path: Path) -> None:
    for step in range(3):
        save_checkpoint(tmp_path, step=step, tensors=some_tensors(0), facts={})
    assert same_bits(average(checkpoints(tmp_path)), some_tensors(0)["model"])
    assert same_bits(average(checkpoints(tmp_path), group="optimizer"), some_tensors(0)["optimizer"])


def test_average_refuses_damage_and_other_shapes(tmp_path: Path) -> None:
    first, second = save(tmp_path, 1), save(tmp_path, 2)
    with pytest.raises(ModelError, match="does not fit"):
        average([first, save_checkpoint(tmp_path, step=3, tensors={"model": {"embed": torch.ones(2)}}, facts={})])
    (second / "model.safetensors").unlink()
    with pytest.raises(Damaged, match="step-000002"):
        average([first, second])


# ---- the same setup?

SAVED = {
    "config": {"model": {"width": 512, "dropout": 0.1}, "betas": (0.9, 0.98)},
    "data": {"train": "ab12"},
    "threads": 2,
    "world_size": 1,
}


def test_differences_are_named() -> None:
    current = {"config": {"model": {"width": 256, "heads": 8}, "betas": [0.9, 0.98]}, "data": "none", "threads": 2.0, "world_size": True}
    assert differences(SAVED, SAVED) == []
    assert differences(SAVED, current) == [
        Difference("config.model.dropout", 0.1, ABSENT),
        Difference("config.model.heads", ABSENT, 8),
        Difference("config.model.width", 512, 256),
        Difference("data", {"train": "ab12"}, "none"),
        Difference("world_size", 1, True),
    ]
    assert str(differences({"a": None}, {})[0]) == "a: null when saved, (absent) now"
    assert len(str(differences({"a": "x" * 500}, {})[0])) < 120


@given(
    table=st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner), max_leaves=8)
)
def test_nothing_differs_from_itself_and_a_change_is_found_both_ways(table: Any) -> None:
    assert differences({"a": table}, {"a": table}) == []
    there, back = differences({"a": table}, {"a": [table]}), differences({"a": [table]}, {"a": table})
    assert [item.name for item in there] == [item.name for item in back] == ["a"]


def test_a_changed_setup_is_refused_unless_allowed() -> None:
    current = {**SAVED, "threads": 4, "data": {"train": "cd34"}}
    with pytest.raises(UsageError) as caught:
        require_same(SAVED, current)
    assert 'data.train: "ab12" when saved, "cd34" now' in caught.value.found and "threads: 2 when saved, 4 now" in caught.value.found
    assert "--allow-change data.train --allow-change threads" in caught.value.remedy and "new folder" in caught.value.remedy
    with pytest.raises(UsageError) as caught:
        require_same(SAVED, current, allow=["data.train"])
    assert "data" not in caught.value.found
    assert [item.name for item in require_same(SAVED, current, allow=["data", "threads", "not.there"])] == ["data.train", "threads"]
    with pytest.raises(UsageError):
        require_same(SAVED, current, allow=["dat", "threads"])
    assert require_same(SAVED, SAVED) == []


def test_warnings_go_to_the_log_of_the_module(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path, 1)
    (save(tmp_path, 2) / "state.json").unlink()
    with caplog.at_level(logging.WARNING, logger="vitrail"):
        assert is_step(tmp_path, 1)
    assert [(record.name, record.levelname) for record in caplog.records] == [("vitrail.train.resume.checkpoints", "WARNING")]
