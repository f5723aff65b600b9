"""Read parallel text from files: plain, compressed, or in one of the exchange formats."""
