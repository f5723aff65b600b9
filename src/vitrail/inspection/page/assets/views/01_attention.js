/* Attention: who reads whom, in every layer and head. */
import * as charts from "../charts.js";
import {KINDS} from "../record.js";
import * as tools from "../tools.js";
import {h, t} from "../tools.js";
import {entropy, groupsOf, matrixOf, regroup} from "./00_attention.js";
import {attentionLines} from "./00_attention_lines.js";

/** What is looked at; it outlives a redraw. head: a number, "mean" or "rollout". pinned: [row|null, column|null]. */
/** @type {{kind: Kind, layer: number, head: number | "mean" | "rollout", byWord: boolean, pinned: number[], focus: string}} */
const looked = {kind: null, layer: null, head: "mean", byWord: false, pinned: [null, null], focus: null};

/** @param {PageRecord} record */
function settle(record) {
  const kinds = KINDS.filter((kind) => record.attentions(kind).length > 0);
  if (!kinds.includes(looked.kind)) Object.assign(looked, {kind: kinds.includes("cross") ? "cross" : kinds[0], layer: null});
  const layers = record.attentions(looked.kind);
  const at = layers.find((one) => one.layer === looked.layer) ?? layers.at(-1);
  looked.layer = at.layer;
  if (at.heads === 1 && typeof looked.head === "number") looked.head = 0;
  if (at.heads === 1 && looked.head === "mean") looked.head = 0;
  if (typeof looked.head === "number" && looked.head >= at.heads) looked.head = 0;
  if (looked.head === "rollout" && looked.kind === "cross") looked.head = "mean";
  return kinds;
}

const kindWords = () => ({
  encoder: t("encoder self", "auto, encodeur"),
  decoder: t("decoder masked self", "auto masquée, décodeur"),
  cross: t("cross", "croisée"),
});

/** One sentence on what the rows are. */
/** @param {PageRecord} record */
const kindSentence = (record) => ({
  encoder: record.reads ? t("Each token reads every token, itself included.", "Chaque token lit tous les tokens, lui-même compris.") : t(
    "Each source token reads every source token, itself included.",
    "Chaque token source lit tous les tokens source, lui-même compris."),
  decoder: record.alone ? t(
    "Each token of the text reads itself and those before it; the later ones are masked.",
    "Chaque token du texte se lit lui-même et ceux qui le précèdent ; les suivants sont masqués.") : t(
    "Each token of the translation reads itself and those before it; the later ones are masked.",
    "Chaque token de la traduction se lit lui-même et ceux qui le précèdent ; les suivants sont masqués."),
  cross: t(
    "Each row is the token about to be written; it reads the source.",
    "Chaque ligne est le token sur le point d'être écrit ; il lit la source."),
});

/** @param {{layer: number, head: number | "mean" | "rollout"}} given */
function headName({layer, head}) {
  if (head === "mean") return t(`Layer ${layer}, mean of the heads`, `Couche ${layer}, moyenne des têtes`);
  if (head === "rollout") return t(`Rollout up to layer ${layer}`, `Cumul jusqu'à la couche ${layer}`);
  return t(`Layer ${layer}, head ${head}`, `Couche ${layer}, tête ${head}`);
}

/**
 * The heads of every layer as small pictures, each a button; arrows move between them.
 * @param {PageRecord} record @param {(...chosen: any[]) => void} onChoose
 */
function grid(record, onChoose) {
  const layers = record.attentions(looked.kind);
  const heads = Math.max(...layers.map((one) => one.heads));
  /** @type {("mean" | "rollout")[]} */
  const extra = heads > 1 ? ["mean"] : [];
  if (looked.kind !== "cross") extra.push("rollout");
  /** @type {(number | "mean" | "rollout")[]} */
  const columns = [...Array(heads).keys(), ...extra];
  const width = Math.max(34, Math.min(54, Math.floor(330 / columns.length) - 10));
  const cells = layers.map(({layer}) => columns.map((head) => pane(record, {layer, head, width, onChoose})));
  const title = {mean: t("mean", "moy."), rollout: t("rollout", "cumul")};
  const wide = 56 + columns.length * (width + 10);
  const element = h("div", {class: "scroll", style: {width: `${wide}px`}}, h("div", {
    class: "attention-grid", role: "group", "aria-label": t("Heads of every layer", "Têtes de toutes les couches"),
    style: {"grid-template-columns": `auto repeat(${columns.length}, ${width + 8}px)`},
  },
  h("span", {class: "axis corner-name"}, t("layer", "couche")),
  columns.map((head) => h("span", {class: "axis"}, title[head] ?? (heads > 1 ? `${width < 44 ? "" : t("head ", "tête ")}${head}` : t("head 0", "tête 0")))),
  cells.map((line, row) => [h("span", {class: "axis side-name"}, String(layers[row].layer)), line])));
  rove(cells);
  return element;
}

