"""How a translation was found: the candidates of each step, and the tree of hypotheses with the fate of each."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from vitrail.config import Config
from vitrail.data.cleaning.normalise import plain
from vitrail.data.vocabularies.subwords import EOS, Subwords
from vitrail.decode.search.beams import Hypothesis, Observation, SearchConfig

CANDIDATES = 10
"""Number of candidates recorded for each step of the translation."""


class Candidate(Config):
    """A candidate for the next token."""

    token: int
    piece: str
    probability: float


class DecodingStep(Config):
    """One position of the translation: the model's distribution over the next token."""

    chosen: Candidate
    """The token of the translation."""
    rank: int
    """Rank of the chosen token among all tokens by probability, from 1."""
    entropy: float
    """Of the whole distribution, in nats."""
    candidates: tuple[Candidate, ...]
    """The most probable ones, best first."""


class Node(Config):
    """A hypothesis of the search: its parent with one more token."""

    number: int
    parent: int | None
    """Number of the parent; None at the first step."""
    step: int
    """Tokens before it."""
    token: int
    piece: str
    log_probability: float
    """Of this token, in nats."""
    total: float
    """Log-probability of the whole hypothesis up to here."""
    score: float
    """The total, normalised by length."""
    fate: Literal["kept", "ended", "pruned"]


class Finished(Config):
    """A hypothesis that reached its end, or the limit of length."""

    node: int | None
    """Number of its last node; None where the tree does not have it."""
    text: str
    length: int
    """Tokens, the end included."""
    log_probability: float
    divisor: float
    """((5 + length) / 6) ** alpha: what the log-probability is divided by."""
    score: float
    truncated: bool


class Decoding(Config):
    """The search for a translation."""

    beams: int
    """Hypotheses kept side by side, or samples drawn."""
    length_penalty: float
    sampled: bool = False
    """Whether tokens were drawn at random rather than searched for."""
    prefix: int = 0
    """Number of forced tokens at the beginning."""
    nodes: tuple[Node, ...]
    finished: tuple[Finished, ...]
    """Best first; the first is the result of the search."""
    steps: tuple[DecodingStep, ...]
    """Steps of the inspected translation, found or given, its end included."""


class TreeRecorder:
    """Records the search tree of one sentence: pass `observe` to `beam_search`."""

    def __init__(self, target: Subwords, search: SearchConfig, *, sentence: int = 0) -> None:
        self.nodes: list[Node] = []
        self.beams = search.width
        """Number of beams: forced words need more."""
        self._target, self._search, self._sentence = target, search, sentence
        self._alive: list[int | None] = [None]
        self._pieces: dict[int, str] = {}

    def observe(self, seen: Observation) -> None:
        """Add the columns of one step."""
        if self._sentence not in seen.sentences:
            return
        row, chosen = seen.sentences.index(self._sentence), seen.selection
        self.beams = chosen.live.shape[1]
        parents, tokens, ended = chosen.parents[row].tolist(), chosen.tokens[row].tolist(), chosen.ended[row].tolist()
        log_probs, totals, live = chosen.log_probs[row].tolist(), chosen.totals[row].tolist(), chosen.live[row].tolist()
        made: dict[int, int] = {}
        for column, (parent, token, total) in enumerate(zip(parents, tokens, totals, strict=True)):
            if total == -np.inf:
                continue
            fate = "ended" if ended[column] else "kept" if column in live and token != EOS else "pruned"
            made[column] = len(self.nodes)
            self.nodes.append(
                Node(
                    number=len(self.nodes),
                    parent=self._alive[min(parent, len(self._alive) - 1)],
                    step=seen.length,
                    token=token,
                    piece=self._piece(token),
                    log_probability=log_probs[column],
                    total=total,
                    score=self._search.score(total, seen.length + 1),
                    fate=fate,
                )
            )
        self._alive = [made.get(column) for column in live]

    def _piece(self, token: int) -> str:
        if token not in self._pieces:
            self._pieces[token] = piece_of(token, self._target)
        return self._pieces[token]

    def finish(self, hypotheses: Sequence[Hypothesis]) -> tuple[Finished, ...]:
        """The hypotheses that the search returned, each with its place in the tree."""
        places = {(node.parent, node.token): node.number for node in self.nodes}
        found: list[Finished] = []
        for one in hypotheses:
            at: int | None = None
            for token in (*one.tokens, *(() if one.truncated else (EOS,))):
                at = places.get((at, token))
                if at is None:
                    break
            length = len(one.token_log_probabilities)
            found.append(
                Finished(
                    node=at,
                    text=plain(self._target.decode(one.tokens)).strip(),
                    length=length,
                    log_probability=one.log_probability,
                    divisor=((5 + length) / 6) ** self._search.length_penalty,
                    score=one.score,
                    truncated=one.truncated,
                )
            )
        return tuple(found)


def piece_of(token: int, vocabulary: Subwords) -> str:
    """A token as people read it; the special ones as <sos>, <eos>, ..."""
    return vocabulary.pieces([token])[0] if token > EOS else ("<pad>", "<unk>", "<sos>", "<eos>")[token]


def describe_steps(
    probabilities: npt.NDArray[np.generic], predicted: Sequence[int], vocabulary: Subwords, *, count: int = CANDIDATES
) -> tuple[DecodingStep, ...]:
    """Describe the model's distribution at each position of a translation.

    Args: probabilities: (T, V), the distribution at each position. predicted: the tokens there, T.
    """
    steps: list[DecodingStep] = []
    for row, token in zip(np.asarray(probabilities, dtype=np.float64), predicted, strict=True):
        best = np.argsort(-row, kind="stable")[:count].tolist()
        positive = row[row > 0]
        steps.append(
            DecodingStep(
                chosen=_candidate(token, row, vocabulary),
                rank=1 + int((row > row[token]).sum()),
                entropy=float(-(positive * np.log(positive)).sum()),
                candidates=tuple(_candidate(one, row, vocabulary) for one in best),
            )
        )
    return tuple(steps)


def _candidate(token: int, row: npt.NDArray[np.float64], vocabulary: Subwords) -> Candidate:
    return Candidate(token=token, piece=piece_of(token, vocabulary), probability=float(row[token]))
