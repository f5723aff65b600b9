/* Through time: the gates and states of recurrent layers, how strongly the loss pulls at each step, attention over the source. */
import * as charts from "../charts.js";
import * as tools from "../tools.js";
import {h, t} from "../tools.js";
import {check, checkList, dot, equation, judge, mark, matrixTable, mean, scroller, softmax} from "./02_steps_math.js";
import {cellsOf, checkEquation, equationsOf, partsOf, previousOf, reasonOf, symbolOf} from "./07_recurrent_cell.js";

/** What is looked at; it outlives a redraw. */
/** @type {{cell: string, unit: number, time: number}} */
const chosen = { cell: null, unit: 0, time: null };

/** @param {PageRecord} record @param {Half} half */
const tokensOf = (record, half) => (half === "encoder" ? record.sourceTokens : record.targetTokens);
/** Where gradients were recorded. @param {PageRecord} record */
const gradientPlaces = (record) => record.meta.places.filter((place) => record.has(`gradients.${place.name}`));

// ---- Words ------------------------------------------------------------------------------------------------------------------

/** @param {PageRecord} record @param {Cell} cell */
function cellName(record, cell) {
  if (record.alone) return `${t("Layer", "Couche")} ${cell.layer}`;
  const half = cell.half === "encoder" ? t("Encoder", "Encodeur") : t("Decoder", "Décodeur");
  const direction = { forward: t(", forwards", ", vers l'avant"), backward: t(", backwards", ", vers l'arrière") }[cell.direction] ?? "";
  return `${half}, ${t("layer", "couche")} ${cell.layer}${direction}`;
}

/** @param {string} kind */
function partWords(kind) {
  return {
    reset_gate: [t("reset gate r", "porte de réinitialisation r"), t("how much of the old state the candidate sees", "combien de l'ancien état le candidat voit")],
    update_gate: [t("update gate z", "porte de mise à jour z"), t("how much of the old state is kept", "combien de l'ancien état est gardé")],
    input_gate: [t("input gate i", "porte d'entrée i"), t("how much of the candidate is written", "combien du candidat est écrit")],
    forget_gate: [t("forget gate f", "porte d'oubli f"), t("how much of the old cell state is kept", "combien de l'ancien état de cellule est gardé")],
    output_gate: [t("output gate o", "porte de sortie o"), t("how much of the cell state is shown", "combien de l'état de cellule est montré")],
    candidate: [t(`candidate ${symbolOf(kind, "candidate")}`, `candidat ${symbolOf(kind, "candidate")}`), t("what could be written, −1 to 1", "ce qui pourrait être écrit, de −1 à 1")],
    cell: [t("cell state c", "état de cellule c"), t("the memory", "la mémoire")],
    hidden: [t("hidden state h", "état caché h"), t("what the layer hands on", "ce que la couche transmet")],
  };
}

/** @param {string} part */
const isGate = (part) => part.endsWith("_gate");

// ---- Maps: a row a time step, a column a unit -------------------------------------------------------------------------------

/**
 * One part over time as a picture; a click, or the slider and the words above, choose unit and time step.
 * @param {PageRecord} record @param {{cell: Cell, part: string, names: string[], onPick: (unit: number, time: number) => void}} given
 */
function map(record, { cell, part, names, onPick }) {
  const array = record.array(`${cell.name}.${part}`);
  const [times, units] = array.shape;
  const tall = Math.max(7, Math.min(17, Math.floor(300 / times)));
  const every = Math.ceil(13 / tall);
  const picture = charts.thumbnail(array.data, times, units, { width: 360, height: times * tall, diverging: !isGate(part), max: isGate(part) ? 1 : null });
  Object.assign(picture.style, { width: "100%", height: `${times * tall}px` });
  const [column, row] = [h("span", { class: "time-unit" }), h("span", { class: "time-row" })];
  const field = h("div", { class: "time-field" }, picture, row, column);
  field.addEventListener("click", (event) => {
    const box = field.getBoundingClientRect();
    /** @param {number} share @param {number} count */
    const place = (share, count) => Math.min(Math.max(Math.floor(share * count), 0), count - 1);
    onPick(place((event.clientX - box.left) / box.width, units), place((event.clientY - box.top) / box.height, times));
  });
  const labels = h("div", { class: "time-labels", "aria-hidden": "true" }, names.map((name, at) =>
    h("span", { style: { height: `${tall}px`, "line-height": `${tall}px` } }, at % every ? "" : name)));
  const [title, meaning] = partWords(record.meta.model.cell)[part];
  const value = h("strong");
  const element = h("div", { class: "time-map", "data-part": part }, h("h4", null, title, " ", value), h("p", { class: "quiet" }, meaning), labels, field);
  /** @param {{unit: number, time: number}} given */
  function point({ unit, time }) {
    Object.assign(column.style, { left: `${((unit + 0.5) / units) * 100}%` });
    Object.assign(row.style, { top: `${time * tall}px`, height: `${tall}px` });
    value.textContent = tools.number(array.at(time, unit));
  }
  return { element, point };
}

