"""The public names: a change of this list is a change that users feel."""

import subprocess
import sys
import tomllib
import warnings
from importlib import import_module
from pathlib import Path

import pytest

import vitrail
from vitrail.phrasebook.corpus import phrasebook

NAMES = [
    *(
        "DataError",
        "Duration",
        "Generated",
        "Generator",
        "InspectableTranslator",
        "Inspection",
        "Interrupted",
        "ModelError",
        "RunConfig",
        "SamplingConfig",
        "SearchConfig",
        "Stopped",
        "TextConstraints",
        "TrainingError",
    ),
    *("TranslateConfig", "Translation", "Translator", "UsageError", "VitrailError", "__version__", "load"),
    *("train_language_model", "train_translator"),
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


@pytest.mark.parametrize(("home", "name", "new"), RENAMED)
def test_an_old_name_works_with_a_warning(home: str, name: str, new: str) -> None:
    code = f"from {home} import {name} as old; from {new} import {name}; assert old is {name}"
    done = subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.count("DeprecationWarning") >= 1 and home in done.stderr and new in done.stderr


def test_what_was_never_there_is_not_found() -> None:
    for home, name in (("vitrail.inspection.maps", "mapp"), ("vitrail.models.folder", "lode_model"), ("vitrail.inspection.figurs", "x")):
        with pytest.raises((ImportError, AttributeError)), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            getattr(import_module(home), name)


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
    settings = ["train.duration=4 steps", "data.subwords.size=340", "model.width=16", "model.heads=2", "train.threads=1"]
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
