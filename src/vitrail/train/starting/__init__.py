"""How a training starts from other models: what is taken, and what is frozen."""
