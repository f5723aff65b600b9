/* Beyond attention: other ways to ask what a translation or a text hangs on, next to attention; and what the decoder would say after each layer. */
import * as charts from "../charts.js";
import * as tools from "../tools.js";
import {h, t} from "../tools.js";
import {chance, spearman, walkGrid} from "./00_shared.js";

const METHODS = ["attention", "gradient_x_input", "integrated_gradients", "occlusion", "value_zeroing"];
const SIGNED = new Set(["gradient_x_input", "integrated_gradients", "occlusion"]);
const NAMES = {
  attention: ["Attention", "Attention"],
  gradient_x_input: ["Gradient × input", "Gradient × entrée"],
  integrated_gradients: ["Integrated gradients", "Gradients intégrés"],
  occlusion: ["Occlusion", "Occultation"],
  value_zeroing: ["Value zeroing", "Annulation des valeurs"],
};
const ON_PAPER = 12; // positions of the lens beside each other on a sheet
const state = {method: null, target: 0};

/** The methods of the record, with their matrices and what they say of themselves. @param {PageRecord} record */
export function methodsOf(record) {
  const told = record.meta.extras?.attribution?.methods ?? {};
  /** @param {string} name @param {string} key */
  const word = (name, key) => told[name]?.[t(key, `${key}_fr`)] ?? null;
  return METHODS.filter((name) => record.has(`attribution.${name}`)).map((name) => ({
    name,
    title: t(NAMES[name][0], NAMES[name][1]),
    says: word(name, "says"),
    unit: word(name, "unit"),
    signed: SIGNED.has(name),
    matrix: record.array(`attribution.${name}`),
  }));
}

// ---- the sentence -------------------------------------------------------------------------------------------------------------------

function caveat() {
  return tools.note("note", t(
    "Attention is not explanation: very different weights can give the same prediction (Jain and Wallace 2019), though whether that makes weights meaningless is disputed (Wiegreffe and Pinter 2019), so the same question is put here in other ways, which need not agree.",
    "L'attention n'est pas une explication : des poids très différents peuvent donner la même prédiction (Jain et Wallace 2019), mais qu'ils soient pour autant vides de sens est contesté (Wiegreffe et Pinter 2019) ; la même question est donc posée ici d'autres façons, qui ne s'accordent pas toujours."));
}

// ---- two matrices beside each other -------------------------------------------------------------------------------------------------

/** @param {PageRecord} record @param {any[]} methods */
function sideBySide(record, methods) {
  const others = methods.filter((one) => one.name !== "attention");
  const attention = methods.find((one) => one.name === "attention");
  if (!others.some((one) => one.name === state.method)) state.method = others[0]?.name ?? null;
  const pictures = h("div", {class: "bey-pair"});
  const draw = () => {
    const shown = [attention, others.find((one) => one.name === state.method)].filter(Boolean);
    const made = shown.map((method, place) => matrixOf(record, method, (row, column) => made[1 - place]?.picture.point(row, column)));
    pictures.replaceChildren(...made.map((one) => one.element));
  };
  draw();
  const pick = tools.choice(t("Next to attention",
    "À côté de l'attention"), others.map(({name, title}) => ({value: name, text: title})), state.method, (name) => {
    state.method = name;
    draw();
  });
  return tools.section(t("Where it looked, and what it hangs on",
    "Où il a regardé, et de quoi cela dépend"), others.length > 1 ? pick : null, pictures);
}

/**
 * One matrix in its frame; pointing at a cell points at the same cell of the other.
 * @param {PageRecord} record @param {any} method @param {(...pointed: any[]) => void} onHover
 */
function matrixOf(record, method, onHover) {
  const rows = record.predictedTokens.map(tools.piece);
  const columns = record.readTokens.map(tools.piece);
  const unit = method.unit ? ` ${method.unit}` : "";
  const picture = charts.heatmap({
    values: method.matrix.data, rows, columns, diverging: method.signed, size: 400, onHover, label: method.title,
    max: method.name === "attention" ? 1 : null,
    rowTitle: record.alone ? t("is expected", "est attendu") : t("target", "cible"), columnTitle: record.alone ? t("was read", "a été lu") : "source",
    describe: (row, column, value) => `${rows[row]} ← ${columns[column]}: ${tools.number(value)}${unit}`,
    hint: !method.signed ? null : record.alone ? t("Blue speaks for the token of the row, orange against it.", "Bleu : pour le token de la ligne ; orange : contre.")
      : t("Blue speaks for the target token, orange against it.", "Bleu : pour le token cible ; orange : contre."),
  });
  const numbers = () => tools.table(["", ...columns],
    rows.map((name, row) => [name, ...Array.from(method.matrix.row(row), (value) => tools.number(value))]), {caption: method.title});
  return {picture, element: h("div", {class: "bey-method"}, h("h4", null, method.title), tools.figure(picture, method.says ?? "", numbers))};
}

