"""Which models form an ensemble."""

from collections.abc import Sequence

from vitrail.errors import ModelError


def require_one_vocabulary(digests: Sequence[str]) -> None:
    """Raise ModelError where there are no models, or they have different vocabularies. Args: digests: of the vocabularies of each model."""
    if not digests:
        raise ModelError("an ensemble of no models", expected="at least one model")
    for place, digest in enumerate(digests):
        if digest != digests[0]:
            raise ModelError(
                f"model {place + 1} of the ensemble has vocabulary {digest[:12]}, the first has {digests[0][:12]}",
                expected="models trained with one and the same vocabulary",
                remedy="train the models from the same prepared folder, with different seeds",
            )
