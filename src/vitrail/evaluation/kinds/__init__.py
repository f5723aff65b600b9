"""Scores of models that do not translate, by their task."""
