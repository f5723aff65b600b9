"""Studies of a whole model on a test set."""
