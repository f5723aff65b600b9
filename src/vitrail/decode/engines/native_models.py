"""Models packed for the compiled code: one class for each program of `vitrail.native`, and which kind of model has which."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any, ClassVar

import numpy as np

from vitrail.decode.engines.engine import Head, Weights
from vitrail.decode.engines.native_requests import Job, tokens_of
from vitrail.errors import UsageError
from vitrail.native.arrays import Allocate, Floats, Integers
from vitrail.native.compiled import entry_obstacle, load_entry
from vitrail.native.machine_code import Entry
from vitrail.native.matrices.packing import (
    NO_LISTS,
    Listed,
    ListedVocabulary,
    MatrixRows,
    Precision,
    make_listed,
    matrix_bytes,
    pick_rows,
    rows_of,
)
from vitrail.native.recurrent import architecture as recurrent_architecture
from vitrail.native.recurrent import memory as recurrent_memory
from vitrail.native.recurrent import packing as recurrent_packing
from vitrail.native.search.state import Search, Shortlists
from vitrail.native.transformer import architecture as transformer_architecture
from vitrail.native.transformer import memory as transformer_memory
from vitrail.native.transformer import packing as transformer_packing

_FEW_POSITIONS = 512


class NativeModel(ABC):
    """A model, packed for the compiled code."""

    program: ClassVar[str]
    """The folder of `vitrail.native` that computes it."""
    packed: Any
    """What that program's `packing.pack` made."""
    _words: tuple[Any, Any] | None = None
    _listed: tuple[Integers, MatrixRows, Listed] | None = None
    """The tokens that all shortlists had, the vocabulary's matrix row by row, and their rows of it."""

    @classmethod
    @abstractmethod
    def obstacle(cls, config: Mapping[str, Any]) -> str:
        """Why a model of this configuration cannot be packed; empty where it can."""

    @classmethod
    @abstractmethod
    def tensor_shapes(cls, config: Mapping[str, Any], *, source: int, target: int) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor of a model. Args: source, target: sizes of the vocabularies. Precondition: no obstacle."""

    @classmethod
    @abstractmethod
    def of(cls, config: Mapping[str, Any], tensors: Mapping[str, Floats], *, precision: Precision) -> "NativeModel":
        """Pack a model. Precondition: its tensors have the shapes of `tensor_shapes`."""

    @classmethod
    def compiled_search(cls) -> Entry:
        """The compiled search; needs Numba."""
        return load_entry(*cls._entry())

    @classmethod
    def search_obstacle(cls) -> str:
        """Why there is no compiled search; empty where there is one, or where it can be compiled."""
        return entry_obstacle(*cls._entry())

    @classmethod
    def _entry(cls) -> tuple[str, str]:
        return f"vitrail.native.{cls.program}.run", "run"

    @property
    def matrix_bytes(self) -> int:
        """Bytes of all matrices."""
        return matrix_bytes(self.packed.weights.matrices)

    @property
    def vocabulary(self) -> int:
        """V of the target, not padded."""
        return self.packed.shape.vocabulary

    @property
    @abstractmethod
    def source_vocabulary(self) -> int:
        """V of the source."""

    @property
    def reads_source(self) -> bool:
        """Whether there is an encoder."""
        return True

    @property
    @abstractmethod
    def heads(self) -> list[Head]:
        """All heads that attend to the source, in the order in which the compiled code counts them."""

    def in_order(self, weights: Weights) -> Weights:
        """Weights (... S) as the model reads its source, in the order of the source."""
        return weights

    @abstractmethod
    def workspace(
        self,
        sources: Sequence[Sequence[int]],
        *,
        beams: int,
        steps: int,
        listed: ListedVocabulary = NO_LISTS,
        make: Allocate,
        passing: Allocate,
    ) -> Any:
        """All memory of one batch but the search's.

        Args: sources: with their ends. steps: tokens of the longest translation. listed: see there. passing: for arrays that are needed
            while it is computed.
        """

    @abstractmethod
    def put_source(self, work: Any, source: Sequence[int]) -> None:
        """Replace the source, its end included, in the memory of a batch of one sentence. Precondition: the one before was not shorter."""

    @abstractmethod
    def asked(self, work: Any, search: Search) -> Any:
        """What a call of the compiled search is given: a named tuple, the model first."""

    def words(self) -> Any:
        """The packed model as words of the compiled search: it has more arrays than all the rest, and does not change."""
        packed, kept = self.packed, self._words  # read once: other threads may write them
        if kept is None or kept[0] is not packed:
            kept = self._words = packed, self.compiled_search().words(0, packed)
        return kept[1]

    def listed(self, shortlists: Shortlists, make: Allocate) -> ListedVocabulary:
        """What makes the logits of shortlists. What they share is kept until others share something else."""
        if not shortlists.stride:
            return NO_LISTS
        vocabulary, kept = self.packed.linears.vocabulary, self._listed
        if kept is None or not np.array_equal(kept[0], shortlists.shared):
            rows = rows_of(self.packed.weights.matrices, vocabulary) if kept is None else kept[1]
            kept = self._listed = shortlists.shared, rows, pick_rows(rows, vocabulary, shortlists.shared)
        return ListedVocabulary(*kept[1:], make_listed(vocabulary, int(shortlists.columns[-1]), make))

    def check(self, jobs: Sequence[Job]) -> None:
        """Raise UsageError for ids outside the vocabularies, and beyond learned positions: the compiled code checks nothing."""
        prompts, wishes = {job.query.prompt for job in jobs}, {id(job.query.constraints): job.query.constraints for job in jobs}
        for job in jobs:
            require_within(job.source, self.source_vocabulary)
        for tokens in (*prompts, *map(tokens_of, wishes.values())):
            require_within(tokens, self.vocabulary)
        for tokens in {id(one): one for job in jobs for one in job.query.shortlist or ()}.values():
            require_rising(tokens, self.vocabulary)
        self.require(max(map(len, (*prompts, *(job.source for job in jobs))), default=0))

    def require(self, position: int) -> None:
        """Raise UsageError beyond learned positions."""
        return

    def known_positions(self, wanted: int) -> int:
        """How many positions there are; as many as wanted where a model knows any number."""
        return wanted

    def extend_positions(self, wanted: int) -> None:
        """Have a table for so many positions, where there is one. Learned ones are as many as they are."""
        return


def require_within(tokens: Sequence[int], vocabulary: int) -> None:
    """Raise UsageError for ids outside a vocabulary."""
    if tokens and not 0 <= min(tokens) <= max(tokens) < vocabulary:
        raise UsageError(f"the token ids {min(tokens)} to {max(tokens)}", expected=f"0 to {vocabulary - 1}")


def require_rising(tokens: Integers, vocabulary: int) -> None:
    """Raise UsageError for a shortlist's tokens that are not in order, or outside the vocabulary."""
    rises = tokens.dtype == np.int64 and bool((tokens[1:] > tokens[:-1]).all())
    if not rises or (len(tokens) and not 0 <= tokens[0] <= tokens[-1] < vocabulary):
        raise UsageError("a shortlist that is not in order", expected=f"rising ids of 64 bits below {vocabulary}")


