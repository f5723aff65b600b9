"""Translators in ONNX: onnxruntime computes the same numbers, and the folder's own programs write the same text."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exits import WORDS, drawn, own_texts, pieces, program, saved, sentences

from vitrail import cli
from vitrail.data.vocabularies.subwords import (
    EOS,
    Vocabularies,
    WordVocabulary,
)
from vitrail.decode.search_config import SearchConfig, TranslateConfig
from vitrail.decode.translate import Translator
from vitrail.errors import ModelError, UsageError
from vitrail.export.onnx import folder as onnx_folder
from vitrail.export.onnx.folder import export_onnx, largest_difference, make_graphs, theirs
from vitrail.export.onnx.running import OnnxModel
from vitrail.export.translators.parity import CheckTexts

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

TRANSFORMERS: list[dict[str, Any]] = [
    {},
    {"norm_position": "post", "tie": "target", "output_bias": True},
    {"activation": "gelu", "positions": "learned", "max_positions": 40},
    {"activation": "swiglu", "norm": "rms", "positions": "rotary", "head_width": 6},
    {"norm": "rms", "norm_position": "post", "embedding_norm": True, "tie": "none", "decoder_layers": 3},
    {"norm": "batch", "positions": "none", "embedding_norm": True, "activation": "silu"},
    {"positions": "tensor2tensor", "decoder_start": "zeros", "norm_position": "post"},
]
RECURRENT: list[dict[str, Any]] = [
    {"cell": "rnn", "encoder_layers": 2},
    {"cell": "gru", "attention": "bahdanau", "encoder_layers": 2, "decoder_layers": 2, "residual": True},
    {"cell": "lstm", "attention": "luong-general", "input_feeding": True, "encoder_layers": 3, "norm": "layer", "bidirectional": False},
    {"cell": "lstm", "attention": "luong-concat", "reverse_source": True, "decoder_layers": 3, "norm": "batch", "tie": "none"},
    {"cell": "gru", "attention": "luong-dot", "norm": "layer"},
]
LINES = [
    "the small dog eats bread",
    "une ligne",
    "Ça va , “naïve” ?",
    "a  b\u00a0c\u200bd e\u0301",
    "12:30",
    "▁ x",
    "\U0001f469\u200d\U0001f680 日本",
]


def words() -> Vocabularies:
    vocabulary = WordVocabulary.train([" ".join(WORDS)], size=24)
    return Vocabularies(vocabulary, vocabulary, joint=True)


@pytest.mark.parametrize("changes", [*TRANSFORMERS, *RECURRENT], ids=str)
def test_logits_are_those_of_the_model_step_by_step(tmp_path: Path, changes: dict[str, Any]) -> None:
    loaded = drawn(changes, words())
    graphs = make_graphs(loaded)
    for name, content in zip(("encoder", "decoder"), graphs[:2], strict=True):
        onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
        (tmp_path / f"{name}.onnx").write_bytes(content)
    there = OnnxModel(tmp_path, given=graphs.given, carried=graphs.carried)
    texts = CheckTexts([], [(5, 6, 7, 8, 9), (4,), (9, 10, 4)], [], "")
    assert largest_difference(loaded, there, texts) < 1e-5
    source = np.array([[5, 6, 7, EOS], [4, EOS, 0, 0]])
    with torch.inference_mode():
        ours = loaded.model.encode(torch.from_numpy(source))
    found = there.encode(source)["memory"]
    assert np.abs(found - ours.memory.numpy())[ours.keep.numpy()].max() < 2e-5 * max(1, ours.memory.abs().max())


@pytest.mark.parametrize("changes", [TRANSFORMERS[1], pytest.param(RECURRENT[1], marks=pytest.mark.slow)], ids=["transformer", "recurrent"])
def test_a_folder_is_checked_by_its_own_program(
    tmp_path: Path, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(onnx_folder, "SENTENCES", 12)
    model = saved(tmp_path / "model", changes, pieces())
    assert cli.run(["export", str(model), "--to", "onnx", "-o", str(tmp_path / "out")]) == 0
    out = capfd.readouterr().out
    assert "greedy: 12 equal" in out and "5 beams: 12 equal" in out
    settings = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert settings["search"]["beams"] == 5 and settings["vocabularies"]["source"]["file"] == "joint.spm"
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"encoder.onnx", "decoder.onnx", "joint.spm", "settings.json", "translate.py", "README.md", "manifest.json"}


def test_the_check_can_fail_and_then_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = saved(tmp_path / "model", {}, pieces())
    monkeypatch.setattr(onnx_folder, "SENTENCES", 4)
    other = make_graphs(drawn({"positions": "none"}, pieces()))
    monkeypatch.setattr(onnx_folder, "make_graphs", lambda loaded: other)
    with pytest.raises(ModelError, match="logits that differ"):
        export_onnx(model, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_what_it_cannot_carry_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = saved(tmp_path / "model", {}, words())
    with pytest.raises(UsageError, match="whole words") as caught:
        export_onnx(model, tmp_path / "out", check=False)
    assert caught.value.expected and not (tmp_path / "out").exists()
    assert cli.run(["export", str(model), "--page", str(tmp_path), "-o", str(tmp_path / "out")]) == 2
    good = saved(tmp_path / "good", {}, pieces())
    with pytest.raises(UsageError, match="has no ort"):
        export_onnx(good, tmp_path / "out", page=tmp_path, check=False)
    with monkeypatch.context() as patched, pytest.raises(UsageError, match="GiB of weights"):
        patched.setattr(onnx_folder, "_LARGEST_BYTES", 1000)
        export_onnx(good, tmp_path / "out", check=False)
    monkeypatch.setattr(onnx_folder, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"onnx is not installed"):
        export_onnx(good, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "joint"), [("unigram", True), ("bpe", False), ("character", True), ("mapped", True)])
def test_its_program_reads_and_writes_text_as_we_do(tmp_path: Path, kind: str, joint: bool) -> None:
    changes = {"tie": "all" if joint else "none", "output_bias": True}
    model = saved(tmp_path / "model", changes, pieces(kind, joint=joint))
    found = export_onnx(model, tmp_path / "out")
    assert found is not None and found.texts.origin == "drawn from the vocabulary" and len(found.texts.sources) == 200
    assert [row.equal for row in found.rows] == [200, 200]
    # Texts that people write: other spaces, marks, decomposed letters, nothing to translate.
    texts = CheckTexts(LINES, [(4,) * 20], [], "")
    search = SearchConfig(beams=5, length_penalty=0, repeat_ngram=0, max_ratio=0, max_extra=texts.longest, allow_unknown=False)
    assert theirs(tmp_path / "out")(texts, 5) == own_texts(model, LINES, search)


@pytest.mark.slow
def test_its_program_cuts_what_has_no_positions(tmp_path: Path) -> None:
    model = saved(tmp_path / "model", {"positions": "learned", "max_positions": 12}, pieces())
    export_onnx(model, tmp_path / "out", check=False)
    texts = CheckTexts(["the dog eats " * 20], [(4,) * 90], [], "")
    (found,) = theirs(tmp_path / "out")(texts, 2)
    assert found


@pytest.mark.slow
def test_its_program_needs_three_packages_and_nothing_of_ours(tmp_path: Path) -> None:
    model = saved(tmp_path / "model", TRANSFORMERS[1], pieces())
    export_onnx(model, tmp_path / "out", check=False)
    refuse = "import sys; sys.modules['vitrail'] = sys.modules['torch'] = None; sys.argv = ['translate.py', '--beams', '1']\n"
    script = refuse + f"import runpy; runpy.run_path({str(tmp_path / 'out' / 'translate.py')!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", script], input="the dog eats\n\n", capture_output=True, text=True)
    assert done.returncode == 0 and len(done.stdout.split("\n")) == 3 and done.stdout.split("\n")[1] == ""
    wrong = subprocess.run([sys.executable, "-c", script.replace("'1'", "'0'")], input="a\n", capture_output=True, text=True)
    assert wrong.returncode == 2 and "--beams 0: expected 1 or more" in wrong.stderr


@pytest.fixture
def browser() -> Iterator[Any]:
    """The system's own Chromium."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no browser is installed")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()


