"""A translator as one file (.argosmodel) that Argos Translate installs and LibreTranslate serves."""

import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from hashlib import sha256
from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from vitrail.data.vocabularies.mapped import MappedPieces
from vitrail.data.vocabularies.subwords import PAD, SOS, UNK, SentencePieceSubwords, Subwords
from vitrail.errors import ModelError, UsageError
from vitrail.export.argos.sentences import sentence_model
from vitrail.export.translators.ctranslate2_folder import Compute, load_carried
from vitrail.export.translators.ctranslate2_spec import make_spec, save_spec
from vitrail.export.translators.parity import CheckTexts, GivenPairs, Parity, check_texts, compare
from vitrail.files import write_file
from vitrail.files.manifest import FileEntry, manifest_text
from vitrail.languages import find_language
from vitrail.models.model_folder import LoadedModel
from vitrail.version import __version__

SUFFIX = ".argosmodel"
SENTENCES = 200
_DATE = (1980, 1, 1, 0, 0, 0)
"""The earliest that a zip file can say: the same model makes the same bytes."""
_OWN_CODES = {"zh-Hant": "zt", "pt-BR": "pb"}
"""Codes that Argos Translate has for itself."""


class Pair(NamedTuple):
    """The codes of both languages, as Argos Translate has them."""

    source: str
    target: str


def export_argos(
    model: Path,
    output: Path,
    *,
    compute: Compute = "float32",
    python: Path | None = None,
    check: bool = True,
    given: GivenPairs | None = None,
) -> Parity | None:
    """Write the translator of a run's folder or a model folder as a package, and translate with Argos Translate.

    Args:   output: the file; it gets the suffix .argosmodel. python: the interpreter of the environment that has argostranslate;
    None: this one.
    Raises: UsageError for a model that cannot be carried, naming what, and where a program is missing; ModelError where Argos Translate
    translates otherwise: then nothing is written.
    """
    if find_spec("onnx") is None:
        raise UsageError("onnx is not installed, in which sentence ends are written", remedy="pip install 'vitrail[onnx]'")
    loaded = load_carried(model)  # first: who has a model that cannot go there needs no program
    interpreter = Path(sys.executable) if python is None else python
    if check:
        require_argos(interpreter)
    content = package(loaded, compute=compute)
    found = _compared(model, content, pair_of(loaded), python=interpreter, given=given) if check else None
    if found is not None:
        found.require(exact=compute == "float32")
    write_file(named(output), content, ours=is_package)
    return found


def _compared(model: Path, content: bytes, pair: Pair, *, python: Path, given: GivenPairs | None) -> Parity:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / f"checked{SUFFIX}"
        path.write_bytes(content)
        program, texts = f"Argos Translate {argos_version(python)}", check_texts(model, count=SENTENCES, given=given)
        # Its length penalty is another one, so that beams may find something else.
        return compare(model, theirs(path, pair, python=python), program=program, texts=texts, beams=(1,))


def named(output: Path) -> Path:
    """The name with its suffix."""
    return output if output.suffix == SUFFIX else output.with_name(output.name + SUFFIX)


