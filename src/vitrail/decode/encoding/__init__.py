"""Vectors and scores of whole texts, computed by engines."""
