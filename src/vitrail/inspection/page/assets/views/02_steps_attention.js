/* The walk of the lecture notes, second part: scores, softmax, and what a head makes of them. */
import * as charts from "../charts.js";
import * as tools from "../tools.js";
import {h, t} from "../tools.js";
import {said, vectorRow} from "./02_steps_before.js";
import {check, dot, equation, matrixTable, product, scroller, softmax, vectors} from "./02_steps_math.js";

// ---- The table that grows with the steps ------------------------------------------------------------------------------------

/** The rows of one query: raw and scaled scores, mask and weights over the keys. @param {Surroundings} c */
function scoresOf(c) {
  /** @param {any} what */
  const pick = (what) => Array.from(c.array(`${c.place}.${what}`).row(c.head, c.token));
  const keep = c.array(`${c.place}.keep`);
  return {
    raw: pick("raw_scores"), scaled: pick("scores"), weights: pick("weights"),
    keep: keep ? Array.from(keep.row(c.token), Boolean) : c.keyTokens.map(() => true),
  };
}

/** Scaled scores with the mask added, as −∞ where a word may not be read. @param {any} s */
function masked(s) {
  return s.scaled.map((score, at) => (s.keep[at] ? score : -Infinity));
}

/** Which key the detail is about: the one that was asked for, else the one that gets most. @param {Surroundings} c @param {any} s */
function keyOf(c, s) {
  return c.key !== null && c.key < c.keyTokens.length ? c.key : s.weights.indexOf(Math.max(...s.weights));
}

/** @param {Surroundings} c @param {number} share */
function bar(c, share) {
  const filled = h("span", { class: "walk-bar", "aria-hidden": "true" }, h("span"));
  filled.firstChild.style.width = `${(share * 100).toFixed(2)}%`;
  return filled;
}

/**
 * What the table shows of a step: names of the columns so far; the last is new.
 * @param {Surroundings} c @param {any} s @param {string} last
 */
function columnsUpTo(c, s, last) {
  const shifted = masked(s);
  const highest = Math.max(...shifted);
  /** @type {[string, string, (at: number) => Child][]} */
  const all = [
    ["raw", "q·k", (at) => tools.number(s.raw[at])],
    ["scaled", "÷ √{d_k}", (at) => tools.number(s.scaled[at])],
    ["mask", t("+ mask", "+ masque"), (at) => (s.keep[at] ? "+ 0" : "− ∞")],
    ["exp", "exp(s − max s)", (at) => tools.number(Math.exp(shifted[at] - highest))],
    ["weights", t("weight", "poids"), (at) => [tools.number(s.weights[at]), bar(c, s.weights[at])]],
  ];
  const end = all.findIndex(([id]) => id === last);
  return all.slice(0, end + 1);
}

/**
 * One row a word: its name, a button that chooses it for the detail, and the numbers of the steps so far.
 * @param {Surroundings} c @param {any} s @param {string} last
 */
function scoreTable(c, s, last, news = [last]) {
  const shown = columnsUpTo(c, s, last);
  const chosen = keyOf(c, s);
  const head = h("tr", null, h("th", { scope: "col" }, t("key of", "clé de")),
    shown.map(([id, name]) => h("th", { scope: "col", class: news.includes(id) ? "new" : null, "data-column": id }, equation(name))));
  const rows = c.keyTokens.map((name, at) => h("tr", { class: [at === chosen ? "chosen" : "", s.keep[at] ? "" : "masked"].join(" ").trim() || null },
    h("th", { scope: "row" }, h("button", {
      type: "button", class: "walk-key", dir: "auto", "aria-pressed": String(at === chosen), "data-key": `${last}-${at}`,
      title: t("Write this product out below", "Écrire ce produit ci-dessous"), onclick: () => c.setKey(at),
    }, name)),
    shown.map(([id, , cell]) => h("td", { class: `walk-value${news.includes(id) ? " new" : ""}`, "data-column": id }, cell(at)))));
  const table = h("table", { class: "walk-scores" },
    h("caption", null, t(`${c.word} asks, head ${c.head}`, `${c.word} demande, tête ${c.head}`)),
    h("thead", null, head), h("tbody", null, rows));
  /** @type {Record<string, number>} */
  const sums = { exp: sumOfPowers(s), weights: s.weights.reduce((left, right) => left + right, 0) };
  if (last === "weights") {
    table.append(h("tfoot", null, h("tr", null, h("th", { scope: "row" }, t("sum", "somme")),
      shown.map(([id]) => h("td", { class: "walk-value", "data-column": id }, id in sums ? tools.number(sums[id]) : "")))));
  }
  return scroller(table, t("Scores, a row a word", "Scores, une ligne par mot"));
}

/** @param {any} s */
function sumOfPowers(s) {
  const shifted = masked(s);
  const highest = Math.max(...shifted);
  return shifted.reduce((sum, score) => sum + Math.exp(score - highest), 0);
}

