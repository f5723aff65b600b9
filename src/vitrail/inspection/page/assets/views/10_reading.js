/* A text that is read and not continued: the guesses at its masks, or its labels; what they hang on, word by word; its one vector. */
import * as tools from "../tools.js";
import {h, t} from "../tools.js";
import {chance, wordTexts} from "./00_shared.js";
import {bar, lensPart, methodsOf} from "./06_beyond.js";

/** Kept over redrawing: which guess or label is explained, and whether by word. */
const state = {row: 0, byWord: true};

/** @param {string} name @param {number} share @param {string} value @param {boolean} chosen */
export function line(name, share, value, chosen) {
  return h("div", {class: chosen ? "rea-row rea-chosen" : "rea-row", role: "listitem"},
    h("span", {class: "rea-name", dir: "auto"}, name),
    h("span", {class: "rea-track", "aria-hidden": "true"}, h("span", {class: "rea-bar", style: {width: `${share * 100}%`}})),
    h("span", {class: "rea-value"}, value));
}

/** @param {PageRecord} record */
function guessPart(record) {
  const guesses = record.meta.extras.guesses ?? [];
  if (!guesses.length) {
    return record.meta.extras.labels ? null
      : tools.note("note", t("No [MASK] stands in this text, so nothing is guessed.", "Aucun [MASK] dans ce texte : il n'y a rien à deviner."));
  }
  return tools.section(t("Guesses", "Ce que le modèle devine"),
    h("p", null, t("At each mask, the tokens that the model holds likeliest, from what stands before it and after it.",
      "À chaque masque, les tokens que le modèle juge les plus probables, d'après ce qui précède et ce qui suit.")),
    guesses.map((guess) => h("section", {class: "rea-guess", "data-position": guess.position},
      h("h4", null, t(`Position ${guess.position}: `, `Position ${guess.position} : `), h("bdi", null, tools.piece(record.sourceTokens[guess.position])),
        guess.hidden ? null : h("span", {class: "quiet"}, t(` rank ${guess.rank}, ${chance(guess.chosen.probability)}`, ` rang ${guess.rank}, ${chance(guess.chosen.probability)}`))),
      h("p", {class: "quiet small"}, t(`entropy ${tools.number(guess.entropy, 2)} nats`, `entropie ${tools.number(guess.entropy, 2)} nats`)),
      h("div", {class: "rea-list", role: "list"}, guess.candidates.map((one) => line(tools.piece(one.piece), one.probability, chance(one.probability), one.token === guess.chosen.token))))));
}

/** @param {PageRecord} record */
function labelPart(record) {
  const found = record.meta.extras.labels;
  if (!found) return null;
  const rows = [...found.labels].sort((one, other) => other.probability - one.probability);
  const how = found.several ? t("A sigmoid of each label's logit: labels may hold together.", "Une sigmoïde du logit de chaque étiquette : plusieurs peuvent valoir à la fois.")
    : found.output === "sigmoid" ? t("One logit z for two labels, here as -z and z: the sigmoid of each is its probability.", "Un logit z pour deux étiquettes, ici -z et z : la sigmoïde de chacun est sa probabilité.")
      : t("The softmax of the logits: one label holds.", "Le softmax des logits : une seule étiquette vaut.");
  return tools.section(t("Labels", "Étiquettes"), h("p", null, how),
    h("div", {class: "rea-list", role: "list"}, rows.map((one) => line(one.label, one.probability,
      `${chance(one.probability)} (${t("logit", "logit")} ${tools.number(one.logit, 2)})`, one.chosen))));
}

