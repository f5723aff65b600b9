"""Engines that compute searches, behind one interface; `torch` is the first."""
