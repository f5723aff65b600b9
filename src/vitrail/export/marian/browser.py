"""Translators for the engine of browsers: a student in Marian's binary form, with vocabulary and settings, and the check by that engine."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from vitrail.data.cleaning.normalise import plain
from vitrail.data.vocabularies.growing import NewPiece, with_pieces
from vitrail.data.vocabularies.subwords import SentencePieceSubwords, Vocabularies
from vitrail.decode.search_config import SearchConfig, TranslateConfig
from vitrail.decode.shortlists.table import Shortlist, has_shortlist, read_shortlist
from vitrail.decode.translate import Translator
from vitrail.doctor.checks.programs import BERGAMOT
from vitrail.errors import ModelError, UsageError
from vitrail.evaluation.scores import evaluate
from vitrail.export.marian.binary import model_file, shortlist_file
from vitrail.export.marian.engine import SCRIPT, BrowserEngine, BrowserFiles, find_engine, script
from vitrail.export.marian.lexical import EightsShortlist, lists_by_token
from vitrail.export.marian.rounding import input_multipliers, round_weights, rounded_inputs
from vitrail.export.marian.student import BLOCK, Sizes, student_items
from vitrail.export.translators.parity import CheckTexts, GivenPairs, check_texts
from vitrail.export.translators.staging import publish_checked
from vitrail.files import write_file
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.models.model_folder import LoadedModel, load_model

BrowserNumbers = Literal["int8", "float32"]
_NO_TEXT = "\ufdef"
"""A code point that no text has, in the names of the tokens that fill up a vocabulary."""
_MEASURED = 200
"""Sentences from which the multipliers of inputs are chosen."""
_LEAST_EQUAL, _LEAST_ROUNDED = 0.99, 0.95
_LENGTH = 2
"""Tokens of a translation for each token of its source, at most, in that engine."""

_ABOUT_LISTS = """`{}` is a lexical shortlist: for each token of a sentence the tokens that its translation may have. It makes
translating faster and may change a word; sentences that are translated together share their lists. Without it all tokens may be written.

"""


class BrowserParity(NamedTuple):
    """The result of a check."""

    program: str
    sentences: int
    origin: str
    equal: int
    """Translations that are those of our model, rounded as the file is."""
    unrounded: int | None
    """Those that are the model's before rounding; None where nothing was rounded."""
    ours_bleu: float | None
    """Before rounding."""
    theirs_bleu: float | None
    shortlisted: bool = False
    """Whether both wrote only tokens of the model's shortlist."""

    def to_text(self) -> str:
        """A few lines for people."""
        how = "greedily, with the shortlist" if self.shortlisted else "greedily"
        found = f"checked with {self.program}: {self.sentences:,} sentences ({self.origin}), {how}: {self.equal:,} as our model"
        if self.unrounded is not None:
            found += f" finds them with the same rounded numbers, {self.unrounded:,} as it finds them in float32"
        if self.ours_bleu is not None and self.theirs_bleu is not None:
            found += f"; BLEU {self.theirs_bleu:.2f} there, {self.ours_bleu:.2f} here in float32"
        return found

    def require(self) -> None:
        """Raise ModelError for other translations than those of our model with the same numbers.

        In float32 they are equal but for near ties. Of rounded inputs, one that lies between two numbers falls to the other side by a
        difference in the last bit: a model that is not sure of its words then writes another one now and then.
        """
        least = _LEAST_EQUAL if self.unrounded is None else _LEAST_ROUNDED
        if self.equal < least * self.sentences:
            raise ModelError(
                f"{self.program} translates otherwise than this model: {self.to_text()}",
                expected=f"{least:.0%} of equal translations",
                remedy="report this as a fault; --no-check writes the folder all the same",
            )


