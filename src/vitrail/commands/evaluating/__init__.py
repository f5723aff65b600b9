"""Commands that score and compare: evaluate, compare, bench."""
