"""Text before and after search: constraints, splitting, joining."""
