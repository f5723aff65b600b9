"""Tokens and their ids: words, characters, subwords."""
