"""What models that read whole sentences say of them: guesses, labels, vectors, and the sentences again."""
