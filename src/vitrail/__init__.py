"""Vitrail: train your own translator from parallel text, and see through it."""
