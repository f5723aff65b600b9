"""vitrail inspect as its users meet it: pages, records, drawings and studies, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from vitrail.cli import run
from vitrail.inspection.record import Inspection
from vitrail.phrasebook.corpus import phrasebook

SENTENCE = "The dog eats."


class Ran(NamedTuple):
    code: int
    out: str
    err: str


Inspect = Callable[..., Ran]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few steps on the phrasebook."""
    folder = tmp_path_factory.mktemp("inspected")
    pairs = phrasebook(train_pairs=300).train
    for name, side in (("train.en", [pair.source for pair in pairs]), ("train.fr", [pair.target for pair in pairs])):
        (folder / name).write_text("".join(f"{line}\n" for line in side))
    settings = [
        *("model.width=16", "model.heads=2", "model.encoder_layers=1", "model.decoder_layers=1", "model.feed_forward=16"),
        *("data.subwords.size=360", "data.holdout.dev_pairs=12", "data.holdout.test_pairs=0"),
        *("train.validate_every='5 steps'", "train.validation_sentences=4", "train.threads=1", "search.beams=2", "search.max_length=6"),
    ]
    files = ["--source", str(folder / "train.en"), "--target", str(folder / "train.fr")]
    set_all = [part for setting in settings for part in ("--set", setting)]
    assert run(["train", *files, "-o", str(folder / "run"), "--duration", "10 steps", *set_all]) == 0
    return folder / "run"


@pytest.fixture
def inspect(model: Path, capfd: pytest.CaptureFixture[str]) -> Inspect:
    """Run `vitrail inspect` on that run in this process."""

    def call(*arguments: str | Path) -> Ran:
        capfd.readouterr()
        code = run(["inspect", str(model), *map(str, arguments), "--threads", "1"])
        return Ran(code, *capfd.readouterr())

    return call


@pytest.fixture
def study(model: Path, capfd: pytest.CaptureFixture[str]) -> Inspect:
    """Run a study of that run in this process."""

    def call(name: str, *arguments: str | Path) -> Ran:
        capfd.readouterr()
        code = run(["inspect", name, str(model), *map(str, arguments)])
        return Ran(code, *capfd.readouterr())

    return call


def test_a_page_a_record_and_a_figure_by_the_name_of_the_file(inspect: Inspect, tmp_path: Path) -> None:
    for name, begins in (("a.html", b"<!doctype html>"), ("a.npz", b"PK"), ("a.svg", b"<?xml"), ("a.pdf", b"%PDF"), ("a.png", b"\x89PNG")):
        done = inspect(SENTENCE, "-o", tmp_path / name)
        assert done.code == 0 and done.out == "" and name in done.err
        assert (tmp_path / name).read_bytes().startswith(begins)
    record = Inspection.load(tmp_path / "a.npz")
    assert record.facts.asked == SENTENCE and {"attribution", "alignment", "logit_lens"} <= record.facts.extras.keys()
    assert inspect(SENTENCE, "-o", tmp_path / "b.npz", "--plain").code == 0
    assert not Inspection.load(tmp_path / "b.npz").facts.extras
    refused = inspect(SENTENCE, "-o", tmp_path / "a.docx")
    assert refused.code == 2 and "a.docx" in refused.err and not (tmp_path / "a.docx").exists()


def test_without_a_file_it_draws_or_tells_its_facts(inspect: Inspect) -> None:
    drawn = inspect(SENTENCE)
    assert drawn.code == 0 and SENTENCE in drawn.out and "\x1b" not in drawn.out
    told = json.loads(inspect(SENTENCE, "--translation", "Le chien mange.", "--json").out)
    assert told["given"] and told["target"]["text"] == "Le chien mange." and told["source"]["text"] == SENTENCE
    begun = json.loads(inspect(SENTENCE, "--prefix", "Le", "--beams", "3", "--json").out)
    assert begun["target"]["text"].startswith("Le") and begun["decoding"]["beams"] == 3


