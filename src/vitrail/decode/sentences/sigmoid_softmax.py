"""What sigmoid and softmax make of the scores of a classifier for a text: where both agree, and where they do not."""

from dataclasses import dataclass

import torch

from vitrail.decode.sentences.classify import Classifier


@dataclass(frozen=True)
class Outputs:
    """The scores z of a text, and the probabilities of each label by both functions.

    Two labels, one score: sigmoid(z) is the softmax over the scores 0 and z. Two labels, two scores: their softmax is the sigmoid of their
    difference. Both hold exactly; what is left is rounding. Labels that may hold together: each sigmoid is for itself, and they need not
    sum to 1; a softmax would make them, and let each label take from the others.
    """

    labels: tuple[str, ...]
    several: bool
    logits: tuple[float, ...]
    """One for each label, or one alone."""
    sigmoid: tuple[float, ...]
    """Of each label: of its score against 0, or for two labels of its score's difference from the other's."""
    softmax: tuple[float, ...]
    """Of each label: over the scores of all; one score alone stands beside a 0."""
    used: str
    """The one that the model was trained with."""

    @property
    def difference(self) -> float:
        """The largest difference of the two for a label."""
        return max(abs(a - b) for a, b in zip(self.sigmoid, self.softmax, strict=True))

    def to_text(self) -> str:
        """A table, and what it shows."""
        width = min(30, max(5, *map(len, self.labels)))
        scores = self.logits if len(self.logits) == len(self.labels) else (0.0, *self.logits)
        rows = zip(self.labels, scores, self.sigmoid, self.softmax, strict=True)
        lines = [
            f"{'label':<{width}}     score   sigmoid   softmax",
            *(f"{a[:width]:<{width}}  {z:8.4f}  {p:8.6f}  {q:8.6f}" for a, z, p, q in rows),
        ]
        sums = f"sums to {sum(self.sigmoid):.4f} with sigmoids, {sum(self.softmax):.4f} with a softmax"
        if len(self.labels) == 2 and not self.several:
            one = "the one score stands beside a 0: " if len(self.logits) == 1 else ""
            equal = (
                f"{one}softmax over two scores is the sigmoid of their difference; they differ by {self.difference:.1e}, which is rounding"
            )
            return "\n".join([*lines, f"trained with {self.used}; {equal}"])
        why = "labels may hold together, so each has its own sigmoid" if self.several else "one label holds, so they share one softmax"
        return "\n".join([*lines, f"trained with {self.used}: {why}; {sums}"])


def compare_outputs(classifier: Classifier, text: str) -> Outputs:
    """Both functions of the scores of a text, in float32 as the model computes them."""
    head, logits = classifier.model.head, classifier.logits([text])[0]
    scores = torch.cat([logits.new_zeros(1), logits]) if len(logits) < len(classifier.labels) else logits
    two = len(scores) == 2 and not head.several
    sigmoid = torch.stack([scores[0] - scores[1], scores[1] - scores[0]]).sigmoid() if two else scores.sigmoid()
    return Outputs(
        classifier.labels, head.several, tuple(logits.tolist()), tuple(sigmoid.tolist()), tuple(scores.softmax(0).tolist()), head.output
    )
