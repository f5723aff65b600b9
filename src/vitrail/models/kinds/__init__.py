"""The kinds of model, one module each, and the parts that several share (`blocks`, `encoders`)."""
