"""A vocabulary as `tokenizer.json`, the file of Hugging Face's tokenizers."""

from typing import Any

from vitrail.data.vocabularies.subwords import SentencePieceSubwords
from vitrail.data.vocabularies.vocabulary import EOS, PAD, SOS, SPECIAL, UNK, CharacterVocabulary, Subwords
from vitrail.errors import UsageError

MASK = "[MASK]"
_ESCAPE, _SPACE = "\ufdd0", "▁"


def tokenizer_json(vocabulary: Subwords, *, mask: bool, ends: bool, start: bool = True) -> dict[str, Any]:
    """The content of the file.

    It segments text as our vocabulary does, after Unicode's composition (NFC) and without the other cleaning of text before training. The
    names of special tokens in a text (`<s>`) are read as such by that program, and as plain text by ours.

    Args:   mask: whether the mask follows the last id. ends: whether a text gets <s> before and </s> after it;
            start: with it, whether it gets <s>.
    Raises: UsageError for a vocabulary of whole words, whose rules that program does not have.
    """
    names = [*SPECIAL, MASK] if mask else list(SPECIAL)
    ids = [*range(len(SPECIAL)), *([vocabulary.size] if mask else [])]
    added = [
        {"id": id, "content": name, "special": True, "single_word": False, "lstrip": name == MASK, "rstrip": False, "normalized": False}
        for id, name in zip(ids, names, strict=True)
    ]
    model, normalizer, before, decoder = _parts(vocabulary, names=dict(zip(names, ids, strict=True)))
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, *normalizer]},
        "pre_tokenizer": before,
        "post_processor": _ends(start=start) if ends else None,
        "decoder": decoder,
        "model": model,
    }


def _parts(vocabulary: Subwords, *, names: dict[str, int]) -> tuple[Any, list[Any], Any, Any]:
    spaces: list[Any] = [
        {"type": "Replace", "pattern": {"Regex": "^ +| +$"}, "content": ""},
        {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
    ]
    match vocabulary:
        case SentencePieceSubwords():
            normalizer: list[Any] = [
                {"type": "Replace", "pattern": {"String": _ESCAPE}, "content": f"{_ESCAPE}0"},
                {"type": "Replace", "pattern": {"String": _SPACE}, "content": f"{_ESCAPE}1"},
                *spaces,
            ]
            before = {"type": "Metaspace", "replacement": _SPACE, "prepend_scheme": "first", "split": False}
            decoder = {
                "type": "Sequence",
                "decoders": [
                    {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "},
                    {"type": "ByteFallback"},
                    {"type": "Fuse"},
                    {"type": "Strip", "content": " ", "start": 1, "stop": 0},
                ],
            }
            return _sentencepiece(vocabulary, names), normalizer, before, decoder
        case CharacterVocabulary():
            pieces = vocabulary.pieces(range(EOS + 1, vocabulary.size))
            vocab = names | {piece.replace(_SPACE, " "): id for id, piece in enumerate(pieces, start=EOS + 1)}
            model = {"type": "WordLevel", "vocab": vocab, "unk_token": SPECIAL[UNK]}
            split = {"type": "Split", "pattern": {"Regex": "[\\s\\S]"}, "behavior": "Isolated", "invert": False}
            return model, spaces, split, {"type": "Fuse"}
        case _:
            raise UsageError(
                "a vocabulary of whole words", expected="bpe, unigram or character", remedy="train with --set data.subwords.kind=bpe"
            )


def _sentencepiece(vocabulary: SentencePieceSubwords, names: dict[str, int]) -> dict[str, Any]:
    pieces = vocabulary.pieces(range(vocabulary.size))
    vocab = {piece: id for id, piece in enumerate(pieces)} | names
    if vocabulary.merges is None:
        scores = [*vocabulary.scores(), *([0.0] if len(vocab) > len(pieces) else [])]
        written = [*pieces, *([MASK] if len(vocab) > len(pieces) else [])]
        return {"type": "Unigram", "unk_id": UNK, "byte_fallback": True, "vocab": list(map(list, zip(written, scores, strict=True)))}
    known = {piece: id for id, piece in enumerate(pieces) if id >= len(SPECIAL) + 256}
    merges = [
        [piece[:cut], piece[cut:]] for piece in known for cut in range(1, len(piece)) if piece[:cut] in known and piece[cut:] in known
    ]
    return {
        "type": "BPE",
        "vocab": vocab,
        "merges": merges,
        "byte_fallback": True,
        "fuse_unk": True,
        "unk_token": SPECIAL[UNK],
        "dropout": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "ignore_merges": False,
    }


def _ends(*, start: bool) -> dict[str, Any]:
    def special(id: int) -> dict[str, Any]:
        return {"SpecialToken": {"id": SPECIAL[id], "type_id": 0}}

    text = {"Sequence": {"id": "A", "type_id": 0}}
    tokens = {SPECIAL[id]: {"id": SPECIAL[id], "ids": [id], "tokens": [SPECIAL[id]]} for id in (SOS, EOS)}
    single = [*([special(SOS)] if start else []), text, special(EOS)]
    second = [{"Sequence": {"id": "B", "type_id": 0}}, special(EOS)]
    return {"type": "TemplateProcessing", "single": single, "pair": [*single, *second], "special_tokens": tokens}


def tokenizer_config(*, mask: bool, longest: int) -> dict[str, Any]:
    """What `tokenizer_config.json` says beside it."""
    names = {"pad_token": PAD, "unk_token": UNK, "bos_token": SOS, "eos_token": EOS, "cls_token": SOS, "sep_token": EOS}
    masked = {"mask_token": MASK} if mask else {}
    special = {name: SPECIAL[id] for name, id in names.items()} | masked
    return {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": longest, "clean_up_tokenization_spaces": False, **special}
