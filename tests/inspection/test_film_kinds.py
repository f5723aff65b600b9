"""The film of models that do not translate: frames against other ways to find the same, trainings that were killed, refusals, pages."""

import json
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from language_models import CORPUS, generator
from page_helpers import Tab
from playwright.sync_api import Browser
from readers import LABELS, classifier, filler

sys.path.append(str(Path(__file__).parent.parent / "train"))  # training_runs
from training_runs import differing, run

import vitrail.cli
from vitrail.config import build
from vitrail.data.batches import Batch
from vitrail.data.examples.labelled import Labelling
from vitrail.data.examples.masking import MaskedBatch
from vitrail.data.vocabularies.subwords import SubwordsConfig, Vocabularies, train_vocabulary
from vitrail.decode.forced import distributions, make_batch
from vitrail.decode.sentences.autoencoder import Autoencoder
from vitrail.decode.sentences.masked import MASK
from vitrail.errors import UsageError
from vitrail.inspection.collect import collect
from vitrail.inspection.film.filming import ATTENDED, Recorder, group_of, look_for, take
from vitrail.inspection.film.frames import Film, Frame, read_film
from vitrail.inspection.film.looks import CANDIDATES, PROBES, choose_rows
from vitrail.inspection.film.readings import ClassificationLook, MaskedLook
from vitrail.inspection.film.record import film_alone
from vitrail.inspection.record import Inspection
from vitrail.models.architectures import AnyConfig, read_config
from vitrail.models.build import build_model
from vitrail.models.kinds.autoencoder import AutoencoderModel
from vitrail.train import loop
from vitrail.train.run_config import RunConfig
from vitrail.train.tasks.validate import NO_PROBES, DevSet, Probes, Validated

_BLOCKS = {"encoder_layers": 2, "decoder_layers": 2, "width": 16, "heads": 2, "feed_forward": 24, "dropout": 0.0, "bottleneck": 12}
_AUTOENCODERS: dict[str, dict[str, Any]] = {
    "transformer-autoencoder": {**_BLOCKS, "context": 64},
    "transformer-autoencoder-first": {**_BLOCKS, "context": 64, "pooling": "first", "slots": 2, "latent": "variational"},
    "recurrent-autoencoder": {"embedding_width": 8, "width": 12, "dropout": 0.0, "bottleneck": 40, "context": 64},
}
LINES = DevSet(CORPUS, CORPUS)


@cache
def autoencoder(name: str) -> Autoencoder:
    words = train_vocabulary(CORPUS, config=SubwordsConfig(kind="character", size=90, least_count=1))
    torch.manual_seed(4)
    model = build_model(read_config({"kind": name.removesuffix("-first"), **_AUTOENCODERS[name]}), words)
    assert isinstance(model, AutoencoderModel)
    return Autoencoder(model.eval(), words)


@cache
def example(name: str) -> Validated:
    """A small model with a dev set in several scripts."""
    family, _, which = name.partition(":")
    labels = DevSet(CORPUS, [LABELS[number % 2] for number in range(len(CORPUS))])
    match family:
        case "language":
            made = generator(which)
            return Validated(0, made.model, made.vocabularies, LINES)
        case "masked":
            reader = filler(which)
            return Validated(0, reader.model, reader.vocabularies, LINES)
        case "labels":
            one = classifier(which)
            return Validated(0, one.model, Vocabularies(one.vocabulary, one._labels, joint=False), labels)
        case _:
            auto = autoencoder(which)
            return Validated(0, auto.model, Vocabularies(auto.vocabulary, auto.vocabulary, joint=True), LINES)


FEW = ("language:causal", "language:gru-residual", "masked:masked", "labels:several", "autoencoder:transformer-autoencoder-first")
MORE = (
    *("language:causal-post-learned-untied", "masked:masked-rms-swiglu", "labels:softmax-first", "labels:sigmoid-two", "labels:bag"),
    *("labels:lstm-last-reversed-one-way", "autoencoder:transformer-autoencoder", "autoencoder:recurrent-autoencoder"),
)
EVERY = [*FEW, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)]


