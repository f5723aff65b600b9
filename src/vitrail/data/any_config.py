"""Training text of any kind, told apart by `kind` or by what it has."""

from typing import Annotated, Any

from pydantic import Discriminator, Tag

from vitrail.data.data_config import DataConfig
from vitrail.data.labels_config import LabelsConfig
from vitrail.data.text_config import TextConfig

AnyData = DataConfig | TextConfig | LabelsConfig
"""Training text of every kind."""

LISTS = {"pairs": "corpora", "text": "text", "labels": "examples"}
"""The field with the training text, by kind."""
_CLASSES: dict[str, type[AnyData]] = {"pairs": DataConfig, "text": TextConfig, "labels": LabelsConfig}


def data_kind(value: Any) -> str:
    """The kind of a configuration or of its table: by default that of the text that it has, else pairs."""
    if isinstance(value, AnyData):
        return value.kind
    if not isinstance(value, dict):
        return "pairs"
    found = next((kind for kind, name in LISTS.items() if name in value), "pairs")
    return str(value.get("kind", found))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]


def data_class(table: dict[str, Any]) -> type[AnyData]:
    """The class of the configuration in a table."""
    return _CLASSES.get(data_kind(table), DataConfig)


AnyDataConfig = Annotated[
    Annotated[DataConfig, Tag("pairs")] | Annotated[TextConfig, Tag("text")] | Annotated[LabelsConfig, Tag("labels")],
    Discriminator(data_kind),
]
"""Text of any kind as a field of a configuration."""
