"""The built-in English-French corpus: a bilingual grammar, its lexicon and its challenge sets."""
