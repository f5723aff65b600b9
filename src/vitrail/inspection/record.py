"""Save, load and export the record of one translation or text; see `contents` for what is in it."""

import io
import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from vitrail.errors import ModelError, UsageError
from vitrail.files import holds, write_file
from vitrail.inspection.collect import Arrays
from vitrail.inspection.contents import FORMAT, Facts, InspectionContents
from vitrail.inspection.page import is_page, to_html
from vitrail.models.places import AttentionType

MOST_BYTES, MOST_FACTS = 1 << 30, 1 << 27
"""Maximal size of an unpacked record, in all and as facts: ten times that of the longest sentence and a large model."""


@dataclass(frozen=True, eq=False, repr=False)
class Inspection(InspectionContents):
    """One sentence and its translation, or one text, and all that a model computed for it."""

    def save(self, path: str | Path) -> None:
        """Write the record: an HTML page if the name ends in .html, a .npz file for `load` if it ends in .npz.

        Raises: UsageError where another file has this name; NotWritten.
        """
        path = Path(path)
        if path.suffix.lower() in (".html", ".htm"):
            write_file(path, to_html(self).encode("utf-8", "replace"), ours=is_page)
        elif path.suffix.lower() == ".npz":
            write_file(path, self.to_npz(), ours=is_record)
        else:
            raise UsageError(f"{path}: unknown file type", expected="a name that ends in .html or .npz")

    def to_npz(self) -> bytes:
        """The record as numpy's .npz; its facts are in `facts.json` beside the arrays. The same record gives the same bytes."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as out:
            out.writestr(_entry("facts.json"), self.facts.model_dump_json(indent=1))
            for name, values in self.arrays.items():
                part = io.BytesIO()
                np.lib.format.write_array(part, np.asarray(values), allow_pickle=False)
                out.writestr(_entry(f"{name}.npy"), part.getvalue())
        return buffer.getvalue()

    @classmethod
    def load(cls, path: str | Path) -> "Inspection":
        """Read a record. Raises ModelError where it is missing, damaged or of a newer format."""
        path = Path(path)
        try:
            with zipfile.ZipFile(path) as content:
                _refuse_large(path, content.infolist())
                document: Any = json.loads(content.read("facts.json"))
                newer = isinstance(document, dict) and type(document.get("format")) is int and document["format"] > FORMAT  # pyright: ignore[reportUnknownMemberType]
                if newer:
                    raise ModelError(f"{path}: format {document['format']}", expected=f"format {FORMAT}", remedy="a newer vitrail reads it")
                facts = Facts.model_validate_json(json.dumps(document))
                arrays: Arrays = {
                    name.removesuffix(".npy"): np.lib.format.read_array(io.BytesIO(content.read(name)), allow_pickle=False)
                    for name in content.namelist()
                    if name.endswith(".npy")
                }
        except (OSError, KeyError, ValueError, ValidationError, EOFError, MemoryError, RuntimeError, *_BAD_ARCHIVE) as error:
            raise ModelError(f"{path}: not a record of an inspection, or damaged: {str(error).splitlines()[0]}") from None
        return cls(facts, arrays)

    def to_bertviz(self) -> dict[str, Any]:
        """The keyword arguments of bertviz' `model_view` and `head_view` for an encoder-decoder: attention as (1, H, T, S) tensors, layer
        by layer, and tokens; for a model without a source, those for a decoder alone: `attention` and `tokens`.

        Raises UsageError for a recurrent model, which has no self-attention to show.
        """
        import torch

        def layers(kind: AttentionType) -> list[torch.Tensor]:
            return [torch.from_numpy(np.ascontiguousarray(layer))[None] for layer in self.weights(kind)]

        if self.sides == ("target",):
            return {"attention": layers("decoder"), "tokens": list(self.target_tokens)}
        return {
            "encoder_attention": layers("encoder"),
            "decoder_attention": layers("decoder"),
            "cross_attention": layers("cross"),
            "encoder_tokens": list(self.source_tokens),
            "decoder_tokens": list(self.target_tokens),
        }

    def _repr_html_(self) -> str:
        """The page inside a notebook's cell."""
        from html import escape

        return (
            f'<iframe title="Vitrail: {escape(self.texts[0])}" srcdoc="{escape(to_html(self), quote=True)}" '
            'sandbox="allow-scripts" style="width:100%;height:46rem;border:0"></iframe>'
        )


is_record = holds(b"PK\x03\x04", b"facts.json")
"""Whether a file is a record that `save` wrote."""

_BAD_ARCHIVE = (zipfile.BadZipFile, zlib.error)
"""Exceptions from a damaged archive or damaged contents; encryption and unknown compression raise RuntimeError."""


def _refuse_large(path: Path, entries: Sequence[zipfile.ZipInfo]) -> None:
    """Refuse an archive that is too large when unpacked."""
    facts = sum(one.file_size for one in entries if one.filename == "facts.json")
    whole = sum(one.file_size for one in entries)
    for size, most, what in ((facts, MOST_FACTS, "of facts"), (whole, MOST_BYTES, "unpacked")):
        if size > most:
            raise ModelError(f"{path}: a record of {size:,} bytes {what}", expected=f"at most {most:,}")


def _entry(name: str) -> zipfile.ZipInfo:
    """A file in an archive, with a fixed time stamp."""
    info = zipfile.ZipInfo(name)
    info.compress_type = zipfile.ZIP_DEFLATED
    return info
