"""Ways to fine-tune a translator, side by side."""