// ---- do they agree? -----------------------------------------------------------------------------------------------------------------

/**
 * Spearman's rank correlation of two methods' strengths over the source tokens: the mean over target tokens where it is defined.
 * @param {any} one @param {any} other
 */
function agreement(one, other) {
  const rows = Array.from({length: one.matrix.shape[0]}, (_, row) => [one, other].map((method) => Array.from(method.matrix.row(row), Math.abs)));
  const found = rows.map(([a, b]) => spearman(a, b)).filter(Number.isFinite);
  return found.length ? found.reduce((sum, value) => sum + value, 0) / found.length : NaN;
}

/** @param {PageRecord} record @param {any[]} methods */
function agreementPart(record, methods) {
  if (methods.length < 2) return null;
  const rows = methods.map((one) => [one.title, ...methods.map((other) => shaded(one === other ? 1 : agreement(one, other)))]);
  return tools.section(
    t("Do they agree?", "S'accordent-elles ?"),
    h("p", null, record.alone ? t(
      "Spearman's rank correlation of the strengths (signs left out) over the tokens that were read, averaged over those that were expected: 1 the same order, 0 unrelated.",
      "Corrélation de rang de Spearman des forces (sans les signes) sur les tokens lus, moyennée sur les tokens attendus : 1 le même ordre, 0 sans rapport.") : t(
      "Spearman's rank correlation of the strengths (signs left out) over the source tokens, averaged over the target tokens: 1 the same order, 0 unrelated.",
      "Corrélation de rang de Spearman des forces (sans les signes) sur les tokens source, moyennée sur les tokens cible : 1 le même ordre, 0 sans rapport.")),
    tools.table(["", ...methods.map((one) => one.title)], rows, {caption: t("Rank correlation", "Corrélation de rang")}));
}

/** A correlation on its colour. @param {number} value */
function shaded(value) {
  const colour = tools.divergingRgb(value);
  return h("span", {class: "bey-cell", "data-value": value, style: {background: tools.css(colour), color: tools.inkOn(colour)}}, tools.number(value, 2));
}

// ---- one target word ----------------------------------------------------------------------------------------------------------------

/** @param {PageRecord} record @param {any[]} methods */
function oneWord(record, methods) {
  const body = h("div", {"aria-live": "polite"});
  state.target = Math.min(state.target, record.predictedTokens.length - 1);
  /** @param {any} target */
  const draw = (target) => {
    state.target = target;
    body.replaceChildren(barsOf(record, methods, target));
  };
  draw(state.target);
  return tools.section(
    record.alone ? t("One word", "Un mot") : t("One target word", "Un mot cible"),
    h("p", null, record.alone ? t("Choose a token of the text: what each token before it means to it, method by method.",
      "Choisissez un token du texte : ce que chaque token d'avant est pour lui, méthode par méthode.") : t("Choose a token of the translation: what each source token means to it, method by method.",
      "Choisissez un token de la traduction : ce que chaque token source est pour lui, méthode par méthode.")),
    charts.tokens({tokens: record.predictedTokens, label: record.alone ? t("Tokens of the text", "Tokens du texte") : t("Target tokens", "Tokens cible"), selected: state.target, onSelect: draw}),
    body);
}

/**
 * Source tokens in rows, methods in columns; bars are as long as a share of the method's longest in this row of its matrix.
 * @param {PageRecord} record @param {any[]} methods @param {any} target
 */
function barsOf(record, methods, target) {
  const longest = methods.map((method) => Math.max(...Array.from(method.matrix.row(target), Math.abs)) || 1);
  const rows = record.readTokens.slice(0, record.alone ? target + 1 : undefined).map((token, source) => [
    tools.piece(token),
    ...methods.map((method, place) => bar(method.matrix.at(target, source), longest[place], method.signed)),
  ]);
  const header = [record.alone ? t("was read", "a été lu") : "source", ...methods.map((one) => h("span", null, one.title, one.unit ? h("span", {class: "bey-unit"}, ` ${one.unit}`) : null))];
  const table = tools.table(header, rows, {caption: t(`What “${tools.piece(record.predictedTokens[target])}” hangs on`,
    `De quoi dépend « ${tools.piece(record.predictedTokens[target])} »`)});
  table.classList.add("bey-bars");
  return table;
}

