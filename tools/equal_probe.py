"""What one version of the sources computes, written down for `equal.py`: run once with each version on PYTHONPATH.

python tools/equal_probe.py results GOLDEN    # in an empty folder: writes results.json and the .npz records
python tools/equal_probe.py demo GOLDEN       # the same for the whole demo
python tools/equal_probe.py train             # a turn of five training steps for each line on stdin
python tools/equal_probe.py translate RUN     # a turn of translations for each line on stdin

Only the command line, the names of the package `vitrail` and the files of a run are used, so that both versions understand it.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch

import vitrail

PAIRS, SENTENCES = 3000, 200
PHRASEBOOKS = ("vitrail.phrasebook.corpus", "vitrail.data.phrasebook")
"""Where the built-in corpus may be, the newest place first."""
LETTERS = ["abba", "cab", "dada", "face", "bead", "deaf", "a", "fed"]
"""What the model of the golden folder can read."""
MODELS = {
    "transformer": ["model.encoder_layers=2", "model.decoder_layers=2", "model.width=64", "model.heads=4", "model.feed_forward=128"],
    "lstm-attention": ["model.width=64", "model.embedding_width=32"],
}
"""Presets, and what makes them small."""
SETTINGS = [
    *("train.threads=1", "train.log_every=1", "train.validation_sentences=16", "train.batch_tokens=1024", "train.save_every=5 minutes"),
    *("data.subwords.size=500", "optimizer.learning_rate=6e-3", "schedule.warmup=50"),
]
EDITS = {"transformer": "decoder.0.cross_attention:1", "lstm-attention": "attention"}
SAID = "The dog eats the food because it is hungry."


def run(*arguments: str, codes: tuple[int, ...] = (0,)) -> str:
    """What a command line prints. Args: codes: exit codes that are no failure."""
    done = subprocess.run([sys.executable, "-m", "vitrail", *arguments], capture_output=True, text=True, check=False)
    if done.returncode not in codes:
        raise SystemExit(f"vitrail {' '.join(arguments)}\n{done.stderr}")
    return done.stdout


def json_lines(text: str) -> list[Any]:
    """A JSON value a line."""
    return [json.loads(line) for line in text.splitlines() if line]


def digest(data: bytes) -> str:
    """SHA-256."""
    return hashlib.sha256(data).hexdigest()


def book() -> Any:
    """The built-in corpus, wherever its module is."""
    for name in PHRASEBOOKS:
        try:
            return import_module(name).phrasebook(train_pairs=PAIRS)
        except (ImportError, AttributeError):
            continue
    raise SystemExit("the phrasebook is in none of: " + ", ".join(PHRASEBOOKS))


def write_texts(pairs: dict[str, list[tuple[str, str]]]) -> list[str]:
    """Write NAME.en and NAME.fr for each set; the options that name them."""
    for name, rows in pairs.items():
        for side, ending in enumerate(("en", "fr")):
            Path(f"{name}.{ending}").write_text("".join(f"{row[side]}\n" for row in rows), encoding="utf-8")
    return ["--source", "train.en", "--target", "train.fr", *held_out()]


def held_out() -> list[str]:
    """The options that name dev and test."""
    return [
        word
        for part in ("dev", "test")
        for side, end in (("source", "en"), ("target", "fr"))
        for word in (f"--{part}-{side}", f"{part}.{end}")
    ]


def train(folder: str, options: Sequence[str], preset: str, steps: int, *more: str) -> None:
    """Train a small model of a preset for so many steps."""
    chosen = ["tiny" if preset == "transformer" else preset, *SETTINGS, *MODELS[preset], f"train.duration={steps} steps", *more]
    run("train", *options, "-o", folder, "--preset", chosen[0], *(word for one in chosen[1:] for word in ("--set", one)))


def told(folder: str) -> dict[str, Any]:
    """Everything that a training wrote of itself, but times; weights as a digest of each tensor."""
    metrics = json_lines(Path(folder, "metrics.jsonl").read_text())
    weights = safetensors.torch.load_file(Path(folder, "model", "model.safetensors"))
    found: dict[str, Any] = {"metrics": [without_times(line) for line in metrics]}
    found |= {name: json_lines(Path(folder, f"{name}.jsonl").read_text()) for name in ("samples", "film")}
    found["weights"] = {name: digest(tensor.numpy().tobytes()) for name, tensor in sorted(weights.items())}
    scores = without_times(json.loads(Path(folder, "scores.json").read_text()))
    scores.pop("decided_by", None)  # hashes of files, which a new form of the model folder changes
    return found | {"scores": scores}


def without_times(line: dict[str, Any]) -> dict[str, Any]:
    """A table without what depends on the clock or the machine."""
    return {key: value for key, value in line.items() if not any(part in key for part in ("second", "memory", "machine"))}


def translations(folder: str, source: Sequence[str]) -> dict[str, Any]:
    """Texts and scores: greedy, by beam with three translations each and their tokens' scores, and sampled."""
    Path("asked.txt").write_text("".join(f"{line}\n" for line in source), encoding="utf-8")
    ways = {"greedy": ["--beams", "1"], "beam": ["--beams", "5", "--n-best", "3"], "sampled": ["--sample", "--seed", "3"]}
    return {
        name: json_lines(run("translate", folder, "--source", "asked.txt", "--threads", "1", "--json", *way)) for name, way in ways.items()
    }


