/* The walk of the lecture notes, last part: from the heads' results to what a block hands on, and at the end to the next word. */
import * as tools from "../tools.js";
import {h, t} from "../tools.js";
import {missing, norm, plainColumns, said, sumOf, vectorRow} from "./02_steps_before.js";
import {ACTIVATIONS, check, dot, equation, normalise, product, project, vectors} from "./02_steps_math.js";

/**
 * Rows of a matrix without heads: x·W + b for the output columns that the page holds, or why not.
 * @param {Surroundings} c @param {string} label @param {Numbers} recorded @param {Numbers} input @param {string} name
 */
function linear(c, label, recorded, input, name) {
  const matrix = plainColumns(c, name);
  return input && matrix ? check(label, recorded, project(input, matrix.rows, matrix.bias)) : missing(c, label);
}

/**
 * The first number of such a product, written out.
 * @param {Surroundings} c @param {string} symbol @param {Numbers} input @param {string} name
 */
function firstProduct(c, symbol, input, name) {
  const matrix = plainColumns(c, name);
  if (!input || !matrix) return null;
  return product(symbol, input, matrix.rows[0], { bias: matrix.bias ? matrix.bias[0] : null, total: project(input, matrix.rows, matrix.bias)[0] });
}

/** @param {Surroundings} c */
function heads(c) {
  const contexts = c.array(`${c.place}.context`);
  const weights = c.array(`${c.place}.weights`);
  const together = c.row(`${c.place}.concatenation`);
  if (!together) return null;
  const all = Array.from({ length: c.heads }, (_, head) => contexts.row(head, c.token));
  const looks = all.map((_, head) => {
    const row = Array.from(weights.row(head, c.token));
    const at = row.indexOf(Math.max(...row));
    return `${c.keyTokens[at]} (${tools.percent(row[at])})`;
  });
  return {
    id: "heads",
    title: t(`${c.heads} heads, side by side`, `${c.heads} têtes, côte à côte`),
    equation: "[Z_1 ; Z_2 ; … ; Z_H]",
    why: t(`All heads have done the same at once, each with its own $W_Q$, $W_K$, $W_V$, so each may look for something else. Their results of ${c.width} numbers are written one after the other: ${c.heads} × ${c.width} = ${together.length}.`,
      `Toutes les têtes ont fait de même en même temps, chacune avec ses propres $W_Q$, $W_K$, $W_V$ : chacune peut chercher autre chose. Leurs résultats de ${c.width} nombres s'écrivent l'un après l'autre : ${c.heads} × ${c.width} = ${together.length}.`),
    body: () => [vectors(all.map((values, head) => vectorRow(c, t(`$Z$, head ${head}: ${looks[head]}`, `$Z$, tête ${head} : ${looks[head]}`), values, head === c.head)),
      { caption: t(`What each head found for ${c.word}, and where it looks most`, `Ce que chaque tête a trouvé pour ${c.word}, et où elle regarde le plus`) })],
    checks: [check(t("concatenation", "concaténation"), together, all.flatMap((values) => Array.from(values)))],
  };
}

/** @param {Surroundings} c */
function projection(c) {
  const [before, after] = [c.row(`${c.place}.concatenation`), c.row(`${c.place}.projection`)];
  if (!after) return null;
  return {
    id: "projection",
    title: t("· $W_O$: the heads speak with one voice", "· $W_O$ : les têtes d'une seule voix"),
    equation: "[Z_1 ; … ; Z_H]·W_O + b_O",
    why: t(`One more learned matrix, ${before ? before.length : c.heads * c.width} × ${after.length}, weighs what the heads found against each other and brings it back to the width of the model.`,
      `Une dernière matrice apprise, ${before ? before.length : c.heads * c.width} × ${after.length}, pèse l'une contre l'autre les trouvailles des têtes et revient à la largeur du modèle.`),
    body: () => [vectors([vectorRow(c, t("projected", "projeté"), after)], { caption: t(`What attention adds to ${c.word}`, `Ce que l'attention ajoute à ${c.word}`) }),
      firstProduct(c, t("projected", "projeté") + "_1", before, `${c.place}.output`)],
    checks: [linear(c, t("projection", "projection"), after, before, `${c.place}.output`)],
  };
}

