"""Translators for Argos Translate and LibreTranslate: one file with model, vocabulary and what divides texts into sentences."""
