"""Both beside each other, as text, as plain values and as a page."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from vitrail.inspection.bottleneck.one_vector import OneVector
from vitrail.inspection.bottleneck.token_vectors import TokenVectors
from vitrail.reports.charts import Bar, Section, Series, bar_chart, bullets, html_figure, line_chart, page, paragraph, table
from vitrail.reports.heat_map import MOST_CELLS, HeatRow, heat_map

_STRONGEST, _LONGEST = 12, 60


@dataclass(frozen=True)
class Beside:
    """A sentence in an autoencoder and, if given, in a translator's encoder."""

    name: str
    """The autoencoder's."""
    one: OneVector
    other_name: str
    tokens: TokenVectors | None

    def to_record(self) -> dict[str, Any]:
        """The fields by name, as plain values that JSON holds."""
        return asdict(self)

    def to_text(self) -> str:
        """For people, in a terminal."""
        one = self.one
        lines = [
            f"{self.name}: one vector of {len(one.latent)} numbers for {len(one.tokens)} tokens",
            f"  sentence:    {one.sentence}",
            f"  given back:  {one.text}  ({'exactly' if one.exact else 'not exactly'}; {one.loss:.3f} nats a token)",
            "  from the directions in which the vectors of the text differ most:",
            *(
                f"    {part.directions:>4}  {part.variance:>5.0%} of the variance  chrF {part.chrf:5.1f}  {part.text}"
                for part in one.narrowed
            ),
            "  without one token, how like its vector is to the whole one's, and what is given back:",
            *(f"    {part.token:<12} {part.cosine:.3f}  {part.text}" for part in one.without_token),
            "  nearest sentences:",
            *(f"    {near.cosine:.3f}  {near.text}" for near in one.neighbours),
        ]
        if self.tokens is not None:
            vectors = self.tokens.tokens
            lines += [
                "",
                f"{self.other_name}: {len(vectors)} vectors of {len(vectors[0].values)} numbers, one for each token and the end",
                f"  from all:            {self.tokens.text}",
                f"  from their mean:     {self.tokens.from_mean}",
                "  without one vector, and from one alone:",
                *(f"    {part.token:<12} {part.without}  |  {part.alone}" for part in vectors),
            ]
        return "\n".join(lines) + "\n"

    def to_html(self) -> str:
        """A self-contained page."""
        one = self.one
        sections = [Section("The question", paragraph(_QUESTION)), Section("The same sentence in both", self._drawn())]
        sections += [Section("What the one vector gives back", self._given_back())]
        sections += [Section("What is lost as the vector narrows", _narrowed(one))]
        if self.tokens is not None:
            sections += [Section("What the vectors of tokens give back, and what happens when one is removed", _removed(self.tokens))]
        sections += [Section("No number of the vector stands for one word", _spread(one)), Section("Neighbours", _neighbours(one))]
        return page("One vector, or one vector per token", sections)

    def _drawn(self) -> str:
        one, tokens = self.one, self.tokens
        width = len(one.latent)
        groups = [(f"{self.name}: one vector of {width} numbers", [HeatRow("the sentence", one.standard)])]
        rows = [
            ["vectors", "1"],
            ["numbers", f"{width:,}"],
            ["grows with the sentence", "no"],
            ["what the decoder gets", "this vector alone"],
            ["what it was trained to write", "the sentence itself"],
            ["what it writes here", one.text],
        ]
        header = ["", f"autoencoder {self.name}"]
        if tokens is not None:
            vectors = tokens.tokens
            size = len(vectors[0].values)
            name = f"{self.other_name}: one vector of {size} numbers for each token and the end"
            groups.append((name, [HeatRow(part.token, part.values) for part in vectors]))
            more = (f"{len(vectors)}", f"{len(vectors) * size:,}", "yes", "all of them: attention chooses at every step", "a translation")
            rows = [[*row, cell] for row, cell in zip(rows, (*more, tokens.text), strict=True)]
            header.append(f"Transformer encoder of {self.other_name}")
        cut = " Longer vectors show their first ones." if width > MOST_CELLS else ""
        caption = (
            "Each cell is a number: blue above zero, orange below, stronger the farther from it. The autoencoder's numbers are in units"
            f" of their spread over the text that it is compared with.{cut}"
        )
        chart = heat_map(groups, title="The sentence, as vectors")
        return paragraph(f"“{one.sentence}”") + html_figure(chart, caption=caption) + table(header, rows)

    def _given_back(self) -> str:
        one = self.one
        how = "exactly" if one.exact else "not exactly"
        text = (
            f"From its {len(one.latent)} numbers the decoder writes: “{one.text}”. The sentence is {how} given back; it costs"
            f" {one.loss:.3f} nats a token. Nothing else of the sentence reaches the decoder: two sentences with the same vector are"
            " given back alike."
        )
        return paragraph(text) + paragraph(_GIVES_BACK)