def record(folder: str, preset: str) -> dict[str, Any]:
    """An inspection and one with a part switched off: the .npz files are written beside, the facts returned."""
    translator = vitrail.load(folder, threads=1)
    facts: dict[str, Any] = {}
    for name, off in (("plain", []), ("edited", [EDITS[preset]])):
        with translator.edited(off=off):
            seen = translator.inspect(SAID)
        seen.save(f"{preset}-{name}.npz")
        with np.load(f"{preset}-{name}.npz", allow_pickle=False) as content:
            facts[name] = {one: digest(content[one].tobytes()) for one in sorted(content.files) if not one.startswith("facts")}
        facts[f"{name} translation"] = seen.target.text
    return facts


FAULTS = {
    "unheard source": ("healthy", "cross_attention.output", 0.0),
    "loud layer": ("healthy", "decoder.0.feed_forward", 30.0),
    "same output": ("healthy", "decoder_norm", 0.0),
    "exploding": ("lstm-attention", "hidden_weight", 8.0),
}
"""Planted in the weights: in a copy of which run, in the tensors that are called how, times what."""


def planted(options: Sequence[str]) -> dict[str, Any]:
    """What the doctor finds in sound runs, and where a fault was planted: in weights, in settings, in the text."""
    for name, (sound, part, factor) in FAULTS.items():
        change_weights(Path(shutil.copytree(sound, name)), part, factor)
    train("rate", options, "transformer", 60, "optimizer.learning_rate=0.6")
    lines = Path("train.fr").read_text(encoding="utf-8").splitlines(keepends=True)
    Path("shifted.fr").write_text("".join([*lines[:2000], "Une ligne de trop.\n", *lines[2000:-1]]), encoding="utf-8")
    train("shifted", ["--source", "train.en", "--target", "shifted.fr", *options[4:]], "transformer", 20)
    runs = ("healthy", "lstm-attention", *FAULTS, "rate", "shifted")
    return {name: json.loads(run("doctor", name, "--json", "--threads", "1", codes=(0, 1))) for name in runs}


def change_weights(folder: Path, part: str, factor: float) -> None:
    """Multiply the tensors whose names hold `part`, and write the manifest to match."""
    path = folder / "model" / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    chosen = [name for name in tensors if part in name]
    if not chosen:
        raise SystemExit(f"no tensor of {path} is called {part}")
    data = safetensors.torch.save({name: tensor * factor if name in chosen else tensor for name, tensor in tensors.items()})
    path.write_bytes(data)
    manifest = path.with_name("manifest.json")
    table = json.loads(manifest.read_text())
    table["files"][path.name] = {"size": len(data), "sha256": digest(data)}
    manifest.write_text(json.dumps(table, indent=2) + "\n")


def results(golden: str) -> None:
    """Everything, into results.json."""
    corpus = book()
    sets = {name: [(pair.source, pair.target) for pair in getattr(corpus, name)] for name in ("train", "dev", "test")}
    options = write_texts({"train": sets["train"], "dev": sets["dev"][:100], "test": sets["test"][:50]})
    found: dict[str, Any] = {"phrasebook": {name: digest(json.dumps(rows).encode()) for name, rows in sets.items()}}
    asked = [source for source, _ in sets["test"][:SENTENCES]]
    for preset in MODELS:
        train(preset, options, preset, 60, "train.validate_every=30 steps")
        found[f"training {preset}"] = told(preset)
        found[f"translations {preset}"] = translations(preset, asked)
        found[f"record {preset}"] = record(preset, preset)
    train("healthy", options, "transformer", 450, "train.validate_every=225 steps", "model.dropout=0", "train.label_smoothing=0")
    found["doctor"] = planted(options)
    found["golden folder"] = translations(shutil.copytree(golden, "golden"), LETTERS)
    Path("results.json").write_text(json.dumps(found))


def demo(golden: str) -> None:
    """The whole demo with one thread: its weights, scores and translations, into results.json."""
    run("demo", "-o", "demo", "--set", "train.threads=1")
    found = json.loads(Path("demo", "demo.json").read_text())
    answers = {key: found[key] for key in ("pronouns", "agreement", "translations")}
    Path("results.json").write_text(json.dumps({"demo": told("demo") | answers}))


# ---- speed: a turn for each line on stdin ----------------------------------------------------------------------------------------


def turns(work: Callable[[], Any]) -> None:
    """Answer each line with the seconds of processor and of the wall that one more turn took."""
    for _ in sys.stdin:
        begin = time.process_time(), time.perf_counter()
        work()
        sys.stdout.write(f"{time.process_time() - begin[0]} {time.perf_counter() - begin[1]}\n")
        sys.stdout.flush()


def train_in_turns() -> None:
    """A training that stands still after every five steps and one small validation, until the next line comes."""
    begun: list[tuple[float, float]] = []

    def watch(*_: Any, **__: Any) -> dict[str, Any]:
        if begun:
            processor, wall = begun.pop()
            sys.stdout.write(f"{time.process_time() - processor} {time.perf_counter() - wall}\n")
            sys.stdout.flush()
        if not sys.stdin.readline():
            os._exit(0)  # in the midst of a training: nobody waits for its end
        begun.append((time.process_time(), time.perf_counter()))
        return {}

    settings = [*SETTINGS, "preset=tiny", "train.duration=100000 steps", "train.validate_every=5 steps", "train.validation_sentences=1"]
    vitrail.train_translator("train.en", "train.fr", "speed", settings=settings, watch=watch)


def translate_in_turns(folder: str) -> None:
    """Forty sentences a turn, beam 5."""
    translator = vitrail.load(folder, threads=1, search={"beams": 5})
    asked = Path("asked.txt").read_text(encoding="utf-8").splitlines()[:40]
    turns(lambda: translator.translate(asked))


if __name__ == "__main__":
    {"results": results, "demo": demo, "train": train_in_turns, "translate": translate_in_turns}[sys.argv[1]](*sys.argv[2:])
