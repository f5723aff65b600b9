"""What computes searches: engines behind one interface, of which `torch` is the first."""
