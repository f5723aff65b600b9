"""Runs that start from word vectors: what is chosen, taken, frozen, resumed, and refused."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_init import CAUSAL, RECURRENT, asked, from_, language_config, weights
from training_runs import every_byte, run, tiny

from vitrail import cli
from vitrail.errors import DataError, ModelError, UsageError, VitrailError
from vitrail.models.base import unique_tensors
from vitrail.models.model_folder import load_folder
from vitrail.train.request import plan_run, to_run_config
from vitrail.train.run import train
from vitrail.vectors import FormatName, WordVectors, save_vectors

ENGLISH = re.findall(
    r"\w+", "I you we they my sister the baker a sailor see paint carry know sell sea boat two apples at night in old harbour"
)
FRENCH = re.findall(r"\w+", "je tu nous ils ma soeur le boulanger un marin voir la mer bateau deux pommes nuit dans vieux port")


def vectors_at(path: Path, *, words: list[str] = ENGLISH, dimension: int = 16, to: FormatName = "folder") -> Path:
    matrix = np.random.default_rng(dimension).normal(size=(len(words), dimension)).astype(np.float32)
    counts = None if to != "folder" else np.arange(len(words), 0, -1)
    save_vectors(WordVectors([word.lower() for word in words], matrix, counts), path, to=to)
    return path


def test_a_translator_starts_from_them_and_keeps_what_is_frozen(tmp_path: Path) -> None:
    """Frozen embeddings keep every bit, which is told with what was taken; it goes on without the vectors, and refuses other ones."""
    mine, said = vectors_at(tmp_path / "vectors"), list[str]()
    table = {"init": [from_(mine, "source_embeddings", freeze=True)], "model": {"tie": "target"}}
    config = tiny(tmp_path, table | {"train": {"duration": "6 steps"}})
    run(config, tmp_path / "run", say=said.append)
    (told,) = [line for line in said if line.startswith("source_embeddings from vectors (word-vectors): ")]
    assert told.endswith("source_embedding; frozen")
    (tokens,) = [line for line in said if line.startswith("  source tokens: ")]
    assert "taken as they are" in tokens and "composed of others" in tokens and tokens.endswith("% of the text")
    assert any("fresh: " in line and "target_embedding" in line for line in said)
    document = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
    (part,) = document["facts"]["init"]["parts"]
    counts = part["tokens"]["source"]
    assert sum(counts.values()) == load_folder(tmp_path / "run").vocabularies.source.size and counts["composed"] > 20
    assert len(part["digest"]) == 64 and 0.5 < part["text"]["source"] <= 1 and str(mine) not in json.dumps(document)
    assert f"SHA-256 {part['digest'][:12]}" in (tmp_path / "run" / "model" / "README.md").read_text()
    found = weights(tmp_path / "run")["source_embedding.weight"]
    shutil.rmtree(mine)
    longer = tiny(tmp_path, table | {"train": {"duration": "9 steps"}})
    run(longer, tmp_path / "run", allow=["train"])
    assert torch.equal(weights(tmp_path / "run")["source_embedding.weight"], found)
    assert load_folder(tmp_path / "run").facts["init"]["parts"] == [part]
    vectors_at(mine, words=FRENCH)
    before = every_byte(tmp_path / "run")
    with pytest.raises(UsageError, match=r"init\.0\.digest"):
        run(tiny(tmp_path, table | {"train": {"duration": "12 steps"}}), tmp_path / "run", allow=["train"])
    assert every_byte(tmp_path / "run") == before


@pytest.mark.parametrize("to", ["word2vec-text", "word2vec-binary", "glove", "fasttext-bin"])
def test_any_file_of_vectors_will_do(tmp_path: Path, to: FormatName) -> None:
    mine = vectors_at(tmp_path / "some.vectors", to=to, dimension=12)
    config = language_config(tmp_path, RECURRENT, init=[from_(mine, "embeddings")])
    words = ["ann", "bob", "sees", "apples"]
    mine.unlink()
    vectors_at(mine, words=words, to=to, dimension=12)
    train(config, tmp_path / "run")
    (part,) = load_folder(tmp_path / "run").facts["init"]["parts"]
    assert part["model"] == "some.vectors" and part["tokens"]["target"]["composed"] > 5


def test_each_side_has_its_own_and_heads_divide_the_width(tmp_path: Path) -> None:
    init = {
        "source_embeddings": vectors_at(tmp_path / "english", dimension=50),
        "target_embeddings": vectors_at(tmp_path / "french", words=FRENCH, dimension=50),
    }
    plan = plan_run(asked(tmp_path, init=init), tmp_path, gpu=False)
    chosen = {choice.name: choice for choice in plan.choices}
    assert chosen["preset"].value == "tiny", "the text decides"
    assert chosen["model.width"].value == 50 and chosen["model.heads"].value == 2
    config: Any = to_run_config(plan.table)
    assert config.model.tie == "target" and config.data.subwords.joint is False
    short = to_run_config(plan.table | {"train": plan.table["train"] | {"duration": "1 steps", "threads": 1}})
    train(short, tmp_path / "run")
    one, other = load_folder(tmp_path / "run").facts["init"]["parts"]
    assert one["taken"] == ["source_embedding"] and other["taken"] == ["target_embedding", "output_weight"]
    # Vectors of one language alone are not taken for the other one's tokens.
    plan = plan_run(asked(tmp_path / "alone", init={"source_embeddings": init["source_embeddings"]}), tmp_path / "new", gpu=False)
    assert plan.table["data"]["subwords"]["joint"] is False and plan.table["model"]["tie"] == "target"


@pytest.mark.parametrize(
    ("settings", "text", "kind", "name"),
    [
        (("preset=lstm-attention",), False, "recurrent", "embedding_width"),
        (("preset=gpt-mini",), True, "causal-language", "width"),
        (("preset=bert-mini",), True, "masked-language", "width"),
        (("preset=autoencoder-lstm",), True, "recurrent-autoencoder", "embedding_width"),
        ((), True, "recurrent-language", "embedding_width"),
    ],
)
def test_the_width_is_that_of_the_vectors(tmp_path: Path, settings: tuple[str, ...], text: bool, kind: str, name: str) -> None:
    mine = vectors_at(tmp_path / "vectors", dimension=48)
    plan = plan_run(asked(tmp_path, *settings, init={"embeddings": mine}, text=text), tmp_path, gpu=False)
    config: Any = to_run_config(plan.table).model
    assert config.kind == kind and getattr(config, name) == 48


def test_a_width_without_heads_is_refused_with_one_that_has_some(tmp_path: Path) -> None:
    for dimension in (53, 75):  # no heads; no sinusoids
        mine = vectors_at(tmp_path / f"{dimension}", dimension=dimension)
        with pytest.raises(UsageError, match=f"model.width = {dimension}") as error:
            plan_run(asked(tmp_path, init={"embeddings": mine}), tmp_path, gpu=False)
        assert "vitrail vectors train --dimension 128" in str(error.value)


@pytest.mark.parametrize(
    ("role", "name", "model", "error", "found"),
    [
        ("encoder", "vectors", {}, UsageError, "word vectors are embeddings alone"),
        ("all", "vectors", {}, UsageError, "word vectors are embeddings alone"),
        ("embeddings", "vectors", {"width": 32}, UsageError, "vectors of 16 numbers for model.width = 32"),
        ("embeddings", "text", {}, ModelError, "no model is there, and no word vectors"),
        ("embeddings", "nothing", {}, ModelError, "no model is there, and no word vectors"),
        ("embeddings", "notes.txt", {}, DataError, "notes.txt"),
        ("embeddings", "damaged", {}, ModelError, "vectors.json"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    tmp_path: Path, role: str, name: str, model: dict[str, Any], error: type[VitrailError], found: str
) -> None:
    for folder in ("vectors", "damaged"):
        vectors_at(tmp_path / folder)
    (tmp_path / "damaged" / "vectors.json").write_text('{"format": 1, "words": 0, "dimension": 4, "ngrams": null, "facts": {}}')
    (tmp_path / "notes.txt").write_text("some words\nand nothing else\n")
    with pytest.raises(error) as refusal:
        run(tiny(tmp_path, {"init": [from_(tmp_path / name, role)], "model": model}), tmp_path / "run")
    assert found in str(refusal.value)
    assert not (tmp_path / "run" / "data").exists()


def test_damaged_vectors_and_those_of_another_language_are_refused_before_training(tmp_path: Path) -> None:
    mine = vectors_at(tmp_path / "vectors")
    path = mine / "vectors.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ModelError, match=r"vectors\.safetensors"):
        train(language_config(tmp_path, CAUSAL, init=[from_(mine, "embeddings")]), tmp_path / "run")
    other = vectors_at(tmp_path / "other", words=["море", "корабль"])
    with pytest.raises(UsageError, match="none of the") as error:
        train(language_config(tmp_path, CAUSAL, init=[from_(other, "embeddings")]), tmp_path / "run")
    assert "of the same language" in str(error.value)
    assert not (tmp_path / "run" / "model").exists()


def test_few_words_are_told_loudly(tmp_path: Path) -> None:
    said: list[str] = []
    config = language_config(tmp_path, CAUSAL, init=[from_(vectors_at(tmp_path / "vectors", words=["e", "z"]), "embeddings")])
    train(config, tmp_path / "run", say=said.append)
    assert any("WARNING: " in line and "have no vector" in line for line in said)


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "text.txt"
    text.write_text("".join(f"the baker sees {number} old boats\n" for number in range(60)))
    labels = tmp_path / "labels.txt"
    labels.write_text("".join("even\n" if number % 2 == 0 else "odd\n" for number in range(60)))
    mine = vectors_at(tmp_path / "glove.txt", words=["the", "baker", "sees", "old", "boats"], to="glove", dimension=32)
    command = ["train", "--text", str(text), "--labels", str(labels), "--init", f"embeddings={mine}", "--duration", "2 steps"]
    assert cli.run([*command, "--set", "data.subwords.kind=word", "-o", str(tmp_path / "run")]) == 0
    told = capsys.readouterr().err
    assert "embeddings from glove.txt (word-vectors): source_embedding" in told and "source tokens: 5 taken as they are, 0 composed" in told
    model = load_folder(tmp_path / "run")
    assert model.config.kind == "transformer-classifier" and unique_tensors(model.model)["source_embedding.weight"].shape[1] == 32
