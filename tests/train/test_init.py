"""Runs that start from other models: what is chosen, taken, frozen, resumed, and refused."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from training_runs import Fault, Trainer, differing, every_byte, run, tiny, write_text

from vitrail import api
from vitrail.config import Override, parse_override
from vitrail.data.data_config import DataConfig
from vitrail.errors import ModelError, TrainingError, UsageError
from vitrail.models.base import unique_tensors
from vitrail.models.model_folder import load_folder
from vitrail.models.stored import digest_of_folder
from vitrail.runtime.ranks import Ranks
from vitrail.train.request import Request, plan_run, to_run_config
from vitrail.train.resume import checkpoints
from vitrail.train.run import train
from vitrail.train.starting import warm_start
from vitrail.train.starting.init_config import InitConfig

WORDS = ["ann", "bob", "cleo", "dan", "sees", "likes", "has", "wants", "apples", "birds", "cats", "dogs"]
CAUSAL = {"kind": "causal-language", "layers": 1, "width": 16, "heads": 2, "feed_forward": 16, "context": 16, "positions": "learned"}
RECURRENT = {"kind": "recurrent-language", "embedding_width": 12, "width": 16, "layers": 1, "truncate": 8}


def language_config(folder: Path, model: dict[str, Any], **changes: Any) -> Any:
    draw = np.random.default_rng(1)
    folder.mkdir(parents=True, exist_ok=True)
    text = folder / "text.txt"
    text.write_text("".join(" ".join(map(str, draw.choice(WORDS, 4))) + "\n" for _ in range(200)))
    data = {"text": [{"source": str(text)}], "subwords": {"kind": "character", "size": 60}, "holdout": {"dev_lines": 10, "test_lines": 0}}
    short = {
        "duration": "20 steps",
        "batch_tokens": 64,
        "validate_every": "8 steps",
        "save_every": "4 steps",
        "threads": 1,
        "precision": "fp32",
    }
    return to_run_config({"data": data, "model": model, "train": short, "optimizer": {"learning_rate": 0.01}} | changes)


@pytest.fixture(scope="module")
def donors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A translator, one with batch norms, and two language models, hardly trained."""
    folder = tmp_path_factory.mktemp("donors")
    run(tiny(folder, {"train": {"duration": "6 steps"}}), folder / "translator")
    run(tiny(folder, {"train": {"duration": "6 steps"}, "model": {"norm": "batch"}}), folder / "batch")
    for name, model in (("causal", CAUSAL), ("recurrent", RECURRENT)):
        train(language_config(folder / name, model), folder / name)
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return unique_tensors(load_folder(folder).model)


def from_(donor: Path, role: str, *, freeze: bool = False) -> dict[str, Any]:
    return {"role": role, "folder": str(donor), "freeze": freeze}


@pytest.mark.parametrize(("donor", "optimizer"), [("translator", "muon"), ("batch", "adamw"), ("batch", "sgd")])
def test_what_is_frozen_stays_bit_for_bit(tmp_path: Path, donors: Path, donor: str, optimizer: str) -> None:
    """Weights, their average and the statistics of batch norms; the rest learns, with weight decay on everything else."""
    model = {"norm": "batch", "tie": "target"} if donor == "batch" else {"tie": "target"}
    table = {"init": [from_(donors / donor, "encoder", freeze=True)], "model": model, "optimizer": {"kind": optimizer, "weight_decay": 0.1}}
    config = tiny(tmp_path, table | {"train": {"duration": "12 steps"}})
    run(config, tmp_path / "run")
    found, start = weights(tmp_path / "run"), weights(donors / donor)
    frozen = [name for name in found if name.startswith("encoder")]
    assert len(frozen) > 10
    for name in frozen:
        assert torch.equal(found[name], start[name]), name
    checkpoint = checkpoints.load_latest(tmp_path / "run", expected={"model": None, "optimizer": None, "average": None})
    assert checkpoint is not None
    for group in ("model", "average"):
        assert all(torch.equal(checkpoint.tensors[group][name], start[name]) for name in frozen)
    trained = [name for name in found if name.startswith("decoder") and name.endswith("weight")]
    assert trained and not any(torch.equal(found[name], start[name]) for name in trained)
    states = [name for name in checkpoint.tensors["optimizer"] if name.endswith(("exp_avg", "momentum_buffer"))]
    parameters = [name for name, _ in load_folder(tmp_path / "run").model.named_parameters()]
    assert len(states) == len(parameters) - sum(name in parameters for name in [*frozen, "source_embedding.weight"])


