/* The objective of word vectors for chosen pairs of words, step by step: the equation, then the numbers that were computed from the vectors. */
import * as tools from "../tools.js";
import {h, t} from "../tools.js";
import {chance, visible} from "./00_shared.js";
import {bracket, equation} from "./02_steps_math.js";

/** Kept over redraws: which pair. */
const state = {pair: 0};
const DIGITS = 4;

/** A number to four digits, or by its power of ten where these would be none. @param {number} value */
const num = (value) => tools.number(value, DIGITS);
/** @param {string} word */
const name = (word) => h("bdi", null, visible(word));

// ---- parts ------------------------------------------------------------------------------------------------------------------------

/** @param {...Child} children */
const line = (...children) => h("p", {class: "obj-line"}, children);

/** @param {string} symbol @param {ShownVector} vector */
function vector(symbol, {first, size, length}) {
  const more = size > first.length ? t(` … (${size} numbers, length ${num(length)})`, ` … (${size} nombres, longueur ${num(length)})`) : t(` (length ${num(length)})`, ` (longueur ${num(length)})`);
  return line(equation(symbol), " = ", first.map((value) => tools.number(value)).join("\u2002"), h("span", {class: "quiet"}, more));
}

/** @param {string} symbol @param {ShownProduct} given */
function product(symbol, {terms, others, rest, value}) {
  const written = terms.map(([one, other]) => `${bracket(one)}·${bracket(other)}`);
  if (others) written.push(t(`${bracket(rest)} of ${others} more`, `${bracket(rest)} des ${others} autres`));
  return h("p", {class: "walk-product obj-line"}, equation(symbol), ` = ${written.join(" + ")} = `, h("strong", null, num(value)));
}

/** A bar to the right for what speaks for it, in another colour for what speaks against it. @param {number} value @param {number} largest */
const bar = (value, largest) => h("span", {class: value < 0 ? "obj-bar obj-below" : "obj-bar", "aria-hidden": "true", style: {width: `${(Math.abs(value) / (largest || 1)) * 6}rem`}});

/**
 * @param {number} number @param {Child} title @param {string} formula @param {Child[]} body
 */
function card(number, title, formula, body) {
  return h("section", {class: "walk-step obj-card", "data-step": number},
    h("h3", null, h("span", {class: "walk-number"}, String(number)), h("span", null, title)),
    formula ? h("div", {class: "walk-formula"}, equation(formula)) : null, body);
}

// ---- Word2Vec and fastText --------------------------------------------------------------------------------------------------------

/** @param {WordWalk} walk */
function inputCard(walk) {
  const several = walk.rows.length > 1;
  const ngrams = walk.rows.some((row) => row.ngram);
  const why = ngrams
    ? t(`h is the mean of ${walk.rows.length} rows: the word's own, and one for each of its n-grams (< and > mark its ends).`,
      `h est la moyenne de ${walk.rows.length} lignes : celle du mot, et une pour chacun de ses n-grammes (< et > marquent ses bords).`)
    : several ? t(`h is the mean of the ${walk.rows.length} words of the window.`, `h est la moyenne des ${walk.rows.length} mots de la fenêtre.`)
      : walk.architecture === "cbow" ? t("h is the mean of the words of the window; here this one word.", "h est la moyenne des mots de la fenêtre ; ici ce seul mot.")
        : t("h is the vector of the word.", "h est le vecteur du mot.");
  const largest = Math.max(...walk.rows.map((row) => Math.abs(row.share ?? 0)));
  const shares = walk.rows.some((row) => row.share !== null);
  const rows = walk.rows.map((row) => [
    h("span", null, name(row.name), row.ngram ? null : h("span", {class: "quiet"}, t(" (word)", " (mot)"))), num(row.length),
    ...(row.share === null ? [] : [num(row.share), bar(row.share, largest)])]);
  return card(1, t("The input h", "L'entrée h"), several ? "h = ⁄{1}{n} Σ v_r" : "h = v", [
    h("p", {class: "walk-why"}, why),
    several ? tools.table([t("row", "ligne"), t("length", "longueur"), ...(shares ? [t("part of h·o", "part de h·o"), ""] : [])], rows,
      {caption: t("The rows of the mean", "Les lignes de la moyenne")}) : null,
    walk.hidden ? vector("h", walk.hidden) : null]);
}