/** @param {PageRecord} record */
function reasonPart(record) {
  const rows = record.meta.extras.attribution?.rows ?? [];
  if (!rows.length) return null;
  state.row = Math.min(state.row, rows.length - 1);
  const words = wordTexts(record.meta.source);
  const methods = methodsOf(record);
  const byWord = methods.filter((one) => record.has(`word_attribution.${one.name}`)).map((one) => Object.assign({}, one, {matrix: record.array(`word_attribution.${one.name}`)}));
  const shown = state.byWord && byWord.length ? byWord : methods;
  const names = shown === byWord ? words : record.sourceTokens.map(tools.piece);
  const longest = shown.map((method) => Math.max(...Array.from(method.matrix.row(state.row), Math.abs)) || 1);
  const table = tools.table(
    [shown === byWord ? t("word", "mot") : t("token", "token"), ...shown.map((one) => h("span", null, one.title, one.unit ? h("span", {class: "bey-unit"}, ` ${one.unit}`) : null))],
    names.map((name, at) => [name, ...shown.map((method, place) => bar(method.matrix.at(state.row, at), longest[place], method.signed))]),
    {caption: t(`What “${rows[state.row].name}” hangs on`, `De quoi dépend « ${rows[state.row].name} »`)});
  table.classList.add("bey-bars");
  /** @param {{name: string, position: number | null}} one */
  const label = (one) => (one.position === null ? one.name : `${one.position}: ${tools.piece(one.name)}`);
  return tools.section(t("What it hangs on", "De quoi cela dépend"),
    tools.toolbar(
      rows.length > 1 ? tools.choice(t("Explain", "Expliquer"), rows.map((one, number) => ({value: String(number), text: label(one)})), String(state.row), (value) => {
        state.row = Number(value);
        tools.redraw();
      }) : null,
      byWord.length ? tools.choice(t("Between", "Entre"), [{value: "words", text: t("words", "mots")}, {value: "tokens", text: t("subwords", "sous-mots")}], shown === byWord ? "words" : "tokens", (unit) => {
        state.byWord = unit === "words";
        tools.redraw();
      }) : null),
    h("p", null, t("Blue speaks for it, orange against it. Of a word, gradients are summed over its tokens; its occlusion takes all its tokens away at once.",
      "Bleu : pour ; orange : contre. Pour un mot, les gradients sont sommés sur ses tokens ; l'occultation les retire tous à la fois.")),
    table,
    h("ul", {class: "quiet small"}, shown.map((method) => h("li", null, h("b", null, method.title), ": ", method.says ?? ""))));
}

/** @param {PageRecord} record */
function poolingPart(record) {
  const {pooling} = record.meta.extras;
  if (!pooling) return null;
  const enters = new Set(pooling.tokens);
  const words = {
    mean: t("The mean of the vectors of all tokens.", "La moyenne des vecteurs de tous les tokens."),
    first: t("The vector of the first token, which stands for BERT's [CLS].", "Le vecteur du premier token, qui tient lieu du [CLS] de BERT."),
    last: t("The last states of the highest layer: each direction gives the state at the token where it ends.",
      "Les derniers états de la couche la plus haute : chaque sens donne l'état du token où il finit."),
  };
  return tools.section(t("From tokens to one vector", "Des tokens à un seul vecteur"),
    h("p", null, words[pooling.how], " ", t("Framed tokens enter the vector of the text.", "Les tokens encadrés entrent dans le vecteur du texte.")),
    h("div", {class: "rea-tokens", role: "list"}, record.sourceTokens.map((token, place) => h("span", {
      class: enters.has(place) ? "rea-token rea-enters" : "rea-token", role: "listitem", dir: "auto",
    }, tools.piece(token)))),
    h("p", {class: "quiet small"}, record.meta.first
      ? t("<sos> stands for BERT's [CLS], <eos> for its [SEP].", "<sos> tient lieu du [CLS] de BERT, <eos> de son [SEP].") : null));
}

/** @type {View} */
export const readingView = {
  id: "reading",
  order: 0,
  label: {en: "What it says", fr: "Ce qu'il dit"},
  available: (record) => record.reads && !record.bare,
  render(root, record) {
    root.append(...[guessPart(record), labelPart(record), reasonPart(record), lensPart(record), poolingPart(record)].filter(Boolean));
  },
};