/**
 * The chosen unit over time, part by part: what the pictures say about it.
 * @param {PageRecord} record @param {Cell} cell @param {string[]} names
 */
function unitTable(record, cell, names) {
  const parts = partsOf(record, cell);
  const words = partWords(record.meta.model.cell);
  return tools.table([t("time step", "étape"), ...parts.map((part) => words[part][0])],
    names.map((name, time) => [name, ...parts.map((part) => record.array(`${cell.name}.${part}`).at(time, chosen.unit))]),
    { caption: t(`Unit ${chosen.unit}`, `Unité ${chosen.unit}`) });
}

// ---- Equations of the chosen unit -------------------------------------------------------------------------------------------

/** @param {PageRecord} record @param {Cell} cell @param {string[]} names */
function equations(record, cell, names) {
  const at = { unit: chosen.unit, time: chosen.time };
  const kind = record.meta.model.cell;
  const last = previousOf(record, cell, at.time);
  const origin = last !== undefined ? t(`the state after ${names[last]}`, `l'état après ${names[last]}`)
    : cell.half === "encoder" ? t("zeros: the first step", "des zéros : la première étape") : t("what the encoder's last state was translated to", "ce en quoi le dernier état de l'encodeur fut traduit");
  const head = [t("equation", "équation"), t("with the numbers of this unit", "avec les nombres de cette unité"), t("computed here", "calculé ici"), t("the model's", "du modèle"), ""];
  const rows = equationsOf(record, cell).map((one) => {
    const recorded = record.array(`${cell.name}.${one.part}`).at(at.time, at.unit);
    const computed = one.compute(at);
    const terms = one.terms(at);
    /** @type {Check} */
    const found = computed === null ? { label: "", reason: reasonOf(record, { part: one.part, unit: at.unit }) }
      : judge(check("", [recorded], [computed]), new Set([record.array(`${cell.name}.${one.part}`).type]));
    const numbers = terms === null || computed === null ? found.reason
      : terms.flatMap(([symbol, value], place_) => [place_ ? ",  " : "", equation(symbol), ` = ${tools.number(value)}`]);
    return h("tr", { "data-part": one.part },
      h("th", { scope: "row" }, equation(one.source)), h("td", { class: "time-terms" }, numbers),
      h("td", { class: "walk-value", "data-label": head[2] }, computed === null ? "–" : tools.number(computed)),
      h("td", { class: "walk-value", "data-label": head[3] }, tools.number(recorded)),
      h("td", null, mark(computed === null ? "none" : found.ok ? "ok" : "differs")));
  });
  const caption = t(`Unit ${at.unit} at ${names[at.time]}; h${kind === "lstm" ? " and c are" : " is"} ${origin}`,
    `Unité ${at.unit} à ${names[at.time]} ; h${kind === "lstm" ? " et c sont" : " est"} ${origin}`);
  return scroller(h("table", { class: "time-equations" }, h("caption", null, caption),
    h("thead", null, h("tr", null, head.map((text) => h("th", { scope: "col" }, text)))), h("tbody", null, rows)), caption);
}

// ---- Lines ------------------------------------------------------------------------------------------------------------------

/** @param {Numbers} values */
const norm = (values) => Math.sqrt(dot(values, values));

/** @param {PageRecord} record @param {string} name @param {any} measure */
function over(record, name, measure) {
  const array = record.array(name);
  return Array.from({ length: array.shape[0] }, (_, time) => measure(array.row(time)));
}

/** @param {PageRecord} record @param {Cell} cell @param {string[]} names */
function meanGates(record, cell, names) {
  const gates = partsOf(record, cell).filter(isGate);
  if (!gates.length) return null;
  const words = partWords(record.meta.model.cell);
  return tools.section(t("How open the gates are", "Combien les portes sont ouvertes"), charts.lines({
    series: gates.map((gate) => ({ name: words[gate][0], values: over(record, `${cell.name}.${gate}`, mean) })),
    labels: names, label: t("Mean over all units at each time step: 1 is open, 0 is shut.", "Moyenne sur toutes les unités à chaque étape : 1 ouverte, 0 fermée."),
    yLabel: t("mean", "moyenne"),
  }));
}

