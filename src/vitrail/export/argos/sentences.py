"""Sentence ends as a network that MiniSBD runs: rules written in ONNX, so that a package needs no download for them.

MiniSBD gives each character's number and whether it is a capital, and takes for each the class with the largest score: 0 inside, 2 the end
of a sentence. The rules are the safe part of `vitrail.data.boundaries`: a doubtful end is no end.
"""

import json
import unicodedata
from importlib import import_module
from typing import Any

import numpy as np

from vitrail.data.boundaries import ABBREVIATIONS, ALWAYS, BEFORE_SPACE, CLOSING_MARKS, OPENING_MARKS
from vitrail.export.onnx.graph import Graph

_PAD, _OTHER, _SPACE = 0, 1, 2
_MARKS = 3
"""The first number of a mark or a letter."""
_LONGEST = 5
"""Letters of the longest abbreviation that is known."""
_LATE = "»›”"
"""Closing marks that may have a space before them."""
_CLASSES = ("stop", "dot", "always", "closing", "late", "opening", "space", "small", "letter", "digit")


def sentence_model(language: str) -> bytes:
    """The network's file. Args: language: the code that its metadata names."""
    numbers = _numbers()
    graph = Graph({})
    rules = _Rules(graph, numbers)
    score = rules.ends()
    zero = graph.op("Sub", score, score)
    stacked = graph.op("Concat", *(graph.unsqueeze(one, 2) for one in (graph.op("Add", zero, graph.constant(0.5)), zero, score)), axis=2)
    outputs = [graph.value(graph.name(stacked, "classes"), ("rows", "characters", 3))]
    inputs = [
        graph.value("units", ("rows", "characters"), kind="int64"),
        graph.value("features", ("rows", "characters", 1)),
    ]
    onnx: Any = import_module("onnx")
    model = onnx.load_from_string(graph.model("sentences", inputs, outputs))
    vocabulary = {"lang": language, "_unit2id": numbers, "_id2unit": []}
    config = {"feat_funcs": ["capitalized"], "batch_size": 1}
    onnx.helper.set_model_props(model, {"lang_code": language, "vocab": json.dumps(vocabulary), "config": json.dumps(config)})
    return model.SerializeToString()


def _numbers() -> dict[str, int]:
    """The number of each character that the rules know; a capital has its small letter's."""
    known = [*ALWAYS, *BEFORE_SPACE, *CLOSING_MARKS, *OPENING_MARKS, *map(chr, range(ord("0"), ord("9") + 1))]
    small = [sign for sign in map(chr, range(0x20000)) if unicodedata.category(sign) == "Ll" and sign != sign.title()]
    known += [*small, *(sign for word in ABBREVIATIONS for sign in word)]
    numbers = {"<PAD>": _PAD, "<UNK>": _OTHER, " ": _SPACE}
    for sign in known:
        numbers.setdefault(sign, len(numbers))
    for sign in small:
        if len(sign.upper()) == 1:
            numbers.setdefault(sign.upper(), numbers[sign])
    return numbers


def _table(numbers: dict[str, int]) -> np.ndarray[Any, Any]:
    """The classes of each number (V C), 0 or 1."""
    table = np.zeros((max(numbers.values()) + 1, len(_CLASSES)), np.float32)
    members = {
        "stop": BEFORE_SPACE,
        "dot": ".",
        "always": ALWAYS,
        "closing": CLOSING_MARKS,
        "late": _LATE,
        "opening": OPENING_MARKS,
        "space": " ",
        "small": [sign for sign in numbers if len(sign) == 1 and unicodedata.category(sign) == "Ll"],
        "letter": [sign for sign in numbers if len(sign) == 1 and unicodedata.category(sign)[0] in "LM"],
        "digit": "0123456789",
    }
    for column, name in enumerate(_CLASSES):
        for sign in members[name]:
            table[numbers[sign], column] = 1
    return table


