"""Translators in the layouts of other programs, and back."""
