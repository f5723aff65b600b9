"""Runs with low-rank adapters: what learns, what is saved, merged, taken out again, resumed and refused."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from test_init import CAUSAL, RECURRENT, from_, language_config, weights
from training_runs import Fault, Trainer, differing, run, tiny

from vitrail import cli
from vitrail.doctor.checks.update_sizes import measure_steps
from vitrail.doctor.run_under_test import read_run_folder
from vitrail.errors import ModelError, UsageError
from vitrail.models.adapters import Adapter, digest_of, load_adapter, merge, merge_folder, save_adapter
from vitrail.models.base import unique_tensors
from vitrail.models.build import count_parameters
from vitrail.models.model_folder import load_folder
from vitrail.nn.probe import probes_of, trace
from vitrail.train.resume import checkpoints
from vitrail.train.run import train

TWELVE = {"duration": "12 steps"}


@pytest.fixture(scope="module")
def donors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("donors")
    run(tiny(folder, {"train": TWELVE, "model": {"norm": "batch"}}), folder / "translator")
    for name, model in (("causal", CAUSAL), ("recurrent", RECURRENT)):
        train(language_config(folder / name, model), folder / name)
    return folder


def lora_config(folder: Path, donor: Path, *, rank: int = 2, **lora: Any) -> Any:
    """All of a model, on the same text, so with the same vocabulary."""
    changes = {"init": [from_(donor, "all")], "lora": {"rank": rank, "alpha": 4.0, "dropout": 0.25, **lora}}
    if donor.name == "translator":
        return tiny(
            folder, changes | {"train": TWELVE, "model": {"norm": "batch"}, "optimizer": {"learning_rate": 0.05, "weight_decay": 0.1}}
        )
    return language_config(folder, CAUSAL if donor.name == "causal" else RECURRENT, **changes)


@pytest.mark.parametrize("kind", ["translator", "causal", "recurrent"])
def test_only_adapters_learn_and_the_model_is_base_and_adapter_to_the_bit(tmp_path: Path, donors: Path, kind: str) -> None:
    said: list[str] = []
    train(lora_config(tmp_path, donors / kind), tmp_path / "run", say=said.append)
    base, found = weights(donors / kind), weights(tmp_path / "run")
    adapter = load_adapter(tmp_path / "run")
    changed = {name for name in base if not torch.equal(base[name], found[name])}
    ends = ("cells.0.input_weight", "cells.0.hidden_weight") if kind == "recurrent" else ("query.weight", "value.weight")
    assert changed == adapter.weights.keys() and changed and all(name.endswith(ends) for name in changed)
    assert found.keys() == base.keys()  # the folder's model has no adapters
    for name, (up, down) in adapter.weights.items():
        expected = base[name].double() + 2.0 * up.double() @ down.double()
        torch.testing.assert_close(found[name].double(), expected, rtol=1e-6, atol=1e-6)
    total, learned = (
        sum(count_parameters(load_folder(tmp_path / "run").model).values()) // 2,
        sum(part.numel() for both in adapter.weights.values() for part in both),
    )
    assert any(f"{total + learned:,} parameters of which {learned:,} are trained" in line for line in said)

    model = load_folder(donors / kind).model
    before = digest_of(unique_tensors(model))
    merged = merge(model, adapter)
    assert digest_of(unique_tensors(model)) == digest_of(found) != before
    merged.unmerge()
    assert digest_of(unique_tensors(model)) == before == adapter.base
    with trace(model):
        assert probes_of(model) == probes_of(load_folder(tmp_path / "run").model)


@pytest.mark.parametrize("kind", [pytest.param("translator", marks=pytest.mark.slow), "recurrent"])
def test_killed_and_resumed_without_the_base_it_has_the_same_bits(tmp_path: Path, donors: Path, kind: str) -> None:
    mine = tmp_path / kind
    shutil.copytree(donors / kind, mine)
    config = lora_config(tmp_path, mine)
    run(config, tmp_path / "whole")
    assert Trainer(config, tmp_path / "killed", fault=Fault(step=7)).wait() == -9
    shutil.rmtree(mine)
    run(config, tmp_path / "killed")
    assert differing(tmp_path / "whole", tmp_path / "killed") == []
    one, other = (load_adapter(tmp_path / name) for name in ("whole", "killed"))
    assert one.files() == other.files()


def test_an_adapter_by_itself_is_saved_and_merged_into_its_base_alone(tmp_path: Path, donors: Path) -> None:
    train(lora_config(tmp_path, donors / "causal"), tmp_path / "run")
    save_adapter(tmp_path / "adapter", load_adapter(tmp_path / "run"))
    assert {path.name for path in (tmp_path / "adapter").iterdir()} == {"adapter.json", "adapter.safetensors", "manifest.json"}
    merge_folder(donors / "causal", tmp_path / "adapter", tmp_path / "merged")
    assert digest_of(weights(tmp_path / "merged")) == digest_of(weights(tmp_path / "run"))
    for wrong in (donors / "recurrent", tmp_path / "merged", tmp_path / "run"):
        with pytest.raises(ModelError, match="belongs to other weights") as error:
            merge_folder(wrong, tmp_path / "adapter", tmp_path / "no")
        assert "digest" in str(error.value)
    assert not (tmp_path / "no").exists()
    with pytest.raises(ModelError, match="no adapter is there"):
        load_adapter(donors / "causal")
    path = tmp_path / "adapter" / "adapter.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(ModelError, match="altered"):
        load_adapter(tmp_path / "adapter")


@pytest.mark.parametrize("kind", [pytest.param("translator", marks=pytest.mark.slow), "recurrent"])
def test_from_the_command_line_it_is_saved_merged_and_taken_out(
    tmp_path: Path, donors: Path, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    train(lora_config(tmp_path, donors / kind), tmp_path / "run")
    base, run_, adapter, own, again = (str(path) for path in (donors / kind, *(tmp_path / n for n in ("run", "adapter", "own", "again"))))
    assert cli.run(["lora", "save", run_, "-o", adapter]) == 0
    assert digest_of(weights(donors / kind))[:12] in capfd.readouterr().err
    assert sum(path.stat().st_size for path in (tmp_path / "adapter").iterdir()) < (tmp_path / "run/model/model.safetensors").stat().st_size
    assert cli.run(["lora", "merge", base, adapter, "-o", own]) == 0
    assert digest_of(weights(tmp_path / "own")) == digest_of(weights(tmp_path / "run"))
    facts = load_folder(tmp_path / "own").facts
    assert facts["adapter"]["base"] == digest_of(weights(donors / kind)) and not any("loss" in name for name in facts)
    assert cli.run(["lora", "unmerge", run_, "-o", again]) == 0
    assert digest_of(weights(tmp_path / "again")) == digest_of(weights(donors / kind)) != digest_of(weights(tmp_path / "run"))
    assert cli.run(["lora", "merge", again, adapter, "-o", own]) == 0
    for arguments, told in (
        (["lora", "merge", own, adapter, "-o", str(tmp_path / "no")], "belongs to other weights"),
        (["lora", "merge", again, adapter, "-o", again], "would replace"),
        (["lora", "save", base, "-o", str(tmp_path / "no")], "no adapter is there"),
        (["lora", "unmerge", own, "-o", str(tmp_path / "no")], "no adapter is there"),
        (["lora", "unmerge", str(tmp_path / "run" / "model"), "-o", str(tmp_path / "no")], "has no checkpoint"),
    ):
        capfd.readouterr()
        assert cli.run(arguments) != 0
        error = capfd.readouterr().err
        assert told in error and "Traceback" not in error and not (tmp_path / "no").exists(), arguments
    assert digest_of(weights(tmp_path / "again")) == digest_of(weights(donors / kind))


def test_what_no_model_has_given_is_trained_as_a_whole_beside_the_adapters(tmp_path: Path, donors: Path) -> None:
    """A language model as a decoder: cross-attention and encoder are fresh and learn; its own matrices get adapters."""
    said: list[str] = []
    table = {"init": [from_(donors / "causal", "decoder")], "lora": {"rank": 2, "matrices": ["value", "feed_forward"]}}
    run(
        tiny(tmp_path, table | {"train": TWELVE, "model": {"positions": "learned", "max_positions": 1024}}),
        tmp_path / "run",
        say=said.append,
    )
    base, found = load_folder(donors / "causal").model.shared_weights(), load_folder(tmp_path / "run").model.shared_weights()
    same = {name for name in base if name in found and torch.equal(base[name], found[name])}
    assert {"decoder.0.self_attention.query.weight", "decoder.0.residual_of_feed_forward.norm.norm.weight"} <= same
    assert not same & {"decoder.0.self_attention.value.weight", "decoder.0.feed_forward.expand.weight"}
    assert any("no adapter is saved by itself" in line for line in said)
    with pytest.raises(ModelError, match="no adapter"):
        load_adapter(tmp_path / "run")
    checkpoint = checkpoints.load_latest(tmp_path / "run", expected={"model": None})
    assert checkpoint is not None
    assert not any("original" in name and name.startswith("decoder.0.self_attention.query") for name in checkpoint.tensors["model"])


def test_adapters_only_where_nothing_is_frozen(tmp_path: Path, donors: Path) -> None:
    table = {"init": [from_(donors / "translator", "all"), from_(donors / "translator", "encoder", freeze=True)], "lora": {"rank": 1}}
    run(tiny(tmp_path, table | {"train": TWELVE, "model": {"norm": "batch"}}), tmp_path / "run")
    base, found = weights(donors / "translator"), weights(tmp_path / "run")
    changed = {name for name in base if not torch.equal(base[name], found[name])}
    assert changed and all(name.startswith("decoder.") for name in changed)


@pytest.mark.parametrize(
    ("lora", "found"),
    [
        ({"matrices": ["recurrent"]}, "this model has no recurrent"),
        ({"matrices": ["query", "recurrent"]}, "this model has no recurrent"),
    ],
)
def test_matrices_that_the_model_lacks_are_refused(tmp_path: Path, donors: Path, lora: dict[str, Any], found: str) -> None:
    with pytest.raises(UsageError, match=found) as error:
        train(lora_config(tmp_path, donors / "causal", **lora), tmp_path / "run")
    assert "feed_forward" in str(error.value)


def test_without_another_model_there_are_no_adapters(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"lora\.rank = 4 without init"):
        tiny(tmp_path, {"lora": {"rank": 4}})


def test_a_resumed_run_keeps_its_adapters(tmp_path: Path, donors: Path) -> None:
    train(lora_config(tmp_path, donors / "causal"), tmp_path / "run")
    for changed in ({"rank": 3}, {"rank": 2, "alpha": 5.0}, {"rank": 2, "matrices": ["output"]}):
        with pytest.raises(UsageError, match="other adapters"):
            train(lora_config(tmp_path, donors / "causal", **changed), tmp_path / "run", allow=["lora"])
    train(lora_config(tmp_path, donors / "causal", dropout=0.0), tmp_path / "run", allow=["lora.dropout"])


def test_the_doctor_knows_a_run_with_adapters(tmp_path: Path, donors: Path) -> None:
    run(lora_config(tmp_path, donors / "translator"), tmp_path / "run")
    tested = read_run_folder(tmp_path / "run")
    assert not tested.checkpoint_is_foreign
    assert tested.config is not None and tested.checkpoint is not None
    steps = measure_steps(tested, tested.config, tested.checkpoint)
    assert steps.keys() == {"encoder.0", "decoder.0"} and all(step.ratio > 0 for step in steps.values())


def test_the_digest_is_of_names_shapes_and_bits() -> None:
    one = {"a": torch.tensor([0.0, 1.0]), "b": torch.ones(2, 2)}
    others = [
        one | {"a": torch.tensor([-0.0, 1.0])},
        one | {"b": torch.ones(4)},
        {"a": one["a"], "c": one["b"]},
    ]
    assert digest_of(one) == digest_of(dict(reversed(one.items())))
    assert all(digest_of(other) != digest_of(one) for other in others)
    assert Adapter("x", 1.0, {"a": (torch.ones(2, 1), torch.ones(1, 2))}).files()["adapter.json"].startswith(b"{")
