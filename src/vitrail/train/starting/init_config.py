"""Settings of a start from other models."""

from pathlib import Path

from pydantic import field_validator

from vitrail.config import Config
from vitrail.data.preparing.paths import full_name
from vitrail.models.transfer import ROLES, Role


class InitConfig(Config):
    """One part of a model that is taken from another one, before the training starts."""

    role: Role
    """What is taken: encoder, decoder, embeddings (or source_embeddings, target_embeddings), or all."""
    folder: Path
    """The folder of a run or of a model, of any kind; for embeddings also word vectors, a folder or a file."""
    freeze: bool = False
    """Leave what was taken as it is: it gets no update, and computes as it does after training, without dropout."""

    @field_validator("folder")
    @classmethod
    def _named(cls, folder: Path) -> Path:
        if folder == Path():
            raise ValueError("no folder; write for example encoder=runs/bert")
        return folder


def in_order(parts: tuple[InitConfig, ...]) -> tuple[InitConfig, ...]:
    """The parts as they are taken: `all` first, embeddings last."""
    return tuple(sorted(parts, key=lambda part: ROLES.index(part.role)))


def with_full_folders(parts: tuple[InitConfig, ...]) -> tuple[InitConfig, ...]:
    """The same with absolute names, so that they are found from any folder."""
    return tuple(part.model_copy(update={"folder": full_name(part.folder)}) for part in parts)
