"""How good word vectors are: similarity and analogies, with the share of questions that could be asked."""
