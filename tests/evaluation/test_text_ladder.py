"""The ladder of language models: the same text, vocabulary, budget and parameters; perplexities, intervals and paired tests."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vitrail import cli
from vitrail.config import Override, parse_override
from vitrail.data.preparing.prepare import prepare
from vitrail.data.preparing.prepared import PreparedText, Texts, open_data
from vitrail.decode.generate import Generator
from vitrail.decode.perplexity import TextPerplexity
from vitrail.errors import UsageError
from vitrail.ladder.comparison import compare_runs, run_ladder
from vitrail.ladder.ladder_plan import STANDARD_TEXT, Budget, LadderSpec, data_config, facts_of, parse_rung, plan_ladder
from vitrail.ladder.ladder_report import report_text, to_markdown
from vitrail.ladder.measure import MeasuredRung, Run, RungLabel
from vitrail.ladder.rungs import BITS, Ladder
from vitrail.ladder.text_measure import compare_text_rungs, measure_text_rung, text_scores
from vitrail.models.architectures import LanguageModelConfig, require_language
from vitrail.train.request import Request

SETTINGS = (
    *("data.subwords.kind=character", "data.holdout.dev_lines=40", "data.holdout.test_lines=60", "model.layers=1", "model.width=16"),
    *("model.heads=2", "model.feed_forward=16", "model.context=16", "train.batch_tokens=160", "train.threads=1", "train.log_every=2"),
    *("train.precision=fp32", "train.validate_every='4 steps'"),
)
HINDI = ["लड़की पानी पीती है", "हम कल बाज़ार जाएँगे", "यह किताब अच्छी है", "मेरा भाई घर में है", "वे नदी के पास रहते हैं"]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    lines = [f"{HINDI[a]} {HINDI[b]} {n}" for n in range(20) for a in range(5) for b in range(5)]
    (folder / "text.hi").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    boats = ["a boat", "the mill", "two owls", "my uncle", "a lamp"]
    pairs = [
        (f"{one} {verb} {other} {n}", f"{n} {other} {verb} {one}")
        for n in range(6)
        for one in boats
        for verb in ("finds", "has")
        for other in boats
    ]
    for side, name in enumerate(("text.en", "text.fr")):
        (folder / name).write_text("".join(f"{pair[side]}\n" for pair in pairs), encoding="utf-8")
    return folder


def ask(path: Path, *rungs: str, budget: str = "6 steps", settings: tuple[str, ...] = SETTINGS, seeds: int = 1) -> LadderSpec:
    request = Request(overrides=(Override(("data", "text"), [{"source": str(path)}]), *map(parse_override, settings)))
    wanted = tuple(parse_rung(one, task="language") for one in rungs) or tuple(STANDARD_TEXT.values())
    return LadderSpec(request, wanted, Budget.parse(budget), seeds=seeds)


@pytest.fixture(scope="module")
def climbed(text: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ladder]:
    folder = tmp_path_factory.mktemp("ladders") / "text"
    return folder, run_ladder(ask(text / "text.hi", "gru-lm=model.embedding_width=16", "gpt-mini"), folder)


@pytest.mark.slow
def test_every_rung_is_measured_on_the_same_text(climbed: tuple[Path, Ladder]) -> None:
    folder, ladder = climbed
    assert ladder.task == "language" and ladder.budget == "6 steps each" and [rung.name for rung in ladder.rungs] == ["gru-lm", "gpt-mini"]
    prepared = open_data(folder / "data")
    assert isinstance(prepared, PreparedText) and len(prepared.test) == 60
    for rung in ladder.rungs:
        own = Generator.load(folder / rung.name / "seed-1").measure(prepared.test).figures()
        values = {score.name: score for score in rung.scores}
        assert list(values) == [BITS, "perplexity a word", "perplexity a token"]
        assert values[BITS].value == pytest.approx(own["bits_per_byte"]) and values["perplexity a word"].value == pytest.approx(
            own["perplexity_per_word"]
        )
        assert rung.test_perplexity == values["perplexity a token"].value == pytest.approx(own["perplexity"])
        for score in rung.scores:
            assert score.low is not None and score.high is not None and score.low <= score.value <= score.high and score.sentences == 60
        assert rung.seeds == (1,) and rung.seed_scores == (values[BITS].value,)
        log = [json.loads(line) for line in (folder / rung.name / "seed-1" / "metrics.jsonl").read_text().splitlines()]
        told = [line["dev_loss_nats_per_token"] for line in log if line["kind"] == "validation"]
        assert [point.dev_loss for point in rung.curve] == told and rung.dev_loss == pytest.approx(min(told), rel=1e-4)
        assert rung.steps == 6 and rung.tokens_per_second > 0 and rung.written_tokens_per_second is not None
        assert rung.written_tokens_per_second > 0 and rung.sentences_per_second is None and rung.training_flops > 0


@pytest.mark.slow
def test_the_report_speaks_of_text(climbed: tuple[Path, Ladder]) -> None:
    """After six steps nothing is learned: told so; when it is, the lowest is the best."""
    folder, ladder = climbed
    pages = [(folder / f"report.{suffix}").read_text(encoding="utf-8") for suffix in ("html", "md")]
    for told in (*pages, report_text(ladder)):
        assert "learned to predict its text" in told and "BLEU" not in told and "translate" not in told
        assert BITS in told and "written tokens/s" in told
    for told in pages:
        assert "A steeper line learns faster" in told and "decoded sentences" not in told
    good = replace(ladder, rungs=tuple(replace(rung, learned=None, seed_scores=(1.5, 1.25)) for rung in ladder.rungs))
    assert f"| {BITS} of each seed | mean | lowest to highest |" in to_markdown(
        good
    ) and "| 1.500, 1.250 | 1.375 | 1.250 to 1.500 |" in to_markdown(good)
    best = min(good.rungs, key=lambda rung: rung.scores[0].value)
    assert f"{best.name} has the lowest {BITS}" in report_text(good)
    kept = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert kept["task"] == "language" and kept["rungs"][0]["curve"][0]["dev_bleu"] is None


@pytest.mark.slow
def test_several_seeds_have_a_score_each(climbed: tuple[Path, Ladder]) -> None:
    """Two runs stand for two seeds: the first has all figures."""
    folder, ladder = climbed
    data = open_data(folder / "data")
    assert isinstance(data, PreparedText)
    runs = [Run.open(folder / rung.name / "seed-1") for rung in ladder.rungs]
    found = measure_text_rung(runs, RungLabel("both", "both", ()), test=data.test).rung
    assert found.seed_scores == tuple(rung.scores[0].value for rung in ladder.rungs) and found.scores == ladder.rungs[0].scores


@pytest.mark.slow
def test_the_second_call_reuses_and_existing_runs_give_the_same(climbed: tuple[Path, Ladder], text: Path, tmp_path: Path) -> None:
    folder, ladder = climbed
    said: list[str] = []
    again = run_ladder(ask(text / "text.hi", "gru-lm=model.embedding_width=16", "gpt-mini"), folder, say=said.append)
    assert again.rungs[0].scores == ladder.rungs[0].scores and sum("measured already" in line for line in said) == 2
    runs = [folder / rung.name / "seed-1" for rung in ladder.rungs]
    found = compare_runs(runs, tmp_path / "both")
    assert found.task == "language" and [rung.scores for rung in found.rungs] == [rung.scores for rung in ladder.rungs]
    few = compare_runs(runs, tmp_path / "few", test=Texts([], ["यह पानी अच्छी है"]))
    assert few.rungs[0].scores[0].low is None and any("test set of 1 lines" in note for note in few.notes) and few.pairs == ()


def shape(config: object) -> LanguageModelConfig:
    return require_language(config)  # pyright: ignore[reportArgumentType]


def test_the_standard_rungs_have_as_many_parameters_and_one_vocabulary(text: Path, tmp_path: Path) -> None:
    for size in (400, 6_000):
        common = ("data.subwords.kind=bpe", f"data.subwords.size={size}")
        wanted = ask(text / "text.en", budget="1e14 FLOPs", settings=common)
        facts = facts_of(wanted)
        data = data_config(wanted, facts)
        found = plan_ladder(wanted, prepare(data, tmp_path / str(size)), facts=facts, data=data)
        assert [rung.name for rung in found.rungs] == ["rnn-lm", "gru-lm", "lstm-lm", "gpt-mini"] and found.notes == ()
        reference = found.rungs[-1]
        assert shape(reference.config.model).width == 128, "the Transformer keeps its width"
        for rung in found.rungs:
            assert abs(rung.parameters / reference.parameters - 1) < 0.03
            assert rung.config.data == data and rung.config.train.batch_tokens == 2048
            assert rung.config.train.duration.amount * rung.cost.flops == pytest.approx(1e14, rel=0.01), "the same arithmetic"


def piece(nats: float, tokens: int = 100, words: int = 20, size: int = 120) -> TextPerplexity:
    return TextPerplexity(nats, tokens, words, size)


def test_intervals_are_those_of_a_plain_bootstrap_around_the_whole() -> None:
    draw = np.random.default_rng(3)
    pieces = [piece(float(nats)) for nats in draw.normal(150, 20, size=50)]
    total = sum(one.nats for one in pieces)
    whole = piece(0.97 * total, 5_000, 1_000, 6_000)
    bits, word, token = text_scores(whole, pieces, lines=1_000)
    assert bits.value == pytest.approx(whole.nats / math.log(2) / 6_000) and word.value == pytest.approx(math.exp(whole.nats / 1_000))
    # By theory: pieces of equal size, so the mean of 50 normal numbers.
    error = 1.96 * np.std([one.nats for one in pieces]) / math.sqrt(50) * 0.97 / 120 / math.log(2)
    assert bits.low is not None and bits.high is not None and token.low is not None
    assert (bits.high - bits.low) / 2 == pytest.approx(error, rel=0.1) and (bits.low + bits.high) / 2 == pytest.approx(bits.value, rel=0.01)
    assert token.low < token.value == pytest.approx(math.exp(whole.nats / 5_000))
    unspaced = [piece(one.nats, words=0) for one in pieces]
    assert [score.name for score in text_scores(piece(total, 5_000, 0, 6_000), unspaced, lines=9)] == [BITS, "perplexity a token"]


@pytest.mark.parametrize(("gain", "significant"), [(0.0, False), (1.0, False), (20.0, True)])
@pytest.mark.slow
def test_paired_tests_find_what_there_is(climbed: tuple[Path, Ladder], gain: float, significant: bool) -> None:
    draw = np.random.default_rng(5)
    hard = draw.normal(150, 40, size=40)
    measured: list[MeasuredRung] = []
    for less in (0.0, gain):
        pieces = [piece(float(nats - less + noise)) for nats, noise in zip(hard, draw.normal(0, 8, size=40), strict=True)]
        whole = piece(sum(one.nats for one in pieces), 4_000, 800, 4_800)
        rung = replace(climbed[1].rungs[0], scores=tuple(text_scores(whole, pieces, lines=800)))
        measured.append(MeasuredRung(rung, [], pieces))
    found = compare_text_rungs(*measured)
    assert found is not None
    (one,) = found.comparisons
    assert one.low <= one.difference <= one.high and one.difference == pytest.approx(one.system - one.baseline)
    assert (one.high < 0) == (one.p_bootstrap < 0.05) == (one.p_randomisation < 0.05) == significant
    assert compare_text_rungs(measured[0], MeasuredRung(measured[1].rung, [], measured[1].pieces[:1])) is None


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--text", "TEXT", "--rung", "transformer"), "rnn-lm gru-lm lstm-lm gpt-mini"),
        (("--text", "TEXT", "--rung", "tiny"), "lstm-lm"),
        (("--source", "TEXT", "--target", "TEXT", "--rung", "lstm-lm"), "transformer"),
        (("--text", "TEXT", "--source", "TEXT", "--target", "TEXT"), "--text together with pairs"),
        (("--text", "TEXT", "--phrasebook"), "--phrasebook"),
        (("--text", "TEXT", "--test-source", "TEXT"), "--text together with pairs"),
        (("--text", "TEXT", "--set", "model.encoder_layers=2"), "model.encoder_layers"),
        (("--text", "nowhere.txt"), "nowhere.txt"),
        (("--text", "TEXT", "--set", "data.holdout.dev_lines=0"), "--dev FILE"),
        pytest.param(("RUN", "RUN2", "--phrasebook"), "--phrasebook with language models", marks=pytest.mark.slow),
        pytest.param(("RUN", "RUN2", "--test-source", "TEXT", "--test-target", "TEXT"), "--test-source", marks=pytest.mark.slow),
    ],
)
def test_what_cannot_be_is_refused(
    arguments: tuple[str, ...], told: str, text: Path, tmp_path: Path, request: pytest.FixtureRequest, capfd: pytest.CaptureFixture[str]
) -> None:
    places = {"TEXT": str(text / "text.hi")}
    if "RUN" in arguments:
        folder = request.getfixturevalue("climbed")[0]
        places |= {"RUN": str(folder / "gru-lm" / "seed-1"), "RUN2": str(folder / "gpt-mini" / "seed-1")}
    assert cli.run(["compare", *(places.get(part, part) for part in arguments), "-o", str(tmp_path / "new")]) in (2, 3)
    assert told in capfd.readouterr().err and not (tmp_path / "new" / "report.json").exists()


@pytest.mark.slow
def test_runs_of_different_tasks_are_not_compared(climbed: tuple[Path, Ladder], text: Path, tmp_path: Path) -> None:
    translator = tmp_path / "translator"
    small = ("data.subwords.size=310", "model.width=16", "model.heads=2", "model.encoder_layers=1", "model.decoder_layers=1")
    common = [part for setting in (*small, "train.threads=1") for part in ("--set", setting)]
    sides = ["--source", str(text / "text.en"), "--target", str(text / "text.fr")]
    assert cli.run(["train", *sides, "-o", str(translator), "--duration", "1 steps", *common]) == 0
    with pytest.raises(UsageError, match="model for language"):
        compare_runs([climbed[0] / "gru-lm" / "seed-1", translator], tmp_path / "out")
