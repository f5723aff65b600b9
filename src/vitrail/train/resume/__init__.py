"""Resuming a training: checkpoints, carried states, changed settings."""
