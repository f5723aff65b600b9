"""Vocabularies of translators in Hugging Face's files: those of `AutoTokenizer` for ours, and ours of OPUS-MT's and Pegasus's."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vitrail.data.vocabularies.mapped import MappedPieces
from vitrail.data.vocabularies.subwords import EOS, PAD, SOS, UNK, SentencePieceSubwords, Subwords, Vocabularies
from vitrail.data.vocabularies.vocabulary import SPECIAL
from vitrail.errors import ModelError, UsageError
from vitrail.export.translators.seq2seq_layout import MAX_LENGTH

_MOST_BYTES = 1 << 28
NEVER = -1e4
"""The bias of a token that is never written: its probability is 0, and means over the vocabulary stay finite."""
_PEGASUS_OFFSET = 103


class ReadVocabularies(NamedTuple):
    """Vocabularies as ours, and where each of our ids is in the other program's tables."""

    vocabularies: Vocabularies
    source: list[int | None]
    """For each of our ids the other one; None where that program has no such token."""
    target: list[int | None]
    adds_start: bool
    """Whether <s> is a copy of a token that means something else there, so that it must never be written."""


def tokenizer_files(vocabularies: Vocabularies, languages: tuple[str, str]) -> dict[str, bytes]:
    """The files of a MarianTokenizer, for both layouts. Raises UsageError for vocabularies that are no SentencePiece models."""
    source, target = vocabularies.source, vocabularies.target
    if not all(isinstance(one, SentencePieceSubwords | MappedPieces) for one in (source, target)):
        raise UsageError("a vocabulary of whole words or characters", expected="bpe or unigram", remedy="--to ctranslate2 carries it")
    settings = {
        "tokenizer_class": "MarianTokenizer",
        "source_lang": languages[0],
        "target_lang": languages[1],
        "unk_token": SPECIAL[UNK],
        "eos_token": SPECIAL[EOS],
        "pad_token": SPECIAL[PAD],
        "model_max_length": MAX_LENGTH,
        "separate_vocabs": not vocabularies.shares_ids,
        "clean_up_tokenization_spaces": False,
    }
    files = {"source.spm": _model_of(source), "target.spm": _model_of(target)}
    files |= {"vocab.json": _json(_ids(source)), "tokenizer_config.json": _json(settings)}
    return files if vocabularies.shares_ids else files | {"target_vocab.json": _json(_ids(target))}


def _model_of(vocabulary: Subwords) -> bytes:
    return vocabulary.sentencepiece_model if isinstance(vocabulary, MappedPieces) else vocabulary.to_bytes()


def _ids(vocabulary: Subwords) -> dict[str, int]:
    return {piece: id for id, piece in enumerate([*SPECIAL, *vocabulary.pieces(range(len(SPECIAL), vocabulary.size))])}


def read_own_vocabularies(folder: Path) -> Vocabularies:
    """The vocabularies of what `tokenizer_files` wrote. Raises ModelError."""
    data = [_read(folder / name) for name in ("source.spm", "target.spm")]
    tables = [_read_ids(folder / name) for name in ("vocab.json", "target_vocab.json") if (folder / name).exists()]
    sides = [_own_side(one, table, origin=folder) for one, table in zip(data, [tables[0], tables[-1]], strict=True)]
    joint = data[0] == data[1] and tables[0] == tables[-1]
    return Vocabularies(sides[0], sides[0] if joint else sides[1], joint=joint)


def _own_side(data: bytes, ids: Mapping[str, int], *, origin: Path) -> Subwords:
    try:
        found = SentencePieceSubwords.from_bytes(data, origin=str(origin))
        if _ids(found) == ids:
            return found
    except ModelError:
        pass
    return MappedPieces.of(data, sorted(ids, key=ids.__getitem__)[len(SPECIAL) :], origin=str(origin))


def read_foreign_vocabularies(folder: Path, config: Mapping[str, Any]) -> ReadVocabularies:
    """The vocabularies of a model that another program made. Raises ModelError for missing or damaged files or special tokens."""
    if config.get("model_type") == "marian":
        tables = [_read_ids(folder / "vocab.json")]
        if not config.get("share_encoder_decoder_embeddings", True):
            tables.append(_read_ids(folder / "target_vocab.json"))
        models = [_read(folder / name) for name in ("source.spm", "target.spm")]
        sizes = [config.get("vocab_size"), config.get("decoder_vocab_size") or config.get("vocab_size")]
    else:
        models = [_read(folder / "spiece.model")] * 2
        tables = [_pegasus_ids(folder, models[0])]
        sizes = [config.get("vocab_size")] * 2
    names, silent = _special_names(folder), _silent_tokens(folder)
    sides: list[MappedPieces] = []
    places: list[list[int | None]] = []
    start = config.get("decoder_start_token_id")
    # Where the sides have tables of their own, the token that starts a translation is one of the target.
    for model, table, size, first in zip(models, [tables[0], tables[-1]], sizes, [start if len(tables) == 1 else None, start], strict=True):
        order, tokens = _order(table, names, size=size, start=first, origin=folder)
        places.append(order)
        sides.append(MappedPieces.of(model, tokens, origin=str(folder), silent=silent))
    shared = sides[0].to_bytes() == sides[1].to_bytes()
    both = Vocabularies(sides[0], sides[0] if shared else sides[1], joint=shared)
    return ReadVocabularies(both, places[0], places[1], adds_start=start in places[1][:SOS] + places[1][EOS : EOS + 1])


