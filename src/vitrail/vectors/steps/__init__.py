"""The steps of training, in compiled code: windows of words, pairs of words."""
