"""Which part of a model or of a sentence a translation depends on: attribution, ablation, patching, edits."""
