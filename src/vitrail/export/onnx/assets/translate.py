"""Translate lines: python translate.py < source.txt > translation.txt

It needs onnxruntime, sentencepiece and numpy, and the files beside it. A line is one sentence.
"""

import argparse
import json
import re
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import sentencepiece

PAD, UNK, SOS, EOS = 0, 1, 2, 3
_ESCAPE = "\ufdd0"
_INVISIBLE = (
    "\u034f\u180b-\u180f\u200c\u200d\ufe00-\ufe0f\U000e0100-\U000e01ef\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064"
    "\u2066-\u206f\ufeff\ufff9-\ufffc\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f"
)
_PICTURE = "\u00a9\u00ae\u203c-\u3299\U0001f000-\U0001faff"
_JOINED_PICTURES = f"(?<=[{_PICTURE}\ufe0f])\u200d(?=[{_PICTURE}])"
_CONTROLS = re.compile("[\0-\x1f\x7f\x85\u2028\u2029]")
_BLANKS = "\u2800\u3164\uffa0"
"""The blank of Braille and fillers of Hangul."""


class Search(NamedTuple):
    """How translations are searched."""

    beams: int
    length_penalty: float
    max_ratio: float
    max_extra: int
    allow_unknown: bool


class Vocabulary:
    """Text to ids and back. Args: how: an entry of `vocabularies` in settings.json."""

    def __init__(self, folder: Path, how: dict[str, Any]) -> None:
        self.tokens: list[str] = how.get("tokens", [])
        self.silent = frozenset[str](how.get("silent", []))
        self.ids = {token: id for id, token in enumerate(self.tokens, start=EOS + 1)}
        self.pieces: Any = None
        if "file" in how:
            self.pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / how["file"]))

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without its end."""
        if self.pieces is None:
            return [self.ids.get(sign, UNK) for sign in " ".join(filter(None, text.split(" ")))]
        if not self.tokens:
            escaped = text.replace(_ESCAPE, f"{_ESCAPE}0").replace("▁", f"{_ESCAPE}1")
            return list(self.pieces.encode(escaped))
        language = re.match(r"(?s)>>(.*?)<<", text)
        start = [language[0]] if language else []
        pieces = self.pieces.encode(text[language.end() if language else 0 :], out_type=str)
        return [self.ids.get(piece, UNK) for piece in [*start, *pieces]]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some ids."""
        if self.pieces is None:
            return "".join(self.tokens[id - EOS - 1] for id in ids if id > EOS)
        if not self.tokens:
            text = self.pieces.decode([id for id in ids if id > EOS])
            return re.sub(f"{_ESCAPE}([01])", lambda found: "▁" if found[1] == "1" else _ESCAPE, text)
        pieces = [self.tokens[id - EOS - 1] for id in ids if id > EOS]
        return self.pieces.decode_pieces([piece for piece in pieces if piece not in self.silent]).replace("▁", " ").strip()