def _order(ids: Mapping[str, int], names: Mapping[str, str], *, size: Any, start: Any, origin: Path) -> tuple[list[int | None], list[str]]:
    """Their ids in our order, and the tokens after our special ones."""
    if type(size) is not int or not 4 <= size <= 1 << 24 or any(not 0 <= id < size for id in ids.values()):
        raise ModelError(f"{origin}: vocab_size {size!r}, with ids up to {max(ids.values(), default=0)}", expected="a row for each token")
    special: list[int | None] = [ids.get(names["pad_token"]), ids.get(names["unk_token"]), start, ids.get(names["eos_token"])]
    for name, id in zip(("pad_token", "unk_token", "decoder_start_token_id", "eos_token"), special, strict=True):
        if id is None and name == "decoder_start_token_id":
            continue
        if type(id) is not int or not 0 <= id < size:
            raise ModelError(f"{origin}: {name} {names.get(name, id)!r} is in no row", expected="a token of the vocabulary")
    named = {id: token for token, id in ids.items()}
    return rows_in_order([named.get(id, f"<row {id}>") for id in range(size)], special)


def rows_in_order(tokens: Sequence[str], special: Sequence[int | None]) -> tuple[list[int | None], list[str]]:
    """Their ids in our order, and the tokens after our special ones. Args: special: their ids of padding, unknown, start and end."""
    rest = [id for id in range(len(tokens)) if id not in special]
    return [*special, *rest], [tokens[id] if tokens[id] not in SPECIAL else f"<row {id}>" for id in rest]


def _special_names(folder: Path) -> dict[str, str]:
    """What a tokenizer calls its special tokens."""
    found = {"pad_token": SPECIAL[PAD], "unk_token": SPECIAL[UNK], "eos_token": SPECIAL[EOS]}
    for file in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / file).exists():
            for name, value in read_json(folder / file).items():
                if name in found:
                    found[name] = str(value.get("content") if isinstance(value, dict) else value)  # pyright: ignore[reportUnknownMemberType]
    return found


def _silent_tokens(folder: Path) -> list[str]:
    """Tokens that are no text: those that `tokenizer.json` calls special, or those of Pegasus' pre-training."""
    path = folder / "tokenizer.json"
    added: Any = read_json(path).get("added_tokens", []) if path.exists() else []
    return [str(one["content"]) for one in added if one.get("special")] or list(_before_pieces())


def _before_pieces() -> dict[str, int]:
    """The tokens before Pegasus' pieces, which its pre-training used."""
    found = {SPECIAL[PAD]: 0, SPECIAL[EOS]: 1, "<mask_1>": 2, "<mask_2>": 3}
    return found | {f"<unk_{number}>": number + 2 for number in range(2, _PEGASUS_OFFSET - 1)}


def _pegasus_ids(folder: Path, model: bytes) -> dict[str, int]:
    """Token to id: as `tokenizer.json` has it, else pieces behind 103 tokens that pre-training used."""
    if (folder / "tokenizer.json").exists():
        match read_json(folder / "tokenizer.json"):
            case {"model": {"vocab": [*rows]}, "added_tokens": [*added]}:
                found = {str(row[0]): id for id, row in enumerate(rows)}
            case {"model": {"vocab": dict(table)}, "added_tokens": [*added]}:
                found = _checked_ids(table, origin=folder / "tokenizer.json")  # pyright: ignore[reportUnknownArgumentType]
            case _:
                raise ModelError(f"{folder / 'tokenizer.json'}: has no vocabulary", expected="one of pieces")
        return found | {str(one["content"]): int(one["id"]) for one in added}
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor()
    processor.LoadFromSerializedProto(model)
    pieces: list[str] = processor.id_to_piece(list(range(processor.get_piece_size())))
    before = _before_pieces()
    return {piece: id + _PEGASUS_OFFSET for id, piece in enumerate(pieces) if piece not in before} | before


def _read_ids(path: Path) -> dict[str, int]:
    return _checked_ids(read_json(path), origin=path)


def _checked_ids(table: Mapping[str, Any], *, origin: Path) -> dict[str, int]:
    if not table or not all(type(id) is int for id in table.values()) or len(set(table.values())) < len(table):
        raise ModelError(f"{origin}: is no table of tokens and ids", expected='{"token": id, ...}, each id once')
    return dict(table)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON table. Raises ModelError."""
    try:
        found: Any = json.loads(_read(path))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: {error}", expected="a file of a model in Hugging Face's layout") from None
    if not isinstance(found, dict):
        raise ModelError(f"{path}: is no table", expected="a file of a model in Hugging Face's layout")
    return found  # pyright: ignore[reportUnknownVariableType]


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ModelError(f"{path}: is larger than {_MOST_BYTES:,} bytes")
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}", expected="a model in Hugging Face's layout, with its tokenizer's files") from None


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
