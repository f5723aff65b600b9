"""Which model is kept: the best one by scores that the training does not look at, for text with and without spaces and for short lines."""

import json
import random
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from training_runs import logged, run, tiny

from vitrail.config import read_toml
from vitrail.errors import UsageError
from vitrail.models.model_folder import load_model
from vitrail.train.loop import Progress
from vitrail.train.run_config import RunConfig
from vitrail.train.tasks import translation_task as translation_module
from vitrail.train.tasks import validate as validate_module
from vitrail.train.tasks.validate import Validation

TEXTS = {
    "ja": [
        "猫は疲れているので眠っています。",
        "隣の人は市場でりんごを買います。",
        "昨日は雨が降りました。",
        "駅はここから遠くありません。",
    ],
    "th": ["แมวนอนอยู่ใต้โต๊ะเพราะมันเหนื่อย", "เพื่อนบ้านซื้อแอปเปิ้ลที่ตลาด", "เมื่อวานฝนตก", "สถานีอยู่ไม่ไกลจากที่นี่"],
    "glossary": ["chat noir", "pomme verte", "table ronde", "vieux port"],
    "fr": [
        "Le chat dort sous la table car il est fatigué.",
        "La voisine achète deux pommes au marché du village.",
        "Hier, il a plu toute la journée sur la côte.",
        "La gare n'est pas loin d'ici, tournez à gauche.",
    ],
}
# How much of each line is right at each validation; the first is long and all wrong, as of a model that has learned nothing.
COURSE = (0.0, 0.3, 0.6, 0.9, 1.0, 0.8)


class Said(NamedTuple):
    text: str
    truncated: bool = False


def translated(line: str, share: float, seed: int) -> str:
    """A line with a share of its letters right; spaces stay."""
    if not share:
        return " ".join(["le le la la de de"] * 3)
    draw, letters = random.Random(seed), sorted(set(line) - {" "})
    return "".join(sign if sign == " " or draw.random() < share else draw.choice(letters) for sign in line)


def script(monkeypatch: pytest.MonkeyPatch, targets: list[str], course: tuple[float, ...]) -> list[list[str]]:
    """Let validations hear translations of these qualities, in place of what the model would say."""
    outputs = [
        [translated(line, share, seed=100 * place + number) for number, line in enumerate(targets)] for place, share in enumerate(course)
    ]
    waiting = iter(outputs)

    class Scripted:
        def __init__(self, *_: Any, **__: Any) -> None: ...

        def translate(self, _: list[str]) -> list[Said]:
            return [Said(text) for text in next(waiting)]

    monkeypatch.setattr(validate_module, "Translator", Scripted)
    return outputs


