"""The noise of a denoising autoencoder, as a configuration."""

from pydantic import Field

from vitrail.config import Config


class NoiseConfig(Config):
    """Noise of a denoising autoencoder: what is done to a sentence before it is read, in this order."""

    shuffling: int = Field(default=0, ge=0, le=1000)
    """Words move by at most this many places (Lample et al. 2018 have 3). 0: none moves."""
    deletion: float = Field(default=0.0, ge=0, lt=1)
    """Share of words that are left out; one always stays."""
    masking: float = Field(default=0.0, ge=0, lt=1)
    """Share of words that are hidden, each behind one mask, which is <unk>."""
    infilling: float = Field(default=0.0, ge=0, lt=1)
    """Share of words that are hidden in spans of three on average, each span behind one mask (Lewis et al. 2020)."""
    whole_words: bool = True
    """Whether all this is done to words, or else to single tokens."""
    decoder_input: float = Field(default=0.0, ge=0, le=1)
    """Share of tokens that are hidden, too, where the decoder reads what it has written so far, so that it relies on the vector (word
    dropout, Bowman et al. 2016)."""

    @property
    def any(self) -> bool:
        """Whether anything is done."""
        return any((self.shuffling, self.deletion, self.infilling, self.masking, self.decoder_input))