def export_browser(
    model: Path,
    output: Path,
    *,
    compute: BrowserNumbers = "int8",
    shortlist: bool | None = None,
    check: bool = True,
    given: GivenPairs | None = None,
) -> BrowserParity | None:
    """Write the translator of a run's folder or a model folder for Firefox's engine, and translate with that engine.

    Args:   shortlist: whether the shortlist of the model (`vitrail shortlist`) goes along; None: where it has one.
    Raises: UsageError for a model that is no student, naming each setting, and where no such engine is there for the check; ModelError
        where its translations are not ours, and where it has no shortlist that is asked for: then nothing is written.
    """
    loaded = load_model(model)
    _require(loaded)
    engine = find_engine(unigram=_is_unigram(loaded.vocabularies)) if check else None  # before the translations here, which take long
    wanted = has_shortlist(model) if shortlist is None else shortlist
    lists = read_shortlist(model, loaded.vocabularies) if wanted else None
    texts = check_texts(model, given=given)
    # The files are the same whatever the check translates.
    measured = texts if given is None else check_texts(model, count=_MEASURED)
    student = _Student(loaded, measured, compute, lists)
    files = student.files()

    def write(folder: Path) -> None:
        for name, content in files.items():
            write_file(folder / name, content)

    def compared(folder: Path) -> BrowserParity | None:
        found = None
        if engine is not None:
            found = student.compare(engine, student.names.within(folder), texts)
            found.require()
        write_file(folder / "README.md", _readme(loaded, student.names, found, shortlisted=wanted).encode())
        return found

    return publish_checked(output, write=write, check=compared)


def _require(loaded: LoadedModel) -> None:
    config, vocabularies = loaded.config, loaded.vocabularies
    if not isinstance(config, TransformerConfig) or config.kind != "transformer":
        raise UsageError(f"model.kind = {config.kind}", expected="a Transformer that translates, for --to bergamot")
    wanted: dict[str, Any] = {"decoder": "ssru", "decoder_start": "zeros", "positions": "tensor2tensor", "norm_position": "post"}
    wanted |= {"norm": "layer", "activation": "relu", "embedding_norm": False}
    faults = [f"model.{name} = {getattr(config, name)}" for name, value in wanted.items() if getattr(config, name) != value]
    faults += [f"model.{name} = {getattr(config, name)}" for name in ("width", "feed_forward") if getattr(config, name) % BLOCK]
    if config.width_of_head * config.heads != config.width:
        faults.append(f"model.head_width = {config.head_width}")
    if config.tie == "none":
        faults.append("model.tie = none")
    if not all(isinstance(one, SentencePieceSubwords) for one in (vocabularies.source, vocabularies.target)):
        faults.append("a vocabulary that SentencePiece alone does not read")
    if faults:
        raise UsageError(
            f"{', '.join(faults)}: not what the engine of browsers computes",
            expected=f"a student: {', '.join(f'{name} = {value}' for name, value in wanted.items())}; width and feed_forward of whole "
            f"{BLOCK}s; a bpe or unigram vocabulary; embeddings that the target shares with the output",
            remedy="train one: vitrail train --preset student",
        )


def _is_unigram(vocabularies: Vocabularies) -> bool:
    sides = (vocabularies.source, vocabularies.target)
    return all(isinstance(one, SentencePieceSubwords) and one.merges is None for one in sides)


