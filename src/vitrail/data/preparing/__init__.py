"""Make a prepared folder from raw text, and open prepared folders."""
