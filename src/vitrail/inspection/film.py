"""The training film: the same probe sentences looked at after every validation of a training, and what became of them.

The record, `extras["film"]` of an inspection and `Film.to_record()`; F frames, in the order of their steps:
    format        1
    steps         [F]
    scores        {name: [F numbers or null]}, what the validations gave: dev_bleu, dev_loss_nats_per_token, ...
    probes        [{source, reference, source_tokens: [S texts, <eos> last], target_tokens: [T texts, <eos> last: what is predicted]}]
    translations  [probe][frame] -> text, found greedily
    losses        [probe][frame] -> nats per token of the reference
    attention     [probe][frame][layer][t][s] -> cross-attention while the reference is read (row t predicts target_tokens[t]), mean of
                  the heads, in per cent 0-100 as whole numbers; [] for a probe that is too long, and for models without attention
    entropies     {"encoder" | "decoder" | "cross": [layer][head][F]}: how widely each head looks, the mean over the rows of its weights of
                  entropy / log(positions that may be read): 0 one position alone, 1 all alike. Kinds that a model lacks are left out
    gradients     {places: [names of groups of weights, input first], norms: [place][F]}: ||dL/dW||, L the loss per token of the references
    norms         [{place, kind: "layer" | "rms" | "batch", input: M, output: M, running: R or null}], each norm of the model, with
                  M = {mean: [F], variance: [F]   over all real tokens and features
                       shift: [F]                 how far features moved since the frame before: |change of mean| / deviation there, the
                                                  mean over `UNITS` features; null at the first
                       units: [unit][F] -> [mean, deviation]   of the first few features by themselves}
                  R = {mean_drift: [F], variance_drift: [F]}   batch norm's running statistics against those of the probe batch itself:
                      |mean - running mean| / running deviation and |log(variance / running variance)|, means over all features
Numbers that were not finite are null. Where a film is long, frames are left out evenly; the first and the last stay.
"""
