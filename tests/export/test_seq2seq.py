"""Translators of Marian, OPUS-MT and Pegasus: the same logits and texts there and here. The way back of ours: test_round_trips.py."""

import io
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import sentencepiece
import torch

from vitrail import cli
from vitrail.data.vocabularies.subwords import EOS, PAD, SOS, Vocabularies, WordVocabulary, train_sentencepiece
from vitrail.data.vocabularies.vocabulary import UNK
from vitrail.decode.translate import Translator
from vitrail.errors import ModelError, UsageError
from vitrail.export.translators import seq2seq_folder
from vitrail.export.translators.parity import CheckTexts, compare
from vitrail.export.translators.seq2seq_folder import export_seq2seq, import_seq2seq, largest_difference
from vitrail.export.translators.seq2seq_tokens import read_foreign_vocabularies, read_json
from vitrail.models.base import unique_tensors
from vitrail.models.build import build_model
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.models.model_folder import load_model, save_model

transformers = pytest.importorskip("transformers")

WORDS = ["the", "a", "small", "red", "dog", "cat", "bird", "eats", "sees", "throws", "bread", "river", "near", "with", "and", "house"]
MOTS = ["le", "la", "petit", "rouge", "chien", "chat", "oiseau", "mange", "voit", "jette", "pain", "rivière", "près", "avec", "et", "pas"]
SHAPE: dict[str, Any] = {"encoder_layers": 2, "decoder_layers": 2, "width": 32, "heads": 4, "feed_forward": 48}


def sentences(words: list[str], count: int, *, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(words, k=draw.randint(3, 9))) for _ in range(count)]


def own(folder: Path, changes: dict[str, Any], *, joint: bool = True) -> Path:
    """A model whose every weight was drawn; its translations end after some tokens."""
    torch.manual_seed(5)
    source = train_sentencepiece(sentences(WORDS, 200) + sentences(MOTS, 200) * joint, size=340)
    target = source if joint else train_sentencepiece(sentences(MOTS, 200), size=330)
    both = Vocabularies(source, target, joint=joint)
    config = TransformerConfig.model_validate(SHAPE | {"output_bias": True} | changes)
    made = unique_tensors(build_model(config, both))
    tensors = {name: value + 0.2 * torch.randn_like(value) if value.ndim == 1 else 1.5 * value for name, value in made.items()}
    if config.output_bias:
        tensors["output_bias"][EOS] = 5.0
    facts = {"source_language": "en", "target_language": "fr", "step": 3}
    save_model(folder, tensors=tensors, config=config, vocabularies=both, facts=facts)
    return folder


OWN = {
    "marian": ({"norm_position": "post"}, True),
    "marian-silu-separate": ({"norm_position": "post", "activation": "silu", "tie": "target"}, False),
    "marian-untied-gelu": ({"norm_position": "post", "activation": "gelu", "tie": "none"}, False),
    "pegasus": ({"norm_position": "pre"}, True),
}


@pytest.mark.parametrize("name", OWN)
def test_there_the_logits_and_the_texts_are_ours(tmp_path: Path, name: str) -> None:
    changes, joint = OWN[name]
    model = own(tmp_path / "model", changes, joint=joint)
    seq2seq_folder.SENTENCES = 8
    found = export_seq2seq(model, tmp_path / "theirs")
    assert found is not None and [row.equal for row in found.rows] == [8, 8]
    card = (tmp_path / "theirs" / "README.md").read_text()
    assert "pipeline_tag: translation" in card and "8 equal" in card


@pytest.mark.parametrize(
    "changes", [{"norm_position": "post"}, {"norm_position": "post", "tie": "none"}, {"norm_position": "pre"}], ids=str
)
def test_a_decoder_that_begins_from_zeros_begins_from_zeros_there(tmp_path: Path, changes: dict[str, Any]) -> None:
    model = own(tmp_path / "model", changes | {"decoder_start": "zeros"})
    seq2seq_folder.SENTENCES = 8
    found = export_seq2seq(model, tmp_path / "theirs")
    assert found is not None and [row.equal for row in found.rows] == [8, 8]
    import_seq2seq(tmp_path / "theirs", tmp_path / "back")
    before, after = (load_model(tmp_path / name) for name in ("model", "back"))
    assert after.config == before.config
    with torch.inference_mode():
        source, target = torch.tensor([[7, 8, 9, EOS]]), torch.tensor([[SOS, 9, 8]])
        logits = [one.model.read_out(one.model.decode(target, one.model.encode(source))) for one in (before, after)]
    assert torch.equal(logits[0][..., EOS:], logits[1][..., EOS:])


