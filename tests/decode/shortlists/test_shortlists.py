"""Shortlists from end to end: made of text, kept in the model folder, used by both engines."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

pytest.importorskip("numba")

from vitrail.cli import run
from vitrail.data.preparing.prepared import open_data
from vitrail.data.vocabularies.subwords import Vocabularies, train_sentencepiece
from vitrail.data.vocabularies.vocabulary import WordVocabulary
from vitrail.decode.search.query import AllowedTokens
from vitrail.decode.search_config import SearchConfig, TranslateConfig
from vitrail.decode.shortlists.making import ShortlistRecipe, make_shortlist
from vitrail.decode.shortlists.table import Shortlist, has_shortlist, read_shortlist, save_shortlist
from vitrail.decode.translate import TextConstraints, Translator
from vitrail.errors import DataError, ModelError, TrainingError, UsageError
from vitrail.files import FolderLock, read_manifest
from vitrail.models.base import unique_tensors
from vitrail.models.build import build_model
from vitrail.models.configs.recurrent import RecurrentConfig
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.models.model_folder import save_model
from vitrail.models.stored import SHORTLIST, digest_of_folder

NUMBERS = "one two three four five six seven eight nine ten"
ENGLISH = [" ".join(NUMBERS.split()[at % 7 : at % 7 + 1 + at % 4]) for at in range(60)]
NOMBRES = dict(zip(NUMBERS.split(), ["un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf", "dix"], strict=True))
FRENCH = [" ".join(map(NOMBRES.__getitem__, line.split())) for line in ENGLISH]
SMALL = {"encoder_layers": 1, "decoder_layers": 2, "width": 32, "feed_forward": 32, "heads": 2}


def save_small(folder: Path, *, recurrent: bool = False, joint: bool = True, seed: int = 3) -> Path:
    torch.manual_seed(seed)
    if joint:
        both = Vocabularies(*[train_sentencepiece([*ENGLISH, *FRENCH], size=310)] * 2, joint=True)
    else:
        both = Vocabularies(WordVocabulary.train(ENGLISH, size=100), WordVocabulary.train(FRENCH, size=100), joint=False)
    config = (
        RecurrentConfig(embedding_width=16, width=16, attention="luong-general", tie="target")
        if recurrent
        else TransformerConfig.model_validate({**SMALL, "tie": "all" if joint else "target"})
    )
    save_model(folder, tensors=unique_tensors(build_model(config, both)), config=config, vocabularies=both, facts={})
    return folder


@pytest.fixture
def texts(tmp_path: Path) -> list[str]:
    for name, lines in (("en", ENGLISH), ("fr", FRENCH)):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return ["--source", str(tmp_path / "en"), "--target", str(tmp_path / "fr")]


@pytest.fixture
def listed(tmp_path: Path, texts: list[str]) -> Path:
    """A model folder with a shortlist that leaves much out."""
    folder = save_small(tmp_path / "model")
    assert run(["shortlist", str(folder), *texts, "--candidates", "3", "--frequent", "5"]) == 0
    return folder


def translator(folder: Path, *others: Path, engine: str = "native", precision: str = "fp32", shortlist: bool = True) -> Translator:
    config = TranslateConfig(precision=precision, shortlist=shortlist)  # type: ignore[arg-type]
    return Translator.load(folder, *others, engine=engine, config=config)


def test_a_list_has_candidates_copies_and_what_is_always_there(listed: Path) -> None:
    both = Vocabularies.load(listed, listed=read_manifest(listed))
    table = read_shortlist(listed, both)
    (token,) = both.source.encode("four")
    found = table.tokens_for([token])
    candidates = table.tokens[table.starts[token] : table.starts[token + 1]]
    assert both.target.encode("quatre")[0] == candidates[0], "the most probable one first"
    assert 1 <= len(candidates) <= 3 and (np.diff(table.probabilities[table.starts[token] : table.starts[token + 1]]) <= 0).all()
    assert {*candidates.tolist(), token} <= {*found.shared.tolist(), *found.own.tolist()}
    assert found.shared[:4].tolist() == [0, 1, 2, 3] and not set(found.shared.tolist()) & set(found.own.tolist())
    assert {int(digit) for digit in np.flatnonzero([one.strip("▁").isdigit() for one in both.target.pieces(range(both.target.size))])} <= {
        *found.shared.tolist()
    }
    assert len(table.tokens_for([]).own) == 0
    assert Shortlist.from_bytes(table.to_bytes(), origin="here").tokens_for([token]).own.tolist() == found.own.tolist()


def test_the_file_is_a_part_of_the_folder_and_not_of_the_model(tmp_path: Path, texts: list[str]) -> None:
    folder = save_small(tmp_path / "model")
    before = digest_of_folder(folder)
    (folder / "README.md").write_text("mine", encoding="utf-8")
    (folder / "LICENCE").write_text("theirs", encoding="utf-8")
    for candidates in ("2", "4"):
        assert run(["shortlist", str(folder), *texts, "--candidates", candidates]) == 0
    assert SHORTLIST in read_manifest(folder) and digest_of_folder(folder) == before
    assert [(folder / name).read_text(encoding="utf-8") for name in ("README.md", "LICENCE")] == ["mine", "theirs"]
    found = load((folder / SHORTLIST).read_bytes())
    assert set(found) == {"starts", "tokens", "always", "copies", "probabilities"}
    assert (
        translator(folder, shortlist=False).translate("one two").text
        == translator(save_small(tmp_path / "same"), shortlist=False).translate("one two").text
    )


def texts_of(one: Translator, search: SearchConfig, constraints: TextConstraints | None) -> list[list[str]]:
    found = one.translate(ENGLISH[:9], search=search, constraints=constraints)
    return [[said.text, *(other.text for other in said.alternatives)] for said in found]


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("search", [{"beams": 1}, {"beams": 4, "n_best": 3}])
def test_translations_are_those_of_torch_and_of_listed_tokens(
    tmp_path: Path, texts: list[str], recurrent: bool, search: dict[str, int]
) -> None:
    folder = save_small(tmp_path / "model", recurrent=recurrent, joint=not recurrent)
    assert run(["shortlist", str(folder), *texts, "--candidates", "2", "--frequent", "3"]) == 0
    ours, theirs = translator(folder), translator(folder, engine="torch")
    config = ours.search.model_copy(update={"max_extra": 8, **search})
    constraints = TextConstraints("", ("un",), ("dix",))
    for wish in (None, constraints):
        found, expected = (texts_of(one, config, wish) for one in (ours, theirs))
        assert found == expected
    table = read_shortlist(folder, ours.vocabularies)
    for line, one in zip(ENGLISH[:9], ours.translate(ENGLISH[:9], search=config), strict=True):
        allowed = np.concatenate(table.tokens_for(ours.vocabularies.source.encode(line)))
        assert set(one.tokens) <= set(allowed.tolist())
    assert texts_of(translator(folder, shortlist=False), config, None) != texts_of(ours, config, None), "a small list changes something"


@pytest.mark.parametrize("precision", ["int8", "bf16", "fp32"])
def test_a_list_of_all_tokens_changes_no_bit_and_company_changes_none(tmp_path: Path, precision: str) -> None:
    folder = save_small(tmp_path / "model")
    plain = translator(folder, precision=precision, shortlist=False)
    size = plain.vocabularies.target.size
    encode = plain.vocabularies.source.encode
    jobs = [plain._cutter.job(encode(line), plain._constraints(None), plain.search, seed=0) for line in ENGLISH[:20]]
    everything = AllowedTokens(np.arange(size), np.zeros(0, np.int64))
    some = [AllowedTokens(np.arange(4), 4 + np.flatnonzero(np.random.default_rng(at).random(size - 4) < at / 20)) for at in range(20)]

    def searched(lists: list[AllowedTokens] | None, numbers: list[int]) -> list[object]:
        queries = [replace(jobs[at].query, shortlist=None if lists is None else lists[at]) for at in numbers]
        return list(
            plain.engine.search([jobs[at].tokens for at in numbers], queries, config=plain.search.model_copy(update={"max_extra": 6}))
        )

    whole = list(range(20))
    assert searched([everything] * 20, whole) == searched(None, whole)
    together = searched(some, whole)
    assert together == [searched(some, [at])[0] for at in whole]
    assert together == searched(some, whole[::-1])[::-1]


def test_an_ensemble_and_another_process_have_it_too(listed: Path, tmp_path: Path) -> None:
    other = save_small(tmp_path / "other", seed=4)
    ours, theirs = translator(listed, other), translator(listed, other, engine="torch")
    found = [one.text for one in ours.translate(ENGLISH[:5])]
    assert found == [one.text for one in theirs.translate(ENGLISH[:5])]
    sent: Translator = pickle.loads(pickle.dumps(ours))  # noqa: S301
    assert [one.text for one in sent.translate(ENGLISH[:5])] == found
    drawn = SearchConfig.model_validate({"sampling": {"top_k": 20}, "n_best": 2, "max_extra": 8})
    assert texts_of(ours, drawn, None) == texts_of(theirs, drawn, None)


def test_the_command_asks_for_it_and_says_how_to_make_one(listed: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bare, text = save_small(tmp_path / "bare"), str(tmp_path / "en")
    assert run(["translate", str(bare), "--source", text, "--shortlist"]) == 4
    assert f"has no shortlist\n  try: vitrail shortlist {bare}" in capfd.readouterr().err
    assert run(["shortlist", str(bare)]) == 2
    assert "--source FILE --target FILE" in capfd.readouterr().err
    assert run(["translate", str(listed), "--source", text, "--shortlist", "--beams", "2"]) == 0
    assert len(capfd.readouterr().out.splitlines()) == len(ENGLISH)


def test_what_does_not_fit_is_an_error(listed: Path, tmp_path: Path, texts: list[str]) -> None:
    table = read_shortlist(listed, Vocabularies.load(listed, listed=read_manifest(listed)))
    other = save_small(tmp_path / "words", joint=False)
    save_shortlist(other, table)
    with pytest.raises(ModelError, match="other vocabularies") as caught:
        translator(other)
    assert f"vitrail shortlist {other}" in str(caught.value)
    data = bytearray((listed / SHORTLIST).read_bytes())
    data[-1] ^= 1
    (listed / SHORTLIST).write_bytes(data)
    assert translator(listed, shortlist=False).translate("one").text is not None, "who does not ask for it does not read it"
    with pytest.raises(ModelError, match="altered"):
        translator(listed)
    tensors = load(table.to_bytes())
    facts = {"format": "1", "target_size": str(table.target_size), "vocabularies": table.vocabularies}
    for change, said in (({"format": "2"}, "format 2"), ({"target_size": "5"}, "target tokens"), ({"target_size": "x"}, "no shortlist")):
        with pytest.raises(ModelError, match=said):
            Shortlist.from_bytes(save(tensors, metadata=facts | change), origin="it")
    for name in tensors:
        with pytest.raises(ModelError):
            Shortlist.from_bytes(save({**tensors, name: tensors[name][:-1]} if name != "always" else {}, metadata=facts), origin="it")
    for broken in (b"", b"{}", save(tensors)):
        with pytest.raises(ModelError, match="no shortlist"):
            Shortlist.from_bytes(broken, origin="it")


def test_text_that_teaches_nothing_is_an_error(tmp_path: Path, texts: list[str]) -> None:
    folder, recipe = save_small(tmp_path / "model"), ShortlistRecipe(3, 3)
    (tmp_path / "none").write_text("\n\n", encoding="utf-8")
    (tmp_path / "one").write_text("un\n", encoding="utf-8")
    with pytest.raises(DataError, match="no sentence"):
        make_shortlist(folder, recipe, source=tmp_path / "none", target=tmp_path / "none")
    with pytest.raises(DataError, match="1 lines"):
        make_shortlist(folder, recipe, source=tmp_path / "en", target=tmp_path / "one")
    with pytest.raises(UsageError, match="--source without --target"):
        make_shortlist(folder, recipe, source=tmp_path / "en")


def test_text_of_another_script_is_told(tmp_path: Path, texts: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    folder, other = str(save_small(tmp_path / "model")), tmp_path / "other"
    other.write_text("".join(f"{'एक दो तीन ' * (1 + number % 3)}\n" for number in range(len(ENGLISH))), encoding="utf-8")
    assert run(["shortlist", folder, *texts]) == 0
    assert "WARNING" not in capfd.readouterr().err
    assert run(["shortlist", folder, *texts[:2], "--target", str(other)]) == 0
    told = capfd.readouterr().err
    assert told.count("WARNING") == 1 and f"{other}: the vocabulary of {folder} hardly knows it" in told


def test_a_run_is_read_from_its_own_text(tmp_path: Path) -> None:
    words = NUMBERS.split()
    lines = [f"{a} {b} {c}" for a in words[:6] for b in words for c in words[:5]]
    for name, text in (("en", lines), ("fr", [" ".join(map(NOMBRES.__getitem__, line.split())) for line in lines])):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in text), encoding="utf-8")
    folder, held = tmp_path / "run", ["--set", "data.holdout.dev_pairs=5", "--set", "data.holdout.test_pairs=5"]
    files = ["--source", str(tmp_path / "en"), "--target", str(tmp_path / "fr")]
    assert run(["prepare", *files, "-o", str(folder), *held, "--set", "data.subwords.size=330"]) == 0
    both, config = open_data(folder / "data").vocabularies, TransformerConfig.model_validate(SMALL)
    save_model(folder / "model", tensors=unique_tensors(build_model(config, both)), config=config, vocabularies=both, facts={})
    assert run(["shortlist", str(folder), "--candidates", "2", "--frequent", "0"]) == 0
    table = read_shortlist(folder, both)
    assert has_shortlist(folder) and {*both.target.encode("deux")} <= {
        *np.concatenate(table.tokens_for(both.source.encode("two"))).tolist()
    }
    assert int(table.facts["pairs"]) == len(open_data(folder / "data").stores[0])


def test_a_run_that_is_being_trained_is_left_alone(tmp_path: Path, texts: list[str]) -> None:
    folder = tmp_path / "run"
    save_small(folder / "model")
    with FolderLock(folder), pytest.raises(TrainingError, match="in use"):
        save_shortlist(folder, make_shortlist(folder, ShortlistRecipe(3, 3), source=tmp_path / "en", target=tmp_path / "fr"))
    assert SHORTLIST not in json.loads((folder / "model" / "manifest.json").read_text(encoding="utf-8"))["files"]
