"""One system in a process of its own: a script for any Python, JSON lines in and out. It needs no Vitrail.

First line: `{"peer": a module beside this file, "folder": the model}`; the answer names versions. Then one line a request:
`{"texts": [...], "beams": 5, "settings": {...}, "alone": false}`; the answer has translations, seconds by the clock and of the processor
time of all threads: of all texts together, or of each text by itself (`alone`). `{"error": ...}` answers what fails.
"""

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Protocol

DESCRIPTION, WEIGHTS, SOURCE, TARGET = "carried.json", "weights.safetensors", "source.spm", "target.spm"
"""Files of a carried model, as `vitrail.bench.translating.carried` writes them."""


class Carried(NamedTuple):
    """A Transformer for other toolkits: its sizes, its weights by our names as arrays, its SentencePiece vocabularies."""

    description: Mapping[str, Any]
    tensors: Mapping[str, Any]
    source: Any
    target: Any


class Peer(Protocol):
    """A system: made once, then asked for translations."""

    versions: Mapping[str, str]

    def translate(self, texts: Sequence[str], beams: int, settings: Mapping[str, Any]) -> list[str]:
        """Text to text."""
        ...


def read_carried(folder: Path) -> Carried | None:
    """A carried model; None where the folder holds something else."""
    if not (folder / DESCRIPTION).is_file():
        return None
    load: Any = import_module("safetensors.numpy").load_file
    processor: Any = import_module("sentencepiece").SentencePieceProcessor
    description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    source, target = (processor(model_file=str(folder / name)) for name in (SOURCE, TARGET))
    return Carried(description, load(str(folder / WEIGHTS)), source, target)


def answer(peer: Peer, request: Mapping[str, Any]) -> dict[str, Any]:
    """Translate and time one request."""
    texts, beams, settings = request["texts"], request["beams"], request["settings"]
    translations: list[str] = []
    seconds, cpu_seconds = list[float](), list[float]()
    for part in [[text] for text in texts] if request["alone"] else [texts]:
        began, used = time.perf_counter(), time.process_time()
        translations += peer.translate(part, beams, settings)
        seconds.append(time.perf_counter() - began)
        cpu_seconds.append(time.process_time() - used)
    return {"translations": translations, "seconds": seconds, "cpu_seconds": cpu_seconds}


def main() -> None:
    """Serve until standard input ends. What libraries print goes to standard error."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    peer: Peer | None = None
    for line in sys.stdin:
        try:
            request = json.loads(line)
            if peer is None:
                folder = Path(request["folder"])
                made: Peer = import_module(request["peer"]).make(folder, read_carried(folder))
                peer, answered = made, {"versions": dict(made.versions)}
            else:
                answered = answer(peer, request)
        except Exception as error:  # another toolkit's, of any kind
            answered = {"error": f"{type(error).__name__}: {error}"}
        out.write(json.dumps(answered) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
