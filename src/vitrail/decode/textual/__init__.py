"""The text around a search: wishes, parts of a text, and their translations joined."""
