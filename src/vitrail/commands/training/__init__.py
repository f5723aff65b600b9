"""Verbs that make models: prepare, train, demo, and config for their settings."""
