"""The public names: a change of this list is a change that users feel."""

import json
import subprocess
import sys
import tomllib
import warnings
from importlib import import_module
from pathlib import Path

import pytest

import vitrail
from vitrail.cli import run
from vitrail.phrasebook.corpus import phrasebook
from vitrail.train.tasks.validate import Validated

NAMES = [
    *(
        "Autoencoder",
        "Classified",
        "Classifier",
        "DataError",
        "Duration",
        "Embedder",
        "Generated",
        "Generator",
        "Guess",
        "InspectableClassifier",
        "InspectableFiller",
        "InspectableGenerator",
        "InspectableTranslator",
        "Inspection",
        "Interrupted",
        "MaskFiller",
        "ModelError",
        "RunConfig",
        "SamplingConfig",
        "SearchConfig",
        "Stopped",
        "TextConstraints",
        "TrainingError",
    ),
    *("TranslateConfig", "Translation", "Translator", "UsageError", "VitrailError", "WordVectors", "__version__", "load"),
    "load_vectors",
    *("train_classifier", "train_language_model", "train_translator"),
]

EARLIER = {
    "vitrail.decode.translate": ("TranslateConfig", "Translation", "Translator"),
}
GOLDEN = Path(__file__).parent / "golden" / "format_2" / "model"
RENAMED = [
    ("vitrail.decode.search", "SearchConfig", "vitrail.decode.search_config"),
    ("vitrail.decode.search", "beam_search", "vitrail.decode.search.beams"),
    ("vitrail.inspection.alignment", "align", "vitrail.inspection.alignment.word_alignment"),
    ("vitrail.inspection.attribution", "attribute", "vitrail.inspection.causes.attribution"),
    ("vitrail.inspection.change", "Edit", "vitrail.inspection.causes.change"),
    ("vitrail.inspection.doctor.examine", "examine", "vitrail.doctor.examine"),
    ("vitrail.inspection.figures", "draw_heads", "vitrail.inspection.drawing.figures"),
    ("vitrail.inspection.lens", "apply_lens", "vitrail.inspection.causes.lens"),
    ("vitrail.inspection.maps", "map_model", "vitrail.inspection.maps.model_map"),
    ("vitrail.inspection.whole", "complete", "vitrail.inspection.complete"),
    ("vitrail.train.api", "train_translator", "vitrail.api"),
    ("vitrail.models.folder", "load_model", "vitrail.models.model_folder"),
]
"""Names that the pages told, where the last release had them, and where they are now."""


def test_old_names_in_python_work_with_a_warning() -> None:
    with pytest.warns(DeprecationWarning, match="vitrail.Wishes is now .*TextConstraints"):
        old = vitrail.Wishes  # pyright: ignore
    assert old is vitrail.TextConstraints
    with pytest.warns(DeprecationWarning):
        from vitrail.decode.translate import Wishes  # pyright: ignore
    assert Wishes is vitrail.TextConstraints
    translator = vitrail.load(GOLDEN)
    asked = vitrail.TextConstraints(forbidden="a")
    with pytest.warns(DeprecationWarning, match="wishes= is now constraints="):
        found = translator.translate("a b", wishes=asked)  # pyright: ignore
    assert found == translator.translate("a b", constraints=asked)
    with pytest.warns(DeprecationWarning, match="Translation.segments"):
        assert found.stretches == found.segments


