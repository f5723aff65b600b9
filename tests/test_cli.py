"""The program as its users meet it: verbs, what they print where, and exit codes."""

import io
import json
import os
import resource
import select
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from vitrail.cli import run
from vitrail.phrasebook.corpus import phrasebook
from vitrail.train.log.display import TrainingDisplay

SMALL = [
    *("model.width=16", "model.heads=2", "model.encoder_layers=1", "model.decoder_layers=1", "model.feed_forward=16"),
    *("data.subwords.size=360", "data.holdout.dev_pairs=6", "data.holdout.test_pairs=6"),
    *("train.log_every=4", "train.validate_every='10 steps'", "train.validation_sentences=4", "train.threads=1"),
    *("search.beams=2", "search.max_length=6"),
]
STEPS = 20


class Ran(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def vitrail(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run one command line in this process."""

    def call(*arguments: str | Path, stdin: bytes = b"") -> Ran:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capfd.readouterr()
        code = run([str(argument) for argument in arguments])
        return Ran(code, *capfd.readouterr())

    return call


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 pairs of the phrasebook as train.en and train.fr."""
    folder = tmp_path_factory.mktemp("text")
    pairs = phrasebook(train_pairs=300).train
    for name, side in (("train.en", [pair.source for pair in pairs]), ("train.fr", [pair.target for pair in pairs])):
        (folder / name).write_text("".join(f"{line}\n" for line in side))
    return folder


def command(text: Path, folder: Path, *, steps: int = STEPS) -> list[str]:
    """A small training."""
    settings = [part for setting in SMALL for part in ("--set", setting)]
    files = ["--source", str(text / "train.en"), "--target", str(text / "train.fr")]
    return ["train", *files, "-o", str(folder), "--duration", f"{steps} steps", *settings]


@pytest.fixture(scope="module")
def trained(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    assert run(command(text, folder)) == 0
    return folder


# --- quick to start --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement", ["import vitrail", "from vitrail.cli import run; run(['--help'])", "from vitrail.cli import run; run(['train', '--help'])"]
)
def test_starts_at_once(statement: str) -> None:
    """Processor time, as other programs on the machine stretch the time on the clock."""
    heavy = "sorted({'torch', 'numpy', 'sacrebleu', 'sentencepiece'} & sys.modules.keys())"
    code = f"import sys; {statement}; sys.exit(str({heavy}) if {heavy} else 0)"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime < 0.3


def test_help_lists_the_verbs_and_no_arguments_mean_help(vitrail: Run) -> None:
    shown = vitrail("--help")
    assert shown.code == 0
    for verb in ("demo", "prepare", "train", "translate", "evaluate", "inspect", "doctor", "compare", "bench", "experiment", "config"):
        assert f"\n  {verb} " in shown.out
    assert vitrail() == shown
    listed = shown.out.partition("Commands:\n")[2].splitlines()
    assert all(line.endswith(".") and not line.endswith("...") for line in listed), "each fits on its line"
    for line in listed:
        told = vitrail(line.split()[0], "--help")
        assert told.code == 0 and told.out.startswith(f"Usage: vitrail {line.split()[0]} ")


@pytest.mark.parametrize("verb", ["train", "inspect", "inspect heads", "bench", "experiment lag"])
def test_a_call_loads_the_verb_that_it_needs(verb: str) -> None:
    code = (
        f"import sys; from vitrail.cli import run; run({[*verb.split(), '--help']});"
        "print(sorted({name.split('.')[2] for name in sys.modules if name.startswith('vitrail.commands.')} - {'shared'}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    home = {"train": ["training"], "bench": ["evaluating", "inspecting"]}.get(
        verb, ["inspecting"]
    )  # the experiments have names under bench, too
    assert done.stderr.strip() == str(home)


@pytest.mark.parametrize("name", ["lag", "gradients", "bottleneck", "length", "norms"])
def test_experiments_under_their_old_names_say_the_new_ones(vitrail: Run, name: str) -> None:
    assert f"\n  {name} " in vitrail("experiment", "--help").out and f"\n  {name} " not in vitrail("bench", "--help").out
    assert vitrail("bench", name, "--help").out.partition("\n")[2] == vitrail("experiment", name, "--help").out.partition("\n")[2]


def test_an_experiment_under_its_old_name_warns(vitrail: Run, tmp_path: Path) -> None:
    ran = vitrail("bench", "bottleneck", tmp_path)
    assert ran.code == vitrail("experiment", "bottleneck", tmp_path).code != 0
    assert ran.err.startswith("warning: vitrail bench bottleneck is now vitrail experiment bottleneck;")


# --- errors ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["trane"], 2, "trane"),
        (["train", "-o", "new", "--sorce", "x"], 2, "--sorce"),
        (["train"], 2, "--output"),
        (["train", "-o", "new"], 2, "--source FILE --target FILE"),
        (["train", "-o", "new", "--source", "good.en"], 2, "--target"),
        (["train", "-o", "new", "--dev-target", "good.fr"], 2, "--dev-source"),
        (["train", "-o", "new", "--corpus", "a.en,b.fr,c.de"], 2, "comma"),
        (["train", "-o", "new", "--corpus", "good.en"], 2, ".tsv"),
        (["train", "-o", "new", "--source", "good.en", "--target", "good.fr", "--set", "model.widht=3"], 2, "model.widht"),
        (["train", "-o", "new", "--source", "good.en", "--target", "good.fr", "--set", "seed"], 2, "key=value"),
        (["train", "-o", "new", "--source", "good.en", "--target", "good.fr", "--recipe", "soup"], 2, "multi30k-en-fr"),
        (["train", "-o", "new", "--source", "good.en", "--target", "good.fr", "--preset", "tall"], 2, "tiny"),
        (["train", "-o", "new", "--source", "good.en", "--target", "good.fr", "--duration", "soon"], 2, "30 minutes"),
        (["train", "-o", "new", "--source", "good.en", "--target", "absent.fr"], 3, "absent.fr"),
        (["train", "-o", "new", "--source", "good.en", "--target", "short.fr"], 3, "short.fr"),
        (["prepare", "-o", "new", "--source", "good.en", "--target", "short.fr"], 3, "short.fr"),
        (["prepare", "--source", "good.en", "--target", "good.fr"], 2, "--output"),
        (["translate", "nowhere"], 4, "nowhere"),
        (["translate", "nowhere", "--temperature", "2"], 2, "--sample"),
        (["translate", "nowhere", "--device", "abacus"], 2, "abacus"),
        (["evaluate", "good.en"], 2, "--reference"),
        (["evaluate", "good.en", "--reference", "good.fr", "--max-length", "9"], 2, "--max-length"),
        (["evaluate", "good.en", "--reference", "good.fr", "-o", "new"], 2, "--output"),
        (["compare", "a", "b", "--dev", "good.en,good.fr"], 2, "--dev"),
        (["compare", "a", "b", "--no-match"], 2, "--match"),
        (["compare", "a", "b", "--set", "seed=3"], 2, "--set"),
        (["compare", "a", "b", "--pairs", "200"], 2, "--pairs"),
        (["compare", "-o", "new", "--languages", "en,fr"], 2, "no text"),
        (["compare", "-o", "new", "--dev", "good.en,good.fr"], 2, "no text"),
        (["compare", "-o", "new", "--source", "good.en", "--target", "good.fr", "--pairs", "200"], 2, "--pairs"),
        (["experiment", "gradients", "nowhere", "--steps", "3"], 2, "--steps"),
        (["generate", "nowhere", "--beams", "2", "--temperature", "2"], 2, "--beams"),
        (["generate", "nowhere", "--top-p", "2"], 2, "--top-p"),
        (["generate", "nowhere", "--prompt", "a", "--prompts", "good.en"], 2, "--prompts"),
        (["align", "nowhere", "--source", "good.en", "--target", "good.fr", "--first", "1"], 2, "--gold"),
        (["prepare", "-o", "new", "--source", "good.en", "--target", "good.fr", "--shown", "3"], 2, "--explain"),
        (["evaluate", "good.en", "--reference", "short.fr"], 3, "short.fr"),
        (["config", "nowhere"], 4, "config.toml"),
    ],
)  # fmt: skip
def test_an_error_says_what_and_exits_with_its_code(
    vitrail: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, lines in (("good.en", 30), ("good.fr", 30), ("short.fr", 29)):
        Path(name).write_text("".join(f"line {number}\n" for number in range(lines)))
    ran = vitrail(*arguments)
    assert (ran.code, ran.out) == (code, "")
    assert ran.err.startswith("error: ") and told in ran.err
    assert "Traceback" not in ran.err
    assert not Path("new").exists(), "nothing is made for a command that cannot be"


def test_a_traceback_only_with_debug(vitrail: Run) -> None:
    ran = vitrail("translate", "nowhere", "--debug")
    assert ran.code == 4
    assert "Traceback" in ran.err and "nowhere" in ran.err


@pytest.mark.parametrize(
    ("error", "code"),
    [(KeyboardInterrupt(), 130), (RuntimeError("a fault of our own"), 1)],
)
def test_what_ends_a_verb(vitrail: Run, trained: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("vitrail.train.run.train", fail)
    ran = vitrail("train", "-o", trained)
    assert ran.code == code
    assert str(error) in ran.err and "Traceback" not in ran.err


# --- train -----------------------------------------------------------------------------------------------------------------------


def test_train_tells_choices_and_scores(vitrail: Run, text: Path, tmp_path: Path) -> None:
    ran = vitrail(*command(text, tmp_path / "run", steps=10))
    assert ran.code == 0
    assert "chosen: train.batch_tokens = 1024: 300 pairs" in ran.err
    assert "[--set model.dropout=0.3]" in ran.err
    assert "model.width" not in ran.err and "chosen: data.subwords.size" not in ran.err, "what was asked for was not chosen"
    assert "dev loss" in ran.err and "\x1b" not in ran.err
    assert "BLEU|nrefs:1|bs:1000" in ran.out and "±" in ran.out
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert scores["step"] == 10 and scores["scores"][0]["name"] == "BLEU"
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "chosen: preset = tiny" in log and "BLEU|nrefs:1" in log


def test_a_finished_run_says_so(vitrail: Run, text: Path, trained: Path) -> None:
    weights = (trained / "model" / "model.safetensors").read_bytes()
    for arguments in (command(text, trained), ["train", "-o", str(trained)]):
        ran = vitrail(*arguments)
        assert ran.code == 0
        assert f"already complete at step {STEPS} of {STEPS}" in ran.err
        assert "BLEU|nrefs:1" in ran.out
    ran = vitrail("train", "-o", trained, "--json")
    assert json.loads(ran.out)["already_done"] is True
    assert (trained / "model" / "model.safetensors").read_bytes() == weights


def test_a_stopped_run_goes_on(vitrail: Run, text: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(TrainingDisplay, "observe", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        ran = vitrail(*command(text, tmp_path / "run"))
    assert ran.code == 75
    assert "error: stopped at step 4" in ran.err
    ran = vitrail(*command(text, tmp_path / "run"))
    assert ran.code == 0
    assert "resuming from step 4" in ran.err
    assert (tmp_path / "run/model/model.safetensors").read_bytes() == (trained / "model/model.safetensors").read_bytes()


def test_another_setup_is_refused_by_name_unless_allowed(vitrail: Run, text: Path, tmp_path: Path) -> None:
    assert vitrail(*command(text, tmp_path / "run", steps=10)).code == 0
    again = (*command(text, tmp_path / "run", steps=12), "--set", "optimizer.learning_rate=0.002")
    ran = vitrail(*again)
    assert ran.code == 2
    assert "optimizer.learning_rate" in ran.err
    ran = vitrail(*again, "--allow-change", "optimizer.learning_rate")
    assert ran.code == 0
    assert "step 12" in ran.err
    assert json.loads((tmp_path / "run" / "scores.json").read_text())["step"] == 12


def test_one_file_and_several_corpora(vitrail: Run, text: Path, tmp_path: Path) -> None:
    pairs = zip((text / "train.en").read_text().splitlines(), (text / "train.fr").read_text().splitlines(), strict=True)
    (tmp_path / "a.tsv").write_text("".join(f"{source}\t{target}\n" for source, target in pairs))
    ran = vitrail(
        *("prepare", "-o", tmp_path / "run", "--corpus", tmp_path / "a.tsv", "--corpus", f"{text}/train.en,{text}/train.fr"),
        *("--set", "data.subwords.size=360", "--languages", "en,fr", "--json"),
    )
    assert ran.code == 0, ran.err
    report = json.loads(ran.out)
    assert [corpus["read"] for corpus in report["corpora"]] == [300, 300]
    assert report["facts"]["target_language"] == "fr"


# --- translate -------------------------------------------------------------------------------------------------------------------

LINES = "I am good.\n\nThe dog eats.\n   \nétrange\u2028ligne\nThe dog eats.\n".encode()


def test_translate_gives_a_line_for_a_line(vitrail: Run, trained: Path) -> None:
    ran = vitrail("translate", trained, stdin=LINES)
    lines = ran.out.split("\n")
    assert ran.code == 0 and len(lines) == 7 and lines[6] == ""
    assert lines[1] == lines[3] == "" and lines[0] and lines[2] == lines[5]
    assert vitrail("translate", trained, "--fast").out == ""
    again = vitrail("translate", trained, "--json", stdin=LINES)
    records = [json.loads(line) for line in again.out.split("\n")[:-1]]
    assert [record["text"] for record in records] == lines[:6]
    assert [record["line"] for record in records] == [1, 2, 3, 4, 5, 6]


def test_translate_bytes_that_are_not_utf8(vitrail: Run, trained: Path) -> None:
    ran = vitrail("translate", trained, stdin=b"caf\xe9\nand then\n")
    assert ran.code == 0 and ran.out.count("\n") == 2


def test_translate_a_file_with_scores_and_n_best(vitrail: Run, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(LINES)
    plain = vitrail("translate", trained, "--source", tmp_path / "in").out.splitlines()
    scored = [line.split("\t") for line in vitrail("translate", trained, "--scores", "--source", tmp_path / "in").out.splitlines()]
    assert [text for _, text in scored] == plain and all(float(score) <= 0 for score, _ in scored)
    ranked = [line.split("\t") for line in vitrail("translate", trained, "--n-best", "2", "--source", tmp_path / "in").out.splitlines()]
    assert [(row[0], row[1]) for row in ranked[:3]] == [("1", "1"), ("1", "2"), ("2", "1")]
    assert [row[3] for row in ranked if row[1] == "1"] == plain


def test_translate_with_wishes_draws_and_an_ensemble(vitrail: Run, trained: Path) -> None:
    assert vitrail("translate", trained, "--prefix", "Le chien", stdin=b"The dog eats.\n").out.startswith("Le chien")
    assert "chat" in vitrail("translate", trained, "--force", "chat", stdin=b"The dog eats.\n").out
    drawn = [vitrail("translate", trained, "--sample", "--temperature", "3", "--seed", seed, stdin=LINES).out for seed in "112"]
    assert drawn[0] == drawn[1] != drawn[2]
    assert vitrail("translate", trained, trained, stdin=LINES).code == 0


@pytest.mark.parametrize(("leave", "code"), [("close", 141), ("interrupt", 130)])
def test_translate_answers_before_the_input_ends_and_leaves_quietly(trained: Path, leave: str, code: int) -> None:
    command = [sys.executable, "-m", "vitrail", "translate", str(trained)]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    # The shell that runs the tests in the background may have them ignore interrupts, and what they start would inherit that.
    with subprocess.Popen(command, **pipes, bufsize=0, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(b"I am good.\n")
        assert process.stdout.readline().strip()
        process.stdin.write(b"\n")
        assert process.stdout.readline() == b"\n"
        if leave == "close":
            process.stdout.close()
            process.stdin.write(b"I am good.\n")
        else:
            process.send_signal(signal.SIGINT)
        assert process.wait(120) == code
        said = process.stderr.read().splitlines()
        assert all(line.startswith((b"engine: ", b"compil")) for line in said), "nothing of the end"


@pytest.mark.parametrize(
    "options", [(), pytest.param(("--sample", "--temperature", "3", "--seed", "7"), marks=pytest.mark.slow)], ids=["search", "sample"]
)
def test_translate_answers_each_line_while_the_pipe_stays_open(vitrail: Run, trained: Path, options: tuple[str, ...]) -> None:
    """And a line's draws are those of its place in the input, whether the lines came one by one or all at once."""
    command = [sys.executable, "-m", "vitrail", "translate", str(trained), *options]
    answers: list[bytes] = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin and process.stdout
        try:
            for line in LINES.splitlines(keepends=True):
                process.stdin.write(line)
                ready, _, _ = select.select([process.stdout], [], [], 120)
                assert ready, f"no answer to {line!r}"
                answers.append(process.stdout.readline())
        finally:
            process.stdin.close()
    assert b"".join(answers).decode() == vitrail("translate", trained, *options, stdin=LINES).out


# --- the others ------------------------------------------------------------------------------------------------------------------


def test_prepare_explains_and_train_uses_it(vitrail: Run, text: Path, tmp_path: Path) -> None:
    arguments = command(text, tmp_path / "run")[1:]
    arguments = arguments[: arguments.index("--duration")] + arguments[arguments.index("--duration") + 2 :]
    ran = vitrail("prepare", *arguments, "--explain", "--shown", "3")
    assert ran.code == 0
    assert "300 pairs read" in ran.out and ran.out.count("subwords") >= 3
    assert "is prepared from this text already" in vitrail("prepare", *arguments).err
    anywhere = vitrail("prepare", "--source", text / "train.en", "--target", text / "train.fr", "--explain")
    assert anywhere.code == 0 and anywhere.out.count("subwords") >= 20


def test_evaluate_files_and_runs(vitrail: Run, trained: Path, text: Path, tmp_path: Path) -> None:
    same = vitrail("evaluate", text / "train.fr", "--reference", text / "train.fr", "--bootstrap", "0", "--json")
    assert [round(score["value"]) for score in json.loads(same.out)["scores"]] == [100, 100, 0]
    first = {side: "".join((text / f"train.{side}").read_text().splitlines(keepends=True)[:5]) for side in ("en", "fr")}
    for side, lines in first.items():
        (tmp_path / f"few.{side}").write_text(lines)
    few = ["--source", tmp_path / "few.en", "--reference", tmp_path / "few.fr"]
    ran = vitrail("evaluate", trained, *few, "--metrics", "chrf", "-o", tmp_path / "out")
    assert ran.code == 0 and "5 sentences, 1 reference" in ran.out and "chrF2|nrefs:1" in ran.out
    assert len((tmp_path / "out").read_text().splitlines()) == 5
    assert "6 sentences" in vitrail("evaluate", trained, "--bootstrap", "0").out
    assert vitrail("evaluate", trained, *few, "--metrics", "chrf", "-o", tmp_path / "out").code == 0, "its own, again"
    for name, content in (("notes.txt", "one line\n"), ("few.fr", first["fr"])):
        (tmp_path / name).write_text(content)
        assert vitrail("evaluate", trained, *few, "-o", tmp_path / name).code == 2
        assert (tmp_path / name).read_text() == content


def test_config_lists_every_key(vitrail: Run, trained: Path) -> None:
    shown = vitrail("config").out
    assert "model.width = 128  (int)\n    Model width D" in shown
    kinds = [shown.index(f"# with model.kind = {kind}") for kind in ("transformer", "recurrent")]
    assert kinds[0] < shown.index("model.heads = ") < kinds[1] < shown.index("model.cell = ") < shown.index("# of every kind", kinds[1])
    assert "data.corpora = (required)" in shown and 'train.duration = "20 epochs"' in shown
    assert "RunConfig" in json.loads(vitrail("config", "--json").out)["title"]
    assert tomllib.loads(vitrail("config", trained).out)["model"]["width"] == 16
    assert json.loads(vitrail("config", trained, "--json").out)["train"]["duration"] == f"{STEPS} steps"


def every_byte(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_demo_shows_what_it_found_and_again_at_once(vitrail: Run, tmp_path: Path) -> None:
    settings = [setting for setting in SMALL if "holdout" not in setting] + ["train.duration='4 steps'", "search.beams=1"]
    arguments = ["demo", "-o", str(tmp_path / "demo"), "--pairs", "300", *(part for one in settings for part in ("--set", one))]
    ran = vitrail(*arguments)
    assert ran.code == 0, ran.err
    assert "1000 sentences, 1 reference" in ran.out
    assert "I am good.  ->  " in ran.out and "A dog ate the food because it was hungry.  ->  " in ran.out
    assert "pronouns (it becomes il or elle): " in ran.out and "of 600)" in ran.out
    page = tmp_path / "demo" / "inspection.html"
    assert str(page) in ran.out and page.read_text(encoding="utf-8").startswith("<!doctype html>")
    again = vitrail(*arguments)
    assert again.out == ran.out and "already done" in again.err
    before = every_byte(tmp_path / "demo")
    larger = vitrail(*("400" if argument == "300" else argument for argument in arguments))
    assert larger.code == 2 and "400 pairs" in larger.err and "--allow-change" not in larger.err
    assert every_byte(tmp_path / "demo") == before


@pytest.mark.slow
def test_recipes_of_the_built_in_text_are_trained_by_the_demo(vitrail: Run, tmp_path: Path) -> None:
    refused = vitrail("train", "--recipe", "phrasebook-lstm", "-o", tmp_path / "no-text")
    assert refused.code == 2 and "vitrail demo --recipe phrasebook-lstm" in refused.err
    settings = [
        "model.width=16",
        "model.embedding_width=16",
        "train.duration='2 steps'",
        "search.beams=1",
        "search.max_ratio=0",
        "search.max_extra=8",
    ]
    arguments = ["--recipe", "phrasebook-lstm", "--pairs", "200", *(part for one in settings for part in ("--set", one))]
    ran = vitrail("demo", "-o", tmp_path / "demo", *arguments)
    assert ran.code == 0, ran.err
    assert json.loads(vitrail("config", tmp_path / "demo", "--json").out)["model"]["cell"] == "lstm"


# --- what nobody foresaw ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["translate", "{long}"],
        ["config", "{long}"],
        ["doctor", "{long}"],
        ["train", "-o", "{long}", "--source", "good.en", "--target", "good.en"],
        ["evaluate", "{long}", "--reference", "good.en"],
        ["train", "-o", "caf\udce9", "--source", "good.en", "--target", "good.en"],
        ["train", "-o", "new", "--source", "caf\udce9.en", "--target", "good.en"],
        ["train", "-o", "good.en", "--source", "good.en", "--target", "good.en"],
        ["prepare", "-o", "good.en/below", "--source", "good.en", "--target", "good.en"],
        ["train", "-o", "new", "--source", "folder", "--target", "good.en"],
        ["translate", "good.en"],
        ["inspect", "folder", "x"],
    ],
)
def test_names_that_cannot_be_are_told_in_words(
    vitrail: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("good.en").write_text("".join(f"line {number}\n" for number in range(30)))
    ran = vitrail(*(argument.format(long="n" * 300) for argument in arguments))
    assert ran.code in (1, 2, 3, 4) and ran.out == ""
    assert "error: " in ran.err and "--debug" not in ran.err and "Traceback" not in ran.err and "Errno" not in ran.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "good.en"], "nothing is made"


def test_a_deleted_working_directory_is_told(vitrail: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for arguments in (["translate", "run"], ["train", "-o", "new", "--source", "a.en", "--target", "a.fr"], ["doctor"], ["config", "run"]):
        ran = vitrail(*arguments)
        assert ran.code in (1, 3, 4), arguments
        assert "--debug" not in ran.err and "Errno" not in ran.err, ran.err


def test_a_run_goes_on_from_any_folder(vitrail: Run, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Started with relative names, gone on with from elsewhere, and after the whole project was moved."""
    project = tmp_path / "project"
    project.mkdir()
    for name in ("train.en", "train.fr"):
        (project / name).write_bytes((text / name).read_bytes())
    monkeypatch.chdir(project)
    settings = [part for setting in SMALL for part in ("--set", setting)]
    assert vitrail("train", "--source", "train.en", "--target", "train.fr", "-o", "runs/a", "--duration", "2 steps", *settings).code == 0
    assert str(project / "train.en") in (project / "runs/a/config.toml").read_text()
    monkeypatch.chdir("/")
    again = vitrail("train", "-o", project / "runs/a")
    assert again.code == 0 and "already complete at step 2" in again.err
    project.rename(tmp_path / "moved")
    again = vitrail("train", "-o", tmp_path / "moved/runs/a")
    assert again.code == 0 and "already complete at step 2" in again.err
