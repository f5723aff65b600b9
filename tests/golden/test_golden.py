"""What was true when it was released is true today: a loss curve, and a model folder of each FORMAT.

After a change that is meant to change them, and that says so in its commit, write them anew with

    PYTHONPATH=src python tests/golden/test_golden.py

A model folder is never written anew, only added with the next FORMAT: yesterday's model must load today. The command leaves one that is
there alone.
"""

import json
from pathlib import Path

import pytest
import torch

from vitrail.data.batches import Batch, collate
from vitrail.data.vocabularies.subwords import EOS, CharacterVocabulary, Vocabularies
from vitrail.decode.search_config import TranslateConfig
from vitrail.decode.translate import Translator
from vitrail.models.base import unique_tensors
from vitrail.models.build import build_model
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.models.model_folder import load_model, save_model
from vitrail.models.stored import FORMAT
from vitrail.native.compiled import has_numba

HERE = Path(__file__).parent
CURVE = HERE / "loss_curve.json"
STEPS = 50
TEXTS = ["abba", "cab", "dada", "face", "bead", "deaf", "a", "fed"]


def vocabularies() -> Vocabularies:
    both = CharacterVocabulary(list("abcdef"))
    return Vocabularies(both, both, joint=True)


def batches() -> list[Batch]:
    """To write words backwards. Drawn by arithmetic, as no library promises its random numbers for ever."""
    number, found = 1, []
    for _ in range(8):
        rows: list[list[int]] = []
        for size in (3, 4, 5, 6, 3, 4):
            row: list[int] = []
            for _ in range(size):
                number = (number * 1103515245 + 12345) % 2**31
                row.append(EOS + 1 + (number >> 16) % 6)
            rows.append(row)
        found.append(collate(rows, [row[::-1] for row in rows]))
    return found


def settle(model: torch.nn.Module) -> None:
    """Initial weights that hang on no random generator: sines, of the size that initialisation would give."""
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            if parameter.ndim == 2:
                angles = torch.arange(parameter.numel(), dtype=torch.float64).view_as(parameter) * (1.7 + number / 9) + number
                parameter.copy_(angles.sin() * (2 / sum(parameter.shape)) ** 0.5 * 1.4)


def learn(config: TransformerConfig, *, steps: int) -> tuple[torch.nn.Module, list[float]]:
    """Nats per token of each step, in float32 without dropout."""
    model = build_model(config, vocabularies())
    settle(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.98), eps=1e-9, weight_decay=0.0)
    material, curve = batches(), []
    for step in range(steps):
        nats, _, tokens = model.train().loss(material[step % len(material)], label_smoothing=0.1)
        optimizer.zero_grad()
        (nats / tokens).backward()
        optimizer.step()
        curve.append(float(nats.detach() / tokens))
    return model, curve


def config_named(name: str) -> TransformerConfig:
    shape = {"encoder_layers": 1, "decoder_layers": 1, "width": 16, "heads": 2, "feed_forward": 32, "dropout": 0.0}
    changes = {"pre": {}, "post": {"norm_position": "post", "tie": "target", "positions": "rotary", "activation": "swiglu", "norm": "rms"}}
    return TransformerConfig.model_validate(shape | changes[name])


@pytest.mark.parametrize("name", ["pre", "post"])
def test_the_loss_falls_as_it_did(name: str) -> None:
    expected = json.loads(CURVE.read_text())[name]
    assert learn(config_named(name), steps=STEPS)[1] == pytest.approx(expected, rel=1e-4)
    assert expected[-1] < 0.9 * expected[0]


@pytest.mark.parametrize("folder", sorted(HERE.glob("format_*/model")), ids=lambda folder: folder.parent.name)
def test_yesterdays_model_translates_as_it_did(folder: Path) -> None:
    expected = json.loads((folder.parent / "expected.json").read_text())
    assert len(expected) == len(TEXTS)
    loaded = load_model(folder)
    assert loaded.facts["languages"] == ["forward", "backward"]
    for engine in ("torch", "native") if has_numba() else ("torch",):
        translator = Translator.load(folder, engine=engine, config=TranslateConfig(precision="fp32"))
        for found in translator.translate(list(expected)):
            assert found.text == expected[found.source]["text"]
            assert found.log_probability == pytest.approx(expected[found.source]["log_probability"], abs=1e-4)


def test_there_is_a_folder_of_every_format() -> None:
    assert sorted(path.name for path in HERE.glob("format_*")) == [f"format_{number}" for number in range(1, FORMAT + 1)]


def write_anew() -> None:
    CURVE.write_text(
        json.dumps({name: [round(x, 6) for x in learn(config_named(name), steps=STEPS)[1]] for name in ("pre", "post")}) + "\n"
    )
    folder = HERE / f"format_{FORMAT}"
    if folder.exists():
        return
    model, _ = learn(config_named("pre"), steps=1500)
    facts = {"languages": ["forward", "backward"], "longest_source": 6}
    save_model(folder / "model", tensors=unique_tensors(model), config=config_named("pre"), vocabularies=vocabularies(), facts=facts)
    found = Translator.load(folder / "model", engine="torch").translate(TEXTS)
    table = {one.source: {"text": one.text, "log_probability": round(one.log_probability, 6)} for one in found}
    (folder / "expected.json").write_text(json.dumps(table, indent=2) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    write_anew()