/** A number as exactly as matters beside the longest bar: two digits of that one. @param {number} value @param {number} longest */
function besides(value, longest) {
  const digits = Math.max(0, 1 - Math.floor(Math.log10(longest)));
  if (digits > 5) return tools.number(value);
  return value !== 0 && Math.abs(value) < 0.5 * 10 ** -digits ? "≈ 0" : tools.number(value, digits);
}

/**
 * A bar from the middle to both sides for signed values, from the left for others; negative ones are hatched as well as orange.
 * @param {number} value @param {number} longest @param {boolean} signed
 */
export function bar(value, longest, signed) {
  const share = (Math.abs(value) / longest) * (signed ? 50 : 100);
  const left = signed ? (value < 0 ? 50 - share : 50) : 0;
  return h("span", {class: "bey-line"},
    h("span", {class: signed ? "bey-track bey-signed" : "bey-track"},
      h("span", {class: value < 0 ? "bey-bar bey-against" : "bey-bar", style: {left: `${left}%`, width: `${share}%`}})),
    h("span", {class: "bey-value"}, besides(value, longest)));
}

// ---- the logit lens -----------------------------------------------------------------------------------------------------------------

/** What the lens found, by layer and position. @param {PageRecord} record */
function lensOf(record) {
  const extra = record.meta.extras?.logit_lens;
  const probabilities = record.array("logit_lens.top_probabilities");
  if (!extra?.pieces || !probabilities) return null;
  const [layers, positions, count] = probabilities.shape;
  /** @param {string} name @param {number} layer @param {any} position */
  const number = (name, layer, position) => record.array(`logit_lens.${name}`)?.at(layer, position) ?? NaN;
  return {
    layers, positions,
    /** Of the block that each layer of the lens is read after; null for what the first block reads. */
    blocks: extra.layers.map((name) => record.meta.places.find((place) => place.name === name)?.layer ?? null),
    top: (layer, position) => Array.from({length: count}, (_, rank) => ({piece: extra.pieces[layer][position][rank], probability: probabilities.at(layer, position, rank)})),
    rank: (layer, position) => number("rank", layer, position),
    right: (layer, position) => number("right", layer, position),
    entropy: (layer, position) => number("entropy", layer, position),
    divergence: (layer, position) => number("divergence", layer, position),
  };
}

/** Layer 0 of the lens is what the first block reads. @param {number} block */
function layerName(block) {
  return block === null ? t("before layer 0", "avant la couche 0") : t(`after layer ${block}`, `après la couche ${block}`);
}

/** @param {PageRecord} record */
export function lensPart(record) {
  const lens = lensOf(record);
  if (!lens) return null;
  const detail = h("div", {class: "bey-detail", "aria-live": "polite"});
  /** @param {number} layer @param {any} position */
  const show = (layer, position) => detail.replaceChildren(...lensDetail(record, lens, layer, position));
  const order = Array.from({length: lens.layers}, (_, place) => lens.layers - 1 - place); // the last layer on top, as a stack is drawn
  const cells = order.map((layer) => Array.from({length: lens.positions}, (_, position) => lensCell(lens, layer, position)));
  const names = order.map((layer) => layerName(lens.blocks[layer]));
  const count = tools.state.printing ? Math.ceil(lens.positions / ON_PAPER) : 1;
  const across = Math.ceil(lens.positions / count);
  const bands = Array.from({length: count}, (_, band) => band * across);
  walkGrid(cells, (row, position) => show(order[row], position));
  show(lens.layers - 1, 0);
  const settled = Array.from({length: lens.positions}, (_, position) => firstSettled(lens, position));
  const early = settled.filter((layer) => layer < lens.layers - 1).length;
  return tools.section(
    record.alone || record.reads ? t("What the model would say after each layer", "Ce que le modèle dirait après chaque couche")
      : t("What the decoder would say after each layer", "Ce que le décodeur dirait après chaque couche"),
    h("p", null, t("The logit lens: the last norm and the output matrix applied to what each layer hands on. ", "La lentille logit : la dernière norme et la matrice de sortie appliquées à ce que rend chaque couche. "),
      record.reads ? t("✓ marks the guess, or the token that is asked about.", "✓ marque le token deviné, ou celui dont il s'agit.") : record.alone ? t("✓ marks the token that stands in the text.", "✓ marque le token qui figure dans le texte.")
        : t("✓ marks the token that stands in the translation.", "✓ marque le token qui figure dans la traduction.")),
    h("p", null, t(
      `${early} of ${lens.positions} positions have their token on top before the last layer, and keep it there.`,
      `${early} positions sur ${lens.positions} ont leur token en tête avant la dernière couche, et l'y gardent.`)),
    bands.map((first) => lensTable(record, names, cells, [first, first + across])),
    detail);
}

