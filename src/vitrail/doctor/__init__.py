"""The doctor: fast checks that find what is wrong with a training or a machine, with the remedy."""
