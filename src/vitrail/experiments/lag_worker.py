"""The lag task: two problems whose answer is far back, four readers, one training; `lag` runs it as a separate process.

Reads a `Job` as JSON from standard input and writes its `Trial`s to standard output.
"""

import json
import math
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.experiments.lag_job import SHORTEST, Architecture, Job, LagConditions, LagTask, Trial
from vitrail.nn.attention import MultiHeadAttention
from vitrail.nn.cells import Carry, CellKind, make_cell
from vitrail.nn.positions import SinusoidalPositions

SYMBOLS = 8
"""The number of symbols, both to recall and as noise."""
_CHECK_EVERY, _CHECK_ROWS, _TEST_ROWS, _GRADIENT_ROWS = 100, 256, 1000, 32
_TRAIN, _CHECK, _TEST, _GRADIENT = range(4)
"""Streams of random sequences, each with its own generator."""


class Examples(NamedTuple):
    """Sequences and the right answers at their ends."""

    values: Float[Tensor, "B T I"]
    answers: Tensor
    """recall: the symbol's number, "B" integers; adding: the sum, "B" floats."""


class Problem(ABC):
    """Sequences whose answer must be carried from their beginning to their end."""

    inputs: ClassVar[int]
    """I: numbers read at a time step."""
    outputs: ClassVar[int]

    @abstractmethod
    def draw(self, lag: int, *, rows: int, generator: torch.Generator) -> Examples:
        """New random sequences."""

    @abstractmethod
    def loss(self, scores: Float[Tensor, "B O"], answers: Tensor) -> Float[Tensor, " B"]:
        """The training loss of each sequence."""

    @abstractmethod
    def score(self, scores: Float[Tensor, "B O"], answers: Tensor) -> float:
        """The reported score."""

    @abstractmethod
    def badness(self, score: float) -> float:
        """The error of a score: smaller is better."""

    @abstractmethod
    def solved(self, score: float, *, surely: bool = False) -> bool:
        """Whether a score counts as a success; `surely`: clearly enough to stop training."""


class Recall(Problem):
    """Name the first symbol after `lag` further ones, drawn from the same eight, so that only its position distinguishes it.

    Source: after the latch problems of Bengio et al. 1994 and Hochreiter and Schmidhuber 1997, section 5. Success: accuracy above 0.9
    (guessing: 1/8).
    """

    inputs, outputs = SYMBOLS, SYMBOLS

    def draw(self, lag: int, *, rows: int, generator: torch.Generator) -> Examples:
        """Sequences of lag + 1 symbols, one-hot."""
        symbols = torch.randint(SYMBOLS, (rows, lag + 1), generator=generator)
        return Examples(F.one_hot(symbols, SYMBOLS).float(), symbols[:, 0])

    def loss(self, scores: Float[Tensor, "B O"], answers: Tensor) -> Float[Tensor, " B"]:
        """Cross-entropy in nats."""
        return F.cross_entropy(scores, answers, reduction="none")

    def score(self, scores: Float[Tensor, "B O"], answers: Tensor) -> float:
        """Accuracy."""
        return (scores.argmax(dim=1) == answers).double().mean().item()

    def badness(self, score: float) -> float:
        """The share of wrong answers."""
        return 1 - score

    def solved(self, score: float, *, surely: bool = False) -> bool:
        """Above 0.9; surely: above 0.98."""
        return score > (0.98 if surely else 0.9)


