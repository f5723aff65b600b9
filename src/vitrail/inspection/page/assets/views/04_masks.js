/* Masks as they were used: what each position may read, and whether any weight went where none may go. */
import * as charts from "../charts.js";
import {KINDS} from "../record.js";
import * as tools from "../tools.js";
import {h, t} from "../tools.js";
import {sidesOf} from "./00_attention.js";

const OPEN = 1;
const LATER = 0;
const PADDING = -1;

/** Largest |sum - 1| that rounding explains: float32 has 24 bits, a row up to 256 terms. */
const ROUNDING = 1e-4;

/**
 * What a cell is, from a mask: columns that nobody may read are padding, what else is masked is later.
 * @param {Numbers} keep @param {number} rows @param {number} columns
 */
function cellsOf(keep, rows, columns) {
  const read = Array.from({length: columns}, (_, column) => Array.from({length: rows}, (_, row) => keep[row * columns + column]).some(Boolean));
  return Array.from({length: rows * columns}, (_, place) => (keep[place] ? OPEN : read[place % columns] ? LATER : PADDING));
}

/** Colours of the three sorts of cells: glass, lead, and grey. @param {number} value */
function paint(value) {
  const dark = tools.isDark();
  if (value === OPEN) return dark ? [52, 100, 168] : [168, 199, 230];
  if (value === LATER) return dark ? [34, 37, 46] : [238, 234, 224];
  return dark ? [58, 62, 72] : [205, 200, 188];
}

const GLYPHS = {[OPEN]: "", [LATER]: "×", [PADDING]: "▪"};

/** @param {number} value */
function cellWords(value) {
  if (value === OPEN) return t("may be read", "peut être lu");
  return value === LATER ? t("masked: later", "masqué : plus tard") : t("masked: padding", "masqué : remplissage");
}

/** A mask as a grid between names. @param {{cells: number[], rows: any, columns: any, title: any, caption: string, size?: number}} given */
function maskGrid({cells, rows, columns, title, caption, size = 290}) {
  const open = cells.filter((cell) => cell === OPEN).length;
  const map = charts.heatmap({
    values: cells, rows, columns, label: title, size, hint: "", paint: (value) => paint(value),
    glyph: (row, column) => GLYPHS[cells[row * columns.length + column]],
    describe: (row, column, value) => `${rows[row]} → ${columns[column]}: ${cellWords(value)}`,
  });
  const lines = () => h("ul", {class: "mask-text"}, rows.map((row, at) => {
    const may = columns.filter((_, column) => cells[at * columns.length + column] === OPEN);
    return h("li", {dir: "auto"}, `${row}: ${may.length === columns.length ? t("all", "tous") : may.join(" ") || "–"}`);
  }));
  const counted = t(`${open} of ${cells.length} cells may be read.`, `${open} cases sur ${cells.length} peuvent être lues.`);
  return h("div", {class: "mask"}, h("h4", null, title), tools.figure(map, `${caption} ${counted}`, lines));
}

function key() {
  return h("ul", {class: "mask-key"}, [OPEN, LATER, PADDING].map((value) => h("li", null,
    h("span", {class: "swatch", "aria-hidden": "true", style: {background: tools.css(paint(value)), color: tools.inkOn(paint(value))}}, GLYPHS[value]),
    cellWords(value))));
}

/**
 * Cells of an attention that are masked, or later in the decoder, and yet have a weight: [{head, row, column, weight}].
 * @param {PageRecord} record @param {string} place @param {boolean} causal
 */
function leaks(record, place, causal) {
  const weights = record.array(`${place}.weights`);
  const keep = record.array(`${place}.keep`);
  const [heads, rows, columns] = weights.shape;
  const found = [];
  for (let head = 0; head < heads; head += 1) {
    weights.row(head).forEach((weight, at) => {
      const [row, column] = [Math.floor(at / columns), at % columns];
      const shut = (keep !== null && !keep.data[at]) || (causal && column > row);
      if (shut && weight !== 0) found.push({head, row, column, weight});
    });
  }
  return found.sort((one, other) => other.weight - one.weight);
}

/**
 * What the checks of all layers of a kind come to. The numbers are of the weights before any rounding.
 * @param {PageRecord} record @param {Kind} kind @param {{rows: string[], columns: string[]}} names
 */
