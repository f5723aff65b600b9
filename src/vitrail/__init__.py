"""Vitrail: train your own translator from parallel text, and see through it."""

__version__ = "0.1.0"