/**
 * A residual sum; `what` is the array of what is added.
 * @param {Surroundings} c @param {{number: number, what: any, id: string, why: string}} given
 */
function residual(c, { number, what, id, why }) {
  const name = `${c.block}.residual_${number}`;
  const [before, added, sum] = [c.row(`${name}.input`), c.row(what), c.row(`${name}.sum`)];
  if (!before || !added || !sum) return null;
  return {
    id,
    title: t(`$R_${number}$: added to what was there`, `$R_${number}$ : ajouté à ce qui était là`),
    equation: `R_${number} = x + f(${c.pre ? "norm(x)" : "x"})`,
    why,
    body: () => [vectors([
      vectorRow(c, "$x$", before), vectorRow(c, t("added", "ajouté"), added), vectorRow(c, `$R_${number}$`, sum, true),
    ], { caption: t("The residual connection", "La connexion résiduelle") })],
    checks: [check(`$R_${number}$`, sum, sumOf(before, added))],
  };
}

/** @param {Surroundings} c */
function firstSum(c) {
  return residual(c, {
    number: c.own, what: `${c.place}.projection`, id: "residual",
    why: t(`${c.word} keeps what it was and adds what it has found: nothing is lost if attention finds nothing. And the gradient passes a sum unchanged, however many blocks there are.`,
      `${c.word} garde ce qu'il était et y ajoute ce qu'il a trouvé : rien n'est perdu si l'attention ne trouve rien. Et le gradient traverse une somme sans changer, quel que soit le nombre de blocs.`),
  });
}

/** Post-norm: the norm that follows a residual sum. @param {(c: Surroundings) => number} number @param {string} id */
function normAfter(number, id) {
  return (c) => (c.pre ? null : norm(c, {
    id, title: t("Norm of the sum", "Normalisation de la somme"),
    why: t("The sum has grown: the norm brings it back to a fit size before it goes on (post-norm, as in the paper).",
      "La somme a grandi : la normalisation la ramène à une bonne taille avant la suite (après la somme, comme dans l'article)."),
    from: `${c.block}.residual_${number(c)}.sum`, to: `${c.block}.residual_${number(c)}.normed`, name: `${c.block}.residual_${number(c)}.norm`,
  }));
}

/** In the decoder masked self-attention is followed by cross-attention: its sum, in one step. @param {Surroundings} c */
function crossBetween(c) {
  if (c.kind !== "decoder" || c.record.alone) return null;
  return residual(c, {
    number: 2, what: `${c.block}.cross_attention.projection`, id: "cross",
    why: t("Then the same vector asks the source: cross-attention, whose queries come from here and whose keys and values come from the encoder's output. Choose it above to follow it step by step; here is what it adds.",
      "Puis le même vecteur interroge la source : c'est l'attention croisée, dont les requêtes viennent d'ici, les clés et valeurs de la sortie de l'encodeur. Choisissez-la en haut pour la suivre pas à pas ; voici ce qu'elle ajoute."),
  });
}

/** @param {Surroundings} c */
function normForFeedForward(c) {
  if (!c.pre) return null;
  return norm(c, {
    id: "norm-feed-forward", title: t("Norm, before the feed-forward", "Normalisation, avant le réseau"),
    why: t("The next layer, too, reads normalised vectors.", "La couche suivante lit elle aussi des vecteurs normalisés."),
    from: `${c.block}.residual_${c.last}.input`, to: `${c.block}.residual_${c.last}.normed`, name: `${c.block}.residual_${c.last}.norm`,
  });
}

// ---- Feed-forward -----------------------------------------------------------------------------------------------------------