def test_frozen_batch_norms_are_those_of_the_end_of_their_training_and_drop_nothing(tmp_path: Path, donors: Path) -> None:
    """Two runs that differ in the seed of dropout alone give the same frozen encoder the same vectors in every step."""
    from vitrail.train import loop as loop_module

    seen: list[torch.Tensor] = []
    real = loop_module.update

    def update(learner: loop_module.Learner, *arguments: Any, **more: Any) -> Any:
        encoder = learner.model.get_submodule("encoder")
        assert not any(part.training for part in encoder.modules())
        assert learner.model.get_submodule("decoder").training
        seen.append(torch.cat([value.flatten() for value in encoder.state_dict().values()]))
        return real(learner, *arguments, **more)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(loop_module, "update", update)
        table = {"init": [from_(donors / "batch", "encoder", freeze=True)], "model": {"norm": "batch", "tie": "target"}}
        table |= {"train": {"duration": "12 steps"}}
        run(tiny(tmp_path, table), tmp_path / "run")
    assert len(seen) == 12 and all(torch.equal(one, seen[0]) for one in seen)


@pytest.mark.parametrize(
    "kind", ["translator", pytest.param("causal", marks=pytest.mark.slow), pytest.param("recurrent", marks=pytest.mark.slow)]
)
def test_killed_and_resumed_without_the_other_model_it_has_the_same_bits(tmp_path: Path, donors: Path, kind: str) -> None:
    mine = tmp_path / "donor"
    shutil.copytree(donors / kind, mine)
    if kind == "translator":
        table = {"init": [from_(mine, "encoder", freeze=True)], "model": {"tie": "target"}, "optimizer": {"layer_decay": 0.7}}
        config = tiny(tmp_path, table | {"train": {"duration": "16 steps"}})
    else:
        model = CAUSAL if kind == "causal" else RECURRENT
        config = language_config(tmp_path, model, init=[from_(mine, "embeddings", freeze=True), from_(mine, "all")])
    run(config, tmp_path / "whole")
    killed = Trainer(config, tmp_path / "killed", fault=Fault(step=10))
    assert killed.wait() == -9
    shutil.rmtree(mine)
    said: list[str] = []
    run(config, tmp_path / "killed", say=said.append)
    assert differing(tmp_path / "whole", tmp_path / "killed") == []
    assert any(line.startswith("resuming from step") for line in said)
    one, other = (load_folder(tmp_path / name).facts["init"] for name in ("whole", "killed"))
    assert one == other and one["parts"][0]["frozen"] == (kind == "translator" or one["parts"][0]["role"] == "embeddings")


def test_a_resumed_run_refuses_another_start(tmp_path: Path, donors: Path) -> None:
    mine = tmp_path / "donor"
    shutil.copytree(donors / "translator", mine)
    start = {"model": {"tie": "target"}, "train": {"duration": "5 steps"}}
    run(tiny(tmp_path, start | {"init": [from_(mine, "encoder")]}), tmp_path / "run")
    longer = {"model": {"tie": "target"}, "train": {"duration": "8 steps"}}
    before = every_byte(tmp_path / "run")
    for parts in ([from_(mine, "encoder", freeze=True)], [from_(mine, "decoder")], []):
        with pytest.raises(UsageError, match="taken at the start"):
            run(tiny(tmp_path, longer | {"init": parts}), tmp_path / "run", allow=["init", "train"])
    shutil.rmtree(mine)
    shutil.copytree(donors / "batch", mine)
    with pytest.raises(UsageError, match=r"init\.0\.digest"):
        run(tiny(tmp_path, longer | {"init": [from_(mine, "encoder")]}), tmp_path / "run", allow=["train"])
    assert every_byte(tmp_path / "run") == before
    run(tiny(tmp_path, longer | {"init": [from_(mine, "encoder")]}), tmp_path / "run", allow=["train", "init.0.digest"])


