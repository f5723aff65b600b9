"""Attention of one query to remembered keys and values, for any model that has it."""