const HIDDEN = { relu: "relu(x·W_1 + b_1)", gelu: "gelu(x·W_1 + b_1)", silu: "silu(x·W_1 + b_1)", swiglu: "silu(x·W_1 + b_1) * (x·W_3 + b_3)" };

/** @param {Surroundings} c */
function hidden(c) {
  const x = c.row(`${c.block}.residual_${c.last}.${c.pre ? "normed" : "input"}`);
  const found = c.row(`${c.block}.feed_forward.activation`);
  if (!found) return null;
  const { activation } = c.model;
  const [expand, gate] = ["expand", "gate"].map((name) => plainColumns(c, `${c.block}.feed_forward.${name}`));
  const can = x && expand && (activation !== "swiglu" || gate);
  const inner = can ? project(x, expand.rows, expand.bias) : [];
  const gates = can && gate ? project(x, gate.rows, gate.bias) : null;
  const computed = inner.map((value, at) => ACTIVATIONS[activation](value) * (gates ? gates[at] : 1));
  const zeros = found.filter((value) => value === 0).length;
  const words = {
    relu: t(`ReLU makes negative ones 0: ${zeros} of ${found.length} are silent for this word.`, `ReLU met les négatifs à 0 : ${zeros} sur ${found.length} se taisent pour ce mot.`),
    gelu: t("GELU lets large ones pass and fades small and negative ones.", "GELU laisse passer les grands et éteint doucement les petits et les négatifs."),
    silu: t("SiLU lets large ones pass and fades small and negative ones.", "SiLU laisse passer les grands et éteint doucement les petits et les négatifs."),
    swiglu: t("SwiGLU: a second product decides, number by number, how much of the first may pass.", "SwiGLU : un second produit décide, nombre par nombre, combien du premier peut passer."),
  };
  return {
    id: "hidden",
    title: t("Feed-forward: wide", "Réseau : élargir"),
    equation: HIDDEN[activation],
    why: t(`Attention has gathered; now each word works by itself on what it has gathered. From ${x ? x.length : c.D} to F = ${found.length} numbers, each a feature that this word may or may not have. ${words[activation]}`,
      `L'attention a rassemblé ; chaque mot travaille maintenant seul sur ce qu'il a reçu. De ${x ? x.length : c.D} à F = ${found.length} nombres, chacun un trait que ce mot peut avoir ou non. ${words[activation]}`),
    body: () => [
      vectors([
        ...(inner.length ? [vectorRow(c, "$x·W_1 + b_1$", inner)] : []), ...(gates ? [vectorRow(c, "$x·W_3 + b_3$", gates)] : []),
      ].concat(inner.length ? [vectorRow(c, activation, computed, true)] : []).concat(inner.length ? [] : [vectorRow(c, activation, found)]),
      { caption: t("The first numbers inside", "Les premiers nombres à l'intérieur") }),
      vectors([vectorRow(c, t("all of them", "tous"), found)], { caption: t(`The ${found.length} numbers as recorded`, `Les ${found.length} nombres enregistrés`) }),
    ],
    checks: [can ? check(t("hidden", "intérieur"), found, computed) : missing(c, t("hidden", "intérieur"))],
  };
}

/** @param {Surroundings} c */
function output(c) {
  const [inside, after] = [c.row(`${c.block}.feed_forward.activation`), c.row(`${c.block}.feed_forward.output`)];
  if (!after) return null;
  return {
    id: "output",
    title: t("Feed-forward: and back", "Réseau : et revenir"),
    equation: `(${HIDDEN[c.model.activation]})·W_2 + b_2`,
    why: t(`From F = ${inside ? inside.length : c.model.feed_forward} back to ${after.length}: each active feature adds its own direction to the word's vector.`,
      `De F = ${inside ? inside.length : c.model.feed_forward} à ${after.length} : chaque trait actif ajoute sa direction au vecteur du mot.`),
    body: () => [vectors([vectorRow(c, t("output", "sortie"), after)], { caption: t(`What the feed-forward adds to ${c.word}`, `Ce que le réseau ajoute à ${c.word}`) }),
      firstProduct(c, t("output", "sortie") + "_1", inside, `${c.block}.feed_forward.contract`)],
    checks: [linear(c, t("output", "sortie"), after, inside, `${c.block}.feed_forward.contract`)],
  };
}

