"""Scores comparable with papers that scored lowercased, Moses-tokenised text.

Such papers (those on Multi30k, for example) lowercased the references, normalised their punctuation and tokenised them with the Moses
scripts, then computed BLEU over the resulting words. A sacreBLEU score on detokenised text counts other words, so it differs for the same
translations. Here a detokenised hypothesis goes through the same three steps and is scored with `tok:none` against the tokenised references
themselves: l'homme becomes `l&apos; homme` in French, the man's becomes `the man &apos;s` in English.

The steps are sacremoses's (`pip install 'vitrail[moses]'`), which reproduces the Multi30k files from their raw text line for line:
1000 of 1000 lines of test_2016_flickr and 1014 of 1014 of val, each in English, German and French. This depends on two details of the Perl
scripts: a line is normalised with its line feed on, which decides where a final quotation mark goes after a full stop, and the right
quotation mark becomes a double quote where it is not between two unaccented letters (`perl_parity`).
"""

from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version

from vitrail.errors import DataError, UsageError
from vitrail.evaluation.scores import SEED, Score, tokenized_bleu


def moses_tokenise(texts: Sequence[str], *, language: str) -> list[str]:
    """Lowercase, normalise punctuation and tokenise as the Moses scripts do, with their escapes (&apos; &quot; &amp; ...).

    Args:   language: two letters; it decides the rules for apostrophes, quotation marks and abbreviations.
    Raises: UsageError where sacremoses is not installed.
    """
    try:
        from sacremoses import MosesPunctNormalizer, MosesTokenizer
    except ImportError as missing:
        raise UsageError(
            "sacremoses is not installed", expected="sacremoses, to tokenise as Moses does", remedy="pip install 'vitrail[moses]'"
        ) from (missing)
    normaliser = MosesPunctNormalizer(language, perl_parity=True)
    tokeniser = MosesTokenizer(language)
    return [str(tokeniser.tokenize(normaliser.normalize(text.lower() + "\n"), return_str=True)) for text in texts]


def published_style(
    hypotheses: Sequence[str],
    tokenised_references: Sequence[Sequence[str]],
    *,
    language: str,
    bootstrap: int = 1000,
    seed: int = SEED,
) -> Score:
    """BLEU of detokenised hypotheses against references that were lowercased and tokenised by Moses; the signature says so.

    Raises: DataError for references that are not lowercased or not escaped (so not comparable), or of another count;
            UsageError where sacremoses is not installed.
    """
    for number, lines in enumerate(tokenised_references, start=1):
        _check_tokenised(lines, number)
    scored = tokenized_bleu(moses_tokenise(hypotheses, language=language), tokenised_references, bootstrap=bootstrap, seed=seed)
    return replace(scored, signature=f"{scored.signature}|text:lc.norm.moses-{language}|sacremoses:{version('sacremoses')}")


def _check_tokenised(lines: Sequence[str], number: int) -> None:
    for line, text in enumerate(lines, start=1):
        if text != text.lower():
            raise DataError(
                f"tokenised references {number}, line {line}: upper-case letters",
                expected="lowercased, Moses-tokenised text",
                remedy="score the raw references with `evaluate` instead",
            )
        if "'" in text or '"' in text:
            raise DataError(
                f"tokenised references {number}, line {line}: a plain quotation mark or apostrophe",
                expected="Moses escapes (&apos; &quot;)",
                remedy="if the references were made with -no-escape, tokenise the raw ones with `moses_tokenise`",
            )
