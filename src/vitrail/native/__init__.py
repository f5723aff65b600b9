"""Compiled inner loops: Numba code that works on vectors of 16 numbers. Needs the extra `fast` (numba)."""
