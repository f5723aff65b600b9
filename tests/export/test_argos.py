"""Translators as packages of Argos Translate: the real program installs and translates them, and LibreTranslate serves them, offline."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exits import english, own_texts, pieces, program, saved, taught

from vitrail import cli
from vitrail.data.boundaries import split_sentences
from vitrail.data.vocabularies.subwords import Vocabularies, WordVocabulary
from vitrail.decode.search_config import SearchConfig
from vitrail.errors import UsageError
from vitrail.export.argos import package as argos_package
from vitrail.export.argos.package import argos_version, export_argos, pair_of
from vitrail.export.argos.sentences import sentence_model
from vitrail.models.model_folder import load_model

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("ctranslate2")

BIASED: dict[str, Any] = {"output_bias": True}
GREEDY = SearchConfig(beams=1, repeat_ngram=0, max_ratio=0, max_extra=200)
TEXTS = [
    "Hello. How are you? I am well! Thanks.",
    "Mr. Smith met Dr. Jones at 5.30 p.m. in St. Louis. He left.",
    'She said "Stop." Then “Go!” he said. e.g. this is. No.',
    "今天天气很好。我们走吧！“好。”他说。",
    "Il est 10 h. 5 personnes… oui. Et toi ? « Non. » Voilà.",
    "J. R. Smith came. B. C. too. É. Zola wrote.",
    "no end here",
    "Visit www.example.com. Then go. x@y.org is it.",
    "Он пришёл. Она ушла! Почему? т.е. так.",
]


def test_sentence_ends_by_rules_are_those_of_vitrail(tmp_path: Path) -> None:
    (tmp_path / "en.onnx").write_bytes(sentence_model("en"))
    session = onnxruntime.InferenceSession(str(tmp_path / "en.onnx"), providers=["CPUExecutionProvider"])
    about = session.get_modelmeta().custom_metadata_map
    numbers = json.loads(about["vocab"])["_unit2id"]
    assert json.loads(about["config"])["feat_funcs"] == ["capitalized"] and about["lang_code"] == "en"
    for text in TEXTS:
        # As MiniSBD asks: one column of padding behind.
        units = np.array([[*(numbers.get(sign, numbers["<UNK>"]) for sign in text), 0]])
        capital = np.array([[*map(str.isupper, text), False]], np.float32)[:, :, None]
        (scores,) = session.run(None, {"units": units, "features": capital})
        ends = [at for at in np.flatnonzero(scores[0].argmax(1) == 2).tolist() if at < len(text) - 1]
        starts = [0, *(at + 1 for at in ends)]
        found = [text[start:end].strip() for start, end in zip(starts, [*starts[1:], len(text)], strict=True)]
        assert found == [part.text for part in split_sentences(text)]


@pytest.mark.parametrize(("kind", "joint"), [("bpe", True), ("unigram", False), ("mapped", True)])
def test_a_package_has_what_the_program_looks_for(tmp_path: Path, kind: str, joint: bool) -> None:
    model = saved(tmp_path / "model", BIASED | {"tie": "all" if joint else "none"}, pieces(kind, joint=joint))
    for name in ("one", "other.argosmodel"):
        assert cli.run(["export", str(model), "--to", "argos", "-o", str(tmp_path / name), "--no-check"]) == 0
    content = (tmp_path / "one.argosmodel").read_bytes()
    assert content == (tmp_path / "other.argosmodel").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.argosmodel") as there:
        names = {name.partition("/")[2] for name in there.namelist()}
        assert names >= {"metadata.json", "README.md", "sentencepiece.model", "minisbd/en.onnx", "model/model.bin", "manifest.json"}
        about = json.loads(there.read("translate-en_fr-1_0/metadata.json"))
    assert (about["from_code"], about["to_code"]) == ("en", "fr")


def test_what_it_cannot_carry_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = WordVocabulary.train(["a b c d"], size=20)
    model = saved(tmp_path / "model", {}, Vocabularies(words, words, joint=True))
    with pytest.raises(UsageError, match="whole words"):
        export_argos(model, tmp_path / "out", check=False)
    with pytest.raises(UsageError, match=r"model.kind = recurrent"):
        export_argos(saved(tmp_path / "lstm", {"cell": "lstm"}, pieces()), tmp_path / "out", python=Path("/no/python"))
    good = saved(tmp_path / "good", {}, pieces())
    with pytest.raises(UsageError, match="has no argostranslate"):
        export_argos(good, tmp_path / "out", python=Path("/no/python"))
    loaded = load_model(good)
    for language, code in (("zh_Hant", "zt"), ("pt-BR", "pb"), ("deu", "de")):
        assert pair_of(loaded._replace(facts=loaded.facts | {"target_language": language})).target == code
    with pytest.raises(UsageError, match="target language is not known"):
        pair_of(loaded._replace(facts={"source_language": "en"}))
    (tmp_path / "out.argosmodel").write_text("mine")
    with pytest.raises(UsageError):
        export_argos(good, tmp_path / "out", check=False)
    monkeypatch.setattr(argos_package, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="onnx is not installed"):
        export_argos(good, tmp_path / "new", check=False)
    assert {path.name for path in tmp_path.iterdir()} == {"model", "lstm", "good", "out.argosmodel"}


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "joint"), [("bpe", True), ("unigram", False), ("mapped", True)])
def test_argos_translate_translates_as_we_do(tmp_path: Path, kind: str, joint: bool, capfd: pytest.CaptureFixture[str]) -> None:
    python = program("argos")
    model = taught(tmp_path / "model", pieces(kind, joint=joint))
    asked = ["export", str(model), "--to", "argos", "--python", str(python), "-o", str(tmp_path / "en-fr")]
    assert cli.run(asked) == 0, capfd.readouterr().err
    assert f"checked with Argos Translate {argos_version(python)}: 200 sentences" in capfd.readouterr().out


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A model, and the address of a LibreTranslate that serves it; connections that leave this machine are refused."""
    python = program("libretranslate")
    model = taught(tmp_path / "model", pieces())
    export_argos(model, tmp_path / "en-fr", check=False)
    with zipfile.ZipFile(tmp_path / "en-fr.argosmodel") as there:
        there.extractall(tmp_path / "home" / "argos-translate" / "packages")
    # With fewer than two packages it asks the network for a list of others, again and again, unless there is one.
    (tmp_path / "home" / "argos-translate" / "index.json").write_text("[]")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    worker = str(files("vitrail.export.argos").joinpath("worker.py"))
    script = f"import runpy, sys; runpy.run_path({worker!r})['forbid_connections'](); from libretranslate import main; main()"
    options = ["--host", "127.0.0.1", "--port", str(port), "--load-only", "en,fr", "--disable-files-translation", "--threads", "1"]
    home = {name: str(tmp_path / "home") for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")}
    environment = os.environ | home | {"ARGOS_BEAM_SIZE": "1", "ARGOS_INTRA_THREADS": "1"}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([python, "-c", script, *options], env=environment, cwd=tmp_path, stdout=log, stderr=log)
    try:
        yield model, f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def post(address: str, text: str) -> str:
    body = json.dumps({"q": text, "source": "en", "target": "fr", "format": "text"}).encode()
    request = urllib.request.Request(f"{address}/translate", body, {"Content-Type": "application/json"})
    for _ in range(180):
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["translatedText"]
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from None
        except urllib.error.URLError:
            time.sleep(1)
    raise AssertionError("the server did not start")


@pytest.mark.slow
def test_libretranslate_serves_it(server: tuple[Path, str]) -> None:
    model, address = server
    # It gives a translation the last mark and the case of its source, which here are those of the translation.
    lines = english(100)
    found = [post(address, line) for line in lines]
    assert found == own_texts(model, lines, GREEDY)
    assert len(set(found)) > 50


def test_the_worker_refuses_connections_that_leave_the_machine() -> None:
    worker = str(files("vitrail.export.argos").joinpath("worker.py"))
    script = f"""
import runpy, socket
runpy.run_path({worker!r})["forbid_connections"]()
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(server.getsockname())
try:
    socket.create_connection(("0.0.0.0", 9), timeout=2)
except OSError as error:
    assert "asked for" in str(error), error
"""
    subprocess.run([sys.executable, "-c", script], check=True)
