"""A Transformer in compiled code, on one core: a batch of sentences in, their n-best lists out."""
