"""Word vectors in files: our folder, and the formats of word2vec, GloVe and fastText."""
