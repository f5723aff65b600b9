"""Translators in Marian's own file: weights in `.npz`, with the configuration in it, and vocabularies in `.yml`."""

import io
import json
import re
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import ValidationError
from torch import Tensor

from vitrail.config import reason
from vitrail.data.vocabularies.mapped import MappedPieces
from vitrail.data.vocabularies.subwords import EOS, PAD, SOS, SPECIAL, UNK, SentencePieceSubwords, Subwords, Vocabularies
from vitrail.errors import ModelError, UsageError
from vitrail.export.marian.layout import ACTIVATIONS, NORM_STEPS, SETTINGS, SIZES, names_of, settings_of, to_marian
from vitrail.export.translators.parity import CheckTexts, GivenPairs, Parity, Theirs, check_texts, compare
from vitrail.export.translators.seq2seq_tokens import NEVER, rows_in_order
from vitrail.export.translators.staging import publish_checked
from vitrail.files import write_file
from vitrail.models.base import unique_tensors
from vitrail.models.build import build_model
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.models.model_folder import LoadedModel, load_model, save_model
from vitrail.nn.positions import sinusoids

Floats = npt.NDArray[np.float32]
WEIGHTS = "model.npz"
_MOST_BYTES = 1 << 34
_MOST_SETTINGS = 1 << 20
_CHECKED_POSITIONS = 2048


def export_marian(model: Path, output: Path, *, check: bool = True, given: GivenPairs | None = None) -> Parity | None:
    """Write the translator of a run's folder or a model folder as `model.npz`, `vocab.yml` (or two) and its SentencePiece models.

    The check is by CTranslate2's converter for Marian, which reads the file, and by translations of what it makes.
    Raises: UsageError for a model that Marian cannot hold, naming what, and where ctranslate2 is not installed for the check; ModelError
    where translations differ: then nothing is written.
    """
    loaded = load_model(model)
    _require(loaded)
    files = _files(loaded)

    def write(folder: Path) -> None:
        for name, content in files.items():
            write_file(folder / name, content)

    def compared(folder: Path) -> Parity | None:
        if not check:
            return None
        if find_spec("ctranslate2") is None:
            raise UsageError("ctranslate2 is not installed", remedy="pip install ctranslate2, or --no-check")
        unknown = bool(loaded.facts.get("search", {}).get("allow_unknown"))
        there = theirs(folder, allow_unknown=unknown)
        found = compare(model, there, program="ctranslate2's Marian converter", texts=check_texts(model, given=given))
        found.require(exact=True)
        return found

    return publish_checked(output, write=write, check=compared)


