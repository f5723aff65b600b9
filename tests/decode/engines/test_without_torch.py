"""Where the native engine serves the request, torch is never imported."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vitrail.data.vocabularies.subwords import Vocabularies, WordVocabulary
from vitrail.models.base import unique_tensors
from vitrail.models.build import build_model
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.models.model_folder import save_model

pytest.importorskip("numba")

_PROGRAM = """
import sys
from vitrail.cli import run
code = run(sys.argv[1:])
sys.stderr.write(f"{code} {'torch' in sys.modules}")
"""
_LIBRARY = """
import json, pickle, sys
from vitrail import Translator
one = Translator.load(sys.argv[1], engine="native")
texts = ["a b c", "h g"]
found = [translation.text for translation in one.translate(texts)]
other = pickle.loads(pickle.dumps(one))
before = "torch" in sys.modules
sent = [translation.text for translation in other.translate(texts)]
one.engine.on_torch()
print(json.dumps([found, sent, before, "torch" in sys.modules]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    words = WordVocabulary.train(["a b c d e f g h"], size=20)
    both, config = Vocabularies(words, words, joint=True), TransformerConfig(encoder_layers=1, decoder_layers=1, width=16)
    made = tmp_path_factory.mktemp("run") / "model"
    facts = {"search": {"beams": 2, "max_length": 9}}
    save_model(made, tensors=unique_tensors(build_model(config, both)), config=config, vocabularies=both, facts=facts)
    return made


def _translate(folder: Path, *options: str, **environment: str) -> tuple[str, list[str]]:
    """What was written, and what was told."""
    return _run("translate", str(folder), *options, **environment)


def _run(*arguments: str, **environment: str) -> tuple[str, list[str]]:
    command = [sys.executable, "-c", _PROGRAM, *arguments]
    done = subprocess.run(command, input="a b c\nh g\n", env=os.environ | environment, capture_output=True, text=True, check=True)
    return done.stdout, done.stderr.splitlines()


def test_translate_imports_no_torch(folder: Path) -> None:
    by_torch, told = _translate(folder, "--engine", "torch")
    assert "engine: torch" in told and told[-1] == "0 True"
    for engine in ("auto", "native"):
        out, told = _translate(folder, "--engine", engine, "--precision", "fp32", "--device", "cpu")
        assert "engine: native (fp32)" in told and told[-1] == "0 False" and out == by_torch
    out, told = _translate(folder, "--sample", "--seed", "3")
    assert "engine: native (int8)" in told and told[-1] == "0 False" and out.count("\n") == 2


def test_nor_does_word_alignment(folder: Path, tmp_path: Path) -> None:
    by_torch, _ = _translate(folder, "--alignment", "--engine", "torch")
    out, told = _translate(folder, "--alignment", "--engine", "native", "--precision", "fp32")
    assert "engine: native (fp32)" in told and told[-1] == "0 False" and out == by_torch and "\t" in out
    for side, text in (("source", "a b c\nh g\n"), ("target", "c b\ng\n")):
        (tmp_path / side).write_text(text)
    texts = ["--source", str(tmp_path / "source"), "--target", str(tmp_path / "target")]
    by_torch, _ = _run("align", str(folder), *texts, "--engine", "torch")
    out, told = _run("align", str(folder), *texts)
    assert "engine: native (fp32)" in told and told[-1] == "0 False" and out == by_torch != ""


@pytest.mark.slow
def test_nor_where_nothing_can_be_kept(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    kept, _ = _translate(folder)
    nowhere = {"VITRAIL_CACHE": "", "XDG_CACHE_HOME": "", "HOME": str(tmp_path / "nobody")}
    for environment in (nowhere, {"VITRAIL_CACHE": str(tmp_path / "file" / "below")}):
        out, told = _translate(folder, **environment)
        assert "engine: native (int8)" in told and told[-1] == "0 False" and out == kept
        assert told[1].endswith("not kept, as no cache can be written")


def test_a_translator_in_python_imports_it_for_what_torch_alone_does(folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _LIBRARY, str(folder)], capture_output=True, text=True, check=True)
    found, sent, before, after = json.loads(done.stdout)
    assert found == sent and (before, after) == (False, True)
