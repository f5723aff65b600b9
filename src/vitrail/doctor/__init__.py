"""The doctor: cheap probes that name what is wrong with a training, or with a machine, and say the remedy."""
