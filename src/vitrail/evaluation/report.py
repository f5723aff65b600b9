"""Scores of translated files as one result to print or save: what `vitrail evaluate` does."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

from vitrail.data.reading.parallel_text import is_cut, lines
from vitrail.errors import DataError, UsageError
from vitrail.evaluation.published import published_style
from vitrail.evaluation.scores import USUAL_METRICS, Comparison, Recipe, Score, collect_statistics, compare_statistics, score
from vitrail.evaluation.slices import Band, by_length_of
from vitrail.evaluation.ter_cost import MOST_WORDS, excess
from vitrail.languages import find_language
from vitrail.scoring import LONGEST_RUN, bleu_settings_for

# A text with at least this share of lines ending in " ." counts as tokenised (sacreBLEU warns from 100 lines on).
_TOKENISED_SHARE = 0.1


@dataclass(frozen=True)
class Evaluation:
    """All measurements of one system on one test set; empty or None where not requested."""

    sentences: int
    reference_sets: int
    scores: tuple[Score, ...]
    published: Score | None = None
    bands: tuple[Band, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> str:
        """The fields by name, as JSON that `json.loads` gives back."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False, allow_nan=False)

    def to_text(self) -> str:
        """Aligned tables for people: value ± half the 95 % interval, then each signature on its own line."""
        named = [*self.scores, *([self.published] if self.published else [])]
        sections = [
            _table([[_label(one), *_figures(one)] for one in named]),
            _table([["length", "sentences", *(one.name for one in self.scores)], *map(_band, self.bands)]) if self.bands else "",
            _table([_COMPARED, *map(_compared, self.comparisons)]) if self.comparisons else "",
            "\n".join(f"{one.name}|{one.signature}" for one in [*named, *self.comparisons]),
            "\n".join(f"note: {note}" for note in self.notes),
        ]
        references = "1 reference" if self.reference_sets == 1 else f"{self.reference_sets} references"
        return "\n\n".join([f"{self.sentences} sentences, {references}", *filter(None, sections)]) + "\n"


class ScoredTexts(NamedTuple):
    """The texts to score, line by line."""

    hypotheses: Sequence[str]
    references: Sequence[Sequence[str]]
    """One or more sets, each as long as the hypotheses."""
    sources: Sequence[str] = ()
    """The sources; they add the scores by source length."""
    baseline: Sequence[str] = ()
    """Another system's translations of the same lines; they add the paired tests."""
    tokenised: Sequence[str] = ()
    """Lowercased, Moses-tokenised references; they add the score to compare with published ones (needs the language)."""


def evaluate_files(
    hypothesis: Path,
    references: Sequence[Path],
    *,
    source: Path | None = None,
    baseline: Path | None = None,
    tokenised: Path | None = None,
    language: str | None = None,
    recipe: Recipe | None = None,
) -> Evaluation:
    """Score a file of translations, one sentence a line: `evaluate_texts` of what the files hold.

    Raises: DataError for a file that cannot be read or is not UTF-8, and for different numbers of lines; UsageError for impossible options.
    """
    if tokenised and not language:
        raise UsageError("tokenised references without a language", expected="the language of the translations", remedy="language fr")
    hypotheses = read_sentences(hypothesis)
    targets = [read_sentences(path, like=hypotheses, beside=hypothesis) for path in references]
    others = [read_sentences(path, like=hypotheses, beside=hypothesis) if path else [] for path in (source, baseline, tokenised)]
    return evaluate_texts(ScoredTexts(hypotheses, targets, *others), language=language or "", recipe=recipe)


def evaluate_texts(texts: ScoredTexts, *, language: str = "", recipe: Recipe | None = None) -> Evaluation:
    """Score translations.

    Args:
        language: of the translations, by any code. It decides with the references how BLEU counts (`bleu_settings_for`), unless the recipe
        has a tokenizer other than the default and no language is given.
        recipe: with the default metrics, TER is left out where it would take too long; a note reports it.
    Raises: DataError for different numbers of lines; UsageError for impossible options.
    """
    recipe, notes = recipe or Recipe(), list[str]()
    recipe, left_out = _within_reach(recipe, texts)
    if language or recipe.tokenize == Recipe.tokenize:
        counting = bleu_settings_for(language, [line for lines in texts.references for line in lines])
        recipe = replace(recipe, tokenize=counting.tokenize, effective_order=counting.effective_order)
        notes += counting.notes
    if "ter" in recipe.metrics and recipe.tokenize != Recipe.tokenize:
        notes.append("TER counts words between spaces: also see chrF")
    statistics = collect_statistics(texts.hypotheses, texts.references, recipe=recipe)
    scores = score(statistics)
    bands = by_length_of(texts.sources, statistics) if texts.sources else []
    comparisons = (
        compare_statistics(collect_statistics(texts.baseline, texts.references, recipe=recipe), statistics) if texts.baseline else []
    )
    published = None
    if texts.tokenised:
        found = find_language(language)
        published = published_style(
            texts.hypotheses,
            [texts.tokenised],
            language=found.code if found else language,
            bootstrap=recipe.bootstrap,
            seed=recipe.seed,
        )
    notes += [*left_out, *_zeros([*scores, *(one for band in bands for one in band.scores)]), *_notes(texts.hypotheses)]
    sizes = len(texts.hypotheses), len(texts.references)
    return Evaluation(*sizes, tuple(scores), published, tuple(bands), tuple(comparisons), tuple(notes))


