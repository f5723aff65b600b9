"""What a training says of two words, step by step."""
