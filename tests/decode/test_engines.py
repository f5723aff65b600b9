"""An engine is chosen by name, sent with its translator, and continues texts as it translates them."""

import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

import pytest
import torch
from toy import ToyModel

import vitrail
from vitrail.commands.shared import console
from vitrail.data.vocabularies.subwords import EOS, SOS, Vocabularies, WordVocabulary
from vitrail.decode.engines import table
from vitrail.decode.engines.torch import TorchEngine, make_batches
from vitrail.decode.ensemble import Ensemble
from vitrail.decode.search.beams import Observation, beam_search, read_prompts
from vitrail.decode.search.query import Hypothesis, Query
from vitrail.decode.search_config import BatchConfig, SamplingConfig, SearchConfig, TranslateConfig
from vitrail.decode.translate import Translator
from vitrail.errors import UsageError
from vitrail.inspection.translator import InspectableTranslator
from vitrail.models.base import unique_tensors
from vitrail.models.configs.language import LanguageConfig
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.models.kinds.language import RecurrentLanguageModel
from vitrail.models.kinds.transformer import Transformer
from vitrail.models.model_folder import save_model
from vitrail.runtime.device import fewest_rows

WORDS = "a b c d e f g h"
HOW = SearchConfig(beams=3, n_best=2, max_ratio=1, max_extra=6)


class OtherEngine(TorchEngine):
    """An engine as one would add it: a class, and a line in the table."""

    name = "other"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    vocabulary = WordVocabulary.train([WORDS], size=20)
    model = Transformer(TransformerConfig(encoder_layers=1, decoder_layers=1, width=16), source_vocabulary=12, target_vocabulary=12)
    both = Vocabularies(vocabulary, vocabulary, joint=True)
    assert vocabulary.size == 12
    save_model(tmp_path / "model", tensors=unique_tensors(model), config=model.config, vocabularies=both, facts={"search": {"beams": 2}})
    return tmp_path / "model"


def language_model() -> RecurrentLanguageModel:
    torch.manual_seed(0)
    made = RecurrentLanguageModel(LanguageConfig(embedding_width=16, width=16, tie=False), vocabulary=12).eval()
    with torch.no_grad():
        made.output_weight *= 3
        made.output_bias[EOS] = -1.5
    return made


def prompts() -> list[Query]:
    texts = [(), (4, 5, 6), (7,), (5, 5, 9, 10, 11), (8, 4, 6), (9,), (4, 5, 7)]
    return [Query((SOS, *text), longest=6, seed=row) for row, text in enumerate(texts)]


def continuations(model: RecurrentLanguageModel, asked: Sequence[Query], **how: object) -> list[list[Hypothesis]]:
    engine = TorchEngine(model, config=BatchConfig.model_validate(how))
    return engine.search([()] * len(asked), asked, config=HOW)


def test_engines_are_chosen_by_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["a b c", "h g", "b. c d!", ""]
    expected = Translator.load(folder, engine="torch").translate(texts)
    with pytest.raises(UsageError, match=r"engine 'jax'[\s\S]*auto or native or torch"):
        Translator.load(folder, engine="jax")
    monkeypatch.setattr(table, "ENGINES", {"other": lambda: OtherEngine, "torch": lambda: TorchEngine})
    for name in ("auto", "other"):
        one = Translator.load(folder, engine=name)
        assert type(one.engine) is OtherEngine and one.translate(texts) == expected


def test_what_looks_inside_has_a_torch_engine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "ENGINES", {"other": lambda: OtherEngine, "torch": lambda: TorchEngine})
    assert type(vitrail.load(folder).engine) is TorchEngine, "auto takes one that will do"
    for ask in (vitrail.load, InspectableTranslator.load):
        with pytest.raises(UsageError, match="engine other does not support inspection"):
            ask(folder, engine="other")
    plain = Translator.load(folder, engine="other")
    with pytest.raises(UsageError, match="engine other"):
        InspectableTranslator(plain.engine, vocabularies=plain.vocabularies)


def test_a_translator_is_sent_with_its_engine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engines = {"other": OtherEngine, "torch": TorchEngine}
    monkeypatch.setattr(table, "ENGINES", {"other": lambda: OtherEngine, "torch": lambda: TorchEngine})
    for name, kind in engines.items():
        one = Translator.load(folder, engine=name, config=TranslateConfig(batch_sentences=1))
        other = pickle.loads(pickle.dumps(one))  # noqa: S301  (made here)
        assert type(other.engine) is kind and other.config == one.config
        assert other.translate(["a b", "c"]) == one.translate(["a b", "c"])


def test_the_command_line_knows_every_engine() -> None:
    assert get_args(console.EngineName) == ("auto", *table.ENGINES)