class _Student:
    """A model on its way: its translations here, its files there. `measured`: texts from which the multipliers of inputs are chosen."""

    def __init__(self, loaded: LoadedModel, measured: CheckTexts, compute: BrowserNumbers, shortlist: Shortlist | None) -> None:
        self.model, self.vocabularies, self.shortlist = loaded.model, loaded.vocabularies, shortlist
        self.rounds = compute == "int8"
        self.writes_unknown = bool(loaded.facts.get("search", {}).get("allow_unknown"))
        self.names = BrowserFiles.named(loaded.facts, rounded=self.rounds, joint=loaded.vocabularies.shares_ids)
        lists = None if shortlist is None else EightsShortlist.of(shortlist)
        self.translator = Translator(loaded.model, vocabularies=loaded.vocabularies, config=TranslateConfig(), shortlist=lists)
        self.multipliers = self._measure(measured) if self.rounds else None

    def translate(self, sources: Sequence[str]) -> list[str]:
        """Our translations, greedily, no longer than that engine's may be."""
        search = SearchConfig(beams=1, length_penalty=0, repeat_ngram=0, max_ratio=_LENGTH, max_extra=2, allow_unknown=self.writes_unknown)
        return [plain(one.text).strip() for one in self.translator.translate(sources, search=search)]

    def _measure(self, texts: CheckTexts) -> dict[str, float]:
        targets = self.vocabularies.target.encode_batch(self.translate(texts.sources[:_MEASURED]))
        return input_multipliers(self.model, texts.tokens[:_MEASURED], targets)

    def files(self) -> dict[str, bytes]:
        """The files of the folder by name."""
        sides = (self.vocabularies.source, self.vocabularies.target)
        sizes = Sizes.of(*(one.size for one in sides))
        items = student_items(self.model, sizes, writes_unknown=self.writes_unknown, multipliers=self.multipliers)
        found = {self.names.model: model_file(items), self.names.config: self._settings().encode(), SCRIPT: script()}
        for name, one, size in zip(self.names.vocabularies, sides, sizes, strict=False):
            assert isinstance(one, SentencePieceSubwords)
            more = [NewPiece(f"{_NO_TEXT}{number}", min(one.scores())) for number in range(size - one.size)]
            found[name] = with_pieces(one.to_bytes(), more)
        if self.shortlist is not None:
            rows = lists_by_token(self.shortlist, sources=sizes.source)
            found[self.names.shortlist] = shortlist_file(rows, first=0, best=max(map(len, rows)))
        return found

    def _settings(self) -> str:
        """For bergamot-translator's command line; in a page the same table without files."""
        table = {
            "relative-paths": True,
            "models": [self.names.model],
            "vocabs": [self.names.vocabularies[0], self.names.vocabularies[-1]],
            **({"shortlist": [self.names.shortlist, False]} if self.shortlist is not None else {}),
            "beam-size": 1,
            "normalize": 1.0,
            "word-penalty": 0,
            "max-length-break": 128,
            "mini-batch-words": 1024,
            "workspace": 128,
            "max-length-factor": float(_LENGTH),
            "skip-cost": True,
            "cpu-threads": 0,
            "quiet": True,
            "quiet-translation": True,
            "gemm-precision": "int8shiftAlphaAll" if self.rounds else "float32",
            "alignment": "soft",
        }
        return "".join(f"{name}: {json.dumps(value)}\n" for name, value in table.items())

    def compare(self, engine: BrowserEngine, files: BrowserFiles, texts: CheckTexts) -> BrowserParity:
        """Translate texts with that engine and here. Afterwards the model has the rounded weights, in double precision."""
        found = [plain(one).strip() for one in engine.translate(files, texts.sources, rounded=self.rounds)]
        ours = expected = self.translate(texts.sources)
        unrounded = None
        if self.multipliers is not None:
            round_weights(self.model)
            self.model.double()  # between two sums of 32 bits, the last bits of both would decide
            with rounded_inputs(self.model, self.multipliers):
                expected = self.translate(texts.sources)
            unrounded = _equal(found, ours)
        bleu: list[float | None] = [None, None]
        if texts.references:
            scores = [evaluate(one, [texts.references], metrics=("bleu",), bootstrap=0)[0] for one in (ours, found)]
            bleu = [one.value for one in scores]
        equal, listed = _equal(found, expected), self.shortlist is not None
        return BrowserParity(engine.name, len(found), texts.origin, equal, unrounded, bleu[0], bleu[1], shortlisted=listed)


def _equal(found: Sequence[str], expected: Sequence[str]) -> int:
    return sum(one == other for one, other in zip(found, expected, strict=True))


def _readme(loaded: LoadedModel, names: BrowserFiles, found: BrowserParity | None, *, shortlisted: bool) -> str:
    facts = loaded.facts
    pair = f"{facts.get('source_language') or '?'} to {facts.get('target_language') or '?'}"
    vocabularies = " and ".join(names.vocabularies)
    path, read, keyword = (f', "{names.shortlist}"', ", shortlist", ", shortlist=shortlist") if shortlisted else ("", "", "")
    lists = f" of `{names.shortlist}` as shortlist," if shortlisted else ""
    about = _ABOUT_LISTS.format(names.shortlist) if shortlisted else ""
    return f"""# A translator ({pair}) for browsers

Written by `vitrail export --to bergamot`: a student in Marian's binary form, as Firefox and bergamot-translator read it.
{found.to_text() if found else "Not checked."}

{about}In node, line by line, each of them a sentence:

```sh
npm install {BERGAMOT}
node {SCRIPT} < source.txt
```

In a page, with the same package: give `loadTranslationModel` of its worker the bytes of `{names.model}` as model, of {vocabularies} as
vocabs,{lists} and the settings of `{names.config}` as config. `{SCRIPT}` shows each call. With the program of that project:
`bergamot --model-config-paths {names.config}`.

In Python, where the vocabulary is a unigram model: `pip install fxtranslate`, then

```python
from pathlib import Path
from fxtranslate import Translator

names = "{names.model}", "{names.vocabularies[0]}", "{names.vocabularies[-1]}"{path}
model, source, target{read} = (Path(name).read_bytes() for name in names)
print(Translator(model=model, src_vocab=source, trg_vocab=target{keyword}).translate("A sentence."))
```
"""