/** @param {PageRecord} record @param {Cell} cell @param {string[]} names */
function stateNorms(record, cell, names) {
  const series = cellsOf(record).filter((one) => one.half === cell.half).flatMap((one) => ["hidden", "cell"]
    .filter((part) => record.has(`${one.name}.${part}`))
    .map((part) => ({ name: `‖${part === "cell" ? "c" : "h"}‖ ${cellName(record, one).replace(/^[^,]*, /, "")}`, values: over(record, `${one.name}.${part}`, norm) })));
  return tools.section(t("How large the states are", "La taille des états"), charts.lines({
    series, labels: names, yLabel: t("norm", "norme"),
    label: cell.half === "encoder" ? t("Norm of the encoder's states after each word.", "Norme des états de l'encodeur après chaque mot.")
      : record.alone ? t("Norm of the states after each word.", "Norme des états après chaque mot.")
        : t("Norm of the decoder's states after each word.", "Norme des états du décodeur après chaque mot."),
  }));
}

// ---- Cells ------------------------------------------------------------------------------------------------------------------

/** @param {PageRecord} record */
function inspector(record) {
  const cells = cellsOf(record);
  const cell = cells.find((one) => one.name === chosen.cell) ?? cells[0];
  chosen.cell = cell.name;
  const [times, units] = record.array(`${cell.name}.hidden`).shape;
  const names = tokensOf(record, cell.half).map(tools.piece);
  if (chosen.time === null || chosen.time >= times) chosen.time = Math.min(2, times - 1);
  if (chosen.unit >= units) chosen.unit = 0;
  const detail = h("div", { class: "time-detail" });
  /** @param {number} unit @param {number} time */
  const pick = (unit, time) => {
    Object.assign(chosen, { unit, time });
    point();
  };
  const maps = partsOf(record, cell).map((part) => map(record, { cell, part, names, onPick: pick }));
  const slider = tools.slider(t("Unit", "Unité"), { min: 0, max: units - 1, value: chosen.unit }, (unit) => pick(unit, chosen.time));
  const words = charts.tokens({ tokens: names, label: t("Time step", "Étape"), selected: chosen.time, onSelect: (time) => pick(chosen.unit, time) });
  const point = () => {
    maps.forEach((one) => one.point(chosen));
    const input = slider.querySelector("input");
    if (Number(input.value) !== chosen.unit) input.value = String(chosen.unit);
    slider.querySelector("output").textContent = String(chosen.unit);
    [...words.children].forEach((button, at) => button.setAttribute("aria-pressed", String(at === chosen.time)));
    detail.replaceChildren(equations(record, cell, names));
  };
  point();
  const select = tools.select(t("Layer", "Couche"), cells.map((one) => ({ value: one.name, text: cellName(record, one) })), cell.name, (name) => {
    Object.assign(chosen, { cell: name, time: null });
    tools.redraw();
    /** @type {HTMLElement} */ (document.querySelector("#view-recurrent select"))?.focus();
  });
  const checks = equationsOf(record, cell).map((one) => checkEquation(record, cell, one));
  return [
    tools.section(t("Gates and states over time", "Portes et états au fil du temps"),
      h("p", null, gatesWhy(record)),
      tools.toolbar(select, slider), h("div", { class: "walk-words" }, h("span", { class: "quiet" }, t("Time step: the word that is read", "Étape : le mot lu")), words),
      tools.figure(h("div", { class: "time-maps" }, maps.map((one) => one.element)),
        t(`A row a word, a column a unit (${units}); the line and the frame mark the chosen unit and step. Gates: the stronger, the more open. States: blue above 0, orange below.`,
          `Une ligne par mot, une colonne par unité (${units}) ; le trait et le cadre marquent l'unité et l'étape choisies. Portes : plus c'est fort, plus c'est ouvert. États : bleu au-dessus de 0, orange au-dessous.`),
        () => unitTable(record, cell, names))),
    tools.section(t("The equations, with the numbers of one unit", "Les équations, avec les nombres d'une unité"), detail, checkList(checks)),
    meanGates(record, cell, names),
    stateNorms(record, cell, names),
  ];
}

