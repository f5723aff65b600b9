"""TransformerLens and bertviz read the exported Hugging Face folder, and see the attention that `vitrail inspect` computes."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from exits import pieces, program, saved

from vitrail import cli
from vitrail.data.vocabularies.subwords import EOS, SOS
from vitrail.decode.forced import forced_decode, make_batch
from vitrail.models.model_folder import load_model
from vitrail.models.places import attentions
from vitrail.nn.probe import trace

pytest.importorskip("transformers")

SEEN = """
import json, sys
import torch
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoModelForSeq2SeqLM

folder, out = sys.argv[1:3]
source, target = (torch.tensor([json.loads(one)]) for one in sys.argv[3:5])
bridge = TransformerBridge.boot_transformers(folder)
with torch.inference_mode():
    logits, cache = bridge.run_with_cache(source, decoder_input=target, return_type="logits")
names = {"encoder": "encoder_blocks.{}.attn", "decoder": "decoder_blocks.{}.self_attn", "cross": "decoder_blocks.{}.cross_attn"}
layers = bridge.cfg.n_layers
found = {
    what: [cache[name.format(layer) + ".hook_pattern"][0].tolist() for layer in range(layers)] for what, name in names.items()
}
found["logits"] = logits[0].tolist()

from bertviz import head_view

model = AutoModelForSeq2SeqLM.from_pretrained(folder, attn_implementation="eager").eval()
with torch.inference_mode():
    there = model(input_ids=source, decoder_input_ids=target, output_attentions=True)
page = head_view(
    encoder_attention=there.encoder_attentions, decoder_attention=there.decoder_attentions, cross_attention=there.cross_attentions,
    encoder_tokens=[f"s{n}" for n in range(source.shape[1])], decoder_tokens=[f"t{n}" for n in range(target.shape[1])],
    html_action="return",
)
found["drawn"] = len(page.data)
found["bertviz"] = [layer[0].tolist() for layer in there.cross_attentions]
with open(out, "w") as file:
    json.dump(found, file)
"""


@pytest.mark.slow
@pytest.mark.parametrize("norm_position", ["pre", "post"])
def test_attention_there_is_that_of_inspect(tmp_path: Path, norm_position: str) -> None:
    python = program("lens")
    model = saved(tmp_path / "model", {"norm_position": norm_position}, pieces())
    assert cli.run(["export", str(model), "--to", "huggingface", "-o", str(tmp_path / "hf"), "--no-check"]) == 0
    loaded = load_model(model)
    source, target = (loaded.vocabularies.source.encode(text) for text in ("the small dog eats", "le petit chien"))
    places = {one.weights: one for one in attentions(loaded.model.places())}
    with trace(loaded.model, only=set(places).__contains__) as seen, torch.inference_mode():
        forced_decode(loaded.model, make_batch(loaded.model, [source], [target]))
    rows = [json.dumps([*source, EOS]), json.dumps([SOS, *target])]
    quiet = os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HOME": str(tmp_path), "WANDB_MODE": "disabled"}
    command = [str(python), "-c", SEEN, str(tmp_path / "hf"), str(tmp_path / "seen.json"), *rows]
    done = subprocess.run(command, env=quiet, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "seen.json").read_text())
    for name, one in places.items():
        ours = seen[name][0][0].numpy()
        np.testing.assert_allclose(found[one.kind][one.layer], ours, atol=1e-5)
        if one.kind == "cross":
            np.testing.assert_allclose(found["bertviz"][one.layer], ours, atol=1e-5)
    assert len(places) == 6 and found["drawn"] > 1000 and np.ptp(found["cross"]) > 0.01
