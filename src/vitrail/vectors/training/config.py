"""Settings of word vectors."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from vitrail.config import Config
from vitrail.errors import UsageError

Method = Literal["word2vec", "fasttext", "glove"]
MOST_BUCKETS = 2**31 - 1


class TokensConfig(Config):
    """How lines become words."""

    kind: Literal["words", "spaces", "characters", "subwords"] = "words"
    """words: Unicode's words, marks of punctuation being words of their own. spaces: what stands between spaces. characters. subwords:
    pieces of the vocabulary of `subwords_from`."""
    subwords_from: Path | None = None
    """A run or a model whose vocabulary the pieces are of: the vectors then fit its embeddings row by row."""
    subwords_side: Literal["source", "target"] = "source"
    """Which of its vocabularies, where it has two."""
    lower: bool = True
    """Upper and lower case are one word. Never with subwords."""
    punctuation: bool = True
    """Keep tokens without a letter or digit."""
    min_count: int = Field(default=5, ge=1)
    """Words that occur less often are left out."""
    most_words: int = Field(default=2_000_000, ge=1)
    """The most words in the vocabulary, the most frequent ones. While words are counted, at most ten times as many are held."""
    phrases: int = Field(default=0, ge=0, le=8)
    """Passes that join pairs of words that occur together unusually often, as in new_york."""
    phrase_threshold: float = Field(default=10.0, gt=0)
    """Score from which a pair is joined: (count of the pair - min_count) * words of the text / (count of one * count of the other)."""

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> "TokensConfig":
        if (self.kind == "subwords") != (self.subwords_from is not None):
            raise UsageError("tokens.kind subwords and tokens.subwords_from", expected="both or none of them", remedy="--subwords-from RUN")
        if self.phrases and self.kind not in ("words", "spaces"):
            raise UsageError(f"phrases of {self.kind}", expected="phrases of words", remedy="leave out --phrases")
        return self


class NgramsConfig(Config):
    """The character n-grams of fastText."""

    shortest: int = Field(default=3, ge=1)
    """Characters of the shortest n-gram, the marks < and > of the word's ends counted."""
    longest: int = Field(default=6, ge=1)
    """Characters of the longest."""
    buckets: int = Field(default=2_000_000, ge=1, le=MOST_BUCKETS)
    """N-grams share this many vectors, by a hash."""

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> "NgramsConfig":
        if self.longest < self.shortest:
            raise UsageError(
                f"n-grams of {self.shortest} to {self.longest} characters", expected="the longest at least as long as the shortest"
            )
        return self


class VectorsConfig(Config):
    """All settings of a training of word vectors."""

    method: Method = "word2vec"
    text: tuple[Path, ...] = Field(min_length=1)
    """Files of text, one sentence or paragraph a line; windows do not reach into the next line."""
    tokens: TokensConfig = TokensConfig()
    dimension: int = Field(default=100, ge=1, le=2048)
    architecture: Literal["skip-gram", "cbow"] = "skip-gram"
    """Of word2vec and fasttext: each word tells its neighbours, or its neighbours tell it."""
    window: int = Field(default=5, ge=1, le=1000)
    """The most words to each side; of glove 10, where nothing is said."""
    negatives: int = Field(default=5, ge=0, le=1000)
    """Words drawn at random for each true one; 0: hierarchical softmax."""
    noise_power: float = Field(default=0.75, ge=0)
    """Words are drawn in proportion to their count raised to this power."""
    sample: float = Field(default=1e-3, ge=0)
    """Words more frequent than this share of the text are left out at random; 0: none is."""
    ngrams: NgramsConfig = NgramsConfig()
    """Of fasttext."""
    epochs: int = Field(default=5, ge=1)
    """Passes over the text; of glove, over the counted pairs: 15, where nothing is said."""
    rate: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Learning rate at the start; by default 0.025, 0.05 for cbow and for glove. It falls linearly to a 10,000th, but not for glove."""
    x_max: float = Field(default=10.0, gt=0, allow_inf_nan=False)
    """Of glove: pairs that occur this often or more have the full weight. 10 suits millions of words; 100, as in the paper, billions."""
    alpha: float = Field(default=0.75, gt=0, allow_inf_nan=False)
    """Of glove: the weight of a rarer pair is (count / x_max) ** alpha."""
    memory_mib: int = Field(default=1024, ge=64)
    """Of glove: memory for counting pairs; more are kept on disk."""
    keep_outputs: bool = False
    """Write the output vectors as well, and of glove the biases, for `vitrail vectors explain`: twice the size."""
    seed: int = Field(default=1, ge=0)
    threads: int = Field(default=0, ge=0)
    """Processor threads; 0: all that may be used. With 1, the same seed gives the same bytes."""

    @model_validator(mode="before")
    @classmethod
    def _usual(cls, values: Any) -> Any:
        """What is usual for GloVe: wider windows, and more passes, since a pass over pairs is quick."""
        if isinstance(values, dict) and values.get("method") == "glove":
            return {"window": 10, "epochs": 15} | values  # pyright: ignore[reportUnknownVariableType]
        return values  # pyright: ignore[reportUnknownVariableType]

    @property
    def first_rate(self) -> float:
        """The learning rate at the start."""
        if self.rate is not None:
            return self.rate
        return 0.025 if self.method != "glove" and self.architecture == "skip-gram" else 0.05

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> "VectorsConfig":
        if self.method == "fasttext" and self.tokens.kind in ("characters", "subwords"):
            raise UsageError(f"fasttext of {self.tokens.kind}", expected="words, of which it takes n-grams", remedy="--method word2vec")
        return self