/** @param {Surroundings} c */
function lastSum(c) {
  return residual(c, {
    number: c.last, what: `${c.block}.feed_forward.output`, id: "residual-last",
    why: t("A second residual connection, for the same reasons as the first.", "Une autre connexion résiduelle, pour les mêmes raisons que la première."),
  });
}

// ---- What goes on -----------------------------------------------------------------------------------------------------------

/** @param {Surroundings} c */
function handOn(c) {
  const top = c.layer === c.layers - 1;
  const from = `${c.block}.residual_${c.last}.${c.pre ? "sum" : "normed"}`;
  const values = c.row(from);
  if (!values) return null;
  const final = c.half === "encoder" ? "memory" : "decoder_output";
  const to = top ? final : `${c.half}.${c.layer + 1}.residual_1.input`;
  const arrived = c.row(to);
  const normed = top && c.pre;
  const computed = normed ? normalise(c.record, c.model.norm, `parameters.${c.half}_norm`, values) : values;
  const label = top ? (c.half === "encoder" ? t("encoder output", "sortie de l'encodeur") : c.record.alone ? t("last vector", "dernier vecteur") : t("decoder output", "sortie du décodeur")) : t(`input of block ${c.layer + 1}`, `entrée du bloc ${c.layer + 1}`);
  const reason = arrived ? t("the gains of the last norm are not in this page", "les gains de la dernière normalisation ne sont pas dans cette page")
    : t("the next block is not in this page", "le bloc suivant n'est pas dans cette page");
  const whither = !top
    ? t(`Block ${c.layer + 1} reads this vector and does the same with weights of its own.`, `Le bloc ${c.layer + 1} lit ce vecteur et fait de même avec ses propres poids.`)
    : c.record.reads ? t("This was the last block: its output is one vector per token, from which the model says what it says.",
      "C'était le dernier bloc : sa sortie est un vecteur par token, d'où le modèle tire ce qu'il dit.")
    : c.half === "encoder"
      ? t("This was the last block of the encoder. Its output is the latent representation of the sentence: what every block of the decoder asks by cross-attention.",
        "C'était le dernier bloc de l'encodeur. Sa sortie est la représentation latente de la phrase : ce que chaque bloc du décodeur interroge par l'attention croisée.")
      : c.record.alone ? t("This was the last block: from this vector the next word is read.", "C'était le dernier bloc : de ce vecteur on lit le mot suivant.")
        : t("This was the last block of the decoder: from this vector the next word is read.", "C'était le dernier bloc du décodeur : de ce vecteur on lit le mot suivant.");
  return {
    id: "hand-on",
    title: t("What goes on", "Ce qui continue"),
    equation: normed ? "norm(R)" : "R",
    why: whither + (normed ? " " + t("A last norm goes before.", "Une dernière normalisation précède.") : ""),
    body: () => [vectors([vectorRow(c, c.word, arrived || values, true)], { caption: label })],
    checks: [arrived && computed ? check(label, arrived, computed) : missing(c, label, reason)],
  };
}

