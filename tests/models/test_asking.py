"""Outside models/ nobody asks which architecture a model has, nor reads the names of its Probes: read from the sources."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from builders import KINDS

SOURCE = Path(__file__).parent.parent.parent / "src" / "vitrail"
ARCHITECTURES = {"Transformer", "TransformerConfig", "Recurrent", "RecurrentConfig", "RecurrentLanguageModel", "LanguageConfig"}
# Benchmarks build particular models and their peers from other toolkits, and one loop trains language models.
# What is written for another program has its architectures.
BUILDERS = {
    "experiments/norms.py",
    "export/huggingface.py",
    *(f"export/translators/{name}.py" for name in ("ctranslate2_spec", "ctranslate2_reading", "seq2seq_layout", "seq2seq_folder")),
    "export/encoder_states.py",
    "bench/translating/carried.py",
    *(f"bench/peers/{name}.py" for name in ("all_peers", "transformer_peers", "recurrent_peers")),
}
MODELS = ("models/", "nn/", "native/transformer/", "native/recurrent/", "export/onnx/", "export/marian/")
"""Where architectures are made, with torch, in compiled code, as graphs of ONNX, and in Marian's names."""
READERS = {"startswith", "endswith", "removeprefix", "removesuffix", "compile", "match", "fullmatch", "search", "sub", "findall"}
SETTINGS = {"norm_position", "positions", "input_feeding", "bidirectional", "reverse_source"}
"""Of one architecture alone."""
ORDINARY = {"output"}
"""Names of Probes that other parts have as well."""


@cache
def words() -> set[str]:
    """What names of Probes are made of, unless it is a word that stands alone."""
    parts = {part for kind in KINDS.values() for place in kind.config.places() for part in place.name.split(".")}
    return {part for part in parts if not part.isdecimal()} - ORDINARY


def texts(node: ast.AST) -> Iterator[str]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            yield inner.value


def names_probes(text: str) -> bool:
    """Whether a pattern or an ending speaks of the parts of a Probe's name: a dot, and a word of theirs beside it."""
    plain = text.replace("\\.", ".").replace("\\d+", "0")
    found = re.findall(r"(?<!\w)(\w+)\.|\.(\w+)(?!\w)", plain)
    return plain in words() or any(word in words() for pair in found for word in pair)


def faults(text: str, *, builder: bool = False) -> list[str]:
    found: list[str] = []
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.ImportFrom(names=names) if not builder:
                found += [f"imports {name.name}" for name in names if name.name in ARCHITECTURES]
            case ast.Attribute(value=owner, attr="kind") if re.search(r"(?:^|\.)model(?:\.config)?$", ast.unparse(owner)):
                found.append(ast.unparse(node))
            case ast.Attribute(value=owner, attr=attribute) if attribute in SETTINGS and not builder and "config" in ast.unparse(owner):
                found.append(ast.unparse(node))
            case ast.Call(func=ast.Attribute(value=ast.Call(func=ast.Attribute(attr="model_dump")), attr="get")):
                found.append(ast.unparse(node))
            case ast.Call(func=ast.Attribute(attr=attribute), args=arguments) if attribute in READERS:
                found += [ast.unparse(node) for argument in arguments if any(map(names_probes, texts(argument)))]
            case ast.JoinedStr(values=[*_, ast.Constant(value=str(end))]) if end.startswith(".") and end[1:] in words():
                found.append(ast.unparse(node))
            case _:
                pass
    return found


@pytest.mark.parametrize(
    "text",
    [
        "from vitrail.models.kinds.transformer import TransformerConfig",
        "def f(model): return model.config.kind == 'transformer'",
        "post = draft.config.model.kind",
        "post = model.config.model_dump().get('norm_position')",
        "pre = model.config.norm_position == 'pre'",
        "x = re.compile(r'(?:encoder|decoder)\\.\\d+\\.feed_forward')",
        "x = name.startswith('encoder.')",
        "x = name.endswith(('.k', '.v'))",
        "x = seen[f'{place}.weights']",
        "x = name.removesuffix('.weights')",
    ],
)
def test_each_way_of_asking_is_seen(text: str) -> None:
    assert faults(text)


OTHERS = ("x = schedule.kind", "x = config.kind", "x = name.endswith('.npz')", "x = f'{path}.tsv'", "x = inspection['memory']")


@pytest.mark.parametrize("text", OTHERS)
def test_other_questions_are_none(text: str) -> None:
    assert faults(text) == []


def test_nobody_outside_models_asks_for_the_architecture() -> None:
    asked: dict[str, list[str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        name = path.relative_to(SOURCE).as_posix()
        if not name.startswith(MODELS) and (found := faults(path.read_text(encoding="utf-8"), builder=name in BUILDERS)):
            asked[name] = found
    assert asked == {}