class _Rules:
    """Operations on rows of characters; truth is 1, and what lies beyond the ends is 0."""

    def __init__(self, graph: Graph, numbers: dict[str, int]) -> None:
        self._graph, self._numbers = graph, numbers
        classes = graph.op("Gather", graph.array("classes_of_units", _table(numbers)), "units", axis=0)
        self._is = {
            name: graph.squeeze(graph.op("Gather", classes, graph.constant([column], integer=True), axis=2), 2)
            for column, name in enumerate(_CLASSES)
        }
        capital = graph.squeeze("features", 2)
        self._is["small"] = self._both(self._is["small"], self._not(capital))

    def _both(self, *values: str) -> str:
        found = values[0]
        for value in values[1:]:
            found = self._graph.op("Mul", found, value)
        return found

    def _either(self, *values: str) -> str:
        return self._graph.op("Max", *values)

    def _not(self, value: str) -> str:
        return self._graph.op("Sub", self._graph.constant(1.0), value)

    def _at(self, value: str, offset: int, *, integer: bool = False) -> str:
        """The value `offset` characters further on; before the start and after the end 0."""
        graph = self._graph
        if offset == 0:
            return value
        before, after = max(-offset, 0), max(offset, 0)
        nothing = graph.constant(0, integer=True) if integer else graph.constant(0.0)
        padded = graph.op("Pad", value, graph.constant([0, before, 0, after], integer=True), nothing)
        start = graph.constant([after], integer=True)
        end = graph.constant([2**31 if not before else -before], integer=True)
        return graph.op("Slice", padded, start, end, graph.constant([1], integer=True))

    def ends(self) -> str:
        """1 at the last character of each sentence."""
        known, stop = self._is, self._sure_stop()
        # A stop, with up to two closing marks behind it, or one after a space.
        closed = [stop]
        for _ in range(2):
            closed.append(self._both(self._at(closed[-1], -1), known["closing"]))
        late = self._both(self._at(stop, -2), self._at(known["space"], -1), known["late"])
        marked = self._both(self._either(*closed, late), self._not(self._at(known["late"], 2)))
        small, digit = self._first("small"), self._first("digit")
        spaced = self._both(marked, self._at(known["space"], 1), self._not(small), self._not(digit))
        following = self._either(self._at(known["always"], 1), self._at(known["closing"], 1))
        alone = self._both(known["always"], self._not(following))
        # A quotation ends a sentence only where nothing is said after it.
        after = self._either(self._at(known["space"], 1), self._at(known["opening"], 1))
        quoted = self._both(known["closing"], self._at(known["always"], -1), after)
        return self._either(spaced, alone, quoted)

    def _first(self, name: str) -> str:
        """Whether the first character after a space, and after an opening mark, is of a class."""
        opening = self._at(self._is["opening"], 2)
        behind = self._both(opening, self._at(self._is[name], 3))
        return self._either(behind, self._both(self._not(opening), self._at(self._is[name], 2)))

    def _sure_stop(self) -> str:
        """1 at a mark that ends a sentence where a space follows: any but a full stop after an abbreviation, an initial or a number."""
        doubtful = self._both(self._is["dot"], self._either(self._abbreviated(), self._at(self._is["digit"], -1)))
        return self._both(self._is["stop"], self._not(doubtful))

    def _abbreviated(self) -> str:
        """1 after a word of one letter, or an abbreviation: the letters before, as digits of one number, are among the known ones."""
        graph, base = self._graph, max(self._numbers.values()) + 1
        word = self._either(self._is["letter"], self._is["dot"])
        letters = graph.op("Cast", word, to=7)
        total, going = graph.constant(0, integer=True), graph.constant(1, integer=True)
        for place in range(1, _LONGEST + 1):
            going = graph.op("Mul", going, self._at(letters, -place, integer=True))
            digit = graph.op("Mul", self._at("units", -place, integer=True), going)
            total = graph.op("Add", total, graph.op("Mul", digit, graph.constant(base ** (place - 1), integer=True)))
        # A longer word is none of them.
        longer = graph.op("Mul", going, self._at(letters, -_LONGEST - 1, integer=True))
        known = [self._number(word, base) for word in ABBREVIATIONS if len(word) <= _LONGEST]
        same = graph.op("Equal", graph.unsqueeze(total, 2), graph.constant(known, integer=True))
        among = graph.op("ReduceMax", graph.op("Cast", same, to=1), axes=[2], keepdims=0)
        single = self._both(self._at(self._is["letter"], -1), self._not(self._at(self._is["letter"], -2)))
        return self._either(self._both(among, self._not(graph.op("Cast", longer, to=1))), single)

    def _number(self, word: str, base: int) -> int:
        return sum(self._numbers[sign] * base**place for place, sign in enumerate(reversed(word)))
