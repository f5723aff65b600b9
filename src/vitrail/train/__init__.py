"""Training: the loop, runs, optimizers, checkpoints."""
