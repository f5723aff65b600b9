/* What the film has of models that do not translate: next tokens, guesses at masks, labels, an autoencoder's vector. */
import * as charts from "../charts.js";
import * as tools from "../tools.js";
import {h, t} from "../tools.js";
import {chance} from "./00_shared.js";
import {line} from "./10_reading.js";

/** Kept over redrawing: the sentence, and of a language model the position in it. */
const state = {probe: 0, place: null};

/** Names of steps for axes: 2000 as 2k. @param {number} step */
export const brief = (step) => (step >= 10000 && step % 1000 === 0 ? `${step / 1000}k` : String(step));

/** The words for a kind of model. @param {Film} film */
export function wordsOf(film) {
  const reference = t("reference: ", "référence : ");
  const whole = t("the line: ", "la ligne : ");
  const parted = t("Dotted: words that the reference does not have in that place. The bar is the loss of the reference.",
    "En pointillé : les mots que la référence n'a pas à cet endroit. La barre est la perte de la référence.");
  return {
    translation: {reference, rule: parted},
    language: {
      reference: whole, begins: true, alone: true,
      rule: t("Grey: the beginning that it is given; the rest it writes, greedily. The bar is the loss of the whole line.",
        "En gris : le début donné ; le reste, il l'écrit, token le plus probable à chaque fois. La barre est la perte de la ligne entière."),
    },
    masked: {
      reference: whole,
      rule: t("Each mask filled with the likeliest token. Dotted: words that the line does not have in that place. The bar is the loss of the hidden tokens.",
        "Chaque masque rempli du token le plus probable. En pointillé : les mots que la ligne n'a pas à cet endroit. La barre est la perte des tokens cachés."),
    },
    classification: {
      reference: t("label: ", "étiquette : "), whole: true,
      rule: t("The label that it gives; dotted where it is not the right one. The bar is the loss of the right label.",
        "L'étiquette qu'il donne ; en pointillé si ce n'est pas la bonne. La barre est la perte de la bonne étiquette."),
    },
    autoencoding: {
      reference: whole, alone: true,
      rule: t("The line given back from its one vector. Dotted: words that the line does not have in that place. The bar is the loss of the line.",
        "La ligne rendue depuis son seul vecteur. En pointillé : les mots que la ligne n'a pas à cet endroit. La barre est la perte de la ligne."),
    },
  }[film.task ?? "translation"];
}

/** The candidates at one place and step, as bars. @param {FilmChoice} choice @param {number} frame */
function bars(choice, frame) {
  return h("div", {class: "rea-list", role: "list"}, choice.candidates[frame].map(([name, share]) => line(tools.piece(name), share, chance(share), name === choice.wanted)));
}

/** What is right at a place, and how likely it is held. @param {FilmChoice} choice @param {number} frame */
function right(choice, frame) {
  if (choice.chance[frame] === null) return null;
  return h("p", {class: "quiet small"}, t("right: ", "juste : "), h("bdi", null, tools.piece(choice.wanted)),
    `, ${chance(choice.chance[frame])}, ${t("rank", "rang")} ${choice.rank[frame]}`);
}

/** Probabilities over the training. @param {Film} film @param {Series[]} series @param {number} frame */
function course(film, series, frame) {
  const known = series.filter(({values}) => values.some(Number.isFinite));
  if (!known.length) return null;
  return charts.lines({series: known, labels: film.steps.map(brief), label: t("Probability over the training", "Probabilité au fil de l'entraînement"),
    yLabel: "", marker: frame});
}

/** @param {Film} film @param {number} frame @param {() => void} again */
function nextTokens(film, frame, again) {
  const {source_tokens: read, target_tokens: wanted} = film.probes[state.probe];
  const choices = film.choices[state.probe];
  if (state.place === null || state.place >= choices.length) state.place = Math.min(1, choices.length - 1);
  const choice = choices[state.place];
  const row = charts.tokens({
    tokens: wanted.slice(0, choices.length), label: t("The line, token by token", "La ligne, token par token"), selected: state.place,
    shares: choices.map((one) => one.chance[frame] ?? 0),
    onSelect: (place) => {
      state.place = place;
      again();
    },
  });
  return [row, h("p", null, t("After ", "Après "), h("bdi", null, h("b", null, tools.piece(read[state.place]))), t(", it expects:", ", il attend :")), bars(choice, frame), right(choice, frame),
    course(film, [{name: tools.piece(choice.wanted), values: choice.chance}], frame)];
}