def test_what_is_written_beside_an_edit_is_edited(inspect: Inspect, model: Path, tmp_path: Path) -> None:
    edits = ("--edit", "word=dog:cat", "--edit", "hide=cat", "--edit", "off=decoder.0.cross_attention:1")
    told = json.loads(inspect(SENTENCE, *edits, "--prefix", "Le", "--beams", "3", "-o", tmp_path / "a.npz", "--json").out)
    record = Inspection.load(tmp_path / "a.npz")
    assert record.source.text == "The cat eats." == told["edited_source"] and record.facts.decoding.beams == 3
    assert list(record.target.ids) == told["new"]["tokens"]
    assert told["old"]["text"].startswith("Le") and told["new"]["text"].startswith("Le")
    assert record.facts.extras["edits"] == told["edits"] and "attribution" in record.facts.extras
    drawn = inspect(SENTENCE, *edits, "--text").out
    assert drawn.count("The cat eats.") == 2  # the study, and the drawing


@pytest.mark.slow
def test_a_page_takes_layout_and_the_other_model(inspect: Inspect, model: Path, tmp_path: Path) -> None:
    facts = json.loads(inspect(SENTENCE, "-o", tmp_path / "a.html", "--layout", "tsne", "--against", model, "--json").out)
    assert facts["extras"]["maps"]["method"] == "tsne" and facts["extras"]["maps"]["cka"]["other"] == str(model)


def test_facts_are_those_of_the_drawing_or_of_the_file(inspect: Inspect, tmp_path: Path) -> None:
    assert set(json.loads(inspect(SENTENCE, "--json").out)["extras"]) == {"alignment"}
    assert json.loads(inspect(SENTENCE, "--json", "--plain").out)["extras"] == {}
    told = inspect(SENTENCE, "--json", "-o", tmp_path / "a.npz").out
    assert json.loads(told) == Inspection.load(tmp_path / "a.npz").facts.model_dump(mode="json")


