"""The verbs of word vectors: evaluate, neighbours, analogy, convert, dictionary."""
