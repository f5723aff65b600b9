"""Decoding: text from a trained model."""
