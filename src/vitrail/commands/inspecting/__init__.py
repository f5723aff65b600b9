"""Commands that examine models and runs: inspect, doctor, experiment."""
