"""An autoencoder's one vector beside a Transformer encoder's one vector per token: what each can give back."""
