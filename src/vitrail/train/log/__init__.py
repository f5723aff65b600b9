"""What a run shows and writes while it trains: metrics, samples, progress."""
