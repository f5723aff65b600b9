"""Word vectors: speed and quality beside other programs."""