class Translator:
    """The two models and the vocabularies of a folder."""

    def __init__(self, folder: Path, *, threads: int = 1) -> None:
        self.settings: dict[str, Any] = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
        self.search = Search(**self.settings["search"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.encoder, self.decoder = (
            onnxruntime.InferenceSession(str(folder / f"{name}.onnx"), options, providers=["CPUExecutionProvider"])
            for name in ("encoder", "decoder")
        )
        sides = self.settings["vocabularies"]
        self.source = Vocabulary(folder, sides["source"])
        self.target = self.source if sides["target"] == sides["source"] else Vocabulary(folder, sides["target"])

    def translate(self, text: str, search: Search) -> str:
        """The translation of one sentence. A text without letters stays as it is, where the model was trained so."""
        text = self.read(text)
        if not text or (self.settings["pass_through"] and not any(map(str.isalpha, text))):
            return text
        tokens = self.source.encode(text)
        longest = int(search.max_ratio * len(tokens)) + search.max_extra
        if most := self.settings["positions"]:  # what is longer is cut: there are no positions for it
            tokens, longest = tokens[: most - 1], min(longest, most)
        return _CONTROLS.sub(" ", self.target.decode(self.find(tokens, search, longest))).strip()

    def read(self, text: str) -> str:
        """A text as the model reads it: composed (NFC), every space plain, invisible marks left out."""
        if self.settings["reading"] == 0:
            return _CONTROLS.sub(" ", text).strip()
        if text.isascii() and text.isprintable():
            return " ".join(text.split())
        silent = re.compile(f"(?!{_JOINED_PICTURES})(?![{self.settings['kept_marks']}\0])[{_INVISIBLE}]")
        composed = unicodedata.normalize("NFC", silent.sub("", text))
        spaces = {"Cc", "Zs", "Zl", "Zp"}
        spaced = (" " if unicodedata.category(sign) in spaces or sign in _BLANKS else sign for sign in composed)
        return " ".join(filter(None, "".join(spaced).split(" ")))

    def find(self, tokens: Sequence[int], search: Search, longest: int) -> list[int]:
        """The best translation by beam search; one beam is greedy search."""
        names = [one.name for one in self.encoder.get_outputs()]
        encoded = dict(zip(names, self.encoder.run(names, {"source": np.array([[*tokens, EOS]], dtype=np.int64)}), strict=True))
        given = {name: encoded[name] for name in self.settings["given"]}
        carried = self.settings["carried"]
        states: list[Any] = [encoded[one["start"]] if one["start"] else np.zeros((1, *one["zeros"]), np.float32) for one in carried]
        written = ["logits", *(one["written"] for one in carried)]
        banned = [PAD, SOS] if search.allow_unknown else [PAD, UNK, SOS]
        rows, totals = [list[int]()], np.zeros(1, np.float32)
        finished: list[tuple[float, list[int]]] = []
        ends = 0
        for length in range(1, longest + 1):
            last = np.array([row[-1] if row else SOS for row in rows], dtype=np.int64)
            inputs = {one["read"]: state for one, state in zip(carried, states, strict=True)}
            logits, *states = self.decoder.run(written, {"last": last, **given, **inputs})
            log_probs = _log_softmax(logits)
            log_probs[:, banned] = -np.inf
            parents, alive, sums = list[int](), list[list[int]](), list[float]()
            for column, (parent, token, total) in enumerate(_best(totals[:, None] + log_probs, 2 * search.beams)):
                if token != EOS and len(alive) < search.beams:
                    parents.append(parent)
                    alive.append([*rows[parent], token])
                    sums.append(total)
                elif token == EOS and column < search.beams and ends < search.beams:
                    finished.append((_score(total, length, search), rows[parent]))
                    ends += 1
            best = max((score for score, _ in finished), default=-np.inf)
            if not alive or ends >= search.beams or (finished and _score(max(sums), longest, search) <= best):
                break
            rows, totals = alive, np.array(sums, np.float32)
            states = [state[parents] for state in states]
        if not finished:  # cut at its limit
            return rows[int(np.argmax(totals))]
        return max(finished, key=lambda one: one[0])[1]


def _log_softmax(logits: Any) -> Any:
    shifted = logits - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def _best(scores: Any, count: int) -> list[tuple[int, int, float]]:
    """The largest scores, the largest first, as (row, column, score); of equal ones the first."""
    flat = scores.ravel()
    count = min(count, flat.size)
    least = np.partition(flat, flat.size - count)[flat.size - count]
    places = np.flatnonzero((flat >= least) & (flat > -np.inf))
    places = places[np.argsort(-flat[places], kind="stable")][:count]
    width = scores.shape[1]
    return [(int(place) // width, int(place) % width, float(flat[place])) for place in places]


def _score(total: float, length: int, search: Search) -> float:
    """log p / ((5 + length) / 6)^penalty; the end counts."""
    return total / ((5 + length) / 6) ** search.length_penalty


def main() -> None:
    """Translate standard input, line by line."""
    parser = argparse.ArgumentParser(description="Translate lines: python translate.py < source.txt > translation.txt")
    parser.add_argument("--beams", type=int, help="hypotheses at each step; 1 is greedy search")
    parser.add_argument("--length-penalty", type=float, help="0 prefers short translations")
    parser.add_argument("--max-tokens", type=int, help="of a translation, whatever the source")
    parser.add_argument("--threads", type=int, default=1, help="processor threads; 0: one for each core")
    given = parser.parse_args()
    for option in ("beams", "max_tokens"):
        if getattr(given, option) is not None and getattr(given, option) < 1:
            parser.error(f"--{option.replace('_', '-')} {getattr(given, option)}: expected 1 or more")
    translator = Translator(Path(__file__).resolve().parent, threads=given.threads)
    search = translator.search
    if given.beams is not None:
        search = search._replace(beams=given.beams)
    if given.length_penalty is not None:
        search = search._replace(length_penalty=given.length_penalty)
    if given.max_tokens is not None:
        search = search._replace(max_ratio=0.0, max_extra=given.max_tokens)
    for line in sys.stdin.buffer:
        text = line.decode("utf-8", errors="replace").removesuffix("\n")
        sys.stdout.buffer.write(f"{translator.translate(text, search)}\n".encode())
        sys.stdout.flush()


if __name__ == "__main__":
    main()
