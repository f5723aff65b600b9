"""Models of the same kind and size from other toolkits, for comparisons of speed."""
