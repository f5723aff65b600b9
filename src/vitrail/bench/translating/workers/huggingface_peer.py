"""Our Transformer as a model of Hugging Face transformers, with its `generate`.

Pegasus is the class whose layers are ours with the norm before each part (pre-norm), Marian with the norm behind (post-norm): sinusoidal
positions, biases, scaled embeddings. All weights are ours, the table of positions too.
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitrail.bench.translating.workers.serve import Carried

_PAD, _UNK, _SOS, _EOS = 0, 1, 2, 3


class HuggingFacePeer:
    """Settings: threads, batch (sentences, sorted by length), attention (eager, sdpa)."""

    versions: Mapping[str, str]

    def __init__(self, carried: "Carried") -> None:
        self._torch: Any = import_module("torch")
        self._program: Any = import_module("transformers")
        self._program.logging.set_verbosity_error()
        kind = "Pegasus" if carried.description["pre"] else "Marian"
        self.versions = {"transformers": self._program.__version__, "torch": self._torch.__version__, "class": kind}
        self._carried, self._kind = carried, kind
        self._made: dict[str, Any] = {}

    def _ready(self, attention: str) -> Any:
        if attention not in self._made:
            self._made[attention] = self._build(attention)
        return self._made[attention]

    def translate(self, texts: Sequence[str], beams: int, settings: Mapping[str, Any]) -> list[str]:
        """See `serve.Peer`."""
        torch = self._torch
        torch.set_num_threads(settings["threads"])
        model = self._ready(settings.get("attention", "sdpa"))
        rows = [[*row, _EOS] for row in self._carried.source.encode(list(texts))]
        order = sorted(range(len(rows)), key=lambda number: -len(rows[number]))
        found: list[list[int]] = [[] for _ in rows]
        size = settings.get("batch", 64)
        for first in range(0, len(rows), size):
            numbers = order[first : first + size]
            batch = self._padded([rows[number] for number in numbers])
            with torch.inference_mode():
                written = model.generate(
                    **batch,
                    num_beams=beams,
                    max_new_tokens=2 * batch["input_ids"].shape[1] + 50,
                    length_penalty=self._carried.description["length_penalty"],
                    early_stopping=beams > 1,
                )
            for number, row in zip(numbers, written.tolist(), strict=True):
                found[number] = [token for token in row if token > _EOS]
        return self._carried.target.decode(found)

    def score(self, source: Sequence[int], target: Sequence[int]) -> list[float]:
        """The log-probabilities of the tokens of one given translation, with its end."""
        torch = self._torch
        with torch.inference_mode():
            batch = self._padded([[*source, _EOS]])
            logits = self._ready("eager")(**batch, decoder_input_ids=torch.tensor([[_SOS, *target]])).logits[0]
        return logits.log_softmax(1).gather(1, torch.tensor([[*target, _EOS]]).t()).flatten().tolist()

    def _padded(self, rows: Sequence[Sequence[int]]) -> dict[str, Any]:
        longest = max(map(len, rows))
        ids = self._torch.tensor([[*row, *[_PAD] * (longest - len(row))] for row in rows])
        return {"input_ids": ids, "attention_mask": (ids != _PAD).long()}

    def _build(self, attention: str) -> Any:
        config, tensors = self._carried.description, self._carried.tensors
        model = getattr(self._program, f"{self._kind}MTModel" if self._kind == "Marian" else "PegasusForConditionalGeneration")(
            self._config(attention)
        ).eval()
        halves = {"encoder": model.model.encoder, "decoder": model.model.decoder}
        state: dict[str, Any] = {}
        for side, half in halves.items():
            name = "source" if side == "encoder" else "target"
            half.embed_tokens = self._torch.nn.Embedding.from_pretrained(self._torch.from_numpy(tensors[f"{name}_embedding.weight"]))
            state[f"{side}.embed_positions.weight"] = tensors["positions"]
            for layer in range(config[f"{side}_layers"]):
                state |= _layer(side, layer, tensors)
            if config["pre"]:
                state |= _pair(f"{side}.layer_norm", tensors, f"{side}_norm.norm")
        missing, unknown = model.model.load_state_dict({name: self._torch.from_numpy(one) for name, one in state.items()}, strict=False)
        left = [name for name in missing if "embed_tokens" not in name and name != "shared.weight"]
        if left or unknown:
            raise ValueError(f"weights that are not there: {left}; that have no place: {unknown}")
        model.lm_head.weight = self._torch.nn.Parameter(self._torch.from_numpy(tensors["output_weight"]))
        return model

    def _config(self, attention: str) -> Any:
        config = self._carried.description
        return getattr(self._program, f"{self._kind}Config")(
            vocab_size=config["target_vocabulary"],
            d_model=config["width"],
            encoder_layers=config["encoder_layers"],
            decoder_layers=config["decoder_layers"],
            encoder_attention_heads=config["heads"],
            decoder_attention_heads=config["heads"],
            encoder_ffn_dim=config["feed_forward"],
            decoder_ffn_dim=config["feed_forward"],
            activation_function=config["activation"],
            scale_embedding=True,
            max_position_embeddings=len(self._carried.tensors["positions"]),
            pad_token_id=_PAD,
            bos_token_id=_SOS,
            eos_token_id=_EOS,
            decoder_start_token_id=_SOS,
            forced_eos_token_id=None,
            suppress_tokens=[_PAD, _UNK, _SOS],
            attn_implementation=attention,
        )


def make(folder: Path, carried: "Carried") -> HuggingFacePeer:
    """The system."""
    del folder
    return HuggingFacePeer(carried)


def _pair(name: str, tensors: Mapping[str, Any], ours: str) -> dict[str, Any]:
    return {f"{name}.weight": tensors[f"{ours}.weight"], f"{name}.bias": tensors[f"{ours}.bias"]}


def _layer(side: str, layer: int, tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The weights of one layer by their names."""
    at, ours = f"{side}.layers.{layer}", f"{side}.{layer}"
    crosses = side == "decoder"
    parts = {"self_attn": "self_attention"} | ({"encoder_attn": "cross_attention"} if crosses else {})
    found: dict[str, Any] = {}
    for theirs, own in parts.items():
        for name, part in (("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value"), ("out_proj", "output")):
            found |= _pair(f"{at}.{theirs}.{name}", tensors, f"{ours}.{own}.{part}")
    for name, part in (("fc1", "expand"), ("fc2", "contract")):
        found |= _pair(f"{at}.{name}", tensors, f"{ours}.feed_forward.{part}")
    norms = ["self_attn_layer_norm", *["encoder_attn_layer_norm"] * crosses, "final_layer_norm"]
    for number, name in enumerate(norms, start=1):
        found |= _pair(f"{at}.{name}", tensors, f"{ours}.residual_{number}.norm.norm")
    return found