class NativeTransformer(NativeModel):
    """A Transformer: a translator, a language model, or an encoder. Its table of positions grows; everything else stays."""

    program = "transformer"

    def __init__(self, architecture: transformer_architecture.Architecture, packed: transformer_packing.Model, positions: int) -> None:
        self.architecture, self.packed, self.positions = architecture, packed, positions
        self._growing = Lock()
        self._outgrown: list[Floats] = []
        """Tables of positions that searches of other threads may still read: all, as together they are not larger than the last one."""

    @classmethod
    def obstacle(cls, config: Mapping[str, Any]) -> str:
        """See `NativeModel.obstacle`."""
        return transformer_architecture.obstacle(config)

    @classmethod
    def tensor_shapes(cls, config: Mapping[str, Any], *, source: int, target: int) -> dict[str, tuple[int, ...]]:
        """See `NativeModel.tensor_shapes`."""
        return transformer_architecture.tensor_shapes(config, source=source, target=target)

    @classmethod
    def of(cls, config: Mapping[str, Any], tensors: Mapping[str, Floats], *, precision: Precision) -> "NativeTransformer":
        """See `NativeModel.of`."""
        return cls.of_architecture(transformer_architecture.Architecture.of(config), tensors, precision=precision)

    @classmethod
    def of_architecture(
        cls, architecture: transformer_architecture.Architecture, tensors: Mapping[str, Floats], *, precision: Precision
    ) -> "NativeTransformer":
        """Pack a model, or a part of one."""
        positions = architecture.max_positions if architecture.positions == "learned" else _FEW_POSITIONS
        return cls(architecture, transformer_packing.pack(architecture, tensors, precision=precision, positions=positions), positions)

    @property
    def source_vocabulary(self) -> int:
        """See `NativeModel.source_vocabulary`."""
        shape = self.packed.shape
        return (shape.target_embedding or self.packed.weights.embeddings.size) // shape.width

    @property
    def reads_source(self) -> bool:
        """See `NativeModel.reads_source`."""
        return self.architecture.encoder_layers > 0

    @property
    def heads(self) -> list[Head]:
        """See `NativeModel.heads`."""
        shape = self.packed.shape
        return [(layer, head) for layer in range(shape.decoder_layers if self.reads_source else 0) for head in range(shape.heads)]

    def workspace(
        self,
        sources: Sequence[Sequence[int]],
        *,
        beams: int,
        steps: int,
        listed: ListedVocabulary = NO_LISTS,
        make: Allocate,
        passing: Allocate,
    ) -> Any:
        """See `NativeModel.workspace`."""
        shape = self.packed.shape
        return transformer_memory.make_workspace(shape, sources, beams=beams, steps=steps, listed=listed, make=make, passing=passing)

    def put_source(self, work: Any, source: Sequence[int]) -> None:
        """See `NativeModel.put_source`."""
        transformer_memory.put_source(work, source)

    def asked(self, work: Any, search: Search) -> Any:
        """See `NativeModel.asked`."""
        return transformer_memory.Asked(self.words(), work, search)

    def require(self, position: int) -> None:
        """See `NativeModel.require`."""
        if self.architecture.positions == "learned" and position > self.positions and not self.architecture.context:
            raise UsageError(
                f"position {position} with {self.positions} learned positions",
                remedy="raise model.max_positions, or use sinusoidal or rotary positions",
            )

    def known_positions(self, wanted: int) -> int:
        """See `NativeModel.known_positions`."""
        return wanted if self.architecture.positions == "none" or self.architecture.context else self.positions

    def extend_positions(self, wanted: int) -> None:
        """See `NativeModel.extend_positions`. A language model forgets what is too far back."""
        wanted = min(wanted, self.architecture.context or wanted)
        if wanted <= self.positions or self.architecture.positions not in ("sinusoidal", "tensor2tensor", "rotary"):
            return  # without the lock: in a forked process it may stay locked
        with self._growing:
            if wanted > self.positions:
                self._outgrown.append(self.packed.weights.positions)
                table = transformer_packing.position_table(self.architecture, None, 2 * wanted).reshape(-1)
                self.packed = self.packed._replace(weights=self.packed.weights._replace(positions=table))
                self.positions = 2 * wanted


