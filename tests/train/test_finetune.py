"""Fine-tuning with `--from`: what it stands for, what it chooses, what is forgotten, old weights, and going on after a kill."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from same_bits import final, require_same
from training_runs import Fault, Trainer, logged, run, tiny, write_text

from vitrail import api
from vitrail.cli import run as command
from vitrail.config import Override, build, parse_override
from vitrail.data.data_config import DataConfig
from vitrail.data.preparing.prepare import prepare
from vitrail.data.preparing.prepared import open_prepared
from vitrail.data.reading.parallel_text import ParallelText
from vitrail.data.vocabularies.taking import find_vocabularies
from vitrail.decode.translate import Translator
from vitrail.errors import DataError, ModelError, UsageError
from vitrail.evaluation.tuning.gains import ScoredSet, compare_sets
from vitrail.models.base import unique_tensors
from vitrail.models.model_folder import load_folder
from vitrail.train.choosing.choose_from import mixture_of
from vitrail.train.request import Request, plan_run, to_run_config
from vitrail.train.resume import checkpoints
from vitrail.train.starting.mixing import AUTO_SHARES, least_share, mix
from vitrail.train.starting.warm_start import ancestors, other_languages

NEW = [("the red car is slow", "la voiture rouge est lente"), ("a blue car is fast", "une voiture bleue est rapide")]
SHORT = ("train.threads=1", "train.precision=fp32", "train.device=cpu", "train.batch_tokens=160")


@pytest.fixture(scope="module")
def donor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("donor")
    run(tiny(folder, {"train": {"duration": "12 steps"}, "model": {"dropout": 0.15}}), folder / "old")
    return folder / "old"


def write_new(folder: Path, *, pairs: int = 40) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [(f"{source} at {number}", f"{target} à {number}") for number in range(pairs // 2) for source, target in NEW]
    for side, name in enumerate(("new.en", "new.fr")):
        (folder / name).write_text("".join(f"{pair[side]}\n" for pair in lines), encoding="utf-8")
    return {"source": str(folder / "new.en"), "target": str(folder / "new.fr")}


SAME_TOKENS = "data.subwords.new_tokens=0"
"""For tests that hold weights against the donor's: its rows and no more."""