/**
 * @param {PageRecord} record
 * @param {{layer: number, head: number | "mean" | "rollout", width: number, onChoose: (...chosen: any[]) => void}} given
 */
function pane(record, {layer, head, width, onChoose}) {
  const {values, width: across} = matrixOf(record, {kind: looked.kind, layer, head});
  const nats = entropy(values, across);
  const name = headName({layer, head});
  const tall = Math.round(width * Math.max(0.45, Math.min(1.4, values.length / across / across)));
  return h("button", {
    type: "button", class: "attention-pane", "aria-pressed": String(layer === looked.layer && head === looked.head),
    "data-head": `${layer}.${head}`, title: name,
    "aria-label": t(`${name}, entropy ${tools.number(nats, 2)} nats`, `${name}, entropie ${tools.number(nats, 2)} nats`),
    onclick: () => onChoose(layer, head),
  }, charts.thumbnail(values, values.length / across, across, {width, height: tall, max: 1}), h("span", {class: "entropy"}, tools.number(nats, 2)));
}

/** One stop of the tab key for all; arrows move. @param {HTMLElement[][]} cells */
function rove(cells) {
  const all = cells.flat();
  /** @param {HTMLElement} cell */
  const own = (cell) => all.forEach((one) => (one.tabIndex = one === cell ? 0 : -1));
  own(all.find((cell) => cell.getAttribute("aria-pressed") === "true") ?? all[0]);
  cells.forEach((line, row) => line.forEach((cell, column) => cell.addEventListener("keydown", (event) => {
    const to = {ArrowUp: [row - 1, column], ArrowDown: [row + 1, column], ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1]}[event.key];
    const next = to === undefined ? undefined : cells[to[0]]?.[to[1]];
    if (to !== undefined) event.preventDefault();
    if (next === undefined) return;
    own(next);
    next.focus();
  })));
}

/**
 * What a row reads, or who reads a column, in words: the largest weights first.
 * @param {{matrix: Float64Array, rows: string[], columns: string[]}} given @param {any} row @param {any} column
 */
function inWords({matrix, rows, columns}, row, column) {
  /** @param {string[]} names @param {(place: number) => number} weightOf */
  const list = (names, weightOf) => names.map((name, place) => ({name, weight: weightOf(place)})).sort((one, other) => other.weight - one.weight).slice(0, 5)
    .filter(({weight}) => weight >= 0.0005).map(({name, weight}) => `${name} ${tools.number(weight)}`).join("\u2003");
  /** @param {any} from @param {any} to */
  const at = (from, to) => matrix[from * columns.length + to];
  if (row !== null && column !== null) {
    const says = t("reads", "lit");
    return `${rows[row]} ${says} ${columns[column]}: ${tools.number(at(row, column))}`;
  }
  if (row !== null) return `${rows[row]} ${t("reads", "lit")}\u2003${list(columns, (place) => at(row, place))}`;
  if (column !== null) return `${columns[column]} ${t("is read by", "est lu par")}\u2003${list(rows, (place) => at(place, column))}`;
  return t("Point at a token or a cell, or move with the keyboard; a click keeps it.",
    "Pointez un token ou une case, ou utilisez le clavier ; un clic le retient.");
}

