"""Word alignment from cross-attention, and its error against gold alignments."""

from vitrail import renamed

__getattr__ = renamed.names(__name__, dict.fromkeys(("align", "all_heads", "choose_heads"), "vitrail.inspection.alignment.word_alignment"))