def test_old_names_of_modules_work_with_a_warning() -> None:
    """In one new process, which has none of them yet."""
    code = """
import json, sys, warnings
from importlib import import_module
for home, name, new in json.loads(sys.argv[1]):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        old = getattr(import_module(home), name)
    assert old is getattr(import_module(new), name), (home, name)
    told = [str(one.message) for one in caught if one.category is DeprecationWarning]
    assert any(home in text and new in text for text in told), (home, told)
print(len(json.loads(sys.argv[1])))
"""
    done = subprocess.run([sys.executable, "-c", code, json.dumps(RENAMED)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{len(RENAMED)}\n"


def test_what_was_never_there_is_not_found() -> None:
    for home, name in (("vitrail.inspection.maps", "mapp"), ("vitrail.models.folder", "lode_model"), ("vitrail.inspection.figurs", "x")):
        with pytest.raises((ImportError, AttributeError)), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            getattr(import_module(home), name)


SHORT = ("data.holdout.dev_pairs=6", "data.holdout.test_pairs=4", "train.validate_every='4 steps'", "train.validation_sentences=2")
"""Settings of a training that validates once and scores a few sentences."""


def test_the_public_names() -> None:
    assert vitrail.__all__ == NAMES == dir(vitrail)
    for name in NAMES:
        assert getattr(vitrail, name) is not None
    with pytest.raises(AttributeError, match="trane"):
        _ = vitrail.trane  # pyright: ignore


def test_every_public_name_is_fetched_from_where_it_is_written() -> None:
    """And from where earlier releases had it."""
    fetched = {name: home for home, names in vitrail._HOMES.items() for name in names}  # pyright: ignore[reportPrivateUsage]
    assert sorted([*fetched, "__version__", "load"]) == NAMES
    for name, home in fetched.items():
        found = getattr(import_module(home), name)
        assert found is getattr(vitrail, name)
        assert getattr(found, "__module__", home) in (home, "typing")
    for home, names in EARLIER.items():
        for name in names:
            assert getattr(import_module(home), name) is getattr(vitrail, name)


def test_importing_fetches_nothing() -> None:
    """But the version, and what says how OpenMP's threads wait, which must be said before torch is there."""
    code = "import sys, vitrail; print(sorted(name for name in sys.modules if name.startswith(('vitrail.', 'torch'))))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "['vitrail.renamed', 'vitrail.runtime', 'vitrail.runtime.cores', 'vitrail.version']"


def test_the_version_is_that_of_the_package() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert vitrail.__version__ == project["version"]


def test_three_lines_train_and_translate(tmp_path: Path) -> None:
    pairs = phrasebook(train_pairs=120).train
    for name, side in (("a.en", [pair.source for pair in pairs]), ("a.fr", [pair.target for pair in pairs])):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in side))
    settings = ["train.duration=4 steps", "data.subwords.size=340", "model.width=16", "model.heads=2", "train.threads=1", *SHORT]
    said: list[str] = []
    files = (tmp_path / "a.en", tmp_path / "a.fr", tmp_path / "run")
    translator = vitrail.train_translator(*files, settings=settings, say=said.append)
    assert translator.translate("I am good.").text
    assert translator.translate("I am good.").parts == 1
    assert translator.translate("I am good. " * 20).parts > 1, "longer than anything in the text, so cut at the ends of its sentences"
    assert any("schedule.warmup" in line for line in said)
    vitrail.train_translator(*files, settings=settings, say=said.append)
    assert "already complete at step 4" in said[-1]
    assert vitrail.load(tmp_path / "run").translate("I am good.") == translator.translate("I am good.")


@pytest.mark.slow
def test_python_trains_as_the_command_line_does(tmp_path: Path) -> None:
    """The same run, scored and filmed; and what comes back can be looked into."""
    pairs = phrasebook(train_pairs=150).train
    for name, side in (("a.en", [pair.source for pair in pairs]), ("a.fr", [pair.target for pair in pairs])):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in side))
    files = (tmp_path / "a.en", tmp_path / "a.fr")
    settings = ["data.subwords.size=340", "model.width=16", "model.heads=2", "train.threads=1", "train.duration=4 steps"]
    settings += [*SHORT, "search.max_length=6", "search.beams=1", "model.encoder_layers=1", "model.decoder_layers=1"]
    translator = vitrail.train_translator(*files, tmp_path / "python", settings=settings)
    sides = ["--source", str(files[0]), "--target", str(files[1])]
    assert run(["train", *sides, "-o", str(tmp_path / "program"), *(part for one in settings for part in ("--set", one))]) == 0
    names = {name: {path.name for path in (tmp_path / name).iterdir()} for name in ("python", "program")}
    assert names["program"] - names["python"] == {"log.txt"} and not names["python"] - names["program"]
    assert {"scores.json", "test.translated", "film.jsonl", "choices.json"} <= names["python"]
    for name in ("scores.json", "test.translated", "choices.json", "model/model.safetensors"):
        assert (tmp_path / "python" / name).read_bytes() == (tmp_path / "program" / name).read_bytes(), name
    assert isinstance(translator, vitrail.InspectableTranslator)
    assert translator.inspect("I am good.").facts.asked == "I am good."
    unfilmed = vitrail.train_translator(*files, tmp_path / "unfilmed", settings=settings, film=False)
    assert not (tmp_path / "unfilmed" / "film.jsonl").exists()
    assert unfilmed.translate("I am good.") == translator.translate("I am good.")
    seen: list[int] = []

    def watch(validated: Validated) -> dict[str, int]:
        seen.append(validated.step)
        return {"a": 1}

    vitrail.train_translator(*files, tmp_path / "watched", settings=settings, watch=watch)
    assert seen == [4] and '"a": 1' in (tmp_path / "watched" / "film.jsonl").read_text()


def test_a_language_model_is_scored_as_the_command_line_does(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("".join(f"{pair.source}\n" for pair in phrasebook(train_pairs=300).train))
    settings = ["preset=lstm-lm", "train.duration=2 steps", "train.threads=1", "data.subwords.size=300", "model.width=16"]
    generator = vitrail.train_language_model(tmp_path / "a.txt", tmp_path / "run", settings=settings)
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    held = (tmp_path / "run" / "data" / "test.text").read_text().splitlines()
    assert scores["step"] == 2 and {name: scores[name] for name in generator.measure(held).figures()} == generator.measure(held).figures()
