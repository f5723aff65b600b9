"""The configurations of all kinds of model, one module each beside that of `kinds`; without torch."""
