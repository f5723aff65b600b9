"""The text around a search: constraints, parts of a text, and their translations joined."""