def frame_of(name: str, given: Probes = NO_PROBES) -> Frame:
    seen = example(name)._replace(probes=given)
    return take(seen.model, look_for(seen))


# ---- one frame -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
def test_a_frame_leaves_the_model_as_it_was_and_is_read_back(name: str) -> None:
    one = example(name).model
    before = {key: values.clone() for key, values in one.state_dict().items()}
    frame = frame_of(name)
    assert all(torch.equal(values, before[key]) for key, values in one.state_dict().items())
    assert all(weight.grad is None for weight in one.parameters()) and not one.training
    assert frame.format == 2 and len(frame.probes) == len(frame.translations) == len(frame.losses) == PROBES
    assert all(value is not None and value > 0 for value in frame.losses)
    for heads in (heads for layers in frame.entropies.values() for heads in layers):
        assert all(value is None or np.isnan(value) or 0 <= value <= 1 for value in heads)
    again = Frame.model_validate(json.loads(json.dumps(frame.line())) | {"step": 0})
    assert (again.task, again.probes, again.choices, again.latents) == (frame.task, frame.probes, frame.choices, frame.latents)
    json.dumps(Film((frame, frame), {}).to_record(), allow_nan=False)
    assert frame.probes[0].reference.split()[0][:2] in Film((frame,), {}).to_text()


@pytest.mark.parametrize("name", [*FEW[2:], *(pytest.param(name, marks=pytest.mark.slow) for name in (*FEW[:2], *MORE))])
def test_gradients_are_those_of_the_loss_that_is_trained(name: str) -> None:
    """Against `backward` of the models' own loss of the same rows."""
    seen = example(name)
    one, look, kept = deepcopy(seen.model), look_for(seen), {"_batch": Batch, "batch": Batch}
    for attribute in kept:
        if hasattr(look, attribute):
            batch: Any = getattr(look, attribute)
    if isinstance(look, MaskedLook):
        batch = MaskedBatch(look._source, look._following)
    elif isinstance(look, ClassificationLook):
        ids = [[token for token in row.tolist() if token > 3] for row in look._source]
        rows = [[4 + place for place, holds in enumerate(row) if holds] for row in look._right.tolist()]
        batch = Labelling(look._right.shape[1], bool(one.marks_start))(ids, rows)
    loss = one.loss(batch)
    (loss.nats / (len(batch[0]) if name == "labels:several" else loss.tokens)).backward()
    given = {key: weight.grad for key, weight in one.named_parameters() if weight.grad is not None}
    squares = dict.fromkeys(map(group_of, given), 0.0)
    for key, gradient in given.items():
        squares[group_of(key)] += float(gradient.double().square().sum())
    found = frame_of(name).gradients
    assert sum(value**2 for value in found.values() if value) == pytest.approx(sum(squares.values()), rel=2e-3)
    assert next(iter(found)).endswith("embedding")


@pytest.mark.parametrize(
    "name", ["causal", *(pytest.param(name, marks=pytest.mark.slow) for name in ("causal-rms-rotary-swiglu", "gru-residual"))]
)
def test_next_tokens_are_those_of_the_line_alone(name: str) -> None:
    made, frame = generator(name), frame_of(f"language:{name}")
    for row, probe in enumerate(frame.probes):
        ids = made.vocabulary.encode(probe.reference)
        log_p = distributions(made.model, (), ids)
        chosen = log_p[range(len(ids) + 1), [*ids, 3]]
        assert frame.losses[row] == pytest.approx(float(-chosen.mean()), rel=1e-3)
        for choice, of_all, right in zip(frame.choices[row], log_p.exp().tolist(), chosen.exp().tolist(), strict=False):
            assert choice.chance == pytest.approx(right, rel=1e-3) and choice.wanted == probe.target_tokens[choice.position]
            assert choice.rank == 1 + sum(share > right * (1 + 1e-6) for share in of_all)
            assert [share for _, share in choice.candidates] == pytest.approx(sorted(of_all, reverse=True)[:CANDIDATES], rel=1e-2)
        places = [place for place in made.model.places() if place.role == "attention"]
        if row < ATTENDED:
            arrays = collect(made.model, (), ids)
            for layer, place in zip(frame.attention[row], places, strict=True):
                np.testing.assert_allclose(np.array(layer), 100 * np.asarray(arrays[place.name]).mean(axis=0), atol=0.51)
        assert len(frame.attention[row]) == (len(places) if row < ATTENDED else 0)


