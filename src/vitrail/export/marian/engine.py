"""The engine of browsers, where it is installed: bergamot-translator in node, or fxtranslate in Python."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from vitrail.doctor.checks.programs import BERGAMOT, BERGAMOT_FOLDER, find_bergamot
from vitrail.errors import ModelError, UsageError

_SECONDS = 1800
_SCRIPT = Path(__file__).with_name("translate.mjs")
SCRIPT = _SCRIPT.name
"""Written into each folder: it translates with the model that lies beside it."""


class BrowserFiles(NamedTuple):
    """The files of a model; of vocabularies one for both sides or two."""

    model: str
    vocabularies: tuple[str, ...]
    shortlist: str
    config: str

    @classmethod
    def named(cls, facts: Mapping[str, Any], *, rounded: bool, joint: bool) -> "BrowserFiles":
        """Their usual names: with both languages in them, where they are known."""
        pair = "".join(str(facts.get(f"{side}_language") or "") for side in ("source", "target"))
        middle = f".{pair}" if pair.isalnum() else ""
        vocabularies = ("vocab",) if joint else ("srcvocab", "trgvocab")
        return cls(
            f"model{middle}.{'intgemm.alphas.bin' if rounded else 'bin'}",
            tuple(f"{name}{middle}.spm" for name in vocabularies),
            f"lex{middle}.s2t.bin",
            f"config{middle}.yml",
        )

    def within(self, folder: Path) -> "BrowserFiles":
        """The same files in a folder."""
        vocabularies = tuple(str(folder / name) for name in self.vocabularies)
        return BrowserFiles(str(folder / self.model), vocabularies, str(folder / self.shortlist), str(folder / self.config))


class BrowserEngine(Protocol):
    """A program that translates sentences with a model's files."""

    @property
    def name(self) -> str:
        """Its name and version."""
        ...

    def translate(self, files: BrowserFiles, sources: Sequence[str], *, rounded: bool) -> list[str]:
        """Each sentence by itself, greedily."""
        ...


def find_engine(*, unigram: bool) -> BrowserEngine:
    """An engine that reads the vocabulary. Raises UsageError where there is none.

    Args: unigram: whether the vocabulary is a unigram model: fxtranslate reads no other.
    """
    package = find_bergamot()
    if package is not None:
        return _Bergamot(package)
    if unigram and find_spec("fxtranslate") is not None:
        return _Fxtranslate()
    found, remedy = _missing()
    other = "; or pip install fxtranslate, which reads this vocabulary, too" if unigram else ""
    raise UsageError(found, expected="the program that checks it", remedy=f"{remedy}{other}; or --no-check")


def _missing() -> tuple[str, str]:
    """Why bergamot-translator cannot run, and what helps."""
    given = os.environ.get(BERGAMOT_FOLDER)
    if shutil.which("node") is None:
        return f"node is not installed, in which {BERGAMOT} runs", "install Node.js"
    if given:
        return f"{BERGAMOT_FOLDER}={given}: not the folder of {BERGAMOT}", f"{BERGAMOT_FOLDER}=FOLDER/node_modules/{BERGAMOT}"
    return f"{BERGAMOT} is not installed", f"npm install {BERGAMOT} in this folder (or {BERGAMOT_FOLDER}=its folder)"


def script() -> bytes:
    """The program that translates with a folder."""
    return _SCRIPT.read_bytes()


class _Bergamot:
    """bergamot-translator, compiled to WebAssembly, in node."""

    def __init__(self, package: Path) -> None:
        self._package = package

    @property
    def name(self) -> str:
        return f"bergamot-translator {json.loads((self._package / 'package.json').read_bytes()).get('version', '')}"

    def translate(self, files: BrowserFiles, sources: Sequence[str], *, rounded: bool) -> list[str]:
        del rounded  # the folder's settings say it
        command = ["node", str(Path(files.model).with_name(SCRIPT)), str(self._package.resolve())]
        given = "".join(f"{one}\n" for one in sources).encode()
        done = subprocess.run(command, input=given, capture_output=True, timeout=_SECONDS, check=False)
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()
            told = next((line for line in said if "rror" in line), "nothing")
            raise ModelError(f"{self.name} cannot translate with this model: {told}", remedy="report this as a fault; or --no-check")
        found = done.stdout.decode("utf-8").split("\n")[:-1]
        assert len(found) == len(sources)
        return found


class _Fxtranslate:
    """fxtranslate: the same engine written anew in Rust."""

    @property
    def name(self) -> str:
        return f"fxtranslate {version('fxtranslate')}"

    def translate(self, files: BrowserFiles, sources: Sequence[str], *, rounded: bool) -> list[str]:
        if not rounded:
            raise UsageError("fxtranslate with --compute float32", expected="int8", remedy=f"npm install {BERGAMOT}; or --no-check")
        made: Any = import_module("fxtranslate").Translator
        vocabularies = [Path(name).read_bytes() for name in (files.vocabularies[0], files.vocabularies[-1])]
        shortlist = Path(files.shortlist).read_bytes() if Path(files.shortlist).exists() else None
        translator = made(Path(files.model).read_bytes(), vocabularies[0], vocabularies[1], shortlist)
        return [translator.translate(one) for one in sources]
