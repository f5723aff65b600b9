"""How good classifiers are: ours, from scratch and from other starts, beside TF-IDF with logistic regression."""