def test_a_model_folder_has_no_text_of_its_own(model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", "maps", str(model / "model")]) == 4
    said = capfd.readouterr().err
    assert "no dev set" in said and "--source FILE --reference FILE" in said
    (tmp_path / "config.json").write_text("{}")
    assert run(["inspect", str(tmp_path), SENTENCE]) == 4
    assert "no Vitrail model" in capfd.readouterr().err


def test_what_is_wished_of_a_translation_is_seen(inspect: Inspect) -> None:
    """What `translate` finds with these options is what is looked at."""
    told = json.loads(inspect(SENTENCE, "--force", "chat", "--forbid", "le", "--max-length", "9", "--json").out)
    assert "chat" in told["target"]["text"] and "le" not in told["target"]["text"].split()


@pytest.mark.slow
def test_studies(inspect: Inspect, study: Inspect, model: Path, tmp_path: Path) -> None:
    changed = inspect(SENTENCE, "--edit", "off=decoder.0.cross_attention:1")
    assert changed.code == 0 and "decoder.0.cross_attention:1" in changed.out
    assert json.loads(study("order", SENTENCE, "--json").out)
    swept = json.loads(study("heads", "--sentences", "4", "--json").out)
    assert len(swept["heads"]) == 3 * 2
    mapped = json.loads(study("maps", "--sentences", "10", "--against", model, "--json").out)
    assert mapped["cka"]["sentences"] == 10 and mapped["cka"]["other"] == str(model)
    filmed = study("film")
    assert filmed.code == 0 and filmed.out.strip()
    assert study("projector", "-o", tmp_path / "projector").code == 0
    assert (tmp_path / "projector" / "projector_config.pbtxt").is_file()


@pytest.mark.slow
def test_studies_on_the_phrasebook(study: Inspect) -> None:
    judged = json.loads(study("heads", "--score", "pronouns", "--sentences", "2", "--json").out)
    assert judged["sentences"] == 2 and len(judged["heads"]) == 3 * 2
    assert "AER" in study("align", "--fresh", "3").out


@pytest.mark.parametrize("shown", [["inspect", "--help"], ["inspect", "runs/x", "--help"]])
def test_help_lists_the_studies_beside_the_options_of_a_sentence(shown: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert run(shown) == 0
    out = capfd.readouterr().out
    assert "Usage: vitrail inspect [OPTIONS] {MODEL} [SENTENCE]" in out and "--translation" in out
    for name in ("heads", "antecedents", "align", "maps", "film", "projector", "order"):
        assert f"\n  {name} " in out
        assert run(["inspect", name, "--help"]) == 0
        assert f"Usage: vitrail inspect {name} " in capfd.readouterr().out


@pytest.mark.parametrize(
    ("options", "new"),
    [
        (["--ablate", "heads"], "heads MODEL"),
        (["--ablate=heads", "--score", "pronouns"], "heads MODEL"),
        (["--antecedent"], "antecedents MODEL"),
        (["--aer", "--fresh", "3"], "align MODEL"),
        (["--maps", "--layout", "tsne"], "maps MODEL"),
        (["--film"], "film MODEL"),
        (["--projector", "there"], "projector MODEL -o FOLDER"),
        (["The dog eats.", "--permute"], 'order MODEL "A SENTENCE."'),
    ],
)
def test_an_option_of_the_release_before_names_its_study(options: list[str], new: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", "runs/x", *options]) == 2
    said = capfd.readouterr()
    assert f"try: vitrail inspect {new.replace('MODEL', 'runs/x')}\n" in said.err and said.out == ""
    assert run(["inspect", *options[-2:], *options[:-2], "runs/x"]) == 2  # the model last
    assert "vitrail inspect " + new.split()[0] in capfd.readouterr().err
    assert run(["inspect", "runs/x", "--", *options]) in (2, 4)  # a sentence that looks like one
    assert "a study by its name" not in capfd.readouterr().err


@pytest.mark.slow
def test_a_folder_with_the_name_of_a_study_is_reached(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "heads").symlink_to(model)
    for arguments in (["heads"], ["heads", SENTENCE]):
        assert run(["inspect", *arguments]) == 2
        assert "try: for the model in the folder: vitrail inspect ./heads" in capfd.readouterr().err
    assert run(["inspect", "./heads", SENTENCE, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["source"]["text"] == SENTENCE
    assert run(["inspect", "heads", "heads", "--sentences", "2", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["sentences"] == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["film", "--part", "1"], "--part"),
        (["film", "--sentences", "50"], "--sentences"),
        (["film", "--fresh", "1"], "--fresh"),
        (["film", SENTENCE], "unexpected extra argument"),
        (["film", "--plain"], "--plain"),
        (["align", "--score", "bleu"], "--score"),
        (["order", SENTENCE, "--beams", "2"], "--beams"),
        (["order", " "], "no sentence"),
        (["order"], "SENTENCE"),
        (["heads", "--source", "nowhere.en"], "one side"),
        (["heads", "--score", "pronouns", "--source", "x.en", "--reference", "x.fr"], "--source"),
        (["maps", "--fresh", "1"], "--fresh"),
        (["projector"], "--output"),
    ],
)
def test_a_study_has_the_options_that_it_reads(study: Inspect, arguments: list[str], said: str) -> None:
    done = study(*arguments)
    assert done.code == 2 and said in done.err and done.out == ""


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "no sentence"),
        (["  "], 2, "no sentence"),
        ([SENTENCE, "--layer", "7"], 2, "layer 7"),
        ([SENTENCE, "--layer", "0", "--head", "9"], 2, "head 9"),
        ([SENTENCE, "--edit", "off=encoder.7"], 2, "encoder.7"),
        ([SENTENCE, "--edit", "word=cat:dog"], 2, "cat"),
        (["word " * 600, "--translation", "mot"], 2, "parts"),
        ([SENTENCE, "--part", "9"], 2, "part 9"),
        ([SENTENCE, "--score", "bleu"], 2, "--score"),
        ([SENTENCE, "--sentences", "4"], 2, "--sentences"),
        ([SENTENCE, "--layer", "0", "-o", "x.html"], 2, "--layer"),
        ([SENTENCE, "--kind", "cross", "-o", "x.npz"], 2, "--kind"),
        ([SENTENCE, "--language", "fr", "-o", "x.npz"], 2, "--language"),
        ([SENTENCE, "--plain", "-o", "x.svg"], 2, "--plain"),
        ([SENTENCE, "--edit", "hide=dog", "--layer", "0"], 2, "--layer"),
        ([SENTENCE, "--layout", "tsne"], 2, "--layout"),
        ([SENTENCE, "--text", "--json"], 2, "--text and --json"),
    ],
)
def test_what_cannot_be_is_refused_by_name(inspect: Inspect, arguments: list[str], code: int, said: str) -> None:
    done = inspect(*arguments)
    assert done.code == code and said in done.err and done.out == ""


def test_several_models_have_no_inside(model: Path) -> None:
    import vitrail
    from vitrail.errors import ModelError

    with pytest.raises(ModelError, match="ensemble"):
        vitrail.load(model, model).inspect(SENTENCE)
