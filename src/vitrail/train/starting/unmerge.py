"""The base of a run with adapters, as it was taken: its checkpoint has the matrices beside the adapters."""

from pathlib import Path

from vitrail.errors import ModelError
from vitrail.models.adapters import digest_of, load_adapter
from vitrail.models.model_folder import load_folder, save_model
from vitrail.nn.lora import base_of
from vitrail.train.resume import checkpoints


def unmerge_run(run: Path, output: Path) -> None:
    """Write the model that a run's adapter belongs to. Raises ModelError where the run has no adapter by itself, or no checkpoint."""
    adapter, found = load_adapter(run), load_folder(run)
    checkpoint = checkpoints.load_latest(run, expected={"model": None})
    if checkpoint is None:
        raise ModelError(f"{run}: has no checkpoint, which keeps the base", expected="the folder of a run, with state/")
    tensors = base_of(checkpoint.tensors["model"])
    if digest_of(tensors) != adapter.base:
        raise ModelError(f"{run}: its checkpoint is not of the base with the digest {adapter.base[:12]}", remedy="copy the run again")
    facts = {name: value for name, value in found.facts.items() if name not in ("init", "step") and not isinstance(value, float)}
    save_model(output, tensors=tensors, config=found.config, vocabularies=found.vocabularies, facts=facts)
