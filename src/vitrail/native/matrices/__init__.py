"""Matrices packed for the vector layer, in 8-bit numbers and in float32, and the products with them."""
