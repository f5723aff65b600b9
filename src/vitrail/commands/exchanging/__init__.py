"""Verbs that write and read models of other programs."""
