"""The verbs of word vectors: train, evaluate, neighbours, analogy, explain, map, convert, dictionary."""