/** @param {WordWalk} walk */
function sampledCards(walk) {
  const [truth, ...drawn] = walk.targets;
  const largest = Math.max(...walk.targets.map((one) => Math.abs(one.pull)));
  const rows = drawn.map((one) => [name(one.name), tools.grouped(one.count), chance(one.drawn), num(one.score), num(one.sigmoid), num(one.loss), num(one.pull), bar(one.pull, largest)]);
  return [
    card(2, h("span", null, t("The output vector o of ", "Le vecteur de sortie o de "), name(walk.other)), "h·o = Σ h_i o_i", [
      vector("o", walk.output), product("h·o", walk.score)]),
    card(3, t("How likely the pair is of the text, and not a random one", "Quelle chance que la paire vienne du texte, et non du hasard"), "s(x) = ⁄{1}{1 + e^{−x}}", [
      line(equation("s(h·o)"), ` = s(${num(truth.score)}) = `, h("strong", null, num(truth.sigmoid))),
      line(equation("−ln s(h·o)"), ` = −ln ${num(truth.sigmoid)} = `, h("strong", null, num(truth.loss)))]),
    card(4, t("Words drawn at random", "Des mots tirés au hasard"), `p = ⁄{count^{${tools.number(walk.noise_power, 2)}}}{Σ count^{${tools.number(walk.noise_power, 2)}}}`, [
      h("p", {class: "walk-why"}, t(`For each true pair ${walk.negatives} words are drawn, which are to be told from it. These are the likeliest:`,
        `Pour chaque vraie paire, ${walk.negatives} mots sont tirés, dont il faut la distinguer. Voici les plus probables :`)),
      tools.table([t("word", "mot"), t("count", "nombre"), "p", "h·o", "s(h·o)", "−ln(1 − s)", t("pull", "traction"), ""], rows, {caption: t("The likeliest draws", "Les tirages les plus probables")}),
      line(t(`${walk.negatives} draws cost on average `, `${walk.negatives} tirages coûtent en moyenne `), equation(`${walk.negatives} Σ p · (−ln(1 − s(h·o)))`), " = ", h("strong", null, num(walk.expected)),
        h("span", {class: "quiet"}, t(" over all words; a draw of the true word counts for nothing", " sur tous les mots ; le vrai mot tiré ne compte pas")))]),
    card(5, t("The loss", "La perte"), "loss = −ln s(h·o) − Σ ln(1 − s(h·o_k))", [
      line(`${num(truth.loss)} + ${num(walk.expected)} = `, h("strong", {"data-loss": walk.loss}, num(walk.loss)))]),
    card(6, t("What a step changes", "Ce qu'un pas change"), "o ← o + rate · (y − s(h·o)) · h", [
      line(t("y is 1 for the true word and 0 for a drawn one. The true word: ", "y vaut 1 pour le vrai mot et 0 pour un mot tiré. Le vrai mot : "), equation("1 − s"), " = ", h("strong", null, num(truth.pull)),
        t(": o moves towards h, and each row of h moves towards o by as much. A drawn word is pushed away by its pull, which is below 0.",
          " : o avance vers h, et chaque ligne de h avance d'autant vers o. Un mot tiré est repoussé par sa traction, qui est négative."))]),
  ];
}

