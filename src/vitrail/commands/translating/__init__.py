"""Commands that use a model: translate, generate, align."""
