"""Looking inside, for every architecture: what a translation was made of, what it hung on, and what changes it."""
