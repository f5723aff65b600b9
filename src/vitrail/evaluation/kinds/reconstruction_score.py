"""How well an autoencoder gives a text back, with intervals: lines that are exact, chrF, loss."""

from collections.abc import Sequence
from dataclasses import dataclass

from vitrail.decode.sentences.autoencoder import Autoencoder, Reconstructions
from vitrail.evaluation.scores import Score, evaluate
from vitrail.evaluation.slices import Share, proportion


@dataclass(frozen=True)
class ReconstructionScore:
    """The figures of a text that was given back line by line."""

    given_back: Share
    """Lines that are exactly what they were."""
    chrf_score: Score
    loss_nats_per_token: float
    perplexity: float
    kl_nats_per_sentence: float | None
    """KL(q(z|x) || N(0, 1)) of a line, on average; None where the model is not variational."""

    def figures(self) -> dict[str, float]:
        """The figures by name."""
        found = {"loss_nats_per_token": self.loss_nats_per_token, "perplexity": self.perplexity}
        found |= {"exact_share": self.given_back.share or 0.0, "chrf": self.chrf_score.value}
        return found if self.kl_nats_per_sentence is None else found | {"kl_nats_per_sentence": self.kl_nats_per_sentence}

    def to_text(self) -> str:
        """The figures, one a line, with their 95 % intervals."""
        exact, chrf = self.given_back, self.chrf_score
        lines = [
            f"exactly given back: {exact.share or 0:.1%} ({exact.low or 0:.1%} to {exact.high or 0:.1%}) of {exact.total:,} lines",
            f"chrF {chrf.value:.2f}" + ("" if chrf.low is None else f" ({chrf.low:.2f} to {chrf.high:.2f})") + f"  {chrf.signature}",
            f"loss {self.loss_nats_per_token:.4f} nats a token; perplexity {self.perplexity:.3f}",
        ]
        if self.kl_nats_per_sentence is not None:
            lines.append(f"KL {self.kl_nats_per_sentence:.2f} nats a line")
        return "\n".join(lines)


def score_reconstruction(autoencoder: Autoencoder, lines: Sequence[str]) -> ReconstructionScore:
    """Give every line back, greedily, and score that. Raises UsageError for a text of empty lines."""
    return score_texts(autoencoder.measure(lines))


def score_texts(found: Reconstructions, *, bootstrap: int = 1000) -> ReconstructionScore:
    """The score of what was given back."""
    (chrf,) = evaluate(found.texts, [found.lines], metrics=("chrf",), bootstrap=bootstrap)
    figures = found.figures()
    return ReconstructionScore(
        proportion("exact", found.exact, len(found.lines)),
        chrf,
        figures["loss_nats_per_token"],
        figures["perplexity"],
        found.divergence,
    )