/** @param {WordWalk} walk */
function treeCards(walk) {
  const rows = walk.targets.map((one) => {
    const p = one.label ? one.sigmoid : 1 - one.sigmoid;
    return [t(`node ${one.row}`, `nœud ${one.row}`), String(one.label), num(one.score), num(p), bar(p, 1), num(one.loss)];
  });
  return [
    card(2, h("span", null, t("The way through the Huffman tree to ", "Le chemin dans l'arbre de Huffman vers "), name(walk.other)), "p = s(h·o)^{y} (1 − s(h·o))^{1 − y},  s(x) = ⁄{1}{1 + e^{−x}}", [
      h("p", {class: "walk-why"}, t(`${rows.length} turns from the root on. Each inner node has an output vector o of its own and says how likely the way turns to 1. Frequent words have short ways.`,
        `${rows.length} tournants depuis la racine. Chaque nœud a son vecteur de sortie o et dit la chance que le chemin tourne vers 1. Les mots fréquents ont des chemins courts.`)),
      tools.table([t("node", "nœud"), t("turn y", "tournant y"), "h·o", "p", "", "−ln p"], rows, {caption: t("The turns", "Les tournants")})]),
    card(3, h("span", null, t("The probability of ", "La probabilité de "), name(walk.other)), "P = p_1 · p_2 · … · p_n", [
      line(t("The product of all turns: ", "Le produit de tous les tournants : "), h("strong", null, chance(walk.probability)),
        h("span", {class: "quiet"}, t(". Those of all words sum to 1.", ". Celles de tous les mots font 1.")))]),
    card(4, t("The loss", "La perte"), "loss = −ln P = Σ −ln p_i", [line(h("strong", {"data-loss": walk.loss}, num(walk.loss)))]),
  ];
}

// ---- GloVe ------------------------------------------------------------------------------------------------------------------------

/** @param {WordWalk} walk */
function gloveCards({word, other, glove}) {
  const counted = [];
  if (glove.x !== null) {
    counted.push(card(3, t("How often they stand near each other", "Combien de fois ils sont proches"), `X = Σ ⁄{1}{d},  f(X) = min(1, (X / ${tools.number(glove.x_max, 2)})^{${tools.number(glove.alpha, 2)}})`, [
      h("p", {class: "walk-why"}, t(`Over all places where they stand d words beside each other, d up to ${glove.window}. Rare pairs weigh less.`,
        `Sur tous les endroits où ils sont à d mots l'un de l'autre, d jusqu'à ${glove.window}. Les paires rares pèsent moins.`)),
      line("X = ", h("strong", null, num(glove.x)), glove.log_x === null ? "" : [", ln X = ", h("strong", null, num(glove.log_x))], ", f(X) = ", h("strong", null, num(glove.weight)))]));
    counted.push(glove.error === null
      ? card(4, t("The error and the loss", "L'erreur et la perte"), "", [line(t("GloVe learns from pairs that there are, and so nothing from this one.", "GloVe apprend des paires qui existent, donc rien de celle-ci."))])
      : card(4, t("The error and the loss", "L'erreur et la perte"), "d = w·u + b + c − ln X", [
        line(`d = ${num(glove.predicted)} − ${num(glove.log_x).startsWith("\u2212") ? `(${num(glove.log_x)})` : num(glove.log_x)} = `, h("strong", null, num(glove.error))),
        line(equation("f(X) d^2"), " = ", h("strong", {"data-loss": glove.loss}, num(glove.loss)))]));
  }
  return [
    card(1, h("span", null, t("The vector w of the word ", "Le vecteur w du mot "), name(word), t(", and u of the context ", ", et u du contexte "), name(other)), "w·u = Σ w_i u_i", [
      vector("w", glove.word), vector("u", glove.context), product("w·u", glove.product)]),
    card(2, t("With the biases of both", "Avec les biais des deux"), "w·u + b + c ≈ ln X", [
      line(`${num(glove.product.value)} + ${bracketed(glove.bias)} + ${bracketed(glove.context_bias)} = `, h("strong", null, num(glove.predicted))),
      glove.x === null ? line(t(`The vectors take X for e^${num(glove.predicted)} = `, `Les vecteurs estiment X à e^${num(glove.predicted)} = `), h("strong", null, num(Math.exp(glove.predicted)))) : null]),
    ...counted,
  ];
}

