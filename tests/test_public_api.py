"""The public names: a change of this list is a change that users feel."""

import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import vitrail
from vitrail.data.phrasebook import phrasebook

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
        "TrainingError",
    ),
    *("TranslateConfig", "Translation", "Translator", "UsageError", "VitrailError", "Wishes", "__version__", "load"),
    *("train_language_model", "train_translator"),
]

EARLIER = {
    "vitrail.decode.search": ("SamplingConfig", "SearchConfig"),
    "vitrail.decode.translate": ("TranslateConfig", "Translation", "Translator", "Wishes"),
}


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
    assert done.stdout.strip() == "['vitrail.cores', 'vitrail.version']"


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
    assert "already at step 4" in said[-1]
    assert vitrail.load(tmp_path / "run").translate("I am good.") == translator.translate("I am good.")