def opened(context: Any, path: Path) -> Any:
    page = context.new_page()
    page.goto(path.as_uri())
    page.locator("#status").filter(has_text="Ready").wait_for(timeout=60_000)
    return page


_ASK = """async ([lines, how]) => {
  const found = [];
  for (const line of lines) found.push(await translator.translate(line, how));
  return found;
}"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "kind"),
    [(TRANSFORMERS[1], "bpe"), (TRANSFORMERS[3], "unigram"), (RECURRENT[1], "bpe"), (RECURRENT[2], "character"), (RECURRENT[3], "unigram")],
    ids=str,
)
def test_the_page_translates_offline_as_we_do(tmp_path: Path, browser: Any, changes: dict[str, Any], kind: str) -> None:
    both = pieces(kind)
    model = saved(tmp_path / "model", changes, both)
    export_onnx(model, tmp_path / "out", page=program("onnxruntime-web"), check=False)
    lines = [*LINES, *sentences(200 - len(LINES))]
    # Playwright evaluates nothing under the page's own policy; see the test below.
    page = opened(browser.new_context(offline=True, bypass_csp=True), tmp_path / "out" / "translate.html")
    translator = Translator.load(model, engine="torch", config=TranslateConfig(precision="fp32"))
    read = [translator.read(line) for line in lines]
    assert page.evaluate("lines => lines.map(line => translator.source.encode(line))", read) == both.source.encode_batch(read)
    rows = [list(range(both.target.size - 8, both.target.size))]
    if kind != "character":
        rows += [[4 + byte for byte in "é€".encode()] * 2, [4 + 0xE2, 4 + 0x82, 4 + 0x41]]
    assert page.evaluate("rows => rows.map(row => translator.target.decode(row))", rows) == both.target.decode_batch(rows)
    for beams, count in ((1, 200), (5, 40)):
        found = page.evaluate(_ASK, [lines[:count], {"beams": beams, "length_penalty": 0, "max_ratio": 0, "max_extra": 30}])
        search = SearchConfig(beams=beams, length_penalty=0, repeat_ngram=0, max_ratio=0, max_extra=30)
        assert found == own_texts(model, lines[:count], search)


@pytest.mark.slow
def test_the_page_asks_for_nothing_and_answers_what_is_typed(tmp_path: Path, browser: Any) -> None:
    model = saved(tmp_path / "model", TRANSFORMERS[1], pieces())
    export_onnx(model, tmp_path / "out", page=program("onnxruntime-web"), check=False)
    context = browser.new_context(offline=True)
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    page = opened(context, tmp_path / "out" / "translate.html")
    page.fill("#source", "the dog\na cat")
    page.click("#translate")
    page.locator("#translate:enabled").wait_for()
    search = SearchConfig()
    assert page.locator("#target").inner_text().split("\n") == own_texts(model, ["the dog", "a cat"], search)
    assert {url.split(":")[0] for url in asked} <= {"file", "blob"}
