"""How attribution is computed: of any scores that a model gives to a text, by several methods."""
