"""Commands that train models: prepare, train, demo, and config for their settings."""