def test_the_check_can_fail_and_then_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = own(tmp_path / "model", {"norm_position": "post"})
    files = seq2seq_folder._files

    def wrong(loaded: Any) -> dict[str, bytes]:
        made = files(loaded)
        weights = safetensors.torch.load(made["model.safetensors"])
        weights["final_logits_bias"][0, 7] += 0.01
        return made | {"model.safetensors": safetensors.torch.save(weights, metadata={"format": "pt"})}

    monkeypatch.setattr(seq2seq_folder, "_files", wrong)
    with pytest.raises(ModelError, match="logits that differ"):
        export_seq2seq(model, tmp_path / "theirs")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_what_they_cannot_hold_is_refused_by_name(tmp_path: Path) -> None:
    for number, (changes, told) in enumerate(
        (
            ({"norm": "rms", "activation": "swiglu"}, "model.norm = rms, model.activation = swiglu"),
            ({"positions": "rotary"}, "model.positions = rotary"),
            ({"decoder": "ssru"}, "model.decoder = ssru"),
            ({"tie": "none"}, "model.tie = none with pre-norm"),
            ({"embedding_norm": True}, "model.embedding_norm = True"),
        )
    ):
        with pytest.raises(UsageError, match=told):
            export_seq2seq(own(tmp_path / str(number), changes), tmp_path / "theirs")
    vocabulary = WordVocabulary([" a", " b"])
    config = TransformerConfig.model_validate(SHAPE | {"norm_position": "post"})
    both = Vocabularies(vocabulary, vocabulary, joint=True)
    save_model(tmp_path / "words", tensors=unique_tensors(build_model(config, both)), config=config, vocabularies=both, facts={})
    with pytest.raises(UsageError, match="whole words"):
        export_seq2seq(tmp_path / "words", tmp_path / "theirs")


# Models that another program made: of the shapes of OPUS-MT and Pegasus, with drawn weights.


def spm(texts: list[str], *, size: int, kind: str = "unigram", normalised: bool = True) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        model_type=kind,
        vocab_size=size,
        hard_vocab_limit=False,
        normalization_rule_name="nmt_nfkc" if normalised else "identity",
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def pieces_of(data: bytes) -> list[str]:
    processor = sentencepiece.SentencePieceProcessor()
    processor.LoadFromSerializedProto(data)
    return [
        piece for id, piece in enumerate(processor.id_to_piece(list(range(processor.get_piece_size())))) if not processor.is_control(id)
    ]


def drawn(made: Any, *, ends: int, never: int) -> Any:
    """Draw every weight anew: norms, biases, embeddings of padding too; translations end after some tokens."""
    torch.manual_seed(11)
    with torch.no_grad():
        for name, value in made.named_parameters():
            if "embed_positions" not in name:
                value.copy_(
                    value + 0.2 * torch.randn_like(value) if value.ndim == 1 else 1.5 * torch.randn_like(value) * value.shape[1] ** -0.5
                )
        made.final_logits_bias.copy_(0.3 * torch.randn_like(made.final_logits_bias))
        made.final_logits_bias[0, ends] = 5.0
    made.generation_config.bad_words_ids = [[never]]
    made.generation_config.num_beams = 4
    made.generation_config.forced_eos_token_id = None  # it would replace the last token of a translation that is cut
    return made.eval()


def opus(folder: Path, *, separate: bool = False, **changes: Any) -> Path:
    """A folder like those of OPUS-MT: two SentencePiece models, one list of tokens in an order of its own, padding last."""
    folder.mkdir()
    models = {"source.spm": spm(sentences(WORDS, 300), size=90), "target.spm": spm(sentences(MOTS, 300), size=100)}
    lists = [sorted(set(pieces_of(model)) - {"<unk>"}) for model in models.values()]
    for one in lists:
        random.Random(3).shuffle(one)

    def ids(tokens: list[str], size: int) -> dict[str, int]:
        named = ["</s>", "<unk>", ">>fra<<", *tokens]
        return {token: id for id, token in enumerate([*named, *(f"extra{n}" for n in range(size - 1 - len(named))), "<pad>"])}

    joint = list(dict.fromkeys([*lists[0], *lists[1]]))
    size = (max(map(len, lists)) if separate else len(joint)) + 6
    tables = {"vocab.json": ids(lists[0] if separate else joint, size)}
    if separate:
        tables["target_vocab.json"] = ids(lists[1], size)
    for name, data in models.items():
        (folder / name).write_bytes(data)
    for name, table in tables.items():
        (folder / name).write_text(json.dumps(table), encoding="utf-8")
    settings = {"tokenizer_class": "MarianTokenizer", "source_lang": "en", "target_lang": "fr", "separate_vocabs": separate}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    config = transformers.MarianConfig(
        vocab_size=size,
        decoder_vocab_size=size,
        d_model=32,
        scale_embedding=True,
        activation_function="swish",
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        pad_token_id=size - 1,
        decoder_start_token_id=size - 1,
        eos_token_id=0,
        forced_eos_token_id=0,
        share_encoder_decoder_embeddings=not separate,
        max_position_embeddings=128,
    )
    for name, value in changes.items():
        setattr(config, name, value)
    drawn(transformers.MarianMTModel(config), ends=0, never=size - 1).save_pretrained(folder)
    return folder


