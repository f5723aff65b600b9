"""The encoder of a translator for sentence-transformers: the vectors of sentences that `vitrail embed` makes, there."""

import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from torch import Tensor

from vitrail.data.batches import pad_rows
from vitrail.data.vocabularies.subwords import EOS, PAD, SOS
from vitrail.errors import ModelError, UsageError
from vitrail.export.huggingface import CONFIG, WEIGHTS, sentence_files, write_pooling
from vitrail.export.layouts import EncoderType, encoder_layout, to_layout
from vitrail.export.tokenizer_json import tokenizer_config, tokenizer_json
from vitrail.export.translators.parity import GivenPairs, check_texts
from vitrail.export.translators.staging import publish_checked
from vitrail.files import write_file
from vitrail.models.base import Embeds, all_tensors
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.models.model_folder import LoadedModel, load_model
from vitrail.nn.positions import sinusoids

SENTENCES = 200
MOST = 1e-4
"""Largest difference of a number of a vector that is still rounding."""
_LONGEST = 1024
"""Positions of a table of sinusoids."""
_EPSILON = 1e-5
_CLASSES: dict[EncoderType, str] = {"bert": "BertModel", "xlm-roberta-xl": "XLMRobertaXLModel"}


def export_encoder(model: Path, output: Path, *, check: bool = True, given: GivenPairs | None = None) -> float | None:
    """Write the encoder of a translator for `sentence-transformers`; returns the largest difference of a number of its vectors.

    Raises: UsageError for a model that those layouts cannot hold, naming each setting, and where sentence-transformers is not installed for
    the check; ModelError where it computes otherwise: then nothing is written.
    """
    if check and find_spec("sentence_transformers") is None:
        raise UsageError("sentence-transformers is not installed", remedy="pip install sentence-transformers, or --no-check")
    loaded = load_model(model)
    files = _files(loaded)

    def write(folder: Path) -> None:
        for name, content in files.items():
            write_file(folder / name, content)
        write_pooling(folder, width=_shape(loaded).width, mode="mean")

    def compared(folder: Path) -> float | None:
        if not check:
            return None
        texts = check_texts(model, count=SENTENCES, given=given)
        found = float(np.abs(theirs(folder, texts.sources) - ours(loaded, texts.tokens)).max())
        if not found <= MOST:
            raise ModelError(f"sentence-transformers computes vectors that differ by {found:.2e}", expected=f"at most {MOST:.0e}")
        return found

    return publish_checked(output, write=write, check=compared)


def theirs(folder: Path, texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """The vectors of sentence-transformers, text in."""
    import sentence_transformers

    there: Any = sentence_transformers.SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    return there.encode(list(texts), show_progress_bar=False)


@torch.inference_mode()
def ours(loaded: LoadedModel, tokens: Sequence[Sequence[int]]) -> npt.NDArray[np.float32]:
    """Our vectors of the same sentences."""
    model = loaded.model
    assert isinstance(model, Embeds)
    return torch.cat([model.embed(pad_rows(tokens[at : at + 32])) for at in range(0, len(tokens), 32)]).numpy()


def _shape(loaded: LoadedModel) -> TransformerConfig:
    """The configuration. Raises: UsageError naming each setting that no layout holds."""
    config = loaded.config
    if not isinstance(config, TransformerConfig):
        raise UsageError(f"model.kind = {config.kind}", expected="a Transformer that translates")
    post = config.norm_position == "post"
    wrong = {
        "norm": config.norm != "layer",
        "activation": config.activation == "swiglu",
        "positions": config.positions not in ("sinusoidal", "learned"),
        "embedding_norm": config.embedding_norm != post,
        "head_width": config.heads * config.width_of_head != config.width,
    }
    if faults := [f"model.{name} = {getattr(config, name)}" for name, is_wrong in wrong.items() if is_wrong]:
        raise UsageError(
            f"{', '.join(faults)}: not what an encoder of sentence-transformers computes",
            expected="layer norm; sinusoidal or learned positions; with post-norm (BERT) a norm of the embeddings, with pre-norm none",
            remedy="--to onnx carries the encoder's states of every model",
        )
    return config


def _files(loaded: LoadedModel) -> dict[str, bytes]:
    config = _shape(loaded)
    type: EncoderType = "bert" if config.norm_position == "post" else "xlm-roberta-xl"
    tensors = all_tensors(loaded.model)
    rows = tensors["source_positions.weight"].float() if config.positions == "learned" else sinusoids(_LONGEST, config.width)
    longest = len(rows)
    if type != "bert":  # this layout counts positions from pad + 1
        rows = torch.cat([rows[:1] * 0, rows])
    weights = to_layout(encoder_layout(type, layers=config.encoder_layers, width=config.width), tensors) | _unused(config.width)
    weights["embeddings.position_embeddings.weight"] = rows.contiguous()
    vocabulary = loaded.vocabularies.source
    contents = {
        CONFIG: _config(config, type, vocabulary=vocabulary.size, rows=len(rows)),
        "tokenizer.json": tokenizer_json(vocabulary, mask=False, ends=True, start=False),
        "tokenizer_config.json": tokenizer_config(mask=False, longest=longest),
        **sentence_files(longest),
    }
    return {
        WEIGHTS: safetensors.torch.save(weights, metadata={"format": "pt"}),
        **{name: (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode() for name, content in contents.items()},
        "README.md": _readme(loaded).encode(),
    }


def _unused(width: int) -> dict[str, Tensor]:
    """Weights that those classes have and these vectors do not use."""
    return {
        "embeddings.token_type_embeddings.weight": torch.zeros(1, width),
        "pooler.dense.weight": torch.zeros(width, width),
        "pooler.dense.bias": torch.zeros(width),
    }


def _config(config: TransformerConfig, type: EncoderType, *, vocabulary: int, rows: int) -> Mapping[str, Any]:
    return {
        "architectures": [_CLASSES[type]],
        "model_type": type,
        "vocab_size": vocabulary,
        "hidden_size": config.width,
        "num_hidden_layers": config.encoder_layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.feed_forward,
        "hidden_act": config.activation,
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.attention_dropout,
        "max_position_embeddings": rows,
        "type_vocab_size": 1,
        "layer_norm_eps": _EPSILON,
        "pad_token_id": PAD,
        "bos_token_id": SOS,
        "eos_token_id": EOS,
    }


def _readme(loaded: LoadedModel) -> str:
    language = loaded.facts.get("source_language", "?")
    return f"""# The encoder of a translator (from {language})

Written by `vitrail export --to sentence-transformers`. One vector for each sentence, the mean over its tokens:

```python
from sentence_transformers import SentenceTransformer

vectors = SentenceTransformer(".").encode(["A sentence."])
```
"""
