"""Inspection of every architecture: what a model computes, what a translation depends on, and what changes it."""
