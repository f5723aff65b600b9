"""Charts and scales for self-contained HTML pages."""
