"""Subword vocabularies: train, save, load, encode, decode; and the four special ids."""

PAD, UNK, SOS, EOS = 0, 1, 2, 3
