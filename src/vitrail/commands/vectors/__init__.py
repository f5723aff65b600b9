"""The verbs of word vectors: train, evaluate, neighbours, analogy, convert, dictionary."""