def _within_reach(recipe: Recipe, texts: ScoredTexts) -> tuple[Recipe, list[str]]:
    """The default metrics without TER where it would take too long, and the note on it."""
    if recipe.metrics != USUAL_METRICS or not texts.references:
        return recipe, []
    for system in (texts.hypotheses, texts.baseline):
        if system and (found := excess(system, texts.references)):
            note = f"TER is left out: {found}; --metrics ter computes it anyway, for lines of up to {MOST_WORDS:,} words"
            return replace(recipe, metrics=tuple(name for name in recipe.metrics if name != "ter")), [note]
    return recipe, []


def _zeros(scores: Sequence[Score]) -> Iterator[str]:
    """A note where a BLEU of 0.00 is meaningless."""
    longest = f"possible_{LONGEST_RUN}grams"
    if any(one.name == "BLEU" and one.value == 0 and one.counts["matched_1grams"] and not one.counts[longest] for one in scores):
        yield f"BLEU is 0.00 if no translation has {LONGEST_RUN} words, its longest n-gram, even if every line is right; use chrF"


def read_sentences(path: Path, *, like: Sequence[str] | None = None, beside: Path | None = None) -> list[str]:
    """The lines of a UTF-8 file (plain, .gz, or stdin as `-`), read by the rules of the training text; lines that it would drop are errors.

    Args: like, beside: the lines whose number must be equal, and their file, for the message.
    """
    texts: list[str] = []
    for number, text in enumerate(lines(path), start=1):
        if is_cut(text):
            raise DataError(f"{path}:{number}: a line longer than a sentence can be", expected="one sentence a line")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:  # the reader decodes such bytes to lone surrogates
            raise DataError(f"{path}:{number}: not UTF-8", expected="UTF-8 text", remedy="convert the file, e.g. with iconv") from None
        texts.append(text)
    if like is not None and len(texts) != len(like):
        raise DataError(
            f"{path}: {len(texts)} lines, {beside}: {len(like)} lines",
            expected="equal numbers of lines, line n of one belonging to line n of the other",
            remedy="translate the source of these references again, keeping its empty lines",
        )
    return texts


def _notes(hypotheses: Sequence[str]) -> Iterator[str]:
    count = len(hypotheses)
    spaced = sum(1 for text in hypotheses if text.rstrip().endswith(" ."))
    if spaced >= max(1, _TOKENISED_SHARE * count):
        yield f"{spaced} of {count} translations end in ' .': they look tokenised; scores are meant for detokenised text"
    empty = sum(1 for text in hypotheses if not text.strip())
    if empty:
        yield f"{empty} of {count} translations are empty"


_COMPARED = ["baseline to system", "from", "to", "difference", "95 % interval", "p bootstrap", "p randomisation"]


def _label(one: Score) -> str:
    return f"{one.name} (tokenised)" if "tok:none" in one.signature else one.name


def _figures(one: Score) -> list[str]:
    if one.low is None or one.high is None:
        return [f"{one.value:.2f}"]
    return [f"{one.value:.2f} ± {(one.high - one.low) / 2:.2f}", f"{one.low:.2f} to {one.high:.2f}"]


def _band(band: Band) -> list[str]:
    span = f"{band.first}+" if band.last is None else f"{band.first}-{band.last}"
    return [span, str(band.sentences), *(_figures(one)[0] for one in band.scores)]


def _compared(one: Comparison) -> list[str]:
    interval = f"{one.low:+.2f} to {one.high:+.2f}"
    p_values = [f"{one.p_bootstrap:.4f}", f"{one.p_randomisation:.4f}"]
    return [one.name, f"{one.baseline:.2f}", f"{one.system:.2f}", f"{one.difference:+.2f}", interval, *p_values]


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Columns two spaces apart: the first to the left, the others to the right."""
    columns = max(len(row) for row in rows)
    widths = [max((len(row[index]) for row in rows if index < len(row)), default=0) for index in range(columns)]
    aligned = ("  ".join(cell.rjust(widths[i]) if i else cell.ljust(widths[0]) for i, cell in enumerate(row)) for row in rows)
    return "\n".join(line.rstrip() for line in aligned)