/** @param {number} value */
const bracketed = (value) => (value < 0 ? `(${num(value)})` : num(value));

// ---- the whole --------------------------------------------------------------------------------------------------------------------

/** @param {WordWalk} walk */
function title(walk) {
  const window = [walk.word, ...walk.around].flatMap((word, place) => (place ? [", ", name(word)] : [name(word)]));
  if (walk.kind === null) return [name(walk.word), ", ", name(walk.other)];
  if (walk.kind === "glove") return ["GloVe: ", name(walk.word), t(" beside ", " à côté de "), name(walk.other)];
  const how = walk.kind === "tree" ? t("hierarchical softmax", "softmax hiérarchique") : t("negative sampling", "échantillonnage négatif");
  return [walk.method === "fasttext" ? "fastText, " : "", `${walk.architecture}, ${how}: `, window, walk.around.length ? t(" tell ", " annoncent ") : t(" tells ", " annonce "), name(walk.other)];
}

/** @param {WordWalk["missing"][number]} what */
function lacking(what) {
  return {
    method: t("These vectors do not say how they were trained, so no objective can be filled in.", "Ces vecteurs ne disent pas comment ils ont été entraînés : aucun objectif ne peut être calculé."),
    outputs: t("The output vectors are not here: train with --set keep_outputs=true, or give fastText's .bin.", "Les vecteurs de sortie manquent : entraînez avec --set keep_outputs=true, ou donnez le .bin de fastText."),
    counts: t("The counts of the words are not here, which random draws and the tree need.", "Les nombres d'occurrences manquent, dont les tirages et l'arbre ont besoin."),
    other: t("The other word was not in the training text, so it has no output vector.", "L'autre mot n'était pas dans le texte d'entraînement : il n'a pas de vecteur de sortie."),
    text: t("How often the two stand near each other is not kept: --text with the training text counts it.", "Le nombre de fois où les deux sont proches n'est pas conservé : --text avec le texte d'entraînement le compte."),
  }[what];
}

/** @param {WordWalk} walk */
function cards(walk) {
  const steps = walk.glove ? gloveCards(walk)
    : walk.kind === "negatives" || walk.kind === "tree" ? [inputCard(walk), ...(walk.targets.length ? (walk.kind === "tree" ? treeCards(walk) : sampledCards(walk)) : [])] : [];
  return [
    h("p", {class: "obj-title"}, title(walk)),
    walk.missing.map((what) => tools.note("note", lacking(what))),
    steps,
    card(steps.length + 1, t("How alike the two vectors are", "La ressemblance des deux vecteurs"), "cos(v, v′) = ⁄{v·v′}{|v| |v′|}", [
      product("v·v′", walk.product), line("cos = ", h("strong", {"data-cosine": walk.cosine}, num(walk.cosine)))]),
  ];
}

/** @type {View} */
export const objectiveView = {
  id: "objective",
  order: 1,
  label: {en: "Objective, step by step", fr: "L'objectif pas à pas"},
  available: (record) => Boolean(record.meta.extras?.words?.walks.length),
  render(root, record) {
    const {walks} = record.meta.extras.words;
    const body = h("div", {class: "walk-stage"});
    /** @param {number} number */
    const draw = (number) => {
      state.pair = number;
      body.replaceChildren(...cards(walks[number]).flat());
    };
    const options = walks.map((walk, number) => ({value: String(number), text: `${visible(walk.word)} – ${visible(walk.other)}`}));
    root.append(
      h("p", {class: "walk-summary"}, t("What the training of these vectors asks of two words: each equation, then the numbers of the vectors themselves.",
        "Ce que l'entraînement de ces vecteurs demande à deux mots : chaque équation, puis les nombres des vecteurs mêmes.")),
      walks.length > 1 ? tools.select(t("Pair", "Paire"), options, String(state.pair), (value) => draw(Number(value))) : "",
      body);
    draw(Math.min(state.pair, walks.length - 1));
  },
};