def test_an_engine_continues_texts() -> None:
    model, asked = language_model(), prompts()
    found = continuations(model, asked)
    for query, items in zip(asked, found, strict=True):
        state = read_prompts(model, model.start(1), [query])
        (alone,) = beam_search(model.step, state, [query], config=HOW)
        assert [item.tokens for item in items] == [item.tokens for item in alone]
        assert [item.score for item in items] == pytest.approx([item.score for item in alone], abs=1e-5)
    assert len({items[0].tokens for items in found}) > 3


def test_a_continuation_does_not_depend_on_its_company() -> None:
    """To the bit in exact mode, where prompts of one length go together and there are never few rows."""
    model, asked = language_model(), prompts()
    together = continuations(model, asked)
    assert [continuations(model, [query])[0] for query in asked] == together
    assert continuations(model, asked[::-1], batch_sentences=2)[::-1] == together
    mixed = continuations(model, asked, exact=False)
    assert [[item.tokens for item in items] for items in mixed] == [[item.tokens for item in items] for items in together]


def rows_of(monkeypatch: pytest.MonkeyPatch, run: Callable[[], object]) -> list[tuple[int, ...]]:
    """The shapes of all that is read while something runs."""
    shapes: list[tuple[int, ...]] = []
    read = RecurrentLanguageModel.read

    def count(self: RecurrentLanguageModel, tokens: torch.Tensor, state: object) -> object:
        shapes.append(tuple(tokens.shape))
        return read(self, tokens, state)  # pyright: ignore[reportArgumentType]

    with monkeypatch.context() as patch:
        patch.setattr(RecurrentLanguageModel, "read", count)
        run()
    return shapes


def test_prompts_are_read_in_one_pass_for_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model, asked = language_model(), prompts()
    exact = rows_of(monkeypatch, lambda: continuations(model, asked))
    least = fewest_rows(torch.get_num_threads())
    assert min(rows for rows, _ in exact) >= least and sorted({length for _, length in exact}) == [1, 3, 5]
    fast = rows_of(monkeypatch, lambda: continuations(model, asked, exact=False))
    assert [shape for shape in fast if shape[1] > 1] == [(len(asked), 5)]


def test_samples_of_a_language_model_depend_on_the_seed_alone() -> None:
    model, asked, how = language_model(), prompts(), SearchConfig(n_best=3, sampling=SamplingConfig(temperature=1.5))
    engine = TorchEngine(model)
    found = engine.search([()] * len(asked), asked, config=how)
    assert engine.search([(), ()], [asked[3], asked[1]], config=how) == [found[3], found[1]]
    others = [Query(query.prompt, longest=6, seed=query.seed + 100) for query in asked]
    assert engine.search([()] * len(asked), others, config=how) != found


@pytest.mark.parametrize("ensemble", [False, True])
def test_prompts_of_unequal_lengths_where_a_model_reads_token_by_token(ensemble: bool) -> None:
    toy = ToyModel(12, end_bias=1.0)
    model = Ensemble([toy, toy], digests=["x", "x"]) if ensemble else toy
    sources = [(5, 6), (5, 6), (7,), (7,), (5, 6)]
    asked = [Query((SOS, *text), longest=5) for text in ((), (4, 9), (8,), (), (6, 6))]
    for exact in (True, False):
        engine = TorchEngine(model, config=BatchConfig(exact=exact))  # pyright: ignore[reportArgumentType]
        found = engine.search(sources, asked, config=HOW)
        for source, query, items in zip(sources, asked, found, strict=True):
            assert engine.search([source], [query], config=HOW) == [items]
    assert found[0] != found[1] != found[4]


def test_an_observer_hears_of_queries_by_their_numbers() -> None:
    model, asked = language_model(), prompts()
    seen: list[Observation] = []
    found = TorchEngine(model).search([()] * len(asked), asked, config=HOW, observe=seen.append)
    for number, items in enumerate(found):
        own = [one for one in seen if number in one.sentences]
        assert [one.length for one in own] == list(range(len(own)))
        first = own[0].selection.tokens[own[0].sentences.index(number)]
        assert (*items[0].tokens, EOS)[0] in first.tolist()
    assert {one for step in seen for one in step.sentences} <= {-1, *range(len(asked))}


def test_rows_that_are_kept_apart_share_no_batch() -> None:
    lengths, apart = [3, 3, 1, 3, 1, 3], [1, 2, 1, 1, 1, 2]
    for exact in (True, False):
        batches = list(make_batches(lengths, config=BatchConfig(exact=exact), apart=apart))
        assert sorted(number for batch in batches for number in batch) == list(range(6))
        assert all(len({apart[number] for number in batch}) == 1 for batch in batches)
