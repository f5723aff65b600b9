"""Random models and requests, small, for the compiled search and for torch: both must find the same."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from exact import MOST, exact, rounded

from vitrail.data.vocabularies.subwords import EOS, SOS
from vitrail.decode.engines.native_groups import search_all
from vitrail.decode.engines.native_models import NATIVE_MODELS, NativeModel
from vitrail.decode.engines.native_requests import Job
from vitrail.decode.engines.pool import Pool
from vitrail.decode.engines.torch import TorchEngine
from vitrail.decode.ensemble import Ensemble
from vitrail.decode.search.constraints import Constraints, never_joins
from vitrail.decode.search.query import AllowedTokens, Hypothesis, Query
from vitrail.decode.search_config import SamplingConfig, SearchConfig
from vitrail.errors import UsageError
from vitrail.models.base import unique_tensors
from vitrail.models.configs.recurrent import RecurrentConfig
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.models.kinds.recurrent import Recurrent
from vitrail.models.kinds.transformer import Transformer
from vitrail.native.matrices.packing import Precision

Sources = Sequence[tuple[int, ...]]
AnyModel = Transformer | Recurrent


def random_config(draw: np.random.Generator) -> TransformerConfig:
    """Any Transformer that can be configured, small; but with a width of 2, normed vectors are equal so often that ranks are chance."""
    heads, head = int(draw.integers(1, 5)), 2 * int(draw.integers(1, 13))
    return TransformerConfig.model_validate(
        {
            "width": max(8, heads * head) if draw.random() < 0.6 else 2 * int(draw.integers(4, 40)),
            "heads": heads,
            "head_width": head,
            "feed_forward": int(draw.integers(1, 90)),
            "encoder_layers": int(draw.integers(1, 4)),
            "decoder_layers": int(draw.integers(1, 4)),
            "activation": draw.choice(["relu", "gelu", "silu", "swiglu"]),
            "norm": draw.choice(["layer", "rms", "batch"]),
            "norm_position": draw.choice(["pre", "post"]),
            "positions": draw.choice(["sinusoidal", "tensor2tensor", "learned", "rotary", "none"]),
            "max_positions": 80,
            "embedding_norm": bool(draw.random() < 0.3),
            "tie": draw.choice(["all", "target", "none"]),
            "output_bias": bool(draw.random() < 0.3),
            "decoder_start": draw.choice(["token", "zeros"]),
            "decoder": draw.choice(["attention", "attention", "ssru"]),
        }
    )


def random_ssru_config(draw: np.random.Generator) -> TransformerConfig:
    """Any Transformer with SSRUs in its decoder."""
    return TransformerConfig.model_validate(random_config(draw).model_dump() | {"decoder": "ssru"})


ATTENTION = ("none", "bahdanau", "luong-dot", "luong-general", "luong-concat")


def random_recurrent_config(draw: np.random.Generator) -> RecurrentConfig:
    """Any recurrent model that can be configured, small."""
    bidirectional, attention = bool(draw.random() < 0.6), str(draw.choice(ATTENTION))
    return RecurrentConfig.model_validate(
        {
            "cell": draw.choice(["rnn", "gru", "lstm"]),
            "embedding_width": int(draw.integers(4, 70)),
            "width": 2 * int(draw.integers(4, 40)) if bidirectional else int(draw.integers(6, 80)),
            "encoder_layers": int(draw.integers(1, 4)),
            "decoder_layers": int(draw.integers(1, 4)),
            "bidirectional": bidirectional,
            "reverse_source": bool(draw.random() < 0.4),
            "residual": bool(draw.random() < 0.5),
            "norm": draw.choice(["none", "layer", "batch"]),
            "attention": attention,
            "input_feeding": attention.startswith("luong") and bool(draw.random() < 0.5),
            "tie": draw.choice(["all", "target", "none"]),
        }
    )


def random_model(config: TransformerConfig | RecurrentConfig, *, seed: int, vocabularies: tuple[int, int]) -> AnyModel:
    """One whose norms and biases are not those of a beginning."""
    torch.manual_seed(seed)
    source, target = (vocabularies[1] if config.tie == "all" else vocabularies[0]), vocabularies[1]
    recurrent = isinstance(config, RecurrentConfig)
    made = Recurrent if recurrent else Transformer
    model = made(config, source_vocabulary=source, target_vocabulary=target).eval()  # type: ignore[arg-type]
    # What a Transformer's batch norm does not bring back to a size of 1 grows from layer to layer.
    factor = 0.5 if config.norm == "batch" and not recurrent else 1.3
    with torch.no_grad():
        for name, tensor in unique_tensors(model).items():
            if "variance" in name:
                tensor.uniform_(0.5, 2)
            elif tensor.ndim == 1:
                tensor += 0.2 * torch.randn_like(tensor)
            else:
                tensor *= factor
    return model


def native(model: AnyModel, precision: Precision = "fp32") -> NativeModel:
    tensors = {name: tensor.detach().numpy() for name, tensor in unique_tensors(model).items()}
    config, kind = model.config.model_dump(), NATIVE_MODELS[model.config.kind]
    sizes = {"source": model.source_embedding.num_embeddings, "target": model.target_embedding.num_embeddings}
    assert kind.obstacle(config) == ""
    assert kind.tensor_shapes(config, **sizes) == {name: tensor.shape for name, tensor in tensors.items()}
    return kind.of(config, tensors, precision=precision)


def random_any_config(draw: np.random.Generator) -> TransformerConfig | RecurrentConfig:
    return random_config(draw) if draw.random() < 0.8 else random_recurrent_config(draw)


def random_search(draw: np.random.Generator, *, most_extra: int = 11) -> SearchConfig:
    beams = int(draw.integers(1, 7))
    return SearchConfig(
        beams=beams,
        n_best=int(draw.integers(1, beams + 1)),
        length_penalty=float(draw.choice([0, 0.6, 1, 2])),
        early_stop=bool(draw.random() < 0.7),
        max_ratio=1,
        max_extra=int(draw.integers(1, most_extra + 1)),
        min_length=int(draw.choice([0, 0, 2, 5])),
        allow_unknown=bool(draw.random() < 0.3),
        repeat_ngram=int(draw.integers(0, 4)),
        max_repeats=int(draw.integers(1, 4)),
    )


def random_sources(draw: np.random.Generator, count: int, vocabulary: int, longest: int = 20) -> Sources:
    return [tuple(draw.integers(4, vocabulary, draw.integers(0, longest + 1)).tolist()) for _ in range(count)]


def short_text(tokens: Sequence[int]) -> str:
    """Many sequences have the same text, as with tokens that no reader sees."""
    return " ".join(str(token // 3) for token in tokens if token % 4)


def queries_for(sources: Sources, config: SearchConfig, *, spelled: bool = False) -> list[Query]:
    """Plain ones; some sentences are searched without the repetition guard."""
    spell = short_text if spelled else None
    rules = [Constraints(guard_repeats=sum(source) % 5 != 4) for source in sources]
    return [Query(**config.lengths(len(one))._asdict(), spell=spell, constraints=rule) for one, rule in zip(sources, rules, strict=True)]


def random_sampling(draw: np.random.Generator) -> SamplingConfig:
    return SamplingConfig(
        temperature=float(draw.choice([1, 0.3, 0.8, 2])),
        top_k=int(draw.choice([0, 0, 1, 3, 40, 1000])),
        top_p=float(draw.choice([1, 1, 0.3, 0.9, 0.99])),
        min_p=float(draw.choice([0, 0, 0.02, 0.3])),
        repetition_penalty=float(draw.choice([1, 1, 1.5, 0.7])),
    )


def often_joined(previous: int, following: int) -> bool:
    return (7 * previous + 3 * following) % 4 == 0


def random_tokens(draw: np.random.Generator, vocabulary: int, *, least: int, most: int) -> tuple[int, ...]:
    return tuple(draw.integers(4, vocabulary, draw.integers(least, most + 1)).tolist())


def random_constraints(draw: np.random.Generator, vocabulary: int, *, forced: bool) -> Constraints:
    """Prefix, forbidden and forced words, some of them or all; a small vocabulary often has none left."""

    def some(least: int, most: int, count: int) -> tuple[tuple[int, ...], ...]:
        return tuple(random_tokens(draw, vocabulary, least=least, most=most) for _ in range(draw.integers(0, count + 1)))

    words = tuple(tuple(random_tokens(draw, vocabulary, least=1, most=3) for _ in range(draw.integers(1, 3))) for _ in some(0, 0, 3))
    try:
        return Constraints(
            prefix=random_tokens(draw, vocabulary, least=0, most=3) if draw.random() < 0.5 else (),
            forbidden=some(1, 3, 6),
            forced=words if forced else (),
            joins=often_joined if draw.random() < 0.5 else never_joins,
            guard_repeats=bool(draw.random() < 0.7),
        )
    except UsageError:  # a word is forced and forbidden at once
        return Constraints()


def random_tokens_of(draw: np.random.Generator, vocabulary: int) -> npt.NDArray[np.int64]:
    """Any number of tokens: none, one, some, or all."""
    share = float(draw.choice([0, 0, 0.02, 0.1, 0.5, 1]))
    some = np.flatnonzero(draw.random(vocabulary) < share)
    return np.union1d(some, draw.integers(4, vocabulary, draw.integers(0, 2))).astype(np.int64)


def random_shortlists(draw: np.random.Generator, vocabulary: int, count: int) -> list[AllowedTokens]:
    shared = np.union1d(np.arange(4), random_tokens_of(draw, vocabulary))
    return [AllowedTokens(shared, np.setdiff1d(random_tokens_of(draw, vocabulary), shared)) for _ in range(count)]


def random_stop(draw: np.random.Generator) -> Callable[[Sequence[int]], bool]:
    """Stops some texts soon and others late or never, whatever their tokens."""
    share, factor = int(draw.choice([2, 5, 20])), int(draw.integers(1, 50))
    return lambda tokens: sum(place * factor * token for place, token in enumerate(tokens, start=3)) % share == 1


def jobs_for(sources: Sources, queries: Sequence[Query]) -> list[Job]:
    return [Job(number, (*source, EOS), query) for number, (source, query) in enumerate(zip(sources, queries, strict=True))]


@dataclass(frozen=True)
class Request:
    """Models of one vocabulary, sentences, and how they are searched."""

    models: Sequence[AnyModel]
    sources: Sources
    queries: list[Query]
    config: SearchConfig

    def by_native(self, precision: Precision = "fp32", *, threads: int = 1) -> list[list[Hypothesis]]:
        models = [native(model, precision) for model in self.models]
        found = search_all(models, jobs_for(self.sources, self.queries), self.config, pool=Pool(threads))
        return [found[number] for number in range(len(self.sources))]

    def by_torch(self) -> list[list[Hypothesis]]:
        model = self.models[0] if len(self.models) == 1 else Ensemble(self.models, digests=[""] * len(self.models))
        return TorchEngine(model).search(self.sources, self.queries, config=self.config)


KINDS = ("plain", "prompts", "words", "forced", "samples", "ensemble", "stops")
"""Kinds of requests."""
LISTED = 5
"""One request of so many, of every kind, has shortlists."""


DrawConfig = Callable[[np.random.Generator], TransformerConfig | RecurrentConfig]


def random_request(seed: int, draw_config: DrawConfig = random_config, *, brief: bool = False) -> Request:
    """A request of any kind; one of them is sure, others may come with it. Brief: few layers and short sentences, for torch to be quick."""
    draw = np.random.default_rng(seed)
    sure = KINDS[seed % len(KINDS)]

    def wanted(kind: str) -> bool:
        return sure == kind or (sure != "plain" and bool(draw.random() < 0.2))

    config = random_search(draw, most_extra=2) if brief else random_search(draw)
    drawn, forced = wanted("samples"), wanted("forced")
    if drawn:
        config = config.model_copy(update={"sampling": random_sampling(draw)})
    number = int(draw.integers(2, 4)) if wanted("ensemble") else 1
    configs = [draw_config(draw) for _ in range(number)]
    if brief:
        configs = [one.model_copy(update={"encoder_layers": 1, "decoder_layers": min(2, one.decoder_layers)}) for one in configs]
    target = int(draw.integers(5, 300))
    source = target if any(one.tie == "all" for one in configs) else int(draw.integers(5, 70))
    models = [random_model(one, seed=seed + at, vocabularies=(source, target)) for at, one in enumerate(configs)]
    sources = random_sources(draw, 2, source, longest=4) if brief else random_sources(draw, 5, source)
    spell = short_text if config.n_best > 1 and not drawn and draw.random() < 0.7 else None
    prompts, words, stops = wanted("prompts"), wanted("words") or forced, wanted("stops")
    listed = random_shortlists(np.random.default_rng(seed), target, len(sources))
    lists = listed if seed % LISTED == LISTED - 1 else [None] * len(sources)
    queries = [
        Query(
            random_tokens(draw, target, least=1, most=6) if prompts else (SOS,),
            **config.lengths(len(one))._asdict(),
            spell=spell,
            seed=int(draw.integers(0, 2**50)),
            stop=random_stop(draw) if stops and draw.random() < 0.8 else None,
            shortlist=shortlist,
            constraints=random_constraints(draw, target, forced=forced and not drawn) if words else Constraints(),
        )
        for one, shortlist in zip(sources, lists, strict=True)
    ]
    return Request(models, sources, queries, config)


Found = Sequence[Sequence[Hypothesis]]
"""The n-best lists of all sentences."""
NEAR = 2e-5
"""Log-probabilities and scores that differ by less are not looked at again in float64; two choices as near as that are a tie."""


def difference(found: Found, expected: Found, *, columns: bool = True, most: float = NEAR) -> str:
    """The first difference of the n-best lists; empty where there is none. Log-probabilities may differ by `most`.

    Args: columns: whether `Hypothesis.column` is compared; of hypotheses that two searches found, either column may be kept.
    """
    for number, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        if [one.tokens for one in ours] != [one.tokens for one in theirs]:
            return f"{TIE * _is_tie(ours, theirs, most)}sentence {number}: {ours} instead of {theirs}"
        for one, other in zip(ours, theirs, strict=True):
            scores = [_numbers(one), _numbers(other)]
            near = len(scores[0]) == len(scores[1]) and np.allclose(*scores, rtol=0, atol=most)
            if not near or (one.truncated, one.stopped) != (other.truncated, other.stopped) or (columns and one.column != other.column):
                return f"sentence {number}: {one} instead of {other}"
    return ""


TIE = "tie: "
"""Two choices that are nearly as good are chance: torch and the compiled code round differently."""


def _is_tie(ours: Sequence[Hypothesis], theirs: Sequence[Hypothesis], most: float) -> bool:
    """Whether the first hypotheses that differ have nearly the same score, or their first different tokens nearly the same probability."""
    one, other = next((pair for pair in zip(ours, theirs, strict=False) if pair[0].tokens != pair[1].tokens), (ours[-1], theirs[-1]))
    shared = [(*one.tokens, EOS), (*other.tokens, EOS)]
    at = next((place for place, pair in enumerate(zip(*shared, strict=False)) if pair[0] != pair[1]), 0)
    values = [part.token_log_probabilities[at] for part in (one, other) if at < len(part.token_log_probabilities)]
    return abs(one.score - other.score) < most or (len(values) == 2 and abs(values[0] - values[1]) < most)


def compare_with_torch(seed: int, draw_config: DrawConfig = random_config, *, brief: bool = False) -> str:
    """What a random request finds differently, after `TIE` where that is chance; empty where all is the same.

    Where it is not what torch finds in float32, it is held against float64.
    """
    request = random_request(seed, draw_config, brief=brief)
    searched_once = request.config.sampling is not None or not any(query.constraints.is_active for query in request.queries)
    try:
        found = in_order(request, request.by_native())
        told = difference(found, in_order(request, request.by_torch()), columns=searched_once)
        return told and _told_by_float64(request, found, columns=searched_once)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _told_by_float64(request: Request, found: list[list[Hypothesis]], *, columns: bool) -> str:
    right, *others = [
        in_order(request, replace(request, models=models).by_torch()) for models in (exact(request.models), *rounded(request.models))
    ]
    most = max(NEAR, MOST * max(_farthest(other, right) for other in others))
    told = difference(found, right, columns=columns, most=most)
    return TIE + told if told and not told.startswith(TIE) and _is_tie_of_samples(request, found) else told


def _farthest(found: Found, expected: Found) -> float:
    """The largest difference of the log-probabilities and scores of hypotheses with the same tokens."""
    pairs = [pair for both in zip(found, expected, strict=True) for pair in zip(*both, strict=False) if pair[0].tokens == pair[1].tokens]
    return max((abs(left - right) for pair in pairs for left, right in zip(*map(_numbers, pair), strict=False)), default=0.0)


def _numbers(one: Hypothesis) -> tuple[float, ...]:
    return one.score, *one.token_log_probabilities


def in_order(request: Request, found: list[list[Hypothesis]]) -> list[list[Hypothesis]]:
    """Samples in the order drawn, as equal ones have equal scores; all else as found."""
    return found if request.config.sampling is None else [sorted(one, key=_column) for one in found]


def _is_tie_of_samples(request: Request, found: list[list[Hypothesis]]) -> bool:
    """Whether torch draws each sample that was found, some of them only with another temperature by one part in 100,000.

    A sample whose random number lies where two tokens meet depends on rounding, and all of the text after it.
    """
    sampling = request.config.sampling
    if sampling is None:
        return False
    drawn = [set[tuple[int, ...]]() for _ in found]
    for factor in (1, 1 - 1e-5, 1 + 1e-5):
        other = sampling.model_copy(update={"temperature": sampling.temperature * factor})
        searched = replace(request, config=request.config.model_copy(update={"sampling": other})).by_torch()
        for texts, many in zip(drawn, searched, strict=True):
            texts.update(one.tokens for one in many)
    return all(one.tokens in texts for texts, many in zip(drawn, found, strict=True) for one in many)


def _column(one: Hypothesis) -> int:
    return one.column