/** @param {PageRecord} record */
function gatesWhy(record) {
  return {
    lstm: t("An LSTM reads one word after the other. Gates, numbers from 0 to 1, decide at each step what its cell state forgets, what is written to it and what is shown; since the old state is only multiplied by f and added to, what matters can be kept for long.",
      "Un LSTM lit un mot après l'autre. Des portes, nombres de 0 à 1, décident à chaque étape ce que l'état de cellule oublie, ce qui y est écrit et ce qui en est montré ; l'ancien état n'étant que multiplié par f et augmenté, ce qui compte peut être gardé longtemps."),
    gru: t("A GRU reads one word after the other. Its update gate mixes the old state with a candidate, its reset gate decides how much of the old state that candidate sees.",
      "Un GRU lit un mot après l'autre. Sa porte de mise à jour mêle l'ancien état à un candidat, sa porte de réinitialisation décide combien de l'ancien état ce candidat voit."),
    rnn: t("A plain recurrent network reads one word after the other; each step computes the whole state anew, so nothing protects what was read long ago.",
      "Un réseau récurrent simple lit un mot après l'autre ; chaque étape recalcule tout l'état : rien ne protège ce qui a été lu il y a longtemps."),
  }[record.meta.model.cell];
}

// ---- Gradients --------------------------------------------------------------------------------------------------------------

/** @param {PageRecord} record */
function gradients(record) {
  const recurrent = cellsOf(record).length > 0;
  const pictures = /** @type {Half[]} */ (["encoder", "decoder"]).map((half) => {
    const places = gradientPlaces(record).filter((place) => place.side === (half === "encoder" ? "source" : "target"));
    if (!places.length) return null;
    const labels = tokensOf(record, half).map(tools.piece);
    const series = places.map(({ name, layer }) => ({ name: `${t("layer", "couche")} ${layer}`, values: Array.from(record.array(`gradients.${name}`).data) }));
    return h("div", { class: "time-gradient", "data-half": half }, charts.lines({
      series, labels, log: true, yLabel: "‖dL/dh‖",
      label: half === "encoder" && !record.reads ? t("At each word of the source", "À chaque mot de la source") : record.alone || record.reads ? t("At each word that is read", "À chaque mot lu") : t("At each word that the decoder reads", "À chaque mot que lit le décodeur"),
    }), h("p", { class: "quiet" }, ratio(series, labels)));
  });
  const what = record.reads ? t("the guesses or labels", "ce qui est deviné ou étiqueté") : record.alone ? t("this text", "ce texte") : t("this translation", "cette traduction");
  const why = recurrent
    ? t(`How strongly the loss of ${what}, L = −log p, pulls at what each layer hands on. In a recurrent layer the pull on an early word passes through every step after it: it can vanish, or explode, like a power of their number. Gates and attention are shorter ways back.`,
      `Avec quelle force la perte de ${what}, L = −log p, tire sur ce que chaque couche transmet. Dans une couche récurrente, le gradient d'un mot ancien traverse toutes les étapes suivantes : il peut s'évanouir ou exploser, comme une puissance de leur nombre. Les portes et l'attention sont des chemins plus courts.`)
    : t(`How strongly the loss of ${what}, L = −log p, pulls at what each layer hands on. In a Transformer every word is one step from every other, so nothing has to vanish or explode with distance, as it does in recurrent networks.`,
      `Avec quelle force la perte de ${what}, L = −log p, tire sur ce que chaque couche transmet. Dans un Transformer chaque mot est à un pas de tout autre : rien ne doit s'évanouir ou exploser avec la distance, comme dans les réseaux récurrents.`);
  return tools.section(t("Gradient per time step", "Gradient par étape"), h("p", null, why), h("div", { class: "time-pair" }, pictures));
}

/** The first step's gradient as a share of the last one's, layer by layer. @param {Series[]} series @param {string[]} labels */
function ratio(series, labels) {
  const parts = series.map(({ name, values }) => {
    const last = values[values.length - 1];
    return last > 0 ? `${name}${t(": ", " : ")}${shortened(values[0] / last)}` : null;
  }).filter((part) => part !== null);
  if (!parts.length || labels.length < 2) return "";
  return t(`Gradient at ${labels[0]} divided by that at ${labels[labels.length - 1]}: ${parts.join("; ")}.`,
    `Gradient à ${labels[0]} divisé par celui à ${labels[labels.length - 1]} : ${parts.join(" ; ")}.`);
}

/** @param {number} value */
function shortened(value) {
  return value >= 0.01 && value < 1e4 ? tools.number(value, 2) : tools.number(value, 1);
}

// ---- Attention --------------------------------------------------------------------------------------------------------------

