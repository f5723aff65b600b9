"""What models without a target can be looked into for: masked language models and classifiers."""