/** @param {Surroundings} c */
function prediction(c) {
  if (c.half !== "decoder" || c.layer !== c.layers - 1) return null;
  const step = c.record.meta.decoding.steps[c.token];
  if (!step) return null;
  const next = said(c.record.predictedTokens[c.token]);
  const found = outputOf(c);
  const stands = c.record.alone ? t("stands in the text", "est dans le texte") : t("stands in the translation", "est dans la traduction");
  const rows = step.candidates.map((one) => [tools.piece(one.piece), tools.percent(one.probability), probabilityBar(one.probability),
    one.token === step.chosen.token ? stands : ""]);
  if (!step.candidates.some((one) => one.token === step.chosen.token)) {
    rows.push([next, tools.percent(step.chosen.probability), probabilityBar(step.chosen.probability), t(`${stands} (rank ${step.rank})`, `${stands} (rang ${step.rank})`)]);
  }
  return {
    id: "prediction",
    title: t(`Logits, softmax: after ${c.word} comes ${next}`, `Logits, softmax : après ${c.word} vient ${next}`),
    equation: "p = softmax(h·E^T)",
    why: c.record.alone ? t("The last vector is multiplied with the output vector of every token of the vocabulary: a score (logit) each. Softmax makes probabilities of them: what the model expects next. When it writes, one of them is taken and read, and everything begins anew, until <eos>.",
      "Le dernier vecteur est multiplié par le vecteur de sortie de chaque token du vocabulaire : un score (logit) chacun. Softmax en fait des probabilités : ce que le modèle attend ensuite. Quand il écrit, l'un d'eux est pris et lu, et tout recommence, jusqu'à <eos>.")
      : t(`The decoder's last vector is multiplied with the output vector of every token of the vocabulary: a score (logit) each. Softmax makes probabilities of them. The decoder then reads the chosen word, and everything begins anew, until <eos>.`,
      `Le dernier vecteur du décodeur est multiplié par le vecteur de sortie de chaque token du vocabulaire : un score (logit) chacun. Softmax en fait des probabilités. Puis le décodeur lit le mot choisi et tout recommence, jusqu'à <eos>.`),
    body: () => [
      found && product(`logit_{${next}}`, found.h, found.vector, { bias: found.bias || null, total: found.logit }),
      found && h("p", { class: "walk-product" }, equation(`p = ⁄{exp(${tools.number(found.logit)})}{Σ_v exp(logit_v)}`),
        " = exp(", tools.number(found.logit), " − ", tools.number(found.log), ") = ", h("strong", null, tools.percent(found.probability))),
      tools.table([t("token", "token"), "p", "", ""], rows, { caption: t("The most probable tokens here", "Les tokens les plus probables ici") }),
      h("p", { class: "walk-fact" }, t(`Entropy of the whole distribution: ${tools.number(step.entropy)} nats; the chosen one is number ${step.rank} by probability.`,
        `Entropie de toute la distribution : ${tools.number(step.entropy)} nats ; le token choisi est n° ${step.rank} par probabilité.`)),
    ],
    checks: [found ? check(t(`p of ${next}`, `p de ${next}`), [step.chosen.probability], [found.probability])
      : missing(c, "p", t("the output vectors are not in this page", "les vecteurs de sortie ne sont pas dans cette page"))],
  };
}

/** @param {number} share */
function probabilityBar(share) {
  const filled = h("span", { class: "walk-bar", "aria-hidden": "true" }, h("span"));
  filled.firstChild.style.width = `${(share * 100).toFixed(2)}%`;
  return filled;
}

/**
 * The probability of the chosen token from the decoder's output: its logit, and the sum over the vocabulary, which was recorded.
 * @param {Surroundings} c
 */
function outputOf(c) {
  const [h, vector, log] = [c.row("decoder_output"), c.row("parameters.read_out.weight"), c.array("log_normaliser")];
  if (!h || !vector || !log) return null;
  const bias = c.array("parameters.read_out.bias").data[c.token];
  const logit = dot(h, vector) + bias;
  return { h, vector, bias, logit, log: log.data[c.token], probability: Math.exp(logit - log.data[c.token]) };
}

export const afterSteps = [
  heads, projection, firstSum, normAfter((c) => c.own, "norm-after"), crossBetween,
  (c) => (c.kind === "decoder" && !c.record.alone ? normAfter(() => 2, "norm-cross")(c) : null), normForFeedForward,
  hidden, output, lastSum, normAfter((c) => c.last, "norm-last"), handOn, prediction,
];
