"""What several verbs share: options, output, progress, input in portions."""
