"""Training of word vectors."""
