"""What a training needs to go on: checkpoints, carried states, and what changed since."""