def theirs(folder: Path, *, allow_unknown: bool = True) -> Theirs:
    """Translate with what CTranslate2 makes of the files.

    Its converter computes other sinusoids than Marian does, so that Marian's are put beside the weights.
    """
    converters: Any = import_module("ctranslate2.converters")
    program: Any = import_module("ctranslate2")
    pieces: Any = import_module("sentencepiece")
    vocabularies = [str(path) for path in sorted(folder.glob("*vocab.yml"))]
    with tempfile.TemporaryDirectory() as place:
        arrays = read_npz(folder / WEIGHTS)
        width = next(arrays[name].shape[1] for name in ("Wemb", "decoder_Wemb") if name in arrays)
        table = sinusoids(_CHECKED_POSITIONS, width, steps=width // 2 - 1).numpy()
        np.savez(Path(place) / WEIGHTS, **arrays, Wpos=table)  # pyright: ignore[reportArgumentType]
        made = converters.MarianConverter(str(Path(place) / WEIGHTS), vocabularies).convert(str(Path(place) / "made"))
        translator = program.Translator(made)
    source, target = (pieces.SentencePieceProcessor(model_file=str(folder / name)) for name in ("source.spm", "target.spm"))

    def translate(texts: CheckTexts, beams: int) -> list[str]:
        found = translator.translate_batch(
            [source.encode(text, out_type=str) for text in texts.sources],
            beam_size=beams,
            max_batch_size=32,
            length_penalty=1e-9,
            max_decoding_length=texts.longest,
            min_decoding_length=0,
            disable_unk=not allow_unknown,
        )
        rows = [[piece for piece in one.hypotheses[0] if piece != SPECIAL[UNK]] for one in found]
        return [target.decode(row).replace("▁", " ") for row in rows]  # pieces of the source that the target's model does not know

    return translate


def _require(loaded: LoadedModel) -> None:
    config, vocabularies = loaded.config, loaded.vocabularies
    if not isinstance(config, TransformerConfig) or config.kind != "transformer":
        raise UsageError(f"model.kind = {config.kind}", expected="a Transformer that translates, for --to marian")
    wanted: dict[str, Any] = {"norm": "layer", "positions": "tensor2tensor", "embedding_norm": False, "decoder": "attention"}
    faults = [f"model.{name} = {getattr(config, name)}" for name, value in wanted.items() if getattr(config, name) != value]
    if config.activation not in ACTIVATIONS:
        faults.append(f"model.activation = {config.activation}")
    if config.head_width is not None and config.head_width * config.heads != config.width:
        faults.append(f"model.head_width = {config.head_width}")
    tensors = unique_tensors(loaded.model)
    start = tensors.get("target_embedding.weight", tensors["output_weight"])[SOS]
    if config.decoder_start != "zeros" and bool(start.any()):
        faults.append(f"model.decoder_start = {config.decoder_start}, where Marian begins from zeros")
    if not all(isinstance(one, SentencePieceSubwords | MappedPieces) for one in (vocabularies.source, vocabularies.target)):
        faults.append("a vocabulary without pieces of SentencePiece")
    if faults:
        raise UsageError(
            f"{', '.join(faults)}: not what Marian's Transformer computes",
            expected="layer norm, relu or silu, positions = tensor2tensor and decoder_start = zeros, as models from Marian have them",
            remedy="train with these settings (--set model.NAME=VALUE), or vitrail export --to ctranslate2",
        )


def _files(loaded: LoadedModel) -> dict[str, bytes]:
    config, vocabularies = loaded.config, loaded.vocabularies
    assert isinstance(config, TransformerConfig)
    # Marian has neither padding nor a token that starts: the ends come first, as in its own vocabularies.
    orders = [[EOS, UNK, *range(len(SPECIAL), one.size)] for one in (vocabularies.source, vocabularies.target)]
    arrays = {name: value.numpy() for name, value in to_marian(unique_tensors(loaded.model), config, orders).items()}
    arrays[SETTINGS] = np.frombuffer(settings_of(config, [len(order) for order in orders]).encode() + b"\0", dtype=np.int8)
    packed = io.BytesIO()
    np.savez(packed, **arrays)  # pyright: ignore[reportArgumentType]
    names = ["vocab.yml"] if vocabularies.shares_ids else ["source.vocab.yml", "target.vocab.yml"]
    sides = (vocabularies.source, vocabularies.target)
    found = {WEIGHTS: packed.getvalue()}
    found |= {name: _vocabulary(side, order) for name, side, order in zip(names, sides, orders, strict=False)}
    pieces = ("source.spm", "target.spm")
    return found | {
        name: one.sentencepiece_model if isinstance(one, MappedPieces) else one.to_bytes() for name, one in zip(pieces, sides, strict=True)
    }


def _vocabulary(vocabulary: Subwords, order: Sequence[int]) -> bytes:
    names = [SPECIAL[id] if id < len(SPECIAL) else vocabulary.pieces([id])[0] for id in order]
    return "".join(f"{json.dumps(name, ensure_ascii=False)}: {id}\n" for id, name in enumerate(names)).encode()


def is_marian(folder: Path) -> bool:
    """Whether a folder, or a file, is a model of Marian."""
    return folder.suffix == ".npz" or (folder.is_dir() and bool(list(folder.glob("*.npz"))))


def read_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an `.npz`, none of them of Python's objects. Raises ModelError for a damaged or too large file."""
    found: dict[str, npt.NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(path) as packed:
            if sum(entry.file_size for entry in packed.infolist()) > _MOST_BYTES:
                raise ModelError(f"{path}: is larger than {_MOST_BYTES:,} bytes unpacked")
            for entry in packed.infolist():
                with packed.open(entry) as file:
                    found[entry.filename.removesuffix(".npy")] = np.lib.format.read_array(io.BytesIO(file.read()), allow_pickle=False)
    except (OSError, ValueError, zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise ModelError(f"{path}: {error}", expected="a model of Marian (.npz)", remedy="copy the model again") from None
    return found


def import_marian(place: Path, output: Path) -> None:
    """Write the model folder of a translator of Marian: a folder with one `.npz`, `.yml` vocabularies, `source.spm` and `target.spm`.

    Raises: ModelError for what ours cannot hold, by name, and damaged or missing files; UsageError; NotWritten.
    """
    folder = place.parent if place.is_file() else place
    models = [place] if place.is_file() else sorted(folder.glob("*.npz"))
    if len(models) != 1:
        raise ModelError(f"{folder}: holds {len(models)} .npz files", expected="one", remedy="name the file")
    arrays = read_npz(models[0])
    settings = _read_settings(arrays, models[0])
    lists = _read_vocabularies(folder)
    sides: list[MappedPieces] = []
    rows: list[list[int | None]] = []
    for tokens, name in zip(lists, ("source.spm", "target.spm"), strict=True):
        places = {token: place for place, token in enumerate(tokens)}
        if SPECIAL[UNK] not in places or SPECIAL[EOS] not in places:
            raise ModelError(f"{folder}: a vocabulary without {SPECIAL[UNK]} or {SPECIAL[EOS]}", expected="a vocabulary of Marian")
        order, others = rows_in_order(tokens, [None, places[SPECIAL[UNK]], None, places[SPECIAL[EOS]]])
        rows.append(order)
        if not (folder / name).is_file():
            raise ModelError(f"{folder / name}: is missing", expected="the SentencePiece model of that side")
        sides.append(MappedPieces.of((folder / name).read_bytes(), others, origin=str(folder / name)))
    same = sides[0].to_bytes() == sides[1].to_bytes()
    vocabularies = Vocabularies(sides[0], sides[0] if same else sides[1], joint=same)
    config = _config(settings, arrays, models[0])
    tensors = _ours(arrays, config, rows, models[0])
    with torch.device("meta"):
        shapes = {name: tuple(one.shape) for name, one in unique_tensors(build_model(config, vocabularies)).items()}
    wrong = [name for name, shape in shapes.items() if tuple(tensors[name].shape) != shape]
    if wrong:
        raise ModelError(f"{models[0]}: {wrong[0]} is {tuple(tensors[wrong[0]].shape)}", expected=str(shapes[wrong[0]]))
    facts = {"imported": "Marian", "search": {"repeat_ngram": 0, "allow_unknown": True}}
    save_model(output, tensors={name: tensors[name].contiguous() for name in shapes}, config=config, vocabularies=vocabularies, facts=facts)


def _read_settings(arrays: Mapping[str, npt.NDArray[Any]], path: Path) -> dict[str, str]:
    """The plain settings of the model's YAML: one a line, quoted or not; lists and comments are left out."""
    raw = arrays.get(SETTINGS)
    if raw is None or raw.nbytes > _MOST_SETTINGS:
        raise ModelError(f"{path}: has no {SETTINGS}", expected="a model of Marian (.npz)")
    text = raw.tobytes().rstrip(b"\0").decode("utf-8", "replace")
    pairs = (re.fullmatch(r"([a-z][a-z0-9-]*): *(.*)", line) for line in text.splitlines())
    return {pair[1]: pair[2].strip().strip("\"'") for pair in pairs if pair}


def _read_vocabularies(folder: Path) -> list[list[str]]:
    """The tokens of both sides in the order of their ids: one `.yml` for both, or two, the source's first by name."""
    paths = [path for path in sorted(folder.glob("*.yml")) if "vocab" in path.name]
    if not 1 <= len(paths) <= 2:
        raise ModelError(f"{folder}: holds {len(paths)} vocabularies", expected="one *vocab*.yml for both sides, or two")
    found: list[list[str]] = []
    for path in paths:
        named: dict[int, str] = {}
        for line in path.read_text(encoding="utf-8").split("\n"):
            token, colon, id = line.rpartition(":")
            if colon and id.strip().isdecimal():
                named[int(id)] = _unquoted(token.strip(), path)
        if not named or sorted(named) != list(range(len(named))) or len(set(named.values())) < len(named):
            raise ModelError(f"{path}: is no vocabulary", expected="a token and its number on each line, each number once")
        found.append([named[id] for id in range(len(named))])
    return [found[0], found[-1]]


def _unquoted(token: str, path: Path) -> str:
    if token[:1] == token[-1:] == '"' and len(token) > 1:
        try:
            return str(json.loads(token))
        except ValueError:
            raise ModelError(f"{path}: {token[:80]} is no text in quotes", remedy="copy the model again") from None
    return token[1:-1].replace("''", "'") if token[:1] == token[-1:] == "'" and len(token) > 1 else token


def _config(settings: Mapping[str, str], arrays: Mapping[str, npt.NDArray[Any]], path: Path) -> TransformerConfig:
    given = tuple(settings.get(f"transformer-{one}", "") for one in _STEPS)
    place = next((name for name, parts in NORM_STEPS.items() if parts == given), "")
    activation = next((ours for ours, theirs in ACTIVATIONS.items() if theirs == settings.get("transformer-ffn-activation")), "")
    wanted = {"type": "transformer", "transformer-decoder-autoreg": "self-attention", "transformer-postprocess-emb": "d"}
    faults = [f"{name}: {settings.get(name)}" for name, value in wanted.items() if settings.get(name) != value]
    faults += [] if place else [", ".join(f"transformer-{one}: {settings.get(f'transformer-{one}', '')!r}" for one in _STEPS)]
    faults += [] if activation else [f"transformer-ffn-activation: {settings.get('transformer-ffn-activation')}"]
    faults += ["Wpos"] if "Wpos" in arrays else []
    if faults:
        raise ModelError(
            f"{path}: {', '.join(faults)}", expected="a Transformer with pre- or post-norm, relu or swish, sinusoidal positions"
        )
    both = "Wemb" in arrays
    tie = "none" if any(f"decoder_ff_logit_out_{name}" in arrays for name in ("W", "Wt")) else ("all" if both else "target")
    try:
        return TransformerConfig.model_validate(
            {ours: int(settings[theirs]) for theirs, ours in SIZES.items()}
            | {"feed_forward": int(settings["transformer-dim-ffn"]), "activation": activation, "norm_position": place}
            | {"tie": tie, "output_bias": True, "decoder_start": "zeros", "positions": "tensor2tensor"}
        )
    except (KeyError, ValueError, ValidationError) as error:
        raise ModelError(f"{path}: {reason(error)}", expected="the settings of a Transformer of Marian") from None


_STEPS = ("preprocess", "postprocess", "postprocess-top")


def _ours(
    arrays: Mapping[str, npt.NDArray[Any]], config: TransformerConfig, rows: Sequence[Sequence[int | None]], path: Path
) -> dict[str, Tensor]:
    def of(*names: str) -> Tensor:
        array = next((arrays[name] for name in names if name in arrays), None)
        if array is None or array.dtype.kind != "f" or array.ndim != 2:
            raise ModelError(f"{path}: {names[0]}: missing, or no matrix of floats", expected="a model of Marian that is not quantised")
        return torch.from_numpy(np.array(array, dtype=np.float32))

    def taken(table: Tensor, side: int) -> Tensor:
        if len(table) != sum(row is not None for row in rows[side]):
            raise ModelError(f"{path}: {len(table)} rows", expected=f"the vocabulary's {sum(row is not None for row in rows[side])}")
        found = table[[0 if row is None else row for row in rows[side]]]
        found[[PAD, SOS]] = 0  # it begins from zeros
        return found

    found: dict[str, Tensor] = {}
    for ours, theirs in names_of(config).items():
        other = theirs.replace("_pre", "")
        value = of(theirs, other)
        found[ours] = value[0] if len(value) == 1 and ("_b" in theirs or "_ln_" in theirs) else value.t()
    target = of("decoder_Wemb", "Wemb")
    found["source_embedding.weight"] = taken(of("encoder_Wemb", "Wemb"), 0)
    found["target_embedding.weight"] = taken(target, 1)
    output = of("decoder_ff_logit_out_W").t() if "decoder_ff_logit_out_W" in arrays else target
    output = of("decoder_ff_logit_out_Wt") if "decoder_ff_logit_out_Wt" in arrays else output
    found["output_weight"] = taken(output, 1)
    bias = of("decoder_ff_logit_out_b")[0]
    found["output_bias"] = taken(bias[:, None], 1).flatten()
    found["output_bias"][[PAD, SOS]] = NEVER
    return found