function verdict(record, kind, names) {
  const layers = record.attentions(kind);
  const checks = layers.map(({place}) => record.meta.checks[place]);
  /** @param {any} what */
  const most = (what) => Math.max(...checks.map((check) => check[what] ?? 0));
  const all = layers.flatMap(({layer, place}) => leaks(record, place, kind === "decoder").map((leak) => ({...leak, layer})));
  const worst = all.sort((one, other) => other.weight - one.weight)[0];
  const leaking = most("masked") !== 0 || most("later") !== 0;
  const where = worst === undefined ? "" : t(
    ` For instance ${names.rows[worst.row]} reads ${names.columns[worst.column]} with weight ${tools.number(worst.weight)} (layer ${worst.layer}, head ${worst.head}).`,
    ` Par exemple, ${names.rows[worst.row]} lit ${names.columns[worst.column]} avec un poids de ${tools.number(worst.weight)} (couche ${worst.layer}, tête ${worst.head}).`);
  const even = most("rows") <= ROUNDING;
  return h("div", {class: "mask-verdict"},
    leaking
      ? tools.note("bad", h("strong", null, t("Leak. ", "Fuite. ")), t(
        `A position that may not be read has a weight of up to ${tools.number(Math.max(most("masked"), most("later")))}.`,
        `Une position qui ne peut pas être lue a un poids allant jusqu'à ${tools.number(Math.max(most("masked"), most("later")))}.`), where)
      : tools.note("good", hasMasked(record, layers)
        ? t("No leak: every masked cell has a weight of exactly 0, in every layer and head.", "Aucune fuite : chaque case masquée a un poids d'exactement 0, dans chaque couche et chaque tête.")
        : t("No cell is masked, so nothing can leak.", "Aucune case n'est masquée : rien ne peut fuir.")),
    tools.note(even ? "good" : "bad", even
      ? t(`Every row sums to 1, within ${tools.number(most("rows"))}.`, `Chaque ligne a pour somme 1, à ${tools.number(most("rows"))} près.`)
      : t(`A row does not sum to 1: it is off by ${tools.number(most("rows"))}.`, `Une ligne n'a pas pour somme 1 : l'écart est de ${tools.number(most("rows"))}.`)),
    tools.folded(t("Layer by layer", "Couche par couche"), () => tools.table(
      [t("layer", "couche"), t("largest |row sum − 1|", "plus grand |somme − 1|"), t("largest masked weight", "plus grand poids masqué"), t("largest weight on a later token", "plus grand poids vers un token ultérieur")],
      layers.map(({layer}, at) => [String(layer), tools.number(checks[at].rows), tools.number(checks[at].masked), checks[at].later === null ? "–" : tools.number(checks[at].later)]))));
}

/** @param {PageRecord} record @param {any[]} layers */
function hasMasked(record, layers) {
  return layers.some(({place}) => record.array(`${place}.keep`)?.data.some((value) => !value));
}

/**
 * The largest weight of any layer and head at each cell, leaks ringed.
 * @param {PageRecord} record @param {Kind} kind @param {{rows: string[], columns: string[]}} names
 */
function largestWeights(record, kind, names) {
  const layers = record.attentions(kind);
  const [, rows, columns] = record.array(`${layers[0].place}.weights`).shape;
  const most = new Float64Array(rows * columns);
  for (const {place} of layers) {
    const weights = record.array(`${place}.weights`);
    for (let head = 0; head < weights.shape[0]; head += 1) weights.row(head).forEach((weight, at) => (most[at] = Math.max(most[at], weight)));
  }
  const ringed = layers.flatMap(({place}) => leaks(record, place, kind === "decoder").map(({row, column}) => [row, column]));
  const title = t("What was read", "Ce qui a été lu");
  const map = charts.heatmap({
    values: most, rows: names.rows, columns: names.columns, label: title, size: 290, hint: "", max: 1, marks: ringed,
    glyph: (row, column) => (ringed.some(([r, c]) => r === row && c === column) ? "!" : ""),
  });
  return h("div", {class: "mask"}, h("h4", null, title), tools.figure(map, t(
    "The largest weight at each cell, over all layers and heads.", "Le plus grand poids de chaque case, toutes couches et têtes confondues."),
  () => tools.table(["", ...names.columns], names.rows.map((row, at) => [row, ...names.columns.map((_, column) => tools.number(most[at * columns + column]))]))));
}

/** @param {PageRecord} record */
const sorts = (record) => ({
  encoder: record.reads ? [t("Self-attention", "Auto-attention"), t(
    "Every token may read the whole text, before it and after it. Only padding would be masked, and one text by itself has none.",
    "Chaque token peut lire tout le texte, avant et après lui. Seul le remplissage serait masqué, et un texte seul n'en a pas.")] : [t("Encoder self-attention", "Auto-attention de l'encodeur"), t(
    "Every source token may read the whole sentence. Only padding would be masked, and one sentence by itself has none.",
    "Chaque token source peut lire toute la phrase. Seul le remplissage serait masqué, et une phrase seule n'en a pas.")],
  decoder: record.alone ? [t("Masked self-attention", "Auto-attention masquée"), t(
    "A token may read itself and what stands before it, so that training, which sees the whole text at once, never looks ahead.",
    "Un token peut lire lui-même et ce qui le précède : l'entraînement, qui voit tout le texte d'un coup, ne regarde jamais en avant.")] : [t("Decoder masked self-attention", "Auto-attention masquée du décodeur"), t(
    "A token may read itself and what stands before it, so that training, which sees the whole translation at once, never looks ahead.",
    "Un token peut lire lui-même et ce qui le précède : l'entraînement, qui voit toute la traduction d'un coup, ne regarde jamais en avant.")],
  cross: [t("Cross-attention", "Attention croisée"), t(
    "Every token of the translation may read the whole source; padding of the source would be masked.",
    "Chaque token de la traduction peut lire toute la source ; le remplissage de la source serait masqué.")],
});

