"""Draw docs/attention.svg: what the demo's model reads while it writes each French word.

    python docs/make_picture.py runs/demo docs/attention.svg

The picture shows cross-attention of one decoder layer, averaged over its heads: the layer whose weights are most concentrated.
"""

import sys
from pathlib import Path
from xml.sax.saxutils import escape

import torch
from torch import Tensor

from vitrail.data.batches import collate
from vitrail.decode.translate import Translator
from vitrail.models.model_folder import load_model
from vitrail.nn.probe import trace

SENTENCE = "A dog ate the food because it was hungry."
CELL, LEFT, TOP = 46, 120, 96


def to_words(pieces: list[str]) -> list[list[int]]:
    """Group pieces into words: a piece that begins with the space mark begins one, and so does the end of the sentence."""
    groups: list[list[int]] = []
    for place, piece in enumerate(pieces):
        if piece.startswith(("▁", "</s>")) or not groups:
            groups.append([])
        groups[-1].append(place)
    return groups


def cross_attention(folder: Path) -> tuple[list[str], list[str], Tensor]:
    """Source words, target words, and the share that each target word (row) took from each source word (column)."""
    model, _, vocabularies, _ = load_model(folder)
    translation = Translator.load(folder).translate(SENTENCE)
    batch = collate([vocabularies.source.encode(SENTENCE)], [list(translation.tokens)])
    with torch.no_grad(), trace(model) as seen:
        model.loss(batch)
    layers = [values[0][0].mean(dim=0) for name, values in seen.items() if name.endswith("cross_attention.weights")]
    weights = min(layers, key=lambda layer: float(-(layer * layer.clamp_min(1e-9).log()).sum()))
    sides = [vocabularies.source.pieces(batch.source[0].tolist()), vocabularies.target.pieces(batch.target_out[0].tolist())]
    columns, rows = (to_words(side) for side in sides)
    # A word takes what its pieces take on average, from all pieces of the other word together.
    shares = torch.stack([torch.stack([weights[row][:, column].sum(dim=1).mean() for column in columns]) for row in rows])
    names = [
        ["".join(side[place] for place in group).replace("▁", "").replace("</s>", "<eos>") for group in groups]
        for side, groups in zip(sides, (columns, rows), strict=True)
    ]
    return names[0], names[1], shares


def draw(source: list[str], target: list[str], shares: Tensor) -> str:
    """The shares as panes of glass in lead: light to deep blue, which all eyes order alike."""
    width, height = LEFT + CELL * len(source) + 20, TOP + CELL * len(target) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" font-family="Georgia, serif" '
        'font-size="16" role="img" aria-label="Cross-attention: French words by English words">',
        f'<rect width="{width}" height="{height}" rx="8" fill="#fbfaf6"/>',
    ]
    for column, word in enumerate(source):
        x = LEFT + CELL * (column + 0.5)
        parts.append(f'<text transform="translate({x + 5} {TOP - 10}) rotate(-50)" fill="#222">{escape(word)}</text>')
    for row, word in enumerate(target):
        y = TOP + CELL * row
        parts.append(f'<text x="{LEFT - 10}" y="{y + CELL / 2 + 5}" text-anchor="end" fill="#222">{escape(word)}</text>')
        for column in range(len(source)):
            share = float(shares[row, column])
            red, green, blue = (round(light + (deep - light) * share**0.7) for light, deep in ((244, 20), (240, 60), (224, 150)))
            told = f"<title>{escape(word)} from {escape(source[column])}: {share:.2f}</title>"
            place = f'x="{LEFT + CELL * column}" y="{y}" width="{CELL}" height="{CELL}"'
            parts.append(f'<rect {place} fill="rgb({red},{green},{blue})" stroke="#2b2b2b" stroke-width="2.5">{told}</rect>')
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(draw(*cross_attention(Path(sys.argv[1]))), encoding="utf-8")