/**
 * The positions from the first to before the last.
 * @param {PageRecord} record @param {string[]} names @param {any[][]} cells @param {any[]} given
 */
function lensTable(record, names, cells, [first, last]) {
  const heads = record.predictedTokens.slice(first, last).map((token) => h("th", {scope: "col", dir: "auto"}, tools.piece(token)));
  const rows = names.map((name, row) => h("tr", null, h("th", {scope: "row"}, name), cells[row].slice(first, last).map((cell) => h("td", null, cell))));
  return h("div", {class: "table bey-lens", tabindex: 0, role: "region", "aria-label": t("Logit lens", "Lentille logit")},
    h("table", null,
      h("caption", {class: "unseen"}, t("Most probable token by layer and position", "Token le plus probable par couche et position")),
      h("thead", null, h("tr", null, h("td", null), heads)),
      h("tbody", null, rows)));
}

/**
 * The first layer from which on the translation's token is the most probable one; as many as there are layers where it never is.
 * @param {any} lens @param {any} position
 */
function firstSettled(lens, position) {
  let layer = lens.layers;
  while (layer > 0 && lens.rank(layer - 1, position) === 1) layer -= 1;
  return layer;
}

/** @param {any} lens @param {number} layer @param {any} position */
function lensCell(lens, layer, position) {
  const [best] = lens.top(layer, position);
  const right = lens.rank(layer, position) === 1;
  const colour = tools.rgb(best.probability);
  const name = `${layerName(lens.blocks[layer])}, ${t("position",
    "position")} ${position + 1}: ${best.piece} ${chance(best.probability)}${right ? " ✓" : ""}`;
  return h("button", {
    type: "button", class: right ? "bey-top bey-right" : "bey-top", dir: "auto", "aria-label": name,
    style: {background: tools.css(colour), color: tools.inkOn(colour)},
  }, h("span", null, tools.piece(best.piece), right ? " ✓" : ""), h("span", {class: "bey-percent"}, chance(best.probability)));
}

/** @param {PageRecord} record @param {any} lens @param {number} layer @param {any} position */
function lensDetail(record, lens, layer, position) {
  const token = tools.piece(record.predictedTokens[position]);
  const best = lens.top(layer, position).map((one) => `${tools.piece(one.piece)} ${chance(one.probability)}`).join(" · ");
  /** @param {number} value */
  const number = (value) => tools.number(value);
  return [
    h("p", null, h("b", null, `${layerName(lens.blocks[layer])}, ${t("position", "position")} ${position + 1}: `), best),
    h("p", {class: "quiet"}, t(
      `“${token}” has rank ${lens.rank(layer, position)} with ${chance(lens.right(layer, position))}; entropy ${number(lens.entropy(layer, position))} nats; ${number(lens.divergence(layer, position))} nats away from the last layer.`,
      `« ${token} » a le rang ${lens.rank(layer, position)} avec ${chance(lens.right(layer, position))} ; entropie ${number(lens.entropy(layer, position))} nats ; à ${number(lens.divergence(layer, position))} nats de la dernière couche.`)),
  ];
}

/** @type {View} */
export const beyondView = {
  id: "beyond",
  order: 6,
  label: {en: "Beyond attention", fr: "Au-delà de l'attention"},
  available: (record) => !record.reads && (METHODS.some((name) => record.has(`attribution.${name}`)) || record.has("logit_lens.top_probabilities")),
  render(root, record) {
    const methods = methodsOf(record);
    const parts = [caveat()];
    if (methods.length) parts.push(sideBySide(record, methods), oneWord(record, methods), agreementPart(record, methods));
    parts.push(lensPart(record));
    root.append(...parts.filter(Boolean));
  },
};