def pegasus(folder: Path) -> Path:
    """A folder like those of Pegasus: its tokens behind 103 that pre-training used, padding first and the start of a translation."""
    folder.mkdir()
    data = spm(sentences(WORDS, 300) + sentences(MOTS, 300), size=130, normalised=False)
    processor = sentencepiece.SentencePieceProcessor()
    processor.LoadFromSerializedProto(data)
    rows = [("<pad>", 0.0), ("</s>", 0.0), ("<mask_1>", 0.0), ("<mask_2>", 0.0)]
    rows += [(f"<unk_{number}>", 0.0) for number in range(2, 101)]
    rows += [
        (processor.id_to_piece(id), processor.get_score(id)) for id in range(processor.get_piece_size()) if not processor.is_control(id)
    ]
    tokenizer = transformers.PegasusTokenizer(vocab=rows)
    tokenizer.save_pretrained(folder)
    (folder / "spiece.model").write_bytes(data)
    config = transformers.PegasusConfig(
        vocab_size=len(tokenizer),
        d_model=32,
        scale_embedding=True,
        activation_function="relu",
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        max_position_embeddings=128,
    )
    drawn(transformers.PegasusForConditionalGeneration(config), ends=1, never=0).save_pretrained(folder)
    return folder


FOREIGN: dict[str, Any] = {
    "opus": opus,
    "opus-unscaled-untied": lambda folder: opus(folder, scale_embedding=False),
    "opus-separate": lambda folder: opus(folder, separate=True),
    "opus-gelu": lambda folder: opus(folder, activation_function="gelu"),
    "pegasus": pegasus,
}


def there(folder: Path) -> Any:
    return transformers.AutoModelForSeq2SeqLM.from_pretrained(folder, local_files_only=True).eval()


def as_read(model: Path, count: int, *, odd: bool) -> CheckTexts:
    translator = Translator.load(model, engine="torch")
    odd = ["Ünknown ﬁne signs 你 the dog", ">>fra<< the red dog", "ÀÉ the bird"] if odd else []
    texts = [*sentences(WORDS, count - len(odd), seed=7), *odd]
    return CheckTexts(texts, [translator.cut(text)[0][1] for text in texts], [], "generated")


@pytest.mark.parametrize("name", FOREIGN)
def test_a_model_from_elsewhere_has_the_same_logits_and_texts_here(tmp_path: Path, name: str) -> None:
    _require_equal(FOREIGN[name](tmp_path / "theirs"), tmp_path, count=16)


@pytest.mark.slow
@pytest.mark.parametrize("name", FOREIGN)
def test_200_sentences_are_translated_as_there(tmp_path: Path, name: str) -> None:
    _require_equal(FOREIGN[name](tmp_path / "theirs"), tmp_path, count=200)


def _require_equal(folder: Path, tmp_path: Path, *, count: int) -> None:
    import_seq2seq(folder, tmp_path / "ours")
    loaded = load_model(tmp_path / "ours")
    # The tokenizer of Pegasus there is no SentencePiece, and divides signs that it does not know otherwise.
    texts = as_read(tmp_path / "ours", count, odd=(folder / "vocab.json").exists())
    read = read_foreign_vocabularies(folder, read_json(folder / "config.json"))
    places = [[0 if row is None else row for row in rows] for rows in (read.source, read.target)]
    assert largest_difference(loaded, there(folder), texts.tokens[:12], places=places) <= 1e-5
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    for text, tokens in zip(texts.sources, texts.tokens, strict=True):
        assert [places[0][id] for id in [*tokens, EOS]] == tokenizer(text)["input_ids"]
    found = compare(tmp_path / "ours", seq2seq_folder.theirs(folder), program="transformers", texts=texts)
    assert [row.equal for row in found.rows] == [count, count], found.to_text()


