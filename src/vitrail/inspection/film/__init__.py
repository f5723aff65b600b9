"""The training film: the same sentences translated and recorded at every validation."""
