"""Vectors and scores of texts computed by compiled code on the processor."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from vitrail.data.vocabularies.subwords import EOS, SOS
from vitrail.decode.encoding.engine import Array, EncoderEngine, How, Purpose, Rows
from vitrail.decode.encoding.native_readers import Found, RecurrentReader, TransformerReader
from vitrail.decode.engines.native_engine import unavailable
from vitrail.decode.engines.native_models import computed_by_torch, require_within
from vitrail.decode.engines.pool import Pool
from vitrail.models.configs.classifier import HeadConfig
from vitrail.models.stored import StoredModel, TensorKind
from vitrail.native.compiled import compiling

GROUP_SENTENCES, GROUP_TOKENS = 64, 1024
"""Texts and tokens of a group: enough for a matrix to be read once for many rows, and few enough for the cache."""
_READERS: dict[Purpose, dict[str, type[TransformerReader | RecurrentReader]]] = {
    "vectors": {
        "transformer": TransformerReader,
        "masked-language": TransformerReader,
        "transformer-classifier": TransformerReader,
        "recurrent": RecurrentReader,
        "recurrent-classifier": RecurrentReader,
    },
    "labels": {"transformer-classifier": TransformerReader, "recurrent-classifier": RecurrentReader},
    "guesses": {"masked-language": TransformerReader},
}
"""What reads each kind of model that is taken for a purpose."""


class NativeEncoder(EncoderEngine):
    """Reads texts with one model in compiled code. torch is imported when its model is asked for."""

    name = "native"

    def __init__(self, stored: StoredModel, how: How) -> None:
        self._stored, self._how, self._pool = stored, how, Pool(how.threads)
        self.config = config = stored.config
        table = config.model_dump()
        self.marks_start = config.kind in ("masked-language", "transformer-classifier")
        learned: int | None = table["max_positions"] if table.get("positions") == "learned" else None
        self.longest = table["context"] if config.kind == "masked-language" else learned
        self.reader: TransformerReader | RecurrentReader = _READERS[how.purpose][config.kind](stored, how)
        """What reads groups of texts."""

    @classmethod
    def obstacle(cls, stored: StoredModel, how: How) -> str:
        """See `EncoderEngine.obstacle`."""
        reader = _READERS[how.purpose].get(stored.config.kind)
        if reason := unavailable(how.device):
            return reason
        return computed_by_torch(stored.config.kind) if reader is None else reader.obstacle(stored.config.model_dump())

    @classmethod
    def of(cls, stored: StoredModel, how: How) -> "NativeEncoder":
        """See `EncoderEngine.of`. Precondition: no obstacle."""
        source, target = stored.vocabularies.source.size, stored.vocabularies.target.size
        if isinstance(stored.config, HeadConfig):
            target = stored.config.scores_for(target - (EOS + 1))
        architecture = _READERS[how.purpose][stored.config.kind].architecture
        shapes = architecture.tensor_shapes(stored.config.model_dump(), source=source, target=target)
        stored.require({name: TensorKind(shape) for name, shape in shapes.items()})
        return cls(stored, how)

    @property
    def model(self) -> Any:
        """See `EncoderEngine.model`."""
        return self._on_torch

    @cached_property
    def _on_torch(self) -> Any:
        from vitrail.models.model_folder import build_stored

        return build_stored(self._stored)

    def describe(self) -> str:
        """See `EncoderEngine.describe`."""
        return f"native ({self._how.precision})"

    def announce(self, say: Callable[[str], None]) -> None:
        """See `EncoderEngine.announce`. Compiles, or reads what was compiled before."""
        with compiling("what reads texts (about 10 seconds)", say, program=self.reader.program, after=4):
            self.reader.compiled()
        super().announce(say)

    def vectors(self, rows: Rows) -> Array:
        """See `EncoderEngine.vectors`."""
        return self._read(rows, scored=False).vectors

    def scores(self, rows: Rows) -> Array:
        """See `EncoderEngine.scores`."""
        return self._read(rows, scored=True).scores

    def probabilities(self, scores: Array) -> Array:
        """See `EncoderEngine.probabilities`."""
        assert isinstance(self.config, HeadConfig)
        wide = scores.astype(np.float64)
        if self.config.output_for(self._stored.vocabularies.target.size - (EOS + 1)) == "softmax":
            return _softmax(wide)
        found = _sigmoid(wide if self.config.several else np.concatenate([-wide, wide], axis=1))
        return found.astype(np.float32)

    def guesses(self, row: Sequence[int], places: Sequence[int]) -> Array:
        """See `EncoderEngine.guesses`."""
        assert isinstance(self.reader, TransformerReader)
        (marked,) = self._marked([row])
        scores = self.reader.guess(marked, [place + int(self.marks_start) for place in places])
        found = np.zeros((len(places), scores.shape[1] - 1), np.float32)
        found[:, EOS + 1 :] = _softmax(scores[:, EOS + 1 : -1].astype(np.float64))
        return found

    def _marked(self, rows: Rows) -> list[tuple[int, ...]]:
        model = self.reader.model
        for row in rows:
            require_within(row, model.source_vocabulary)
        marked = [(*((SOS,) if self.marks_start else ()), *row, EOS) for row in rows]
        longest = max(map(len, marked), default=0)
        model.require(longest)
        model.extend_positions(longest)
        return marked

    def _read(self, rows: Rows, *, scored: bool) -> Found:
        """Vectors and scores of texts, in their order."""
        marked = self._marked(rows)
        if not marked:
            return Found(np.zeros((0, 0), np.float32), np.zeros((0, self.reader.model.vocabulary), np.float32))

        def read(group: Sequence[int]) -> Found:
            return self.reader.read([marked[place] for place in group], scored=scored)

        groups = make_groups([len(row) for row in marked])
        found = self._pool.map(read, groups)
        order = np.argsort(np.concatenate(groups))
        return Found(*(np.concatenate(part)[order] for part in zip(*found, strict=True)))


def make_groups(lengths: Sequence[int]) -> list[list[int]]:
    """Places of texts of similar length together, longest first."""
    groups: list[list[int]] = []
    tokens = 0
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if not groups or len(groups[-1]) >= GROUP_SENTENCES or tokens + lengths[place] > GROUP_TOKENS:
            groups.append([])
            tokens = 0
        groups[-1].append(place)
        tokens += lengths[place]
    return groups


def _softmax(scores: npt.NDArray[np.float64]) -> Array:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def _sigmoid(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return 1 / (1 + np.exp(-np.clip(scores, -700, 700)))
