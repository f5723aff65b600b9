"""Translators in Marian's files: its own, and those of the engine in browsers."""
