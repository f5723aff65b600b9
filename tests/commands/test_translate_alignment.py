"""vitrail translate --alignment and vitrail align, with a random model that was saved."""

import io
import json
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import typer

from vitrail.cli import run
from vitrail.commands.shared import console
from vitrail.commands.translating.align import align
from vitrail.data.vocabularies.subwords import CharacterVocabulary, Subwords, Vocabularies
from vitrail.decode.engines.engine import MOST_ALIGNED
from vitrail.errors import DataError, UsageError
from vitrail.inspection.alignment import word_alignment as alignment
from vitrail.models.base import unique_tensors
from vitrail.models.build import build_model
from vitrail.models.configs.recurrent import RecurrentConfig
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.models.model_folder import save_model

LINES = "ab  cd e\n\nfa be. cd ab. e f a b c d\n"
LINK = re.compile(r"\d+-\d+( \d+-\d+)*")
TINY = {"encoder_layers": 1, "decoder_layers": 1, "width": 16, "heads": 2, "feed_forward": 16}


class Ran(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def vitrail(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    def call(*arguments: str | Path, stdin: str = "") -> Ran:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        capfd.readouterr()
        code = run([*map(str, arguments), "--threads", "1"])
        return Ran(code, *capfd.readouterr())

    return call


def saved(folder: Path, config: TransformerConfig | RecurrentConfig) -> Path:
    """A model folder with a random model that knows a few letters and spaces."""
    both = Vocabularies(*[CharacterVocabulary(list("abcdef ."))] * 2, joint=True)
    torch.manual_seed(1)
    made = build_model(config, both)
    facts = {"search": {"beams": 2, "max_length": 8, "min_length": 5}, "longest_source": 10}
    save_model(folder, tensors=unique_tensors(made), config=config, vocabularies=both, facts=facts)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("model") / "model", TransformerConfig.model_validate(TINY))


def test_links_stand_after_a_tab(vitrail: Callable[..., Ran], folder: Path) -> None:
    plain = vitrail("translate", folder, stdin=LINES).out.split("\n")
    ran = vitrail("translate", folder, "--alignment", stdin=LINES)
    assert ran.code == 0
    assert "taken as they are" in ran.err
    lines = ran.out.split("\n")
    assert [line.split("\t")[0] for line in lines] == plain
    assert lines[1] == "\t"
    for number in (0, 2):
        text, links = lines[number].split("\t")
        assert LINK.fullmatch(links) or not text.split()
        for link in links.split():
            i, j = map(int, link.split("-"))
            assert i < len(LINES.split("\n")[number].split()) and j < len(text.split())
    scored = vitrail("translate", folder, "--alignment", "--scores", stdin=LINES).out.split("\n")
    assert [line.partition("\t")[2] for line in scored[:3]] == lines[:3]
    records = [json.loads(line) for line in vitrail("translate", folder, "--alignment", "--json", stdin=LINES).out.splitlines()]
    assert [f"{one['text']}\t{one['alignment']}" for one in records] == lines[:3]
    assert "alignment" not in json.loads(vitrail("translate", folder, "--json", stdin="ab\n").out)


def test_what_cannot_be_aligned(vitrail: Callable[..., Ran], folder: Path, tmp_path: Path) -> None:
    ran = vitrail("translate", folder, folder, "--alignment", stdin=LINES)
    assert (ran.code, ran.out) == (2, "") and "--alignment" in ran.err
    mute = saved(tmp_path / "mute", RecurrentConfig(embedding_width=8, width=8))
    ran = vitrail("translate", mute, "--alignment", stdin=LINES)
    assert ran.code == 2 and "without attention" in ran.err


def test_plain_translation_looks_at_nothing(vitrail: Callable[..., Ran], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vitrail.inspection.alignment.word_alignment", None)
    monkeypatch.setitem(sys.modules, "vitrail.inspection.translator", None)
    assert vitrail("translate", folder, stdin=LINES).code == 0


# --- vitrail align ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def texts(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "a").write_text("ab  cd e\n\nfa be\n")
    (tmp_path / "b").write_text("ba dc\n\ne  f a\n")
    return tmp_path / "a", tmp_path / "b"


def lines_of(capfd: pytest.CaptureFixture[str]) -> list[str]:
    return capfd.readouterr().out.splitlines()


def test_given_texts_are_aligned_and_held_against_gold(folder: Path, texts: tuple[Path, Path], capfd: pytest.CaptureFixture[str]) -> None:
    source, target = texts
    align(folder, source, target, threads=1)
    found = lines_of(capfd)
    assert len(found) == 3 and found[1] == ""
    assert LINK.fullmatch(found[0]) and LINK.fullmatch(found[2])
    gold = source.parent / "gold"
    gold.write_text("".join(f"{line}\n" for line in found))
    align(folder, source, target, gold=gold, threads=1)
    assert lines_of(capfd)[0].startswith("AER 0.000  precision 1.000  recall 1.000  (3 sentences")
    gold.write_text("0-0\n\n1?2\n")
    align(folder, source, target, gold=gold, threads=1, json=True)
    counts = json.loads(capfd.readouterr().out)
    assert counts["sure"] == 1 and counts["found"] == sum(len(line.split()) for line in found)
    assert counts["error_rate"] == pytest.approx(1 - (counts["found_sure"] + counts["found_possible"]) / (counts["found"] + 1))


def test_texts_that_do_not_belong_together(folder: Path, texts: tuple[Path, Path]) -> None:
    source, target = texts
    gold = source.parent / "gold"
    gold.write_text("0-0\n")
    with pytest.raises(DataError, match="gold: 1 lines for 3 sentences"):
        align(folder, source, target, gold=gold, threads=1)
    gold.write_text("0-0\n\n1-99\n")
    with pytest.raises(DataError, match="gold:3: 1-99 links beyond the sentence, which has 2 words, its translation 3"):
        align(folder, source, target, gold=gold, threads=1)
    target.write_text("ba\n")
    with pytest.raises(DataError, match="1 lines"):
        align(folder, source, target, threads=1)
    with pytest.raises(UsageError, match="--json without --gold"):
        align(folder, source, source, threads=1, json=True)


def test_a_run_aligns_a_line_alike_in_whatever_text(
    folder: Path, texts: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source, target = texts
    align(folder, source, target, threads=1)
    assert "warning: heads chosen on 2 sentences, too few" in capfd.readouterr().err
    run_folder = tmp_path / "run"
    shutil.copytree(folder, run_folder / "model")
    (run_folder / "data").mkdir()
    for side, line in (("source", "ab cd ef"), ("target", "fe dc ba")):
        (run_folder / "data" / f"dev.{side}").write_text(f"{line}\n" * 7)
    align(run_folder, source, target, threads=1)
    whole = capfd.readouterr()
    assert "chosen on 7 sentences" in whole.err and "warning" not in whole.err
    for path in texts:
        path.write_text(path.read_text().splitlines()[2] + "\n")
    align(run_folder, source, target, threads=1)
    alone = capfd.readouterr()
    assert alone.err == whole.err
    assert alone.out.splitlines() == whole.out.splitlines()[2:]


def test_the_verb_can_be_wired() -> None:
    app = typer.Typer()
    app.command()(align)
    app.command()(lambda: console.say("another"))
    assert typer.main.get_command(app) is not None


def test_a_pair_that_is_too_long_is_told(
    folder: Path, texts: tuple[Path, Path], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights of 3,000 words by 3,000 would take gigabytes, and to find the words of 20,000 takes a minute."""
    spelled: list[int] = []

    def spell(ids: Sequence[int], vocabulary: Subwords, *, text: str | None) -> Any:
        spelled.append(len(ids))
        return usual(ids, vocabulary, text=text)

    usual = alignment.spell
    monkeypatch.setattr(alignment, "spell", spell)
    source, target = texts
    source.write_text("ab cd\n" + "ab " * 3000 + "\nab cd\n")
    target.write_text("ba dc\n" + "ba " * 3000 + "\nba dc\n")
    align(folder, source, target, threads=1)
    told = capfd.readouterr()
    lines = told.out.splitlines()
    assert len(lines) == 3 and lines[1] == "" and lines[0] == lines[2] != ""
    assert "1 pairs of more than 1,024 tokens on a side have no links (lines 2)" in told.err
    assert spelled and max(spelled) <= MOST_ALIGNED
