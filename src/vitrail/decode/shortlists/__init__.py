"""Shortlists: the target tokens that a source's tokens may become, learned from parallel text."""