// ---- Steps ------------------------------------------------------------------------------------------------------------------

/** @param {Surroundings} c */
function rawScores(c) {
  const s = scoresOf(c);
  const q = c.array(`${c.place}.q`).row(c.head, c.token);
  const k = c.array(`${c.place}.k`);
  const computed = c.keyTokens.map((_, at) => dot(q, k.row(c.head, at)));
  const at = keyOf(c, s);
  return {
    id: "raw",
    title: t(`q·k: ${c.word} against the key of every word`, `q·k : ${c.word} face à la clé de chaque mot`),
    equation: "QK^T",
    why: t(`The query of ${c.word} is multiplied with the key of each word. A dot product is large where two vectors point the same way: that key answers what ${c.word} asks. It costs one multiplication a number, and one matrix product does it for all words.`,
      `La requête de ${c.word} est multipliée par la clé de chaque mot. Un produit scalaire est grand quand deux vecteurs vont dans le même sens : cette clé répond à ce que demande ${c.word}. Il coûte une multiplication par nombre, et un seul produit de matrices le fait pour tous les mots.`),
    body: () => [
      product(`q_{${c.word}}·k_{${said(c.keyPieces[at])}}`, q, k.row(c.head, at), { total: computed[at] }),
      scoreTable(c, s, "raw"),
    ],
    checks: [check(t("q·k with every key", "q·k avec chaque clé"), s.raw, computed)],
  };
}

/** @param {Surroundings} c */
function scaling(c) {
  const s = scoresOf(c);
  const root = Math.sqrt(c.width);
  const at = keyOf(c, s);
  return {
    id: "scaled",
    title: t("÷ $√{d_k}$: scores of a fit size", "÷ $√{d_k}$ : des scores de bonne taille"),
    equation: "⁄{QK^T}{√{d_k}}",
    why: t(`A key has $d_k$ = ${c.width} numbers; the sum of ${c.width} products of numbers of variance 1 has variance ${c.width}. Divided by $√{d_k}$ = ${tools.number(root)} it has variance 1 again. Without that, softmax would give nearly all to one word from the start, and where it is that sure it hardly learns.`,
      `Une clé a $d_k$ = ${c.width} nombres ; la somme de ${c.width} produits de nombres de variance 1 a pour variance ${c.width}. Divisée par $√{d_k}$ = ${tools.number(root)}, sa variance redevient 1. Sans cela softmax donnerait presque tout à un mot dès le début, et là où il est si sûr il n'apprend presque plus.`),
    body: () => [
      h("p", { class: "walk-product" }, `${tools.number(s.raw[at])} ÷ ${tools.number(root)} = `, h("strong", null, tools.number(s.raw[at] / root))),
      scoreTable(c, s, "scaled"),
    ],
    checks: [check(t("scaled scores", "scores réduits"), s.scaled, s.raw.map((score) => score / root))],
  };
}

/** @param {Surroundings} c */
function mask(c) {
  const s = scoresOf(c);
  const rule = c.keyTokens.map((_, at) => c.kind !== "decoder" || at <= c.token);
  const hidden = s.keep.filter((one) => !one).length;
  const why = {
    encoder: t("In the encoder every word may look at every other, before and after it: nothing is masked. (In training, the padding of shorter sentences would be.)",
      "Dans l'encodeur chaque mot peut regarder tous les autres, avant et après lui : rien n'est masqué. (À l'entraînement, le remplissage des phrases plus courtes le serait.)"),
    decoder: c.record.alone ? t(`A text is predicted from left to right, so ${c.word} must not look at what stands after it: ${hidden} word${hidden === 1 ? " is" : "s are"} masked by adding −∞. Otherwise the model would read the next word in training instead of learning to predict it.`,
      `Un texte est prédit de gauche à droite : ${c.word} ne doit pas regarder ce qui le suit. ${hidden} mot${hidden === 1 ? " est masqué" : "s sont masqués"} en ajoutant −∞. Sinon, à l'entraînement, le modèle lirait le mot suivant au lieu d'apprendre à le prédire.`)
      : t(`A translation is written from left to right, so ${c.word} must not look at what stands after it: ${hidden} word${hidden === 1 ? " is" : "s are"} masked by adding −∞. Otherwise the decoder would read the next word in training instead of learning to predict it.`,
      `Une traduction s'écrit de gauche à droite : ${c.word} ne doit pas regarder ce qui le suit. ${hidden} mot${hidden === 1 ? " est masqué" : "s sont masqués"} en ajoutant −∞. Sinon, à l'entraînement, le décodeur lirait le mot suivant au lieu d'apprendre à le prédire.`),
    cross: t("The whole source is known before the first word is translated, so every word of it may be read: nothing is masked.",
      "Toute la source est connue avant que le premier mot soit traduit : chacun de ses mots peut être lu, rien n'est masqué."),
  };
  return {
    id: "mask",
    title: t("The mask: what may not be read", "Le masque : ce qui ne peut être lu"),
    equation: "⁄{QK^T}{√{d_k}} + mask",
    why: why[c.kind],
    body: () => [scoreTable(c, s, "mask")],
    checks: [check(t("mask", "masque"), s.keep.map(Number), rule.map(Number))],
  };
}

