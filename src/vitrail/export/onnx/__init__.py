"""Translators as ONNX: an encoder, one step of the decoder with its cache, and programs that run them."""
