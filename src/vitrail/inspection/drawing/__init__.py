"""A record drawn in the terminal and as figures."""
