"""Verbs that look inside: inspect, doctor, experiment."""
