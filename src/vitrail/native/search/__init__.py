"""Beam search over one batch in compiled code, for any model that scores next tokens."""
