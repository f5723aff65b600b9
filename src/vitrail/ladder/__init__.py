"""Comparison of several architectures on the same data within the same budget: `vitrail compare`."""