@pytest.mark.parametrize(
    ("parts", "model", "error", "found"),
    [
        ([("encoder", "translator")], {"width": 32}, UsageError, "model.width = 32"),
        ([("encoder", "causal")], {}, UsageError, "causal-language has no encoder"),
        ([("decoder", "recurrent")], {}, UsageError, "made of recurrent cells"),
        ([("encoder", "nothing")], {}, ModelError, "no model is there"),
        ([("decoder", "text")], {}, ModelError, "no model is there"),
        ([("encoder", "translator"), ("decoder", "batch")], {"norm": "batch"}, UsageError, "model.norm = batch"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    tmp_path: Path, donors: Path, parts: list[tuple[str, str]], model: dict[str, Any], error: type[Exception], found: str
) -> None:
    table = {"init": [from_(donors / name, role) for role, name in parts], "model": model}
    with pytest.raises(error) as refusal:
        run(tiny(tmp_path, table), tmp_path / "run")
    assert found in str(refusal.value) and "expected" in str(refusal.value)
    assert not (tmp_path / "run" / "data").exists() and not list((tmp_path / "run").glob("model*"))


def test_a_damaged_model_is_not_half_loaded(tmp_path: Path, donors: Path) -> None:
    mine = tmp_path / "donor"
    shutil.copytree(donors / "translator", mine)
    path = mine / "model" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ModelError, match="truncated"):
        run(tiny(tmp_path, {"init": [from_(mine, "all")]}), tmp_path / "run")
    assert not (tmp_path / "run" / "model").exists()


def test_each_role_once(tmp_path: Path, donors: Path) -> None:
    with pytest.raises(UsageError, match="encoder twice"):
        tiny(tmp_path, {"init": [from_(donors / "translator", "encoder")] * 2})


# ---- from the command line, with nothing else said -------------------------------------------------------------------------------


def asked(folder: Path, *settings: str, init: dict[str, Path], text: bool = False) -> Request:
    """What `--init ROLE=FOLDER` and `--set` ask for."""
    corpus = write_text(folder / "text")
    data = Override(("data", "text"), [{"source": corpus["target"]}]) if text else Override(("data", "corpora"), [corpus])
    parts = [{"role": role, "folder": str(path)} for role, path in init.items()]
    return Request(overrides=(data, Override(("init",), parts), *map(parse_override, settings)))


def test_a_translator_is_shaped_as_the_models_that_it_starts_from(tmp_path: Path, donors: Path) -> None:
    plan = plan_run(asked(tmp_path, init={"encoder": donors / "translator", "decoder": donors / "translator"}), tmp_path, gpu=False)
    chosen = {choice.name: choice for choice in plan.choices}
    assert chosen["model.width"].value == 16 and chosen["model.width"].reason == f"as the encoder of {donors / 'translator'}"
    config: Any = to_run_config(plan.table).model
    assert (config.width, config.heads, config.encoder_layers, config.decoder_layers) == (16, 2, 1, 1)
    assert config.feed_forward == 16 and config.tie == "all"


@pytest.mark.parametrize(
    ("role", "donor", "text", "kind"),
    [
        ("all", "causal", True, "causal-language"),
        ("decoder", "translator", True, "causal-language"),
        ("all", "recurrent", True, "recurrent-language"),
        ("decoder", "causal", False, "transformer"),
        ("decoder", "recurrent", False, "recurrent"),
        ("embeddings", "causal", False, "transformer"),
        ("embeddings", "causal", True, "recurrent-language"),
    ],
)
def test_the_kind_is_the_one_that_can_take_it(tmp_path: Path, donors: Path, role: str, donor: str, text: bool, kind: str) -> None:
    plan = plan_run(asked(tmp_path, init={role: donors / donor}, text=text), tmp_path, gpu=False)
    config = to_run_config(plan.table)
    assert config.model.kind == kind
    if role == "embeddings":  # a whole model of the usual size
        return
    short = to_run_config(plan.table | {"train": plan.table["train"] | {"duration": "1 steps", "threads": 1}})
    train(short, tmp_path / "run")
    (part,) = load_folder(tmp_path / "run").facts["init"]["parts"]
    assert part["role"] == role and part["taken"]


def test_two_models_give_two_tables(tmp_path: Path, donors: Path) -> None:
    init = {"encoder": donors / "translator", "target_embeddings": donors / "causal"}
    plan = plan_run(asked(tmp_path, init=init), tmp_path, gpu=False)
    assert plan.table["data"]["subwords"]["joint"] is False and plan.table["model"]["tie"] == "target"
    config = to_run_config(plan.table | {"train": plan.table["train"] | {"duration": "1 steps", "threads": 1}})
    train(config, tmp_path / "run")
    one, other = load_folder(tmp_path / "run").facts["init"]["parts"]
    assert one["taken"] == ["source_embedding", "encoder.0", "encoder_norm"] and other["taken"] == ["target_embedding", "output_weight"]
    assert set(one["tokens"]) == {"source"} and set(other["tokens"]) == {"target"}


def test_what_the_user_sets_is_not_chosen_and_must_fit(tmp_path: Path, donors: Path) -> None:
    request = asked(tmp_path, "model.width=64", init={"encoder": donors / "translator"})
    plan = plan_run(request, tmp_path, gpu=False)
    assert "model.width" not in {choice.name for choice in plan.choices}
    with pytest.raises(UsageError, match=r"model\.width = 64") as error:
        train(to_run_config(plan.table), tmp_path / "run")
    assert "--set model.width=16" in str(error.value)


@pytest.mark.parametrize(("donor", "text"), [("translator", False), ("causal", True), ("recurrent", True), ("translator", True)])
def test_with_its_vocabulary_every_row_is_taken_and_a_run_resumes_without_it(tmp_path: Path, donors: Path, donor: str, text: bool) -> None:
    mine = tmp_path / donor
    shutil.copytree(donors / donor, mine)
    role = "decoder" if text and donor == "translator" else "all"
    settings = (f"data.subwords.taken_from={mine}", "train.threads=1", "train.precision=fp32")
    plan = plan_run(asked(tmp_path, *settings, init={role: mine}, text=text), tmp_path / "run", gpu=False)
    assert "data.subwords.size" not in {choice.name for choice in plan.choices}
    said: list[str] = []
    short = plan.table | {"train": plan.table["train"] | {"duration": "3 steps"}}
    train(to_run_config(short), tmp_path / "run", say=said.append)
    assert all("every row taken" in line for line in said if " tokens: " in line) and any(" tokens: " in line for line in said)
    assert load_folder(tmp_path / "run").vocabularies.target.digest == load_folder(mine).vocabularies.target.digest
    shutil.rmtree(mine)
    longer = plan.table | {"train": plan.table["train"] | {"duration": "5 steps"}}
    done = train(to_run_config(longer), tmp_path / "run", allow=["train"])
    assert done.progress.step == 5


def test_vocabularies_taken_for_each_side_are_two_without_being_asked(tmp_path: Path, donors: Path) -> None:
    settings = [f"data.subwords.{side}_from={donors / name}" for side, name in (("source", "translator"), ("target", "causal"))]
    plan = plan_run(asked(tmp_path, *settings, init={}), tmp_path / "run", gpu=False)
    config = to_run_config(plan.table)
    assert isinstance(config.data, DataConfig) and not config.data.subwords.joint and plan.table["model"]["tie"] == "target"


def test_the_digest_is_of_what_was_read(tmp_path: Path, donors: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another training replaces the model after its digest was looked up, before its weights are read: the run knows what it has."""
    shutil.copytree(donors / "causal", tmp_path / "donor")
    config = language_config(tmp_path / "text", CAUSAL, init=[from_(tmp_path / "donor", "all")], seed=7)
    real = warm_start.load_with_digest

    def late(folder: Path) -> Any:
        if folder == tmp_path / "donor":
            shutil.rmtree(folder)
            shutil.copytree(other, folder)
        return real(folder)

    other = tmp_path / "other"
    train(language_config(tmp_path / "text", CAUSAL, seed=3), other)
    monkeypatch.setattr(warm_start, "load_with_digest", late)
    train(config, tmp_path / "run")
    (part,) = load_folder(tmp_path / "run").facts["init"]["parts"]
    assert part["digest"] == digest_of_folder(other) != digest_of_folder(donors / "causal")
    assert train(config, tmp_path / "run").already_done, "it resumes beside the model that it has taken"
    shutil.rmtree(tmp_path / "donor")
    shutil.copytree(donors / "causal", tmp_path / "donor")
    with pytest.raises(UsageError, match=r"init\.0\.digest"):
        train(config, tmp_path / "run")


def test_processes_that_read_different_versions_are_told() -> None:
    class Others(NamedTuple):
        """One of two ranks, the other of which has read something else."""

        world: int = 2

        def sum(self, *tensors: torch.Tensor) -> None:
            for tensor in tensors:
                tensor += 1

        def any(self, flag: bool) -> bool:
            return flag

    config: Any = SimpleNamespace(init=(InitConfig(role="all", folder=Path("a")),))
    ranks: Any = Others()
    with pytest.raises(TrainingError, match="replaced while several processes read it"):
        warm_start.read_digests(config, {"parts": [{"digest": "ab" * 32}]}, ranks)
    assert warm_start.read_digests(config, {"parts": [{"digest": "ab" * 32}]}, Ranks(0, 1)) == ["ab" * 32]


def test_a_vocabulary_of_pieces_grows_and_that_is_told(tmp_path: Path, donors: Path) -> None:
    """A translator's pieces for text with Greek and chess; the run resumes without the other model."""
    mine = tmp_path / "translator"
    shutil.copytree(donors / "translator", mine)
    corpus, said = write_text(tmp_path / "text"), list[str]()
    for side in ("source", "target"):
        path = Path(corpus[side])
        path.write_text("".join(f"{line} η ♞{'γάτα' * (number % 2)}\n" for number, line in enumerate(path.read_text().splitlines())))
    init = [{"role": "all", "folder": str(mine)}]
    table = {"data": {"corpora": [corpus], "subwords": {"taken_from": str(mine), "new_tokens": "characters"}}, "init": init}
    config = tiny(tmp_path / "other", table | {"train": {"duration": "3 steps"}})
    run(config, tmp_path / "run", say=said.append)
    (line,) = [line for line in said if line.startswith("joint vocabulary: ")]
    old = load_folder(mine).vocabularies.target.size
    assert f"6 new tokens (6 characters) behind {old}: " in line and set("ηγάτα♞") == set(line.partition(f"{old}: ")[2].replace(" ", ""))
    assert any(f"{old:,} taken as they are, 6 composed of others, 0 fresh" in line for line in said)
    facts = load_folder(tmp_path / "run").facts
    assert facts["new_tokens"] == {"joint": {"from_id": old, "characters": 6, "longer": 0}}
    shutil.rmtree(mine)
    again: list[str] = []
    run(config, tmp_path / "run", say=again.append)
    assert any("already complete" in line for line in again)


def test_from_python_it_is_told_and_stands_in_the_model(tmp_path: Path, donors: Path) -> None:
    corpus, said = write_text(tmp_path / "text"), list[str]()
    settings = [f'init=[{{role="decoder", folder="{donors / "causal"}", freeze=true}}]', "train.duration=3 steps", "train.threads=1"]
    api.train_translator(corpus["source"], corpus["target"], tmp_path / "run", settings=settings, film=False, say=said.append)
    told = next(line for line in said if line.startswith("decoder from causal (causal-language): "))
    assert "decoder.0.self_attention" in told and told.endswith("; frozen")
    tokens = next(line for line in said if line.startswith("  target tokens: "))
    fresh = next(line for line in said if line.startswith("fresh: "))
    assert "taken as they are" in tokens and "composed of others" in tokens and "decoder.0.cross_attention" in fresh
    readme = (tmp_path / "run" / "model" / "README.md").read_text()
    assert "decoder from causal (causal-language, SHA-256" in readme and "- fresh: source_positions, encoder.0-3" in readme
    document = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
    (part,) = document["facts"]["init"]["parts"]
    assert part["frozen"] and part["kind"] == "causal-language" and str(donors) not in json.dumps(document)
    assert (
        part["tokens"]["target"]["exact"] + part["tokens"]["target"]["composed"] + part["tokens"]["target"]["fresh"]
        == (document["facts"]["target_vocabulary"])
    )
    again = list[str]()
    api.train_translator(corpus["source"], corpus["target"], tmp_path / "run", settings=settings, film=False, say=again.append)
    assert any("already complete" in line for line in again)
