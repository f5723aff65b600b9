"""Maps of what a model has learned: states and embeddings in few dimensions, neighbours, retrieval of translations, likeness of layers.

The record, `extras["maps"]` of an inspection and `Maps.to_record()`; C is the list of coordinates [x's, y's, z's], each as long as its points:
    format      1
    method      "pca", "tsne" or "umap": how the coordinates were found
    sentences   [{text, translation}], at most `SENTENCES`; the sentence that was inspected, where it is among them, by its text
    points      {sentence: [numbers], position: [numbers], piece: [texts]}: the encoder positions on the maps of states, at most `TOKENS`
    states      [{place, coordinates: C, explained}] of those points, from the embeddings to the memory, by the names of record.NAMES
    means       {place: "memory", coordinates: C, explained}: one point for each of `sentences`, the mean over its positions
    embeddings  [{side, pieces: [texts], counts: [how often among the sentences], coordinates: C, explained, neighbours}], one for each
                table of embeddings: side is "both" where source and target share one, else "source" or "target".
                neighbours: for each piece [[piece, cosine], ...], nearest first, of the whole vocabulary
    retrieval   [{source, target, mapped, accuracy, chance, median_rank, candidates, sentences}]: see `Retrieval`
    cka         {sentences, places: [names], values: rows of numbers, other, other_places, between}: likeness of each two layers of the
                model, 1 the same; other is the name of a second model, between the likeness of its layers (columns) to these (rows);
                the last three are null where only one model was looked at
explained: share of the variance that each coordinate shows, 0 to 1; null for t-SNE and UMAP, which have none.
"""

SENTENCES = 200
"""Of which a record tells the text and the mean."""
TOKENS = 300
"""Points on a map of states, and on one of embeddings."""