@pytest.mark.parametrize("name", [pytest.param("causal", marks=pytest.mark.slow), "gru-residual"])
def test_what_is_written_on_is_the_likeliest_token_each_time(name: str) -> None:
    """Against reading the whole text anew for every token."""
    made, frame = generator(name), frame_of(f"language:{name}")
    for probe, text in zip(frame.probes, frame.translations, strict=True):
        assert probe.reference.startswith(probe.source) and 0 < len(probe.source) < len(probe.reference)
        ids = made.vocabulary.encode(probe.source)
        for _ in range(40):
            hidden = made.model.read_given(make_batch(made.model, [()], [ids]))
            best = int(made.model.read_out(hidden)[0, -1].index_fill(0, torch.tensor([0, 1, 2]), -torch.inf).argmax())
            if best == 3:
                break
            ids.append(best)
        assert text == made.vocabulary.decode(ids)


@pytest.mark.parametrize("name", ["masked", pytest.param("masked-post-learned-untied-first", marks=pytest.mark.slow)])
def test_guesses_are_those_of_the_text_with_its_masks(name: str) -> None:
    reader, frame = filler(name), frame_of(f"masked:{name}")
    for probe, choices, text in zip(frame.probes, frame.choices, frame.translations, strict=True):
        masks = [place for place, token in enumerate(probe.source_tokens) if token == MASK]
        assert masks == [choice.position for choice in choices] and probe.source.count(MASK) == len(masks) > 0
        filled = reader.fill(probe.source, top=CANDIDATES)
        for choice, guesses in zip(choices, filled, strict=True):
            assert [share for _, share in choice.candidates] == pytest.approx([guess.probability for guess in guesses], rel=1e-2)
            likely = {guess.token: guess.probability for guess in reader.fill(probe.source, top=99)[choices.index(choice)]}
            assert all(share == pytest.approx(likely[piece], rel=1e-2) for piece, share in choice.candidates)
        assert text == filled[0][0].text
        whole = list(probe.source_tokens)
        for choice in choices:
            whole[choice.position] = choice.wanted
        assert "".join(whole[1:-1]).replace("▁", " ").strip() == probe.reference
    assert frame == frame_of(f"masked:{name}"), "the same masks each time"


@pytest.mark.parametrize("name", ["softmax-first", "sigmoid-two", "several", "gru-mean"])
def test_labels_are_those_of_the_classifier(name: str) -> None:
    one, frame = classifier(name), frame_of(f"labels:{name}")
    for probe, (choice,), said, loss in zip(frame.probes, frame.choices, frame.translations, frame.losses, strict=True):
        found = one.classify(probe.source)
        assert said == found.label and [label for label, _ in choice.candidates] == list(one.labels)
        assert dict(choice.candidates) == pytest.approx(dict(found.probabilities), rel=1e-2)
        shares = dict(found.probabilities)
        right = [shares[label] if label == probe.reference else 1 - shares[label] for label in one.labels]
        assert loss == pytest.approx(-np.log(right if name == "several" else shares[probe.reference]).sum(), rel=1e-2)