/** @param {Film} film @param {number} frame */
function guesses(film, frame) {
  const choices = film.choices[state.probe];
  const read = film.probes[state.probe].source_tokens;
  const places = new Set(choices.map((one) => one.position));
  const row = h("div", {class: "rea-tokens"}, read.map((piece, place) => h("span", {class: places.has(place) ? "rea-token rea-enters" : "rea-token", dir: "auto"}, tools.piece(piece))));
  const each = choices.map((choice) => h("section", {class: "rea-guess"},
    h("h4", null, t(`Position ${choice.position}`, `Position ${choice.position}`)), bars(choice, frame), right(choice, frame)));
  return [row, h("div", {class: "film-cards"}, each),
    course(film, choices.map((choice) => ({name: `${choice.position}: ${tools.piece(choice.wanted)}`, values: choice.chance})), frame)];
}

/** @param {Film} film @param {number} frame */
function labels(film, frame) {
  const [choice] = film.choices[state.probe];
  const names = choice.candidates[film.steps.length - 1].map(([name]) => name);
  const series = names.map((name) => ({name, values: choice.candidates.map((all) => all.find(([one]) => one === name)?.[1] ?? null)}));
  return [bars(choice, frame), course(film, series, frame)];
}

/** @param {Film} film @param {() => number} current */
export function choicesPart(film, current) {
  if (!film.choices?.length) return null;
  if (state.probe >= film.probes.length) state.probe = 0;
  const body = h("div", {class: "film-choices"});
  /** @param {number} frame */
  const move = (frame) => {
    const draw = {language: nextTokens, masked: guesses, classification: labels}[film.task];
    body.replaceChildren(...draw(film, frame, () => move(current())).filter(Boolean));
  };
  const title = {
    language: t("What it expects next at this step", "Ce qu'il attend ensuite, à ce pas"),
    masked: t("What it guesses at this step", "Ce qu'il devine à ce pas"),
    classification: t("Labels at this step", "Étiquettes à ce pas"),
  }[film.task];
  const rule = film.task === "language" ? t("Each token of the line is shaded by how probable it was, given those before it. Choose one.",
    "Chaque token de la ligne est ombré selon sa probabilité, sachant ceux d'avant. Choisissez-en un.") : null;
  const options = film.probes.map((probe, number) => ({value: String(number), text: film.task === "language" ? probe.reference : probe.source}));
  return {move, element: tools.section(title, rule ? h("p", {class: "quiet"}, rule) : null,
    options.length > 1 ? tools.toolbar(tools.select(t("Sentence", "Phrase"), options, String(state.probe), (value) => {
      state.probe = Number(value);
      state.place = null;
      move(current());
    })) : null, body)};
}

/** The numbers of an autoencoder's vector over the training. @param {Film} film @param {() => number} current */
export function latentPart(film, current) {
  if (!film.latents?.length) return null;
  if (state.probe >= film.probes.length) state.probe = 0;
  const body = h("div", null);
  let picture = null;
  const draw = () => {
    const frames = film.latents[state.probe];
    const units = frames[0].map((_, unit) => `z${unit}`);
    picture = charts.heatmap({
      values: units.flatMap((_, unit) => frames.map((one) => one[unit] ?? 0)), rows: units, columns: film.steps.map(brief), diverging: true, size: 640,
      label: t("The vector of the sentence, by step", "Le vecteur de la phrase, pas à pas"), rowTitle: t("number", "nombre"), columnTitle: t("step", "pas"),
      describe: (row, column) => `${units[row]}, ${film.steps[column]}: ${tools.number(frames[column][row], 3)}`,
    });
    picture.point(null, current());
    body.replaceChildren(tools.figure(picture, t(`The first ${units.length} numbers of the one vector between encoder and decoder. Once they stay, the code is settled.`,
      `Les ${units.length} premiers nombres du seul vecteur entre encodeur et décodeur. Dès qu'ils ne bougent plus, le code est trouvé.`),
    () => tools.table(["", ...film.steps.map(String)], units.map((name, unit) => [name, ...frames.map((one) => tools.number(one[unit], 3))]))));
  };
  draw();
  const options = film.probes.map((probe, number) => ({value: String(number), text: probe.reference}));
  return {move: (frame) => picture.point(null, frame), element: tools.section(t("The bottleneck", "Le goulot"),
    options.length > 1 ? tools.toolbar(tools.select(t("Sentence", "Phrase"), options, String(state.probe), (value) => {
      state.probe = Number(value);
      draw();
    })) : null, body)};
}
