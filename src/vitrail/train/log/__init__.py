"""Output of a run in training: metrics, samples, progress."""
