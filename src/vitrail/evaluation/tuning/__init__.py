"""What a fine-tuning changed."""
