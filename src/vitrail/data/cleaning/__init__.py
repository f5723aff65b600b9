"""Normalise and filter pairs; report what was dropped and why."""
