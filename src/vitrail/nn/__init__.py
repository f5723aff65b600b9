"""The layers of all architectures: tensors in, tensors out.

Legend of shape letters, one for the whole package:
    B sentences, S source positions, T target positions, D model width, H heads, E width of one head,
    F feed-forward width, V vocabulary, K beams, N = B*K rows, L layers.
"""
