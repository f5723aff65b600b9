"""Shared code of the commands: options, output, progress, input in portions."""