def is_package(path: Path) -> bool:
    """Whether a file is a package that was written here."""
    try:
        with zipfile.ZipFile(path) as there:
            return any(name.endswith("/manifest.json") for name in there.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def pair_of(loaded: LoadedModel) -> Pair:
    """The languages of a model. Raises UsageError where it does not say them."""
    codes = list[str]()
    for side in ("source", "target"):
        given = str(loaded.facts.get(f"{side}_language", ""))
        language = find_language(given)
        if language is None:
            raise UsageError(
                f"a model whose {side} language is {given or 'not known'}",
                expected="two languages, by which Argos Translate finds it",
                remedy=f"train with --{side}-language CODE",
            )
        full = "zh-Hant" if (language.code, language.script) == ("zh", "Hant") else f"{language.code}-{language.region}"
        codes.append(_OWN_CODES.get(full, language.code))
    return Pair(*codes)


def package(loaded: LoadedModel, *, compute: Compute) -> bytes:
    """The file. Raises UsageError for a vocabulary without a SentencePiece model, and for a model that names no languages."""
    pair = pair_of(loaded)
    contents = {
        "metadata.json": _json(_metadata(pair)),
        "README.md": _readme(loaded, pair, compute).encode(),
        "sentencepiece.model": _sentencepiece(loaded.vocabularies.source),
        f"minisbd/{pair.source}.onnx": sentence_model(pair.source),
    }
    _sentencepiece(loaded.vocabularies.target)
    with tempfile.TemporaryDirectory() as place:
        # Argos Translate forbids no token by itself.
        save_spec(make_spec(loaded, banned=(PAD, UNK, SOS)), Path(place), compute=compute)
        for path in sorted(Path(place).iterdir()):
            contents[f"model/{path.name}"] = path.read_bytes()
    contents["manifest.json"] = manifest_text({name: _entry(content) for name, content in contents.items()})
    return _zip(f"translate-{pair.source}_{pair.target}-1_0", contents)


def _entry(content: bytes) -> FileEntry:
    return FileEntry(len(content), sha256(content).hexdigest())


def _sentencepiece(vocabulary: Subwords) -> bytes:
    match vocabulary:
        case SentencePieceSubwords():
            return vocabulary.to_bytes()
        case MappedPieces():
            return vocabulary.sentencepiece_model
        case _:
            raise UsageError(
                "a vocabulary of whole words or characters",
                expected="bpe or unigram: Argos Translate reads text by a SentencePiece model",
                remedy="train with --set data.subwords.kind=bpe",
            )


def _metadata(pair: Pair) -> dict[str, Any]:
    return {
        "package_version": "1.0",
        "argos_version": "1.9.0",
        "from_code": pair.source,
        "from_name": pair.source,
        "to_code": pair.target,
        "to_name": pair.target,
        "links": [],
        "writer": f"vitrail {__version__}",
    }


def _zip(root: str, contents: Mapping[str, bytes]) -> bytes:
    """A zip file with one folder, the same bytes for the same contents."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as out:
        for name, content in contents.items():
            out.writestr(zipfile.ZipInfo(f"{root}/{name}", _DATE), content, zipfile.ZIP_DEFLATED)
    return file.getvalue()


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def _readme(loaded: LoadedModel, pair: Pair, compute: str) -> str:
    return f"""# {pair.source} to {pair.target}

A translator written by `vitrail export --to argos`, weights in {compute}. It is installed by `argospm install FILE{SUFFIX}`, or by

```python
import argostranslate.package, argostranslate.translate

argostranslate.package.install_from_path("FILE{SUFFIX}")
print(argostranslate.translate.translate("A sentence.", "{pair.source}", "{pair.target}"))
```

LibreTranslate serves what is installed for the same user: `libretranslate --load-only {pair.source},{pair.target}`. With fewer than two
packages it asks the network for a list of others when it starts; without a network,
`echo "[]" > ~/.local/share/argos-translate/index.json` ends that.

| file | what it is |
|---|---|
| model/ | the model for CTranslate2 |
| sentencepiece.model | text to pieces and back |
| minisbd/{pair.source}.onnx | sentence ends by rules; nothing is downloaded for them |

Argos Translate writes a space for each underscore.
"""


def require_argos(python: Path) -> None:
    """Raise UsageError where an interpreter does not have argostranslate."""
    if not argos_version(python):
        raise UsageError(
            f"{python} has no argostranslate",
            expected="the interpreter of an environment with argos-translate-lt (or argostranslate)",
            remedy="benchmarks/environments.sh FOLDER argos, then --python FOLDER/argos/bin/python; or --no-check",
        )


def argos_version(python: Path) -> str:
    """The version that an interpreter has; empty where it has none, or is none."""
    script = """
from importlib.metadata import PackageNotFoundError, version
for name in ("argos-translate-lt", "argostranslate"):
    try:
        print(version(name))
        break
    except PackageNotFoundError:
        pass
"""
    try:
        return subprocess.run([str(python), "-I", "-c", script], capture_output=True, text=True, timeout=60).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def theirs(path: Path, pair: Pair, *, python: Path) -> Any:
    """Translate with Argos Translate in a process and a folder of its own, without any connection."""

    def translate(texts: CheckTexts, beams: int) -> list[str]:
        with tempfile.TemporaryDirectory() as home, as_file(files("vitrail.export.argos").joinpath("worker.py")) as worker:
            places = dict.fromkeys(("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"), home)
            environment = os.environ | places | {"ARGOS_BEAM_SIZE": str(beams), "ARGOS_INTRA_THREADS": "1"}
            command = [str(python), "-I", str(worker), str(path), *pair]
            lines = "".join(f"{text}\n" for text in texts.sources).encode()
            done = subprocess.run(command, input=lines, env=environment, capture_output=True)
        if done.returncode:
            raise ModelError(f"Argos Translate failed: {done.stderr.decode(errors='replace').strip()[-2000:]}")
        return done.stdout.decode().split("\n")[:-1]

    return translate