class Adding(Problem):
    """Add the two numbers that are marked, one in each half of a sequence of `lag` numbers between 0 and 1.

    Source: Hochreiter and Schmidhuber 1997, section 5.4; marks as in Le et al. 2015. The best constant answer, 1, is wrong by 1/6 in the
    mean square; success: a tenth of that.
    """

    inputs, outputs = 2, 1

    def draw(self, lag: int, *, rows: int, generator: torch.Generator) -> Examples:
        """Each time step: a number, and 1 where it is marked. Precondition: lag at least 2."""
        numbers = torch.rand(rows, lag, generator=generator)
        first = torch.randint(lag // 2, (rows,), generator=generator)
        second = torch.randint(lag // 2, lag, (rows,), generator=generator)
        marks = F.one_hot(first, lag) + F.one_hot(second, lag)
        return Examples(torch.stack([numbers, marks.float()], dim=2), (numbers * marks).sum(dim=1))

    def loss(self, scores: Float[Tensor, "B O"], answers: Tensor) -> Float[Tensor, " B"]:
        """Squared error."""
        return (scores[:, 0] - answers).square()

    def score(self, scores: Float[Tensor, "B O"], answers: Tensor) -> float:
        """Mean squared error."""
        return self.loss(scores, answers).double().mean().item()

    def badness(self, score: float) -> float:
        """The error itself."""
        return score

    def solved(self, score: float, *, surely: bool = False) -> bool:
        """Below a tenth of what a constant reaches; surely: below 6 % of it."""
        return score < (0.06 if surely else 0.1) / 6


class Reading(NamedTuple):
    """Scores, and the states by time step."""

    scores: Float[Tensor, "B O"]
    states: list[Carry]


class Reader(nn.Module, ABC):
    """Reads a sequence and answers at its end."""

    @abstractmethod
    def forward(self, values: Float[Tensor, "B T I"]) -> Float[Tensor, "B O"]:
        """Scores of the answers."""

    @abstractmethod
    def read(self, values: Float[Tensor, "B T I"]) -> Reading:
        """The same, step by step, with the state of each time step, for gradients with respect to it."""


class RecurrentReader(Reader):
    """One recurrent layer over the sequence, and a linear answer from its last hidden state."""

    def __init__(self, kind: CellKind, *, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.cell = make_cell(kind, inputs, width)
        self.answer = nn.Linear(width, outputs)

    def forward(self, values: Float[Tensor, "B T I"]) -> Float[Tensor, "B O"]:
        """Scores of the answers."""
        _, carry = self.cell(values, _all_real(values))
        return self.answer(carry[0])

    def read(self, values: Float[Tensor, "B T I"]) -> Reading:
        """The states are those of the cell: h, and c of an LSTM."""
        states, carry = list[Carry](), self.cell.start(len(values), values)
        for projected in self.cell.project(values, _all_real(values)).unbind(1):
            carry = self.cell.step(projected, carry)
            states.append(carry)
        return Reading(self.answer(carry[0]), states)


class AttentionReader(Reader):
    """The last token attends to all tokens, itself included, by multi-head attention; a linear answer from the result, added to itself.

    Tokens have embeddings and sinusoidal positions. There is no feed-forward layer, no norm, no second layer.
    """

    def __init__(self, *, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.embedding = nn.Linear(inputs, width)
        self.positions = SinusoidalPositions(width)
        self.attention = MultiHeadAttention(width, 4, width // 4, dropout=0.0)
        self.answer = nn.Linear(width, outputs)

    def forward(self, values: Float[Tensor, "B T I"]) -> Float[Tensor, "B O"]:
        """Scores of the answers."""
        return self._ask(self.positions(self.embedding(values)))

    def read(self, values: Float[Tensor, "B T I"]) -> Reading:
        """The states are the embedded tokens, which attention reads."""
        states = self.positions(self.embedding(values)).unbind(1)
        return Reading(self._ask(torch.stack(states, dim=1)), [(state,) for state in states])

    def _ask(self, tokens: Float[Tensor, "B T D"]) -> Float[Tensor, "B O"]:
        last = tokens[:, -1:]
        return self.answer((last + self.attention(last, tokens, None)).squeeze(1))


def _all_real(values: Tensor) -> Tensor:
    return torch.ones(values.shape[:2], dtype=torch.bool)


def make_problem(task: LagTask) -> Problem:
    """The problem of the given name."""
    return Recall() if task == "recall" else Adding()


def make_reader(architecture: Architecture, problem: Problem, *, width: int) -> Reader:
    """A new model of the given name, initialised by torch's global generator."""
    if architecture == "attention":
        return AttentionReader(inputs=problem.inputs, width=width, outputs=problem.outputs)
    return RecurrentReader(architecture, inputs=problem.inputs, width=width, outputs=problem.outputs)


def gradient_ratio(reader: Reader, problem: Problem, examples: Examples) -> float:
    """||dL/ds_first|| / ||dL/ds_last||, s being the model's state of a time step; each a mean over sentences.

    1: the gradient at the beginning is as large as at the end. In float64, whose norms reach down to 1e-160.
    """
    values = examples.values.double()
    answers = examples.answers.double() if examples.answers.is_floating_point() else examples.answers
    reader.double()
    try:
        reading = reader.read(values)
        ends = (reading.states[0], reading.states[-1])
        # A state without influence on the loss has no gradient: then its norm is 0.
        found = torch.autograd.grad(problem.loss(reading.scores, answers).sum(), [*ends[0], *ends[1]], materialize_grads=True)
    finally:
        reader.float()
    first, last = (torch.cat(part, dim=1).norm(dim=1).mean().item() for part in (found[: len(ends[0])], found[len(ends[0]) :]))
    return first / last if last else 0.0


@dataclass(frozen=True)
class _Outcome:
    """One training: its score on the validation sequences, which choose the learning rate, and its model."""

    rate: float
    check: float
    steps: int
    reader: Reader


@dataclass(frozen=True)
class _LagTraining:
    """All trainings at one lag with one seed: only the architecture differs; even the sequences are the same."""

    job: Job
    lag: int
    problem: Problem

    def start(self) -> Reader:
        """A fresh model, the same one each time."""
        torch.manual_seed(self.job.seed)
        return make_reader(self.job.architecture, self.problem, width=self.job.conditions.width)

    def gradient(self, reader: Reader) -> float:
        return gradient_ratio(reader, self.problem, self._examples(_GRADIENT, _GRADIENT_ROWS))

    def score(self, reader: Reader, *, stream: int, rows: int) -> float:
        examples = self._examples(stream, rows)
        with torch.no_grad():
            return self.problem.score(reader(examples.values), examples.answers)

    def train(self, rate: float) -> _Outcome:
        """Train until the task is clearly solved or the budget is spent."""
        conditions, generator, reader = self.job.conditions, self._generator(_TRAIN), self.start()
        step, check = 0, math.nan
        optimizer = torch.optim.Adam(reader.parameters(), lr=rate)
        while step < conditions.steps:
            step += 1
            lag = self.lag if conditions.exact else int(torch.randint(SHORTEST, self.lag + 1, (), generator=generator))
            examples = self.problem.draw(lag, rows=conditions.batch, generator=generator)
            optimizer.zero_grad()
            self.problem.loss(reader(examples.values), examples.answers).mean().backward()
            nn.utils.clip_grad_norm_(reader.parameters(), conditions.clip_norm)
            optimizer.step()
            if step % _CHECK_EVERY == 0 or step == conditions.steps:
                check = self.score(reader, stream=_CHECK, rows=_CHECK_ROWS)
                if self.problem.solved(check, surely=True):
                    break
        return _Outcome(rate, check, step, reader)

    def best(self) -> _Outcome:
        """The first learning rate that clearly solves the task, or the one with the smallest error."""
        found: list[_Outcome] = []
        for rate in self.job.conditions.learning_rates:
            found.append(self.train(rate))
            if self.problem.solved(found[-1].check, surely=True):
                return found[-1]
        return min(found, key=lambda outcome: self.problem.badness(outcome.check))

    def _examples(self, stream: int, rows: int) -> Examples:
        return self.problem.draw(self.lag, rows=rows, generator=self._generator(stream))

    def _generator(self, stream: int) -> torch.Generator:
        return torch.Generator().manual_seed((self.job.seed << 24) + (self.lag << 4) + stream)


def run_trials(job: Job) -> Iterator[Trial]:
    """Train a new model for every lag, from the shortest to the first one that is not solved."""
    problem, solved = make_problem(job.conditions.task), True
    for lag in job.lengths:
        started = time.process_time()
        course = _LagTraining(job, lag, problem)
        before = course.gradient(course.start())
        if not solved:
            yield Trial(job.architecture, job.seed, lag, before)
            continue
        outcome = course.best()
        score = course.score(outcome.reader, stream=_TEST, rows=_TEST_ROWS)
        solved = problem.solved(score)
        yield Trial(
            job.architecture,
            job.seed,
            lag,
            gradient_before=before,
            gradient_after=course.gradient(outcome.reader),
            score=score,
            solved=solved,
            learning_rate=outcome.rate,
            steps=outcome.steps,
            processor_seconds=time.process_time() - started,
        )


def read_job(text: str) -> Job:
    """A job from its JSON."""
    record = json.loads(text)
    conditions = record["conditions"]
    conditions["learning_rates"] = tuple(conditions["learning_rates"])
    return Job(record["architecture"], record["seed"], tuple(record["lengths"]), LagConditions(**conditions))


def main() -> None:
    """Read a job, write its trials."""
    torch.set_num_threads(1)
    trials = [asdict(trial) for trial in run_trials(read_job(sys.stdin.read()))]
    sys.stdout.write(json.dumps({"trials": trials}) + "\n")


if __name__ == "__main__":
    main()