/** One head large: as lines and as a matrix that answer to each other. @param {PageRecord} record */
function large(record) {
  const {values, width} = matrixOf(record, looked);
  const grouped = groupsOf(record, looked.kind, looked.byWord, tools.piece);
  const matrix = regroup(values, width, grouped.rows, grouped.columns);
  const shown = {matrix, rows: grouped.rows.map((one) => one.name), columns: grouped.columns.map((one) => one.name)};
  const longest = Math.max(shown.rows.length, shown.columns.length);
  const name = headName(looked);
  const told = h("output", {class: "live attention-told", "aria-live": "polite", dir: "auto"});
  const titles = {rowTitle: looked.kind === "cross" ? t("is written", "est écrit") : t("reads", "lit"), columnTitle: t("is read", "est lu")};
  /** @param {any} place @param {string[]} names */
  const limit = (place, names) => (place !== null && place < names.length ? place : null);
  looked.pinned = [limit(looked.pinned[0], shown.rows), limit(looked.pinned[1], shown.columns)];

  /** @param {any} row @param {any} column */
  function show(row, column) {
    const [atRow, atColumn] = row === null && column === null ? looked.pinned : [row, column];
    lines.point(atRow, atRow === null ? atColumn : null);
    map.point(atRow, atColumn);
    told.textContent = inWords(shown, atRow, atColumn);
    told.classList.toggle("quiet", atRow === null && atColumn === null);
  }

  /** @param {any} row @param {any} column */
  function pin(row, column) {
    const same = looked.pinned[0] === row && looked.pinned[1] === column;
    looked.pinned = same ? [null, null] : [row, column];
    lines.press(...looked.pinned);
    show(row, column);
  }

  const lines = attentionLines({
    values: matrix, rows: shown.rows, columns: shown.columns, ...titles, label: t(`${name}, as lines`, `${name}, en lignes`), onHover: show, onSelect: pin,
  });
  const map = charts.heatmap({
    values: matrix, rows: shown.rows, columns: shown.columns, ...titles, label: name, max: 1, onHover: show, onSelect: pin, silent: true, size: longest > 40 ? 780 : longest > 24 ? 600 : 280,
  });
  lines.press(...looked.pinned);
  show(null, null);
  return h("div", {class: "attention-large"},
    h("div", {class: "attention-title"}, h("h3", null, name), h("span", {class: "quiet"}, entropyWords(values, width))),
    told,
    h("div", {class: "attention-both"}, lines, h("div", {class: "attention-matrix"}, map, charts.legend({top: 1, label: t("share of the row", "part de la ligne")}))),
    tools.folded(t("As a table", "En tableau"), () => asTable(shown, name)));
}

/** @param {any} values @param {number} width */
function entropyWords(values, width) {
  const nats = entropy(values, width);
  const like = tools.number(Math.exp(nats), 1);
  return t(`entropy ${tools.number(nats, 2)} nats: a row reads as if ${like} of ${width} tokens shared it`,
    `entropie ${tools.number(nats, 2)} nats : une ligne lit comme si ${like} tokens sur ${width} se la partageaient`);
}

/** @param {{matrix: Float64Array, rows: string[], columns: string[]}} given @param {string} name */
function asTable({matrix, rows, columns}, name) {
  if (rows.length * columns.length > 4000) {
    return tools.table([t("token", "token"), t("reads most", "lit surtout")],
      rows.map((row, at) => [row, inWords({matrix, rows, columns}, at, null)]), {caption: name});
  }
  return tools.table(["", ...columns], rows.map((row, at) => [
    row, ...columns.map((_, column) => tools.number(matrix[at * columns.length + column], 3))]), {caption: name});
}

/** @type {View} */
export const attentionView = {
  id: "attention",
  order: 1,
  label: {en: "Attention", fr: "Attention"},
  available: (record) => KINDS.some((kind) => record.attentions(kind).length > 0),
  render(root, record) {
    const kinds = settle(record);
    const names = kindWords();
    /** @param {number} layer @param {number | "mean" | "rollout"} head */
    const choose = (layer, head) => {
      Object.assign(looked, {layer, head, focus: `[data-head="${layer}.${head}"]`});
      tools.redraw();
    };
    /** @param {any} what @param {string} selector */
    const change = (what, selector) => {
      Object.assign(looked, what, {focus: selector});
      tools.redraw();
    };
    const rollout = looked.kind !== "cross";
    root.append(
      tools.toolbar(
        kinds.length > 1 ? tools.choice(t("Attention", "Attention"), kinds.map((kind) => ({value: kind, text: names[kind]})), looked.kind,
          (kind) => change({kind, pinned: [null, null]}, `[data-value="${kind}"]`)) : null,
        tools.choice(t("Between", "Entre"), [{value: "tokens", text: t("subwords", "sous-mots")}, {value: "words", text: t("words", "mots")}],
          looked.byWord ? "words" : "tokens", (unit) => change({byWord: unit === "words", pinned: [null, null]}, `[data-value="${unit}"]`))),
      h("p", {class: "attention-lead"}, kindSentence(record)[looked.kind]),
      h("div", {class: "attention"},
        h("div", {class: "attention-overview"},
          grid(record, choose),
          h("p", {class: "quiet small"}, t(
            "Under each head: the mean entropy of its rows in nats; 0 means that every row reads a single token.",
            "Sous chaque tête : l'entropie moyenne de ses lignes en nats ; 0 veut dire que chaque ligne lit un seul token."),
          rollout ? t(
            " Rollout multiplies ½·A + ½·I over the layers, A being the mean of the heads (Abnar & Zuidema 2020).",
            " Le cumul (rollout) multiplie ½·A + ½·I à travers les couches, A étant la moyenne des têtes (Abnar & Zuidema 2020).") : null)),
        large(record)));
    if (looked.focus !== null) /** @type {HTMLElement} */ (root.querySelector(looked.focus))?.focus();
    looked.focus = null;
  },
};