def configured(place: Path, targets: list[str], **train: Any) -> RunConfig:
    """A training on lines much like these targets, which are its dev set; the names of the files tell no language."""
    texts = {
        "train.source": [f"line {number}" for number in range(60)],
        "train.target": [f"{targets[number % len(targets)]} {number}" for number in range(60)],
        "dev.source": ["a boat"] * len(targets),
        "dev.target": targets,
    }
    for name, lines in texts.items():
        (place / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    corpus, dev = ({side: str(place / f"{name}.{side}") for side in ("source", "target")} for name in ("train", "dev"))
    changes = {
        "data": {"corpora": [corpus], "dev": dev, "holdout": {"dev_pairs": 0}, "subwords": {"size": 400}},
        "train": {"duration": "12 steps", "validate_every": "2 steps", "keep_last": 1, **train},
    }
    return tiny(place, changes, pairs=1)


@pytest.mark.parametrize("name", TEXTS)
def test_the_model_that_is_kept_is_the_best_by_every_other_score(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    targets = TEXTS[name]
    outputs = script(monkeypatch, targets, COURSE)
    run(configured(tmp_path, targets, patience=2), tmp_path / "run")
    chosen = int(load_model(tmp_path / "run").facts["step"]) // 2 - 1
    others = {
        "characters": [BLEU(tokenize="char").corpus_score(texts, [targets]).score for texts in outputs],
        "words": [BLEU(tokenize="13a", effective_order=True).corpus_score(texts, [targets]).score for texts in outputs],
        "chrF++": [CHRF(word_order=2).corpus_score(texts, [targets]).score for texts in outputs],
        "lines": [sum(text == right for text, right in zip(texts, targets, strict=True)) for texts in outputs],
        "alike": [sum(SequenceMatcher(None, *both).ratio() for both in zip(texts, targets, strict=True)) for texts in outputs],
    }
    assert {kind: scores.index(max(scores)) for kind, scores in others.items()} == dict.fromkeys(others, chosen)
    assert len([line for line in logged(tmp_path / "run") if line["kind"] == "validation"]) == 6, "patience waits while it gets better"
    shown = [line["dev_bleu"] for line in logged(tmp_path / "run") if line["kind"] == "validation"]
    assert max(shown) == shown[4] == pytest.approx(100) and sorted(shown[:5]) == shown[:5], "and the dev BLEU that is told sees it"


def test_what_is_chosen_by_and_why_is_told_and_kept(tmp_path: Path) -> None:
    said: list[str] = []
    config = tiny(tmp_path, {"train": {"duration": "2 steps"}})
    run(config, tmp_path / "run", say=said.append)
    (line,) = [line for line in said if "best model" in line]
    assert "chrF" in line and "any length and script" in line and "--set train.select=" in line
    assert read_toml(tmp_path / "run" / "config.toml")["train"]["select"] == "chrf"
    again = tiny(tmp_path, {"train": {"duration": "4 steps", "select": "chrf"}})
    assert run(again, tmp_path / "run", allow=["train.duration"]).progress.step == 4


def test_dev_text_without_spaces_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    script(monkeypatch, TEXTS["th"], COURSE)
    run(configured(tmp_path, TEXTS["th"], duration="2 steps"), tmp_path / "run", say=said.append)
    assert any("dev set: BLEU tokenizer char" in line for line in said)


def test_a_run_that_was_started_with_another_score_goes_on_with_it(tmp_path: Path) -> None:
    """Such as one of an earlier version, whose choice was BLEU and whose checkpoints hold no losses."""
    run(tiny(tmp_path, {"train": {"duration": "9 steps", "select": "bleu"}}), tmp_path / "run")
    for path in (tmp_path / "run" / "state").glob("step-*/state.json"):
        assert json.loads(path.read_bytes())["facts"]["setup"]["train"]["select"] == "bleu"
    longer = tiny(tmp_path, {"train": {"duration": "18 steps"}})
    assert longer.train.select == "auto"
    run(longer, tmp_path / "run", allow=["train.duration"])
    assert read_toml(tmp_path / "run" / "config.toml")["train"]["select"] == "bleu"
    with pytest.raises(UsageError, match=r'train\.select: "bleu" when saved, "loss" now'):
        run(tiny(tmp_path, {"train": {"duration": "18 steps", "select": "loss"}}), tmp_path / "run")
    old = {key: value for key, value in Progress(best=3.0, scores=[(1, 2.0), (2, 3.0), (3, 3.0)]).facts().items() if "loss" not in key}
    progress = Progress.from_facts(old)
    assert not progress.is_better(3.0, 0.1) and progress.is_better(3.1, 9.0) and progress.best_steps(2) == [3, 2]


def test_of_equal_scores_the_lower_loss_is_better_and_then_the_later() -> None:
    progress = Progress(best=50.0, best_loss=2.0, scores=[(1, 50.0), (2, 50.0), (3, 50.0), (4, 40.0)], losses=[2.0, 1.0, 1.0, 0.5])
    assert progress.is_better(50.0, 1.9) and not progress.is_better(50.0, 2.0) and not progress.is_better(50.0, 2.1)
    assert not progress.is_better(50.0, float("nan")) and progress.is_better(50.1, 9.0) and not progress.is_better(49.9, 0.0)
    assert progress.best_steps(4) == [3, 2, 1, 4]


@pytest.mark.parametrize("select", ["auto", "bleu"])
def test_scores_of_translations_that_say_nothing_decide_nothing(select: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As measured: the first babble scored higher than all that came until the model had learned, so that a plateau was seen."""
    scale = 1.0 if select == "auto" else 1 / 15
    left = iter([(5.3, 6.2), (2.8, 5.5), (1.7, 4.8), (1.2, 4.4), (4.2, 4.3), (30.0, 3.9), (31.0, 4.0), (30.5, 3.8)])

    def validate(*_: Any, **__: Any) -> Validation:
        score, loss = next(left)
        score *= scale
        names = {"dev_loss_nats_per_token": loss, "dev_perplexity": 1.0, "dev_bleu": score, "dev_chrf": score, "dev_truncated_share": 0.0}
        return Validation(names, [])

    monkeypatch.setattr(translation_module, "validate", validate)
    changes = {
        "train": {"duration": "16 steps", "validate_every": "2 steps", "patience": 2, "select": select},
        "schedule": {"kind": "plateau", "patience": 1},
    }
    progress = run(tiny(tmp_path, changes), tmp_path / "run").progress
    assert progress.best_step == 14 and progress.halvings == 1


def test_equal_scores_and_falling_loss_keep_the_later_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = iter([(0.0, 3.0), (0.0, 2.0), (0.0, 2.5), (0.0, 1.0)])

    def validate(*_: Any, **__: Any) -> Validation:
        score, loss = next(left)
        names = {"dev_loss_nats_per_token": loss, "dev_perplexity": 1.0, "dev_bleu": score, "dev_chrf": score, "dev_truncated_share": 0.0}
        return Validation(names, [])

    monkeypatch.setattr(translation_module, "validate", validate)
    config = tiny(tmp_path, {"train": {"duration": "8 steps", "validate_every": "2 steps", "patience": 2, "select": "bleu"}})
    assert run(config, tmp_path / "run").progress.best_step == 8


def test_a_real_training_on_text_without_spaces_keeps_a_late_model(tmp_path: Path) -> None:
    """Signs in place of words, one line being one word: what sacreBLEU counts by default is 0.00 at every validation."""
    draw = random.Random(3)
    words = {"red": "あか", "green": "みどり", "boat": "ふね", "tree": "き", "sees": "みる", "sells": "うる", "the": "その", "a": "ある"}
    kinds = [("the", "a"), ("red", "green"), ("boat", "tree"), ("sees", "sells"), ("the", "a"), ("red", "green"), ("boat", "tree")]
    lines = list(dict.fromkeys(" ".join(draw.choice(kind) for kind in kinds) for _ in range(300)))
    for name, texts in (("text.en", lines), ("text.ja", ["".join(words.get(word, word) for word in line.split()) for line in lines])):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in texts), encoding="utf-8")
    changes = {
        "data": {
            "corpora": [{"source": str(tmp_path / "text.en"), "target": str(tmp_path / "text.ja")}],
            "subwords": {"size": 310},
            "holdout": {"dev_pairs": 20},
        },
        "model": {"width": 32, "dropout": 0.0},
        "train": {"duration": "120 steps", "validate_every": "20 steps", "accumulate": 1, "batch_tokens": 400, "save_every": "0 steps"},
    }
    outcome = run(tiny(tmp_path, changes), tmp_path / "run")
    validations = [line for line in logged(tmp_path / "run") if line["kind"] == "validation"]
    samples = logged(tmp_path / "run", "samples")
    for line in validations:
        texts = [(one["translation"], one["reference"]) for one in samples if one["step"] == line["step"]]
        assert BLEU().corpus_score([text for text, _ in texts], [[right for _, right in texts]]).score == 0
    by_loss = min(validations, key=lambda line: line["dev_loss_nats_per_token"])
    assert outcome.progress.best_step >= 80 and outcome.progress.best == max(line["dev_chrf"] for line in validations)
    assert validations[-1]["dev_bleu"] > validations[0]["dev_bleu"] > 0 and abs(by_loss["step"] - outcome.progress.best_step) <= 20
