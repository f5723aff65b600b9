"""Measured against others, and against promises: each number of docs/benchmarks.md comes from here."""