_QUESTION = (
    "Both read a sentence. An autoencoder's encoder must put all of it into one vector of a fixed size, since its decoder gets nothing"
    " else: that is the bottleneck, and a short description of the whole sentence is what it learns. A Transformer's encoder has no"
    " bottleneck: it keeps one vector for each token, enriched by its context, and the decoder's attention looks at all of them at every"
    " step."
)
_GIVES_BACK = (
    "What one vector can do: be stored, compared and mixed; sentences of any length become points of one space. What it cannot do: grow"
    " with the sentence. Vectors of tokens can be aligned with words and lose little, but a sentence has no single place among them."
)


def _narrowed(one: OneVector) -> str:
    series = Series("this sentence", [part.directions for part in one.narrowed], [part.chrf for part in one.narrowed])
    chart = line_chart([series], title="From a narrower vector", x_label="directions kept", y_label="chrF of what is given back")
    caption = (
        "The vector is projected to the directions in which the vectors of the text differ most. A model that was trained with fewer"
        " numbers does better than this: see vitrail experiment reconstruction."
    )
    rows = [[f"{part.directions}", f"{part.variance:.0%}", f"{part.chrf:.1f}", part.text] for part in one.narrowed]
    numbers = table(["directions kept", "of the variance", "chrF", "given back"], rows)
    return html_figure(chart, caption=caption) + numbers


def _removed(tokens: TokenVectors) -> str:
    named = sum(part.named for part in tokens.tokens)
    facts = [
        f"From all vectors: “{tokens.text}”",
        f"From their mean in every place, one vector, which the decoder was not trained to read: “{tokens.from_mean}”",
        f"Of {len(tokens.tokens)} vectors, {named} have their nearest vector in other sentences at the same token: they say their word.",
    ]
    rows = [[part.token, _lost(tokens.text, part.without), part.without, _cut(part.alone), part.likest] for part in tokens.tokens]
    header = ["token", "words that go", "written without its vector", "written from its vector alone", "nearest vector elsewhere is of"]
    return bullets(facts) + table(header, rows)


def _lost(whole: str, without: str) -> str:
    """The words of a text that another one has fewer of."""
    return " ".join((Counter(whole.split()) - Counter(without.split())).elements()) or "–"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _spread(one: OneVector) -> str:
    order = sorted(range(len(one.without_number)), key=lambda place: -one.without_number[place])[:_STRONGEST]
    bars = [Bar(f"number {place + 1}", one.without_number[place]) for place in order]
    chart = bar_chart(bars, title="Without one number of the vector", x_label="nats that the sentence costs more")
    caption = (
        f"Each number of the vector is set to its mean over the text, one after the other; the {len(bars)} that matter most are shown."
    )
    rows = [[part.token, f"{part.cosine:.3f}", f"{part.changed:.0%}", part.text] for part in one.without_token]
    words = "If one token is taken out of the sentence, the whole vector moves, and what is given back changes as a whole:"
    header = ["token taken out", "cosine with the whole", "numbers that change", "given back"]
    return html_figure(chart, caption=caption) + paragraph(words) + table(header, rows)


def _neighbours(one: OneVector) -> str:
    rows = [[f"{near.cosine:.3f}", near.text] for near in one.neighbours]
    return paragraph("Sentences of the text whose vectors are nearest, by cosine:") + table(["cosine", "sentence"], rows)
