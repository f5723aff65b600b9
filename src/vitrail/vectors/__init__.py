"""Word vectors: trained, evaluated, exchanged and used (Word2Vec, GloVe, fastText)."""
