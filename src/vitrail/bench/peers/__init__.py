"""The same models from other makers, of the same sizes, for comparisons of speed."""