@pytest.mark.parametrize("name", _AUTOENCODERS)
def test_lines_are_given_back_from_their_vectors(name: str) -> None:
    one, frame = autoencoder(name), frame_of(f"autoencoder:{name}")
    lines = [probe.reference for probe in frame.probes]
    assert list(frame.translations) == one.reconstruct(lines)
    for vector, kept in zip(one.embed(lines), frame.latents, strict=True):
        assert list(kept) == pytest.approx(vector[:32].tolist(), rel=1e-2, abs=1e-4) and len(kept) == min(32, one.model.config.bottleneck)
    for probe, layers in list(zip(frame.probes, frame.attention, strict=True))[:ATTENDED]:
        assert len(layers) == (0 if name.startswith("recurrent") else 2)
        for layer in layers:
            assert np.array(layer).shape == (len(probe.source_tokens),) * 2
            np.testing.assert_allclose(np.array(layer).sum(axis=1), 100, atol=len(layer) / 2 + 1)
        assert (probe.source_tokens[0] == "<sos>") == name.endswith("first")


def test_the_sentences_that_are_asked_for_come_first() -> None:
    given = Probes(["the cat", "犬は猫を"], [None, None])
    frame = frame_of("language:causal", given)
    assert [probe.source for probe in frame.probes] == given.source and all(
        text.startswith(probe.source) for probe, text in zip(frame.probes, frame.translations, strict=True)
    )
    frame = frame_of("masked:masked", Probes(["the [MASK]og ate", "القطة ترى"], [None, None]))
    assert frame.probes[0].source == "the [MASK]og ate" and frame.losses[0] is None and frame.choices[0][0].wanted == ""
    assert MASK in frame.probes[1].source and frame.losses[1] is not None
    frame = frame_of("labels:softmax-first", Probes(["the cat", "a dog"], [None, "पशु"]))
    assert frame.losses[0] is None and frame.choices[0][0].chance is None and frame.probes[1].reference == "पशु"
    frame = frame_of("autoencoder:recurrent-autoencoder", Probes(["the cat"], [None]))
    assert [probe.reference for probe in frame.probes] == ["the cat"]


def test_which_rows_are_looked_at() -> None:
    assert choose_rows([50, 3, 0, 4]) == [1, 3, 0]
    assert choose_rows([50, 0, 3], given=2) == [0, 1, 2], "what was asked for is kept"
    assert choose_rows([0, 0]) == [0] and len(choose_rows([5] * 99)) == 32


# ---- trainings -------------------------------------------------------------------------------------------------------------------

_SMALL = {"width": 16, "heads": 2, "feed_forward": 24, "dropout": 0.1}
MODELS: dict[str, dict[str, Any]] = {
    "gpt": {"kind": "causal-language", "layers": 1, "context": 32, **_SMALL},
    "lstm": {"kind": "recurrent-language", "embedding_width": 12, "width": 16, "layers": 1},
    "bert": {"kind": "masked-language", "encoder_layers": 1, "context": 64, **_SMALL},
    "classifier": {"kind": "transformer-classifier", "encoder_layers": 1, **_SMALL},
    "autoencoder": {"kind": "transformer-autoencoder", "encoder_layers": 1, "decoder_layers": 1, "bottleneck": 8, **_SMALL},
}
TASKS = {"gpt": "language", "lstm": "language", "bert": "masked", "classifier": "classification", "autoencoder": "autoencoding"}
FILMED = [name if name == "lstm" else pytest.param(name, marks=pytest.mark.slow) for name in MODELS]
"""The state of one is carried on from batch to batch, and saved; of the others less can go wrong."""


