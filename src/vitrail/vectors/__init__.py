"""Word vectors: read, written, searched, evaluated, and mapped onto each other.

from vitrail.vectors import load_vectors
load_vectors("GoogleNews-vectors-negative300.bin").neighbours("river")
"""

from vitrail.vectors.formats.table import FORMATS, FormatName, detect_format, load_vectors, save_vectors
from vitrail.vectors.ngrams import Ngrams
from vitrail.vectors.word_vectors import ANALOGY_METHODS, AnalogyMethod, Neighbour, Outputs, WordVectors

__all__ = [
    "ANALOGY_METHODS",
    "FORMATS",
    "AnalogyMethod",
    "FormatName",
    "Neighbour",
    "Ngrams",
    "Outputs",
    "WordVectors",
    "detect_format",
    "load_vectors",
    "save_vectors",
]
