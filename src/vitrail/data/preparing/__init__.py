"""From raw text to a prepared folder, and prepared folders opened."""
