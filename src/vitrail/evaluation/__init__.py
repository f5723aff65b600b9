"""Scores, slices of scores, and comparisons."""