class NativeRecurrent(NativeModel):
    """A recurrent model: a translator or a language model."""

    program = "recurrent"

    def __init__(self, packed: recurrent_packing.Model) -> None:
        self.packed = packed

    @classmethod
    def obstacle(cls, config: Mapping[str, Any]) -> str:
        """See `NativeModel.obstacle`."""
        return recurrent_architecture.obstacle(config)

    @classmethod
    def tensor_shapes(cls, config: Mapping[str, Any], *, source: int, target: int) -> dict[str, tuple[int, ...]]:
        """See `NativeModel.tensor_shapes`."""
        return recurrent_architecture.tensor_shapes(config, source=source, target=target)

    @classmethod
    def of(cls, config: Mapping[str, Any], tensors: Mapping[str, Floats], *, precision: Precision) -> "NativeRecurrent":
        """See `NativeModel.of`."""
        return cls(recurrent_packing.pack(recurrent_architecture.Architecture.of(config), tensors, precision=precision))

    @property
    def source_vocabulary(self) -> int:
        """See `NativeModel.source_vocabulary`."""
        shape = self.packed.shape
        return (shape.target_embedding or self.packed.weights.embeddings.size) // shape.embedding

    @property
    def reads_source(self) -> bool:
        """See `NativeModel.reads_source`."""
        return self.packed.encoder.layers > 0

    @property
    def heads(self) -> list[Head]:
        """See `NativeModel.heads`."""
        return [(0, 0)] if self.packed.shape.attention != recurrent_architecture.NONE else []

    def in_order(self, weights: Weights) -> Weights:
        """See `NativeModel.in_order`. Where the source is read from its last token to its first, its end is read last all the same."""
        reversed_source = self.packed.shape.reverse_source
        return np.concatenate([weights[..., -2::-1], weights[..., -1:]], axis=-1) if reversed_source else weights

    def workspace(
        self,
        sources: Sequence[Sequence[int]],
        *,
        beams: int,
        steps: int,
        listed: ListedVocabulary = NO_LISTS,
        make: Allocate,
        passing: Allocate,
    ) -> Any:
        """See `NativeModel.workspace`; it does not grow with the length of a translation."""
        return recurrent_memory.make_workspace(self.packed, sources, beams=beams, listed=listed, make=make, passing=passing)

    def put_source(self, work: Any, source: Sequence[int]) -> None:
        """See `NativeModel.put_source`."""
        recurrent_memory.put_source(self.packed, work, source)

    def asked(self, work: Any, search: Search) -> Any:
        """See `NativeModel.asked`."""
        return recurrent_memory.Asked(self.words(), work, search)


NATIVE_MODELS: Mapping[str, type[NativeModel]] = {
    "transformer": NativeTransformer,
    "causal-language": NativeTransformer,
    "recurrent": NativeRecurrent,
    "recurrent-language": NativeRecurrent,
}
"""What searches, by kind of model, as in its configuration."""


def native_obstacle(config: Mapping[str, Any]) -> str:
    """Why the engine cannot compute with a model of this configuration; empty where it can."""
    kind = config["kind"]
    return NATIVE_MODELS[kind].obstacle(config) if kind in NATIVE_MODELS else computed_by_torch(kind)


def computed_by_torch(kind: str) -> str:
    """What is said of a kind of model that has no program."""
    return f"a model of kind {kind} is computed by torch"