def settings(folder: Path, name: str, **train: Any) -> RunConfig:
    """A run of a few steps on a text in several scripts."""
    folder.mkdir(exist_ok=True)
    text = [f"{line[:-1]} {number % 7} {line[-1]}" for number in range(7) for line in CORPUS * 3]
    (folder / "text").write_text("".join(f"{line}\n" for line in text), encoding="utf-8")
    (folder / "labels").write_text("".join(f"{LABELS[number % 2]}\n" for number in range(len(text))), encoding="utf-8")
    data: dict[str, Any] = {"kind": "text", "text": [{"source": str(folder / "text")}], "holdout": {"dev_lines": 8, "test_lines": 0}}
    if name == "classifier":
        examples = [{"source": str(folder / "text"), "target": str(folder / "labels")}]
        data = {"kind": "labels", "examples": examples, "holdout": {"dev_examples": 8, "test_examples": 0}}
    data["subwords"] = {"kind": "character"}
    steps = {"duration": "20 steps", "validate_every": "6 steps", "save_every": "4 steps", "batch_tokens": 160, "threads": 1}
    table = {"data": data, "model": MODELS[name], "train": {**steps, "device": "cpu", "precision": "fp32", **train}}
    return build(RunConfig, table, origin="test")


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours runs after it but the closing of files."""


def kill_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    real = loop.update

    def update(*arguments: Any, **more: Any) -> loop.Update:
        if more["step"] == step:
            raise Killed
        return real(*arguments, **more)

    monkeypatch.setattr(loop, "update", update)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a run of each kind: `whole`, which was filmed, and `plain`, which was not. Read only."""

    @cache
    def train(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        run(settings(folder, name), folder / "plain")
        run(settings(folder, name), folder / "whole", watch=Recorder())
        return folder

    return train


@pytest.mark.parametrize("name", FILMED)
def test_a_killed_training_has_a_whole_film_and_is_the_same(
    name: str, trained: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plain, whole = trained(name) / "plain", trained(name) / "whole"
    assert not differing(plain, whole), "filming changes no bit"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, 14)
        run(settings(tmp_path, name), tmp_path / "run", watch=Recorder())
    run(settings(tmp_path, name), tmp_path / "run", watch=Recorder())
    film = read_film(tmp_path / "run")
    assert film.steps == (6, 12, 18, 20) and film.frames[0].task == TASKS[name]
    assert (tmp_path / "run" / "film.jsonl").read_bytes() == (whole / "film.jsonl").read_bytes()
    assert not differing(plain, tmp_path / "run")


REFUSED = [
    ("gpt", "", "has 0 tokens"),
    ("gpt", "a\tb", "a tab"),
    ("gpt", "a" * 40, "has 40 tokens"),
    ("bert", "a" * 70, "has 70 tokens"),
    ("autoencoder", "a\tb", "a tab"),
    ("classifier", "the dog\tplant", "the label 'plant'"),
    ("classifier", "the dog\t", "the label ''"),
]


@pytest.mark.parametrize(("name", "sentence", "found"), REFUSED)
def test_sentences_that_cannot_be_asked_are_refused_before_the_training(name: str, sentence: str, found: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=found) as error:
        run(settings(tmp_path, name, probes=[sentence]), tmp_path / "run", watch=Recorder())
    assert error.value.expected and error.value.remedy
    assert not (tmp_path / "run" / "model").exists() and not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.slow
def test_probes_belong_to_the_run(tmp_path: Path) -> None:
    """They are kept in its settings, and other ones do not go on with it."""
    config = settings(tmp_path, "gpt", probes=["the cat", "犬は"])
    run(config, tmp_path / "run", watch=Recorder())
    assert [probe.source for probe in read_film(tmp_path / "run").frames[-1].probes] == ["the cat", "犬は"]
    assert '"犬は"' in (tmp_path / "run" / "config.toml").read_text(encoding="utf-8")
    longer = {"duration": "26 steps"}
    with pytest.raises(UsageError, match=r"train\.probes"):
        run(settings(tmp_path, "gpt", **longer), tmp_path / "run", watch=Recorder(), allow=["train.duration"])
    run(settings(tmp_path, "gpt", probes=["the cat", "犬は"], **longer), tmp_path / "run", watch=Recorder(), allow=["train.duration"])
    assert read_film(tmp_path / "run").steps == (6, 12, 18, 20, 24, 26)


def test_probes_without_a_dev_set_or_a_film_are_refused(tmp_path: Path) -> None:
    config = settings(tmp_path, "gpt", probes=["the cat"])
    data = config.data.model_copy(update={"holdout": config.data.holdout.model_copy(update={"dev_lines": 0})})
    with pytest.raises(UsageError, match="without a dev set"):
        run(config.model_copy(update={"data": data}), tmp_path / "none", watch=Recorder())
    with pytest.raises(UsageError, match="without the film"):
        vitrail.train_language_model(tmp_path / "text", tmp_path / "unfilmed", settings=['train.probes=["the cat"]'], film=False)
    assert not (tmp_path / "unfilmed").exists()


# ---- pages -----------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def only_tab(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Tab:
    return Tab(browser, tmp_path_factory.mktemp("pages"))


@pytest.fixture
def tab(only_tab: Tab) -> Iterator[Tab]:
    only_tab.forget()
    yield only_tab
    assert only_tab.said == [] and all(asked.startswith("file:") for asked in only_tab.asked)
    assert only_tab.page.locator(".note").count() == 0


def alone(name: str) -> Inspection:
    """The page's record of a film of three frames."""
    seen = example(name)
    look = look_for(seen)
    frames = tuple(take(seen.model, look, step=step) for step in (10, 20, 30))
    config: AnyConfig = seen.model.config  # pyright: ignore[reportAssignmentType]
    record = film_alone(Film(frames, {10: {"dev_loss_nats_per_token": 2.0}}), config, name="<b>run</b>")
    return Inspection(record.facts, record.arrays)


@pytest.mark.parametrize("name", [FEW[3], *(pytest.param(name, marks=pytest.mark.slow) for name in (*FEW[:3], FEW[4], *MORE))])
def test_the_page_draws_what_the_kind_has(name: str, tab: Tab) -> None:
    record = alone(name)
    film = record.facts.extras["film"]
    page = tab.open(record, "film")
    assert page.locator("h1").inner_text().endswith("<b>run</b>") and page.locator("[role=tab]").count() == 1
    said = [text.strip() for text in page.locator(".film-said").all_inner_texts()]
    assert said == [texts[-1].strip() or "(nothing)" for texts in film["translations"]]
    titles = page.locator("#view-film h3").all_inner_texts()
    wanted = {"language": "What it expects next", "masked": "What it guesses", "classification": "Labels", "autoencoding": "The bottleneck"}
    assert any(title.startswith(wanted[film["task"]]) for title in titles)
    assert any(title.startswith("Where it looked") for title in titles) == any(layers for frames in film["attention"] for layers in frames)
    shown = page.locator(".film-choices .rea-row").all_inner_texts()
    if film["task"] == "autoencoding":
        assert "z0" in page.locator("#view-film .heatmap").first.inner_text()
    else:
        places = film["choices"][0][1:2] if film["task"] == "language" else film["choices"][0]
        assert len(shown) == sum(len(choice["candidates"][-1]) for choice in places)
        best = places[0]["candidates"][-1][0][1]
        assert float(shown[0].splitlines()[-1].rstrip("%")) == pytest.approx(100 * best, rel=0.06)
    page.locator(".film-bar input").press("ArrowLeft")
    assert "step 20" in page.locator(".film-bar output").inner_text()


def test_the_command_line_shows_and_writes_films(trained: Callable[[str], Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    whole = trained("lstm") / "whole"
    assert vitrail.cli.run(["inspect", "film", str(whole)]) == 0
    assert "4 frames, steps 6 to 20" in capfd.readouterr().out
    assert vitrail.cli.run(["inspect", "film", str(whole), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["task"] == "language"
    page = tmp_path / "film.html"
    assert vitrail.cli.run(["inspect", "film", str(whole), "-o", str(page)]) == 0
    assert page.stat().st_size < 2_000_000 and "wrote" in "".join(capfd.readouterr())
    (tmp_path / "own.html").write_text("mine")
    assert vitrail.cli.run(["inspect", "film", str(whole), "-o", str(tmp_path / "own.html")]) == UsageError.exit_code
    assert (tmp_path / "own.html").read_text() == "mine"
    capfd.readouterr()
    assert vitrail.cli.run(["inspect", "film", str(trained("lstm") / "plain"), "-o", str(page)]) != 0
    told = capfd.readouterr().err
    assert "holds no film" in told and "expected:" in told and "try:" in told