/** @param {Surroundings} c */
function softmaxStep(c) {
  const s = scoresOf(c);
  const computed = softmax(masked(s));
  const all = c.array(`${c.place}.weights`);
  const sum = s.weights.reduce((left, right) => left + right, 0);
  const hidden = s.weights.filter((_, at) => !s.keep[at]);
  const checks = [check(t("weights", "poids"), s.weights, computed), check(t("their sum is 1", "leur somme est 1"), [sum], [1])];
  if (hidden.length) checks.push(exactly(t("masked words get exactly 0", "les mots masqués reçoivent exactement 0"), hidden));
  return {
    id: "softmax",
    title: t("softmax: shares of attention", "softmax : des parts d'attention"),
    equation: c.kind === "encoder" ? "softmax⟮⁄{QK^T}{√{d_k}}⟯" : "softmax⟮⁄{QK^T}{√{d_k}} + mask⟯",
    why: t(`Along the horizontal, over the keys of one query: exp makes every score positive, and divided by their sum they add up to 1. Why softmax, and not a sigmoid for each key? Because the words compete: ${c.word} has one whole attention to give, and what one word gets another loses.`,
      `Selon l'horizontale, sur les clés d'une requête : exp rend chaque score positif et, divisés par leur somme, ils font 1 ensemble. Pourquoi softmax, et non un sigmoïde par clé ? Parce que les mots sont en concurrence : ${c.word} a une seule attention à donner, et ce que l'un reçoit, l'autre le perd.`),
    body: () => [
      scoreTable(c, s, "weights", ["exp", "weights"]),
      tools.figure(charts.heatmap({
        values: all.row(c.head), rows: c.queryTokens, columns: c.keyPieces.map(tools.piece), max: 1,
        label: t(`Weights of all queries, head ${c.head}`, `Poids de toutes les requêtes, tête ${c.head}`),
        size: 420, rowTitle: t("query", "requête"), columnTitle: t("key", "clé"), onSelect: (row) => c.setToken(row),
      }), t(`All queries of this head under each other; each row adds up to 1. The row of ${c.word} is the one above; choosing another row walks with that word.`,
        `Toutes les requêtes de cette tête l'une sous l'autre ; chaque ligne fait 1. La ligne de ${c.word} est celle d'au-dessus ; choisir une autre ligne, c'est suivre cet autre mot.`),
      () => matrixTable({
        rows: c.queryTokens, columns: c.keyPieces.map(tools.piece), at: (row, column) => all.at(c.head, row, column),
        caption: t(`Weights of all queries, head ${c.head}`, `Poids de toutes les requêtes, tête ${c.head}`),
      })),
    ],
    checks,
  };
}

/** All zero, to the last bit. @param {string} label @param {Numbers} values */
function exactly(label, values) {
  return { ...check(label, values, values.map(() => 0)), exact: true };
}

/** @param {Surroundings} c */
function mix(c) {
  const s = scoresOf(c);
  const v = c.array(`${c.place}.v`);
  const z = c.array(`${c.place}.context`).row(c.head, c.token);
  const computed = Array.from(z, (_, at) => c.keyTokens.reduce((sum, __, key) => sum + s.weights[key] * v.row(c.head, key)[at], 0));
  const order = s.weights.map((_, at) => at).sort((one, two) => s.weights[two] - s.weights[one]).slice(0, 4);
  const share = order.reduce((sum, at) => sum + s.weights[at], 0);
  return {
    id: "context",
    title: t("Z: the values, mixed by these shares", "Z : les valeurs, mêlées selon ces parts"),
    equation: c.kind === "encoder" ? "Z = softmax⟮⁄{QK^T}{√{d_k}}⟯·V" : "Z = softmax⟮⁄{QK^T}{√{d_k}} + mask⟯·V",
    why: t(`Each word hands over its value times its share, and the sum is what ${c.word} has found. The ${order.length} largest shares, ${tools.percent(share)} together, are shown.`,
      `Chaque mot donne sa valeur multipliée par sa part ; la somme est ce que ${c.word} a trouvé. On montre les ${order.length} plus grandes parts, ${tools.percent(share)} ensemble.`),
    body: () => [vectors([
      ...order.map((at) => vectorRow(c, `${tools.number(s.weights[at])} · $v$, ${c.keyTokens[at]}`, Array.from(v.row(c.head, at), (value) => s.weights[at] * value))),
      vectorRow(c, `$Z$, ${c.word}`, z, true),
    ], { caption: t("Weight times value, and the sum over all words", "Poids fois valeur, et la somme sur tous les mots") })],
    checks: [check("Z", z, computed)],
  };
}

export const attentionSteps = [rawScores, scaling, mask, softmaxStep, mix];
