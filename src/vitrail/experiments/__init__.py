"""The old problems of translation models, made visible on small models: lag, length, norms, gradients, bottleneck."""
