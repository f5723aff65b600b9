"""Charts and scales for pages that are one file."""
