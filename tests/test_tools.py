"""What measures the sources finds what it looks for, and what compares two versions finds a difference in the last digit."""

import ast
import math
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

from equal import compare
from measure import architecture_questions, folders, forced, hook_doors, import_circles, long_functions, shared_names, verbs
from unused import unused_methods, unused_names


def trees(**texts: str) -> dict[str, ast.Module]:
    """Modules by name, two underscores for a dot."""
    return {f"vitrail.{name.replace('__', '.')}": ast.parse(text) for name, text in texts.items()}


@pytest.mark.parametrize(
    "text",
    [
        "from vitrail.models.kinds.transformer import TransformerConfig\nmatch c:\n    case TransformerConfig():\n        pass",
        "def f(m):\n    from vitrail.models.kinds.recurrent import Recurrent\n    return isinstance(m, (int, Recurrent))",
        "x = config.kind == 'recurrent'",
        "x = model.config.model_dump().get('norm_position')",
        "P = re.compile(r'encoder\\.(\\d+)\\.output')",
        "x = name.startswith(('decoder.', 'encoder.'))",
        "x = 'cross_attention' in name",
    ],
)
def test_a_question_which_architecture_it_is_is_found_outside_of_models(text: str) -> None:
    assert architecture_questions(trees(inspection__x=text)).found == 1
    assert architecture_questions(trees(models__x=text)).found == 0


@pytest.mark.parametrize("text", ["isinstance(m, TranslationModel)", "re.compile('a+')", "line.startswith('#')", "x = 'a' in 'encoder'"])
def test_what_is_no_such_question(text: str) -> None:
    assert architecture_questions(trees(inspection__x=f"from vitrail.models.base import TranslationModel\n{text}")).found == 0


def test_hooks_and_forced_decoding_are_counted_by_file() -> None:
    found = trees(
        a="m.register_forward_hook(f)\nn.register_full_backward_hook(f)",
        b="m.forward = g\nhidden = model.decode(target, model.encode(source))",
        c="text = data.decode('utf-8', 'replace')\nvocabulary.decode(ids)",
    )
    assert hook_doors(found).found == 2 and len(hook_doors(found).places) == 3
    assert forced(found).places == ["b:2 model.decode(target, model.encode(source))"]


def test_names_for_two_things_long_functions_and_circles() -> None:
    found = trees(
        a__text="class Pair: pass\ndef f(): pass\nfrom vitrail.b.text import g",
        b__text="class Pair: pass\ndef g(): from vitrail.a.text import f",
    )
    assert [measure.places for measure in shared_names(found)] == [["text: a.text, b.text"], ["Pair: a.text, b.text"], []]
    assert import_circles(found).places == ["a.text <-> b.text"]
    assert long_functions(trees(a="def f():\n" + "    x\n" * 99)).found == 0
    assert long_functions(trees(a="def f():\n" + "    x\n" * 100)).places == ["a:1 f: 101 lines"]


def test_names_that_nothing_uses() -> None:
    found = trees(
        a="def alone(n): return alone(n - 1)\ndef at_home(): pass\nX = at_home()\ndef imported(): pass\ndef never(): pass\ndef _own(): 0",
        b="from vitrail.a import imported\nfrom vitrail import a, c\na.X\ndef f(x: 'c.D'): pass\nf(c.E)",
        c="class D:\n    def said(self): pass\n    def silent(self): pass\n    def forward(self): pass\nE = D().said",
        p="from vitrail.p.inner import handed_on, taken, used_here\nused_here()",
        p__inner="def handed_on(): pass\ndef taken(): pass\ndef used_here(): pass",
        d="from vitrail.p import taken\n@app.command()\ndef verb(): pass\ntaken()",
    )
    assert unused_names(found) == ["vitrail.a.alone", "vitrail.a.never", "vitrail.p.inner.handed_on"]
    assert unused_methods(found) == ["vitrail.c.D.silent"]


def test_folders_and_verbs_are_those_of_the_package() -> None:
    assert folders().found >= 9
    (found,) = verbs()
    shown = {place.partition(":")[0] for place in found.places}
    assert {"train", "translate", "inspect", "inspect heads", "doctor", "bench train"} <= shown and "bench lag" not in shown
    own = {name: options.split() for name, _, options in (place.split(": ") for place in found.places)}
    assert found.found == max(map(len, own.values())) <= 12
    assert not {"--source", "--corpus", "--recipe"} & {*own["train"], *own["compare"]}, "groups that several verbs have"
    assert {"--duration", "--film", "--json", "--output"} <= set(own["train"]), "groups of one verb, and options in none"


@pytest.mark.parametrize(
    ("now", "good"),
    [
        ({"a": [0.1, math.nan], "b": {"c": 1}}, True),
        ({"a": [0.1, math.nan], "b": {"c": 1, "new": 2}}, True),
        ({"a": [math.nextafter(0.1, 1), math.nan], "b": {"c": 1}}, False),
        ({"a": [0.1, math.nan, 3], "b": {"c": 1}}, False),
        ({"a": [0.1, math.nan], "b": {"c": 1.0}}, False),
        ({"a": [0.1, math.nan], "b": {}}, False),
        ({}, False),
    ],
)
def test_a_difference_in_the_last_digit_is_one(now: dict[str, Any], good: bool) -> None:
    assert compare("x", {"a": [0.1, math.nan], "b": {"c": 1}}, now).good is good


def test_nothing_is_not_equal_to_nothing() -> None:
    """What computed nothing proves nothing."""
    assert not compare("x", {}, {}).good
