"""What a model reads at a time: passages of a text, and what is done to them for each batch."""
