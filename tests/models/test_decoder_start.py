"""Decoders that begin from zeros."""

import torch

from vitrail.data.vocabularies.subwords import EOS, SOS
from vitrail.models.configs.transformer import TransformerConfig
from vitrail.models.kinds.transformer import Transformer

SHAPE = {"encoder_layers": 1, "decoder_layers": 2, "width": 16, "heads": 2, "feed_forward": 24, "dropout": 0.0}


def made(start: str) -> Transformer:
    torch.manual_seed(2)
    config = TransformerConfig.model_validate(SHAPE | {"decoder_start": start})
    return Transformer(config, source_vocabulary=12, target_vocabulary=12).eval()


def test_the_first_input_is_the_first_position_and_nothing_else() -> None:
    model, token = made("zeros"), made("token")
    source, target = torch.tensor([[5, 6, EOS]]), torch.tensor([[SOS, 7, 8]])
    with torch.no_grad():
        inputs: list[torch.Tensor] = []
        handle = model.target_input.register_forward_hook(lambda module, args, output: inputs.append(output))
        before = model.decode(target, model.encode(source))
        handle.remove()
        assert torch.equal(inputs[0][0, 0], model.target_positions(torch.zeros(1, 1, 16))[0, 0])
        others = token.decode(target, token.encode(source))
        assert not torch.allclose(before, others, atol=1e-3)
        # Which vector <s> has says nothing here; there it does.
        for one in (model, token):
            one.target_embedding.weight[SOS] += torch.arange(16)
        assert torch.equal(before, model.decode(target, model.encode(source)))
        assert not torch.allclose(others, token.decode(target, token.encode(source)), atol=1e-3)
        # With a row of zeros both are the same.
        for one in (model, token):
            one.target_embedding.weight[SOS] = 0
        assert torch.equal(before, token.decode(target, token.encode(source)))
