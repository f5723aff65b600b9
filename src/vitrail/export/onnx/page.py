"""One page that translates: models, vocabularies and onnxruntime-web in a file that a browser opens without a network."""

import base64
import gzip
import html
import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from vitrail.data.vocabularies.subwords import BEFORE_CHARACTERS, EOS, CharacterVocabulary, SentencePieceSubwords, Subwords
from vitrail.errors import UsageError
from vitrail.inspection.page.scripts import join_scripts
from vitrail.models.model_folder import LoadedModel

PAGE = "translate.html"
_SCRIPT, _LOADER, _RUNTIME = "ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"
_LARGEST_BYTES = 300_000_000
"""A browser holds each part as one text, of at most half a gigabyte in Chromium."""


def _runtime(folder: Path) -> dict[str, bytes]:
    place = folder / "dist" if (folder / "dist").is_dir() else folder
    missing = [name for name in (_SCRIPT, _LOADER, _RUNTIME) if not (place / name).is_file()]
    if missing:
        raise UsageError(
            f"{folder}: has no {', '.join(missing)}",
            expected="the folder of the npm package onnxruntime-web",
            remedy="npm install onnxruntime-web, then --page node_modules/onnxruntime-web",
        )
    return {name: (place / name).read_bytes() for name in (_SCRIPT, _LOADER, _RUNTIME)}


def page_html(loaded: LoadedModel, settings: Mapping[str, Any], models: tuple[bytes, bytes], runtime: Path) -> bytes:
    """The page. Args: models: encoder and decoder; runtime: the folder of npm's onnxruntime-web.

    Raises: UsageError for a vocabulary whose rules the page has not, for a model too large for one, and for another folder.
    """
    if (largest := max(map(len, models))) > _LARGEST_BYTES:
        raise UsageError(f"a model of {largest:,} bytes for a page", expected=f"at most {_LARGEST_BYTES:,}", remedy="leave --page out")
    program = _runtime(runtime)
    sides = {side: _vocabulary(loaded.vocabularies.of(side)) for side in ("source", "target")}
    parts = {
        "encoder": models[0],
        "decoder": models[1],
        "settings": json.dumps({**settings, "vocabularies": sides}, ensure_ascii=False).encode(),
        "runtime-script": program[_LOADER],
        "runtime": program[_RUNTIME],
    }
    packed = [f'<script type="text/plain" id="{name}">{_pack(content)}</script>' for name, content in parts.items()]
    assets = files("vitrail.export.onnx").joinpath("assets")
    tags = {side: str(settings[f"{side}_language"]) for side in ("source", "target")}
    names = {side: html.escape(tag or side.capitalize()) for side, tag in tags.items()}
    template = Template(assets.joinpath("page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=f"{names['source']} → {names['target']}",
        **names,
        **{f"{side}_tag": html.escape(tag) for side, tag in tags.items()},
        data="\n".join(packed),
        runtime=program[_SCRIPT].decode().replace("</script", "<\\/script"),
        script=join_scripts("page.js", read=lambda name: assets.joinpath(name).read_text(encoding="utf-8")),
    ).encode()


def _pack(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, mtime=0)).decode()


def _vocabulary(vocabulary: Subwords) -> dict[str, Any]:
    """What the page needs of a vocabulary."""
    match vocabulary:
        case SentencePieceSubwords():
            ids = range(BEFORE_CHARACTERS, vocabulary.size)
            kind = "unigram" if vocabulary.merges is None else "bpe"
            return {"kind": kind, "pieces": vocabulary.pieces(ids), "scores": vocabulary.scores()[BEFORE_CHARACTERS:]}
        case CharacterVocabulary():
            return {"kind": "character", "pieces": [vocabulary.decode([id]) for id in range(EOS + 1, vocabulary.size)]}
        case _:
            raise UsageError(
                "--page with another program's pieces, which normalise text by a table of their own",
                expected="bpe, unigram or character",
                remedy="leave --page out; translate.py reads them",
            )