def tuning(folder: Path, donor: Path, *settings: str, old_text: bool = False, **more: Any) -> Request:
    """What `--from DONOR` and `--set` ask for."""
    corpora = [write_new(folder / "text")]
    corpora += [write_text(folder / "text") | {"weight": 0.2, "holdout": False}] if old_text else []
    data = {"corpora": corpora, "holdout": {"dev_pairs": 6, "test_pairs": 4}}
    extra = [Override((name,), value) for name, value in more.items()]
    return Request(
        overrides=(Override(("data",), data), Override(("from",), str(donor)), *extra, *map(parse_override, (*SHORT, *settings)))
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return unique_tensors(load_folder(folder).model)


# ---- what it stands for ----------------------------------------------------------------------------------------------------------


def test_architecture_vocabulary_and_the_old_dev_set_are_those_of_the_model(tmp_path: Path, donor: Path) -> None:
    plan = plan_run(tuning(tmp_path, donor), tmp_path / "run", gpu=False)
    config = to_run_config(plan.table)
    assert config.model == load_folder(donor).config, "dropout, too"
    assert config.pairs.subwords.taken_from == donor and [part.role for part in config.init] == ["all"]
    assert [text.label for text in config.pairs.further_dev] == ["old"]
    usual = plan_run(Request(overrides=(Override(("data", "corpora"), [write_new(tmp_path / "text")]),)), tmp_path / "other", gpu=False)
    assert config.optimizer.learning_rate < to_run_config(usual.table).optimizer.learning_rate
    assert config.train.validate_start and config.train.patience > 0 and config.train.select == "loss"
    assert [(text.kind, str(text.source)) for text in config.pairs.old] == [("prepared", str(donor / "data" / "prepared.json"))]
    assert config.train.duration.unit == "steps" and config.train.old_share == "auto"


def test_old_text_makes_a_pass_over_the_new_longer_and_can_be_left_out(tmp_path: Path, donor: Path) -> None:
    """Steps grow with the part of old text, counted in tokens of the model's own vocabulary; without old text a pass is an epoch."""

    def choices(*settings: str) -> dict[str, Any]:
        return {choice.name: choice for choice in plan_run(tuning(tmp_path, donor, *settings), tmp_path / "run", gpu=False).choices}

    texts = Path(write_new(tmp_path / "text")["target"]).read_text().splitlines()
    tokens = sum(len(row) + 1 for row in find_vocabularies(donor).target.encode_batch(texts))
    half, most = choices("data.old_part=0.5"), choices()
    for found, part in ((half, 0.5), (most, 0.75)):
        a_pass = math.ceil(tokens / (1 - part) / 160)
        assert found["train.duration"].value == f"{min(60, math.ceil(1000 * 160 / tokens)) * a_pass} steps"
    assert half["data.old"].option == "--set data.old=false"
    gone = tmp_path / "gone"
    shutil.copytree(donor / "model", gone)
    told = {choice.name: choice for choice in plan_run(tuning(tmp_path, gone), tmp_path / "run", gpu=False).choices}
    assert told["data.old"].value is False and "--old FILE,FILE" in told["data.old"].reason
    plain = choices("data.old=false")
    assert plain["train.duration"].value == "60 epochs" and "data.old" not in plain
    mixed, alone = (float(found["optimizer.learning_rate"].value) for found in (half, plain))
    assert mixed == pytest.approx(2 * alone), "old text keeps what it knows"
    for settings in (("lora.rank=2",), ("data.old_dev=false",)):
        assert "train.old_share" not in choices(*settings)


def test_freezing_and_other_parts_beside_it(tmp_path: Path, donor: Path) -> None:
    plan = plan_run(tuning(tmp_path, donor, freeze=["encoder"]), tmp_path / "run", gpu=False)
    assert [(part["role"], part.get("freeze", False)) for part in plan.table["init"]] == [("all", False), ("encoder", True)]


@pytest.mark.slow
def test_what_is_frozen_is_that_of_the_model(tmp_path: Path, donor: Path) -> None:
    api.run_training(tuning(tmp_path, donor, "train.duration=2 steps", freeze=["encoder"]), tmp_path / "run", say=lambda _: None)
    found, start = weights(tmp_path / "run"), weights(donor)
    assert all(torch.equal(found[name], start[name]) for name in found if name.startswith("encoder"))


@pytest.mark.parametrize(
    ("settings", "more", "error", "found"),
    [
        ([], {"from": "/nowhere"}, ModelError, "--from /nowhere: no model is there"),
        ([], {"preset": "tiny"}, UsageError, "--from with --preset"),
        ([], {"init": [{"role": "all", "folder": "x"}]}, UsageError, "--from and --init all"),
        (["lora.rank=2", "train.old_share=0.5"], {}, UsageError, "train.old_share = 0.5 with lora.rank = 2"),
        (["data.old_dev=false", "train.old_share=auto"], {}, UsageError, "with one dev set"),
    ],
)
def test_what_cannot_be_is_refused(
    tmp_path: Path, donor: Path, settings: list[str], more: dict[str, Any], error: type[Exception], found: str
) -> None:
    with pytest.raises(error, match=r"expected|try") as refusal:
        to_run_config(plan_run(tuning(tmp_path, donor, *settings, **more), tmp_path / "run", gpu=False).table)
    assert found in str(refusal.value)


def test_old_weights_need_a_start(tmp_path: Path) -> None:
    for changes in ({"optimizer": {"l2_start": 0.1}}, {"train": {"old_share": 0.2}}):
        with pytest.raises(UsageError, match="without init"):
            tiny(tmp_path, changes)


def test_a_weight_of_nothing_is_refused(tmp_path: Path, donor: Path) -> None:
    request = tuning(tmp_path, donor, "data.corpora.0.weight=0")
    with pytest.raises(UsageError, match=r"corpora\.0\.weight: .* greater than 0"):
        to_run_config(plan_run(request, tmp_path / "run", gpu=False).table)


def test_corrections_are_a_corpus_and_empty_ones_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "corrections.jsonl"
    lines = [{"source": source, "machine": "quoi ?", "human": target} for source, target in NEW]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    corrections = build(ParallelText, {"source": str(file), "weight": 3}, origin="test")
    assert [(pair.source, pair.target) for pair in corrections.pairs()] == NEW
    file.write_text("")
    with pytest.raises(DataError, match="is empty"):
        prepare(build(DataConfig, {"corpora": [{"source": str(file)}]}, origin="test"), tmp_path / "data")


def test_one_pass_over_the_new_text_is_what_length_is_counted_in() -> None:
    assert mixture_of([(500, 1.0)], temperature=1.0) == (500, 1.0)
    pairs, epochs = mixture_of([(500, 1.0), (29_000, 500 / 29_000)], temperature=1.0)
    assert pairs == pytest.approx(1_000, rel=0.01) and epochs == pytest.approx(1_000 / 29_500, rel=0.01)


def test_a_vocabulary_that_covers_nothing_of_the_text_is_told(tmp_path: Path, donor: Path) -> None:
    corpus, said = write_new(tmp_path / "text"), list[str]()
    for path in map(Path, corpus.values()):
        path.write_text(path.read_text().translate(str.maketrans("abcdefghijklmnopqrstuvwxyz", "абвгдежзийклмнопрстуфхцчшщ")))
    data = {"corpora": [corpus], "subwords": {"taken_from": str(donor)}}
    prepare(build(DataConfig, data, origin="test"), tmp_path / "data", say=said.append)
    assert any("hardly knows the source" in line and "new_tokens" in line for line in said), said


# ---- gained and lost -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_forgetting_is_in_metrics_log_and_report(tmp_path: Path, donor: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    request = tuning(tmp_path, donor, "train.duration=6 steps", "train.validate_every=3 steps")
    done = api.run_training(request, tmp_path / "run", say=said.append)
    validations = [line for line in logged(tmp_path / "run") if line["kind"] == "validation"]
    assert [line["step"] for line in validations] == [0, 3, 6]
    assert all("dev_chrf/old" in line for line in validations)
    assert done.gains is not None and [one["name"] for one in done.gains["sets"]] == ["dev", "old", "test"]
    assert "gained and lost" in done.gains["lines"][0] and (tmp_path / "run" / "gains.json").exists()
    kept = (tmp_path / "run" / "start.json").read_bytes()
    told = json.loads(kept)["translations"]
    prepared = open_prepared(tmp_path / "run" / "data")
    assert {name: len(texts) for name, texts in told.items()} == {"dev": 6, "old": 8, "test": len(prepared.test.source)}
    again = api.run_training(request, tmp_path / "run", say=said.append)
    assert command(["evaluate", str(tmp_path / "run"), "--on", "old", "--bootstrap", "0"]) == 0
    assert capsys.readouterr().out.startswith("8 sentences")
    assert command(["evaluate", str(tmp_path / "run"), "--on", "law"]) == 2
    assert "test or dev or old" in capsys.readouterr().err
    assert again.outcome.already_done and again.gains == done.gains and (tmp_path / "run" / "start.json").read_bytes() == kept


@pytest.mark.slow
def test_a_model_that_gets_no_better_stays_what_it_was(tmp_path: Path, donor: Path) -> None:
    request = tuning(tmp_path, donor, SAME_TOKENS, "train.duration=2 steps", "optimizer.learning_rate=10", "train.select=loss")
    api.run_training(request, tmp_path / "run", say=lambda _: None)
    found, start = load_folder(tmp_path / "run"), weights(donor)
    assert found.facts["step"] == 0
    assert all(torch.equal(tensor, start[name]) for name, tensor in unique_tensors(found.model).items())


def test_gains_are_the_paired_comparison_of_the_scores() -> None:
    from sacrebleu.metrics.bleu import BLEU

    right = ["a big dog eats the food", "the cat is on the mat today", "we go home now my friend"]
    before, after = {"old": ["a dog eats food", "the cat on mat", "we go home"]}, {"old": right}
    (gain,) = compare_sets(before, after, {"old": ScoredSet(right, right)}, language="en").sets
    bleu = gain.comparisons[0]
    assert bleu.baseline == pytest.approx(BLEU().corpus_score(before["old"], [right]).score) and bleu.system == pytest.approx(100)
    assert 0 < bleu.low <= bleu.difference <= bleu.high


# ---- old weights -----------------------------------------------------------------------------------------------------------------


def test_old_and_new_weights_are_averaged_as_said() -> None:
    old, new = {"w": torch.tensor([0.0, 4.0]), "n": torch.tensor(3)}, {"w": torch.tensor([1.0, 0.0]), "n": torch.tensor(5)}
    mixed = mix(old, new, 0.25)
    assert torch.equal(mixed["w"], torch.tensor([0.75, 1.0])) and mixed["n"] == 5


@pytest.mark.parametrize(("lost", "share"), [(0.0, 0.8), (5.0, 0.6), (8.5, 0.2), (20.0, 0.0)])
def test_the_least_share_that_keeps_the_old_text_is_taken(lost: float, share: float) -> None:
    """A model that gets a point of chrF for each tenth of the old weights on the old text, and loses one on the new."""

    def validate(weights: dict[str, torch.Tensor]) -> dict[str, float]:
        new = float(weights["w"])
        return {"dev_chrf": 40 + 10 * new, "dev_chrf/old": 60 - 10 * new, "dev_loss_nats_per_token/old": 1.0}

    found = least_share({"w": torch.tensor(0.0)}, {"w": torch.tensor(1.0)}, validate, lost=lost)
    assert [one.share for one in found] == list(AUTO_SHARES[: AUTO_SHARES.index(share) + 1])
    assert found[-1].values["dev_chrf/old"] == pytest.approx(50 + 10 * share) and found[-1].lost == pytest.approx(10 - 10 * share)


@pytest.mark.slow
def test_the_end_of_a_training_is_averaged_with_its_start_once(tmp_path: Path, donor: Path) -> None:
    settings = ("train.duration=4 steps", "train.validate_every=2 steps", "optimizer.learning_rate=0.01", "train.validate_start=false")
    api.run_training(tuning(tmp_path, donor, SAME_TOKENS, *settings, "train.old_share=0"), tmp_path / "plain", say=lambda _: None)
    mixing = tuning(tmp_path, donor, SAME_TOKENS, *settings, "train.old_share=0.25")
    api.run_training(mixing, tmp_path / "mixed", say=lambda _: None)
    found = load_folder(tmp_path / "mixed")
    assert found.facts["old_share"] == 0.25
    expected = mix(weights(donor), weights(tmp_path / "plain"), 0.25)
    for name, tensor in unique_tensors(found.model).items():
        torch.testing.assert_close(tensor, expected[name])
    shutil.rmtree(tmp_path / "mixed" / "model")
    api.run_training(mixing, tmp_path / "mixed", say=lambda _: None)
    assert all(torch.equal(weights(tmp_path / "mixed")[name], tensor) for name, tensor in unique_tensors(found.model).items())


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bits_without_the_old_model(tmp_path: Path, donor: Path) -> None:
    mine = tmp_path / "old"
    shutil.copytree(donor, mine)
    settings = (
        "train.duration=24 steps",
        "train.save_every=3 steps",
        "optimizer.l2_start=0.05",
        "train.old_share=auto",
        "train.patience=0",
    )
    plan = plan_run(tuning(tmp_path, mine, *settings, "train.validate_every=8 steps", old_text=True), tmp_path / "whole", gpu=False)
    config = to_run_config(plan.table)
    run(config, tmp_path / "whole")
    trainer = Trainer(config, tmp_path / "killed", fault=Fault(step=13))
    assert trainer.wait() == -9
    shutil.rmtree(mine)
    again = Trainer(config, tmp_path / "killed")
    assert again.wait() == 0, again.text()
    require_same(final(tmp_path / "killed"), final(tmp_path / "whole"))
    assert all(torch.equal(tensor, weights(tmp_path / "whole")[name]) for name, tensor in weights(tmp_path / "killed").items())


@pytest.mark.slow
def test_l2_to_the_start_holds_weights_back(tmp_path: Path, donor: Path) -> None:
    moved: list[float] = []
    for strength in (0, 10):
        settings = (
            "train.duration=12 steps",
            "optimizer.learning_rate=0.01",
            "train.validate_start=false",
            f"optimizer.l2_start={strength}",
        )
        folder = tmp_path / f"{strength}"
        api.run_training(tuning(tmp_path, donor, SAME_TOKENS, *settings), folder, say=lambda _: None)
        newest = checkpoints.load_latest(folder, expected={"model": None})
        assert newest is not None
        moved.append(sum(float((tensor - weights(donor)[name]).square().sum()) for name, tensor in newest.tensors["model"].items()))
    assert moved[1] < 0.5 * moved[0]


@pytest.mark.slow
def test_again_on_what_is_tuned_already_keeps_the_lineage(tmp_path: Path, donor: Path) -> None:
    for number, start in enumerate((donor, tmp_path / "0", tmp_path / "1" / "model")):
        request = tuning(tmp_path, start, "train.duration=1 steps", "train.validate_start=false")
        api.run_training(request, tmp_path / f"{number}", say=lambda _: None)
    (part,) = load_folder(tmp_path / "2").facts["init"]["parts"]
    first, second = (load_folder(tmp_path / name).facts["init"]["parts"][0]["digest"] for name in ("0", "1"))
    assert [one["digest"] for one in part["ancestors"]] == [second, first] and part["digest"] != second
    assert ancestors({}) == []
    (line,) = other_languages({"parts": [part | {"languages": ["en", "fr"]}]}, {"source_language": "en", "target_language": "deu"})
    assert "from en to fr, this text is from en to deu" in line
    assert other_languages({"parts": [part | {"languages": ["en", "fr"]}]}, {"source_language": "eng", "target_language": "fr"}) == []
    assert "started from" in (tmp_path / "2" / "model" / "README.md").read_text()


# ---- another target language -----------------------------------------------------------------------------------------------------


def test_a_tag_is_before_every_source_of_its_corpus_and_of_its_dev_set(tmp_path: Path, donor: Path) -> None:
    """In training text, dev sets and facts, but not where pairs are held against each other; languages may differ then."""
    new = write_new(tmp_path / "text") | {"tag": "<2de>"}
    german = tmp_path / "text" / "dev.de"
    (tmp_path / "text" / "dev.en").write_text("the red car is slow at 3\nwe see the sea\n")
    german.write_text("das rote Auto ist langsam um 3\nwir sehen das Meer\n")
    dev = {"source": str(tmp_path / "text" / "dev.en"), "target": str(german), "tag": "<2de>"}
    data = {
        "corpora": [new, write_text(tmp_path / "text")],
        "dev": dev,
        "holdout": {"test_pairs": 0},
        "subwords": {"taken_from": str(donor)},
    }
    prepared = prepare(build(DataConfig, data, origin="test"), tmp_path / "data")
    assert prepared.facts["tags"] == ["<2de>"] and prepared.dev.source == ["<2de> the red car is slow at 3", "<2de> we see the sea"]
    tagged, plain = prepared.stores
    decode = prepared.vocabularies.source.decode
    assert all(decode(map(int, tagged.source(place))).startswith("<2de> ") for place in range(len(tagged)))
    assert not any("<2de>" in decode(map(int, plain.source(place))) for place in range(len(plain)))
    assert "<2de> the red car is slow at 3" not in {decode(map(int, tagged.source(place))) for place in range(len(tagged))}, "held out"


def test_every_sentence_of_a_tagged_text_has_the_tag(donor: Path) -> None:
    translator = Translator.load(donor, engine="torch")
    tagged = Translator(translator.engine, vocabularies=translator.vocabularies, tags=("<2de>",))
    assert [text for text, _ in tagged.cut("<2de> I see the sea. We see a boat.")] == ["<2de> I see the sea.", "<2de> We see a boat."]
    assert [text for text, _ in tagged.cut("I see the sea. We see a boat.")] == ["I see the sea.", "We see a boat."]


def test_a_tag_of_new_characters_makes_no_text_unknown(tmp_path: Path, donor: Path) -> None:
    said: list[str] = []
    data = {"corpora": [write_text(tmp_path / "text") | {"tag": "<2🦉>"}], "subwords": {"taken_from": str(donor)}}
    prepare(build(DataConfig, data, origin="test"), tmp_path / "data", say=said.append)
    assert said and not any("hardly knows" in line for line in said)


@pytest.mark.parametrize("tag", ["two words", " <2de>", "a\tb"])
def test_a_tag_is_one_word(tmp_path: Path, tag: str) -> None:
    with pytest.raises(UsageError, match="expected: one word"):
        build(ParallelText, {"source": "a.tsv", "tag": tag}, origin="test")
