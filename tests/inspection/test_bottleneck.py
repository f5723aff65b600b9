"""An autoencoder's one vector beside an encoder's vectors of tokens: what each number on the page is, and who is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vitrail.cli import run
from vitrail.data.vocabularies.subwords import Vocabularies, WordVocabulary
from vitrail.decode.sentences.autoencoder import Autoencoder
from vitrail.errors import DataError, ModelError, UsageError
from vitrail.inspection.bottleneck.beside import Beside
from vitrail.inspection.bottleneck.one_vector import look_at_vector
from vitrail.inspection.bottleneck.token_vectors import look_at_tokens
from vitrail.models.base import unique_tensors
from vitrail.models.build import build_model
from vitrail.models.configs.autoencoder import RecurrentAutoencoderConfig, TransformerAutoencoderConfig
from vitrail.models.configs.recurrent import RecurrentConfig
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.models.model_folder import load_model, save_model

TEXTS = [f"{name} {verb} {thing}" for name in ("ann", "bob", "<b>", "아이") for verb in ("sees", "has") for thing in ("cats", "犬")]
WORDS = WordVocabulary.train(TEXTS, size=50, least_count=1)
BOTH = Vocabularies(WORDS, WORDS, joint=True)
SMALL = {"encoder_layers": 1, "decoder_layers": 1, "width": 16, "dropout": 0.0}
AUTO = TransformerAutoencoderConfig.model_validate({**SMALL, "heads": 2, "feed_forward": 16, "bottleneck": 6})
TRANSLATOR = TransformerConfig.model_validate({**SMALL, "heads": 2, "feed_forward": 16})


def saved(folder: Path, config: object) -> Path:
    torch.manual_seed(1)
    model = build_model(config, BOTH)  # pyright: ignore
    save_model(folder, tensors=unique_tensors(model), config=config, vocabularies=BOTH, facts={})  # pyright: ignore
    return folder


@pytest.mark.parametrize(
    "config",
    [AUTO, RecurrentAutoencoderConfig.model_validate({**SMALL, "embedding_width": 8, "bottleneck": 6})],
    ids=["transformer", "lstm"],
)
def test_what_is_told_of_the_one_vector_is_so(tmp_path: Path, config: TransformerAutoencoderConfig) -> None:
    autoencoder = Autoencoder.load(saved(tmp_path / "auto", config))
    sentence, others = TEXTS[3], [text for text in TEXTS if text != TEXTS[3]]
    found = look_at_vector(autoencoder, sentence, TEXTS)
    known, latent = autoencoder.embed(others), autoencoder.embed([sentence])[0]
    np.testing.assert_allclose(found.latent, latent, rtol=1e-6)
    np.testing.assert_allclose(found.standard, (latent - known.mean(0)) / known.std(0), rtol=1e-3, atol=1e-4)
    # The whole of the vector is no narrower vector, and nothing of it is the mean of the text.
    assert found.narrowed[0].directions == 0 and found.narrowed[-1].text == found.text and found.narrowed[-1].variance == pytest.approx(1)
    assert found.narrowed[0].text == autoencoder.decode(known.mean(0, keepdims=True).astype(np.float32), longest=16)[0]
    shares = [part.variance for part in found.narrowed]
    covariance = np.linalg.eigvalsh(np.cov(known.T.astype(np.float64)))[::-1]
    np.testing.assert_allclose(shares[1], covariance[0] / covariance.sum(), rtol=1e-4)
    assert shares == sorted(shares)
    # The loss is that of the ordinary evaluation.
    assert found.loss == pytest.approx(autoencoder.measure([sentence]).figures()["loss_nats_per_token"], rel=1e-4)
    assert len(found.without_number) == 6 and len(found.without_token) == len(found.tokens) == 3
    for place, part in enumerate(found.without_token):
        words = sentence.split()
        without = autoencoder.embed([" ".join(words[:place] + words[place + 1 :])])[0]
        assert part.cosine == pytest.approx(without @ latent / np.linalg.norm(without) / np.linalg.norm(latent), abs=1e-4)
    assert [one.text for one in found.neighbours] == [one.text for one in autoencoder.nearest(sentence, others, top=8)]


def test_a_hidden_vector_changes_nothing_but_what_attention_can_read(tmp_path: Path) -> None:
    """Hiding a vector is the same as making it unreachable: whatever it holds, what is written is equal."""
    loaded = load_model(saved(tmp_path / "tr", TRANSLATOR))
    found = look_at_tokens(loaded, TEXTS[0], TEXTS, name="tr")
    assert [part.token for part in found.tokens] == [*WORDS.pieces(WORDS.encode(TEXTS[0])), "</s>"]
    with torch.inference_mode():
        from vitrail.data.batches import pad_rows
        from vitrail.decode.sentences.autoencoder import write_encoded

        encoded = loaded.model.encode(pad_rows([WORDS.encode(TEXTS[0])]))
        np.testing.assert_allclose([part.values for part in found.tokens], encoded.memory[0], rtol=1e-5)
        spoiled = encoded.memory.clone()
        spoiled[:, 1] = 1e3
        keep = encoded.keep.clone()
        keep[:, 1] = False
        written = write_encoded(loaded.model, encoded._replace(memory=spoiled, keep=keep), [26])
    assert WORDS.decode(written[0]) == found.tokens[1].without
    # In this text a word stands at one place only, so that its vector's nearest one is its own.
    assert sum(part.named for part in found.tokens) >= 3


def test_the_page_shows_both_and_runs_nothing_that_a_text_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    auto, translator, text = saved(tmp_path / "auto", AUTO), saved(tmp_path / "tr", TRANSLATOR), tmp_path / "text.txt"
    text.write_text("\n".join(TEXTS) + "\n")
    command = ["inspect", "bottleneck", str(auto), "<b> sees 犬", "--text", str(text), "--beside", str(translator)]
    assert run([*command, "-o", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert "default-src 'none'" in page and "<script" not in page and "<b> sees" not in page and "&lt;b&gt; sees 犬" in page
    assert run([*command, "-o", str(tmp_path / "page.html")]) == 0, "an earlier page may be replaced"
    (tmp_path / "mine.html").write_text("mine")
    assert run([*command, "-o", str(tmp_path / "mine.html")]) == 2 and (tmp_path / "mine.html").read_text() == "mine"
    capsys.readouterr()
    assert run([*command, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    pieces = [part["token"] for part in record["tokens"]["tokens"]]
    assert len(record["one"]["latent"]) == 6 and pieces[-2:] == [*WORDS.pieces(WORDS.encode("犬")), "</s>"]
    count = len(record["tokens"]["tokens"])
    assert page.count('height="16" style=') == 6 + count * 16
    assert run(command) == 0
    assert f"{count} vectors of 16 numbers" in capsys.readouterr().out


def test_who_cannot_stand_there_is_told_why(tmp_path: Path) -> None:
    auto = Autoencoder.load(saved(tmp_path / "auto", AUTO))
    with pytest.raises(UsageError, match="no sentence"):
        look_at_vector(auto, " ", TEXTS)
    with pytest.raises(DataError, match="at least 8"):
        look_at_vector(auto, "ann", TEXTS[:5])
    recurrent = load_model(saved(tmp_path / "lstm", RecurrentConfig.model_validate({**SMALL, "embedding_width": 8})))
    with pytest.raises(ModelError, match="last states"):
        look_at_tokens(recurrent, "ann", TEXTS, name="lstm")
    with pytest.raises(ModelError, match="an autoencoder, too"):
        look_at_tokens(load_model(tmp_path / "auto"), "ann", TEXTS, name="auto")


def test_views_of_words_are_refused_where_the_decoder_reads_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    auto = saved(tmp_path / "auto", AUTO)
    assert run(["inspect", str(auto), "ann sees cats"]) != 0
    assert "vitrail inspect bottleneck" in capsys.readouterr().err
    (tmp_path / "one.txt").write_text("ann sees cats\n")
    assert run(["translate", str(auto), "--alignment", "--source", str(tmp_path / "one.txt")]) != 0
    assert "not the words" in capsys.readouterr().err
    lstm = saved(tmp_path / "lstm", RecurrentAutoencoderConfig.model_validate({**SMALL, "embedding_width": 8, "bottleneck": 6}))
    assert run(["inspect", str(lstm), "ann sees cats"]) == 0


def test_a_page_of_the_autoencoder_alone(tmp_path: Path) -> None:
    auto = Autoencoder.load(saved(tmp_path / "auto", AUTO))
    alone = Beside("auto", look_at_vector(auto, TEXTS[0], TEXTS), "", None)
    assert "one vector per token" in alone.to_html() and "when one is removed" not in alone.to_html()
    exact = replace(alone.one, text=alone.one.sentence)
    assert exact.exact and "is exactly given back" in replace(alone, one=exact).to_html()
