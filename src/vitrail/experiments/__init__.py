"""Classic problems of translation models, shown on small models: lag, length, norms, gradients, bottleneck."""
