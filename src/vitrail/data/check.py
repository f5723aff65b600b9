"""Look at the beginnings of all texts together before anything is made of them: what no training should begin with is refused or told."""

from collections.abc import Callable

from vitrail.data.setup import DataConfig


def check_texts(config: DataConfig, *, say: Callable[[str], None]) -> None:
    """Tell how texts are read where that was guessed."""
    for _, text in config.texts():
        if told := text.describe():
            say(told)
