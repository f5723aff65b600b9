"""How long each attribution takes of 20 source and 20 target tokens: `OMP_NUM_THREADS=1 python tests/inspection/attribution_cost.py`."""

import sys
import time
from collections.abc import Callable

import torch

from vitrail.inspection.causes import attribution
from vitrail.models.base import TranslationModel
from vitrail.models.configs.recurrent import PRESETS as RECURRENT
from vitrail.models.configs.transformer import PRESETS
from vitrail.models.kinds.recurrent import Recurrent
from vitrail.models.kinds.transformer import Transformer

ROUNDS, TOKENS, VOCABULARY = 5, 19, 8000


def seconds(call: Callable[[], object]) -> float:
    """The fewest of some rounds, of processor time: a busy machine only adds."""
    found: list[float] = []
    for _ in range(ROUNDS):
        before = time.thread_time()
        call()
        found.append(time.thread_time() - before)
    return min(found)


def main() -> None:
    """The tiny Transformer, and a recurrent model of about as many parameters."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    size = {"source_vocabulary": VOCABULARY, "target_vocabulary": VOCABULARY}
    models: dict[str, TranslationModel] = {
        "tiny": Transformer(PRESETS["tiny"], **size).eval(),
        "lstm-attention": Recurrent(RECURRENT["lstm-attention"], **size).eval(),
    }
    source, target = (torch.randint(4, VOCABULARY, (TOKENS,)).tolist() for _ in range(2))  # and <eos>
    for name, model in models.items():
        methods = (attribution.attention, attribution.gradient_x_input, attribution.occlusion, attribution.value_zeroing)
        total = 0.0
        for method in (*methods, attribution.integrated_gradients):
            took = seconds(lambda method=method, model=model: method(model, source, target))
            total += took
            sys.stdout.write(f"{name:15} {method.__name__:22} {took:.3f} s\n")
        sys.stdout.write(f"{name:15} {'all':22} {total:.3f} s\n")


if __name__ == "__main__":
    main()
