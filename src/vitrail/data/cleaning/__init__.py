"""Normalise and filter pairs; say what was left out and why."""