def test_what_is_imported_is_looked_into_aligned_trained_further_and_exported(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    import_seq2seq(opus(tmp_path / "theirs"), tmp_path / "ours")
    ours = str(tmp_path / "ours")
    assert cli.run(["inspect", ours, "the red dog eats bread"]) == 0
    for name, words in (("source", WORDS), ("target", MOTS)):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in sentences(words, 60)), encoding="utf-8")
    assert cli.run(["align", ours, "--source", str(tmp_path / "source"), "--target", str(tmp_path / "target")]) == 0
    assert len(capfdbinary.readouterr().out.splitlines()) > 60
    settings = ["train.duration='2 steps'", "data.holdout.dev_pairs=5", "data.holdout.test_pairs=5", f"data.subwords.taken_from={ours}"]
    command = ["train", "--source", str(tmp_path / "source"), "--target", str(tmp_path / "target"), "-o", str(tmp_path / "run")]
    command += ["--init", f"all={ours}", *(part for one in settings for part in ("--set", one))]
    assert cli.run(command) == 0
    assert load_model(tmp_path / "run").config.tie == "all"
    seq2seq_folder.SENTENCES = 4
    assert export_seq2seq(tmp_path / "ours", tmp_path / "again") is not None
    import_seq2seq(tmp_path / "again", tmp_path / "back")
    assert (tmp_path / "back" / "model.safetensors").read_bytes() == (tmp_path / "ours" / "model.safetensors").read_bytes()


def test_the_traps_are_met(tmp_path: Path) -> None:
    """The order of the vocabulary, padding that starts a translation, and a bias on the output."""
    folder = opus(tmp_path / "theirs")
    import_seq2seq(folder, tmp_path / "ours")
    loaded = load_model(tmp_path / "ours")
    tensors = unique_tensors(loaded.model)
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    shared, bias = weights["model.shared.weight"], weights["final_logits_bias"][0]
    pad = len(shared) - 1
    for ours, theirs in ((PAD, pad), (UNK, 1), (SOS, pad), (EOS, 0)):
        torch.testing.assert_close(tensors["output_weight"][ours], shared[theirs], rtol=0, atol=0)
    assert tensors["output_bias"][SOS] == -1e4 and tensors["output_bias"][EOS] == bias[0] == 5.0
    assert loaded.vocabularies.shares_ids and not loaded.vocabularies.joint
    assert loaded.facts["search"] == {"beams": 4, "repeat_ngram": 0, "allow_unknown": True}
    assert loaded.config.activation == "silu" and loaded.facts["source_language"] == "en"


def test_pickle_and_damaged_folders_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    whole = opus(tmp_path / "whole")

    def changed(name: str, change: Any) -> Path:
        shutil.copytree(whole, tmp_path / name)
        change(tmp_path / name)
        return tmp_path / name

    def settings(**values: Any) -> Any:
        def change(folder: Path) -> None:
            table = json.loads((folder / "config.json").read_text())
            (folder / "config.json").write_text(json.dumps(table | values))

        return change

    cases: list[tuple[str, Any, str]] = [
        ("pickle", lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"), "pickle"),
        ("none", lambda folder: (folder / "target.spm").unlink(), "target.spm"),
        ("text", lambda folder: (folder / "source.spm").write_bytes(b"nothing"), "not a SentencePiece model"),
        ("list", lambda folder: (folder / "vocab.json").write_text("[]"), "is no table"),
        ("twice", lambda folder: (folder / "vocab.json").write_text('{"a": 1, "b": 1}'), "table of tokens and ids"),
        ("other", settings(model_type="bart"), "model_type 'bart'"),
        ("activation", settings(activation_function="tanh"), "activation_function 'tanh'"),
        ("heads", settings(decoder_attention_heads=2), "decoder_attention_heads 2"),
        ("size", settings(vocab_size=17), "vocab_size 17"),
        ("start", settings(decoder_start_token_id=100_000), "decoder_start_token_id"),
        ("width", settings(d_model=64), "expected"),
    ]
    for name, change, told in cases:
        with pytest.raises(ModelError) as caught:
            import_seq2seq(changed(name, change), tmp_path / "ours")
        assert told in str(caught.value) and not (tmp_path / "ours").exists()


def test_a_table_of_positions_that_is_not_sinusoidal_is_kept(tmp_path: Path) -> None:
    folder = opus(tmp_path / "theirs")
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    table = torch.randn(128, 32, generator=torch.Generator().manual_seed(1))
    for side in ("encoder", "decoder"):
        weights[f"model.{side}.embed_positions.weight"] = table.clone()
    safetensors.torch.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    import_seq2seq(folder, tmp_path / "ours")
    loaded = load_model(tmp_path / "ours")
    assert loaded.config.positions == "learned" and loaded.config.max_positions == 128  # pyright: ignore[reportAttributeAccessIssue]
    torch.testing.assert_close(unique_tensors(loaded.model)["source_positions.weight"], table)
