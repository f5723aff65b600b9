"""Speed measurements, against other toolkits and fixed limits: the source of the numbers in docs/benchmarks.md."""