const SCORES = {
  bahdanau: "score(q, m) = v^T·tanh(W·q + U·m)", "luong-concat": "score(q, m) = v^T·tanh(W·q + U·m)",
  "luong-dot": "score(q, m) = q^T·m", "luong-general": "score(q, m) = q^T·W·m",
};

/** @param {PageRecord} record */
function attention(record) {
  const place = "attention";
  if (!record.has(`${place}.weights`) || !record.meta.model.attention) return null;
  const weights = record.array(`${place}.weights`);
  const [rows, columns] = [record.targetTokens.map(tools.piece), record.sourceTokens.map(tools.piece)];
  const kind = record.meta.model.attention;
  const bahdanau = kind === "bahdanau";
  return tools.section(t("Attention over the source", "L'attention sur la source"),
    h("p", { class: "walk-formula" }, equation(SCORES[kind]), ",   ", equation("a = softmax(score)"), ",   ", equation("context = Σ_s a_s·m_s")),
    h("p", null, bahdanau
      ? t("Bahdanau: before each step the decoder asks, with the state it has, which words of the source matter for the next one.", "Bahdanau : avant chaque étape le décodeur demande, avec l'état qu'il a, quels mots de la source comptent pour le suivant.")
      : t("Luong: after each step the decoder asks, with its new state, which words of the source matter for the next one.", "Luong : après chaque étape le décodeur demande, avec son nouvel état, quels mots de la source comptent pour le suivant.")),
    tools.figure(charts.heatmap({
      values: weights.row(0), rows, columns, max: 1, label: t("Attention weights", "Poids d'attention"), size: 460,
      rowTitle: t("reads", "lit"), columnTitle: t("source", "source"),
      describe: (row, column, value) => t(`After ${rows[row]} (next: ${tools.piece(record.predictedTokens[row])}), ${columns[column]} gets ${tools.percent(value)}`,
        `Après ${rows[row]} (suivant : ${tools.piece(record.predictedTokens[row])}), ${columns[column]} reçoit ${tools.percent(value)}`),
    }), t("A row for each word that the decoder has read; each adds up to 1.", "Une ligne pour chaque mot lu par le décodeur ; chacune fait 1."),
    () => matrixTable({ rows, columns, at: (row, column) => weights.at(0, row, column), caption: t("Attention weights", "Poids d'attention") })),
    checkList(attentionChecks(record)));
}

/** @param {PageRecord} record */
function attentionChecks(record) {
  const [weights, scores, keep, context, memory] = ["attention.weights", "attention.scores", "attention.keep", "attention.context", "memory"].map((name) => record.array(name));
  const times = weights.shape[1];
  /** @param {(...given: any[]) => any} make */
  const all = (make) => Array.from({ length: times }, (_, time) => make(time)).flat();
  const types = new Set([weights, scores, context, memory].filter((array) => array).map((array) => array.type));
  const checks = [];
  if (scores) {
    /** @param {number} time */
    const masked = (time) => Array.from(scores.row(0, time), (score, at) => (!keep || keep.at(time, at) ? score : -Infinity));
    checks.push(check(t("$a$: softmax of the scores", "$a$ : softmax des scores"), weights.data, all((time) => softmax(masked(time)))));
  }
  if (context && memory) {
    /** @param {number} time */
    const mixed = (time) => Array.from(memory.row(0), (_, at) => Array.from(weights.row(0, time)).reduce((sum, weight, key) => sum + weight * memory.at(key, at), 0));
    checks.push(check(t("context", "contexte"), context.data, all(mixed)));
  }
  const { attention: kind, decoder_layers: layers, residual } = record.meta.model;
  const query = record.array(`decoder.${layers - 1}.hidden`);
  if (kind === "luong-dot" && scores && memory && query && !(residual && layers > 1)) {
    checks.push(check(t("scores", "scores"), scores.data, all((time) => record.sourceTokens.map((_, key) => dot(query.row(time), memory.row(key))))));
  } else {
    checks.push({ label: t("scores", "scores"), reason: t("the weights of the score are not in this page", "les poids du score ne sont pas dans cette page") });
  }
  return checks.map((found) => judge(found, types));
}

/** @type {View} */
export const recurrentView = {
  id: "recurrent",
  order: 7,
  label: { en: "Through time", fr: "Au fil du temps" },
  available: (record) => gradientPlaces(record).length > 0 || cellsOf(record).length > 0,
  render(root, record) {
    const cells = cellsOf(record).length > 0;
    root.append(...[...(cells ? inspector(record) : []), gradients(record), attention(record)].filter((part) => part !== null));
  },
};
