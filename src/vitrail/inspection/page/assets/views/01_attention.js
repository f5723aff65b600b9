/* Attention: who reads whom. */
Vitrail.view({
  id: "attention",
  order: 1,
  label: {en: "Attention", fr: "Attention"},
  available: (record) => ["encoder", "decoder", "cross"].some((kind) => record.attentions(kind).length > 0),
  render(root, record, tools) {
    const {layer, place} = record.attentions("cross").at(-1);
    const weights = record.array(`${place}.weights`);
    root.append(tools.section(tools.t(`Cross-attention, layer ${layer}`, `Attention croisée, couche ${layer}`), tools.heatmap({
      values: weights.row(0), rows: record.predictedTokens.map(tools.piece), columns: record.sourceTokens.map(tools.piece),
      label: tools.t("weights of head 0", "poids de la tête 0"), max: 1,
    })));
  },
});