/** @param {PageRecord} record @param {Kind} kind */
function kindSection(record, kind) {
  const {place} = record.attentions(kind)[0];
  const sides = sidesOf(record, kind);
  const names = {rows: sides.rows.map(tools.piece), columns: sides.columns.map(tools.piece)};
  const keep = record.array(`${place}.keep`);
  const [title, sentence] = sorts(record)[kind];
  return tools.section(title,
    h("p", null, sentence),
    h("div", {class: "masks"},
      keep === null ? null : maskGrid({
        cells: cellsOf(keep.data, keep.shape[0], keep.shape[1]), ...names, title: t("The mask as used", "Le masque tel qu'employé"),
        caption: t("Rows read columns.", "Les lignes lisent les colonnes."),
      }),
      largestWeights(record, kind, names),
      verdict(record, kind, names)));
}

/** How much padding the demonstration has; it outlives a redraw. */
const beside = {padding: 2};

/** The same translation beside a longer one: padding mask, causal mask, and their sum, by the rule. @param {PageRecord} record */
function demonstration(record) {
  const tokens = record.targetTokens.slice(0, 12).map(tools.piece);
  const grids = h("div", {class: "masks"});
  function draw() {
    const names = [...tokens, ...Array(beside.padding).fill("<pad>")];
    const size = names.length;
    /** @param {any} rule */
    const make = (rule) => Array.from({length: size * size}, (_, place) => rule(Math.floor(place / size), place % size));
    /** @param {number} row @param {number} column */
    const padding = (row, column) => (column >= tokens.length ? PADDING : OPEN);
    /** @param {number} row @param {number} column */
    const causal = (row, column) => (column > row ? LATER : OPEN);
    /** @param {any} rule @param {any} title @param {string} caption */
    const grid = (rule, title, caption) => maskGrid({cells: make(rule), rows: names, columns: names, title, caption, size: 240});
    grids.replaceChildren(
      grid(padding, t("Padding", "Remplissage"), t("Nobody reads <pad>.", "Personne ne lit <pad>.")),
      grid(causal, t("Causal", "Causal"), t("Nobody reads ahead.", "Personne ne lit en avant.")),
      grid((row, column) => (padding(row, column) === PADDING ? PADDING : causal(row, column)), t("Their sum", "Leur somme"),
        record.alone ? t("What the model uses.", "Ce qu'emploie le modèle.") : t("What the decoder uses.", "Ce qu'emploie le décodeur.")));
  }
  draw();
  return tools.section(t("Beside a longer sentence", "À côté d'une phrase plus longue"),
    h("p", null, t(
      "In a batch, shorter sentences are padded to the length of the longest. A mask is added to the scores before softmax: 0 where a position may be read, the lowest number where it may not, so that e^(score + mask) is exactly 0. Masks add up. These are drawn by that rule, not recorded.",
      "Dans un lot, les phrases courtes sont remplies jusqu'à la longueur de la plus longue. Un masque s'ajoute aux scores avant softmax : 0 là où une position peut être lue, le plus petit nombre là où elle ne le peut pas, si bien que e^(score + masque) vaut exactement 0. Les masques s'additionnent. Ceux-ci sont tracés selon cette règle, non enregistrés.")),
    tools.slider(t("Padding", "Remplissage"), {min: 0, max: 5, value: beside.padding}, (value) => {
      beside.padding = value;
      draw();
    }),
    grids);
}

/** @type {View} */
export const masksView = {
  id: "masks",
  order: 4,
  label: {en: "Masks", fr: "Masques"},
  available: (record) => KINDS.some((kind) => record.attentions(kind).length > 0),
  render(root, record) {
    /** @type {Kind[]} */
    const all = ["decoder", "encoder", "cross"];
    const kinds = all.filter((kind) => record.attentions(kind).length > 0);
    root.append(key(), ...kinds.map((kind) => kindSection(record, kind)));
    if (kinds.includes("decoder")) root.append(demonstration(record));
  },
};
