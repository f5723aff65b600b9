/* Maps: this sentence's states layer by layer, many sentences, embeddings and their neighbours, retrieval, likeness of layers. */
import * as charts from "../charts.js";
import * as tools from "../tools.js";
import {h, t} from "../tools.js";
import {scatter} from "./08_scatter.js";

const state = {layer: null, place: null, sentence: null, side: null, piece: null};

// ---- names --------------------------------------------------------------------------------------------------------------------------

/** What people call a place in the model. @param {string} place */
function placeName(place) {
  const whole = {
    source_embedded: t("embeddings X", "plongements X"), source_input: t("X + positions",
      "X + positions"), memory: t("encoder output", "sortie de l'encodeur"),
    target_embedded: t("target embeddings", "plongements cible"), target_input: t("target X + positions", "cible X + positions"),
    decoder_output: t("decoder output", "sortie du décodeur"),
  }[place];
  if (whole) return whole;
  const layer = /^(encoder|decoder|cells)\.(\d+)/.exec(place);
  if (!layer) return place === "embedded" ? t("embeddings", "plongements") : place;
  if (layer[1] === "cells") return t(`layer ${layer[2]}`, `couche ${layer[2]}`);
  return layer[1] === "encoder" ? t(`encoder ${layer[2]}`, `encodeur ${layer[2]}`) : t(`decoder ${layer[2]}`, `décodeur ${layer[2]}`);
}

/** How much of the variance the plane shows, or that the method has no such number. @param {number[]} explained @param {string} method */
function shown(explained, method) {
  if (!explained) return t(`Laid out by ${method}: only who is near whom means something.`,
    `Disposé par ${method} : seul le voisinage a un sens.`);
  const [x, y] = explained;
  return t(`The plane shows ${tools.percent(x + y)} of the variance (${tools.percent(x)} across, ${tools.percent(y)} upwards).`,
    `Le plan montre ${tools.percent(x + y)} de la variance (${tools.percent(x)} en largeur, ${tools.percent(y)} en hauteur).`);
}

/** @param {any[]} points */
function coordinateTable(points) {
  return () => tools.table([t("point",
    "point"), "x", "y"], points.map((point) => [point.title ?? point.label, tools.number(point.x), tools.number(point.y)]));
}

// ---- this sentence ------------------------------------------------------------------------------------------------------------------

/** @param {PageRecord} record */
function sentencePart(record) {
  const {planes} = record.meta;
  if (!planes.length || record.readTokens.length < 3) return null;
  if (!planes.some((one) => one.place === state.layer)) state.layer = planes.at(-1).place;
  const body = h("div", null);
  /** @param {string} place */
  const draw = (place) => {
    state.layer = place;
    const {points, explained} = planes.find((one) => one.place === place);
    const dots = points.map(([x, y], at) => ({x, y, label: tools.piece(record.readTokens[at]), title: `${at + 1}. ${tools.piece(record.readTokens[at])}`}));
    body.replaceChildren(tools.figure(
      scatter({points: dots, path: true, label: t(`States of this sentence, ${placeName(place)}`, `États de cette phrase, ${placeName(place)}`)}),
      `${t("The line follows the sentence.", "La ligne suit la phrase.")} ${shown(explained, "pca")}`, coordinateTable(dots)));
    body.dataset.shares = explained.join(" ");
  };
  draw(state.layer);
  return tools.section(
    record.alone ? t("This text, layer by layer", "Ce texte, couche par couche") : t("This sentence, layer by layer", "Cette phrase, couche par couche"),
    h("p", null, t("The vectors of its tokens on the plane on which they differ most (principal components).",
      "Les vecteurs de ses tokens sur le plan où ils diffèrent le plus (composantes principales).")),
    tools.choice(t("Where", "Où"), planes.map(({place}) => ({value: place, text: placeName(place)})), state.layer, draw), body);
}

// ---- many sentences -----------------------------------------------------------------------------------------------------------------

const MEANS = "means";

/** @param {PageRecord} record @param {Maps} maps */
function manyPart(record, maps) {
  const options = maps.states.map((map, number) => ({value: String(number), text: placeName(map.place)}));
  if (maps.means) options.push({value: MEANS, text: t("sentences", "phrases")});
  if (!options.length) return null;
  if (!options.some((one) => one.value === state.place)) state.place = options.at(maps.means ? -2 : -1)?.value ?? options[0].value;
  const own = maps.sentences.findIndex((one) => one.text === record.sides[0].text);
  const drawn = [...new Set(maps.points.sentence)];
  if (!drawn.includes(state.sentence)) state.sentence = drawn.includes(own) ? own : (drawn[0] ?? 0);
  const body = h("div", null);
  const draw = () => body.replaceChildren(state.place === MEANS ? meansFigure(maps) : statesFigure(maps));
  draw();
  /** @param {string} key @param {(value: any) => any} read */
  const change = (key, read) => (value) => {
    state[key] = read(value);
    draw();
  };
  return tools.section(
    t("Many sentences", "Beaucoup de phrases"),
    h("p", null, t(`${drawn.length} sentences on one map, position by position; or ${maps.sentences.length} of them, each as the mean of its positions.`,
      `${drawn.length} phrases sur une même carte, position par position ; ou ${maps.sentences.length} phrases, chacune comme moyenne de ses positions.`)),
    tools.toolbar(
      tools.choice(t("Where", "Où"), options, state.place, change("place", String)),
      tools.select(t("Sentence", "Phrase"), drawn.map((number) => ({value: String(number), text: shorten(maps.sentences[number].text)})),
        String(state.sentence), change("sentence", Number))),
    body);
}

/** @param {string} text */
const shorten = (text, length = 48) => (Array.from(text).length > length ? `${Array.from(text).slice(0, length - 1).join("")}…` : text);

/** Encoder positions; those of the chosen sentence stand out. @param {Maps} maps */
function statesFigure(maps) {
  const map = maps.states[Number(state.place)];
  const {sentence, position, piece} = maps.points;
  const dots = sentence.map((number, at) => ({
    x: map.coordinates[0][at], y: map.coordinates[1][at], label: tools.piece(piece[at]), strong: number === state.sentence,
    title: `${tools.piece(piece[at])} – ${position[at] + 1}. ${t("in", "dans")} “${maps.sentences[number].text}”`,
  }));
  return tools.figure(scatter({points: dots, path: true, label: t("Positions of many sentences",
    "Positions de beaucoup de phrases")}),
    `${t("The chosen sentence is strong and joined by a line.",
      "La phrase choisie est marquée et reliée par une ligne.")} ${shown(map.explained, maps.method)}`,
    coordinateTable(dots));
}

/** @param {Maps} maps */
function meansFigure(maps) {
  const dots = maps.sentences.map((one, at) => ({
    x: maps.means.coordinates[0][at], y: maps.means.coordinates[1][at], label: shorten(one.text, 26), strong: at === state.sentence,
    title: one.translation ? `${one.text} → ${one.translation}` : one.text,
  }));
  return tools.figure(scatter({points: dots, label: t("Sentences, each the mean of its positions",
    "Phrases, chacune la moyenne de ses positions")}),
    shown(maps.means.explained, maps.method), coordinateTable(dots));
}

// ---- embeddings ---------------------------------------------------------------------------------------------------------------------

/** @param {string} side */
const sideName = (side) => ({both: t("shared by both sides",
  "partagés"), source: "source", target: t("target", "cible")})[side];

/** @param {PageRecord} record @param {Maps} maps */
function embeddingsPart(record, maps) {
  if (!maps.embeddings.length) return null;
  if (!maps.embeddings.some((one) => one.side === state.side)) state.side = maps.embeddings[0].side;
  const body = h("div", {class: "maps-two"});
  /** @param {string} side */
  const draw = (side) => {
    state.side = side;
    body.replaceChildren(...embeddingsFigure(record, maps, maps.embeddings.find((one) => one.side === side)));
  };
  draw(state.side);
  return tools.section(
    t("Embeddings, and who is next to whom", "Plongements, et qui est voisin de qui"),
    h("p", null, t("Choose a token to see the nearest ones of the whole vocabulary, by the cosine of their embeddings.",
      "Choisissez un token pour voir les plus proches dans tout le vocabulaire, par le cosinus de leurs plongements.")),
    maps.embeddings.length > 1
      ? tools.choice(t("Embeddings",
        "Plongements"), maps.embeddings.map(({side}) => ({value: side, text: sideName(side)})), state.side, draw) : null,
    body, neighbourTable(record, maps));
}

/** The pieces of this sentence and its translation. @param {PageRecord} record @param {string} side */
function ownPieces(record, side) {
  const {source, target} = record.meta;
  return new Set([...(side === "target" ? [] : source?.pieces ?? []), ...(side === "source" ? [] : target?.pieces ?? [])]);
}

/** @param {PageRecord} record @param {Maps} maps @param {EmbeddingMap} map */
function embeddingsFigure(record, maps, map) {
  const own = ownPieces(record, map.side);
  const dots = map.pieces.map((piece, at) => ({
    x: map.coordinates[0][at], y: map.coordinates[1][at], label: tools.piece(piece), strong: own.has(piece),
    title: `${tools.piece(piece)}, ${t(`${map.counts[at]} times`, `${map.counts[at]} fois`)}`,
  }));
  const near = h("div", {class: "maps-near", "aria-live": "polite"});
  /** @param {number} number */
  const show = (number) => {
    state.piece = map.pieces[number];
    near.replaceChildren(neighboursOf(map, number));
  };
  const kept = map.pieces.indexOf(state.piece);
  const rarest = map.pieces.map((_, number) => number).filter((number) => own.has(map.pieces[number])).at(-1); // most frequent come first
  const first = kept >= 0 ? kept : (rarest ?? 0);
  show(first);
  return [
    tools.figure(scatter({points: dots, onSelect: show, selected: first, label: t("Embeddings of tokens",
      "Plongements des tokens")}),
      `${t("Strong: the tokens of this sentence.",
        "Marqués : les tokens de cette phrase.")} ${shown(map.explained, maps.method)}`, coordinateTable(dots)),
    near,
  ];
}

/** @param {EmbeddingMap} map @param {number} number */
function neighboursOf(map, number) {
  const rows = map.neighbours[number].map(([piece, cosine]) => h("li", null,
    h("span", {dir: "auto"}, tools.piece(piece)),
    h("span", {class: "maps-track"}, h("span", {style: {width: `${Math.max(0, cosine) * 100}%`}})),
    h("span", {class: "maps-cosine"}, tools.number(cosine, 2))));
  return h("div", null, h("h4", null, t("Nearest to ",
    "Les plus proches de "), h("span", {class: "maps-piece"}, tools.piece(map.pieces[number]))), h("ol", null, rows));
}

/** The neighbours of this sentence's tokens, or of the most frequent ones. @param {PageRecord} record @param {Maps} maps */
function neighbourTable(record, maps) {
  const rows = maps.embeddings.flatMap((map) => {
    const own = ownPieces(record, map.side);
    const numbers = map.pieces.map((_, number) => number).filter((number) => own.has(map.pieces[number]));
    return (numbers.length ? numbers : map.pieces.map((_, number) => number).slice(0, 12)).map((number) => [
      tools.piece(map.pieces[number]), ...map.neighbours[number].slice(0, 5).map(([piece, cosine]) => `${tools.piece(piece)} ${tools.number(cosine, 2)}`),
    ]);
  });
  return tools.folded(t("The tokens of this sentence and their five nearest", "Les tokens de cette phrase et leurs cinq plus proches"),
    () => tools.table([t("token", "token"), "1", "2", "3", "4", "5"], rows));
}

// ---- retrieval ----------------------------------------------------------------------------------------------------------------------

/** @param {Maps} maps */
function retrievalPart(maps) {
  if (!maps.retrieval.length) return null;
  /** @param {string} name @param {number} share @param {string} kind */
  const line = (name, share, kind) => h("div", {class: "maps-rate"},
    h("span", null, name), h("span", {class: "maps-track"}, h("span", {class: kind, style: {width: `${share * 100}%`}})), h("span", {class: "maps-cosine"}, tools.percent(share)));
  const cards = maps.retrieval.map((one) => h("div", {class: "maps-card"},
    h("h4", null, one.target === "memory"
      ? t("encoder output → that of the translation", "sortie de l'encodeur → celle de la traduction")
      : `${placeName(one.source)} → ${placeName(one.target)}`),
    line(t("found first", "trouvée première"), one.accuracy, "maps-found"),
    line(t("by chance", "au hasard"), one.chance, "maps-chance"),
    h("p", {class: "quiet"},
      one.mapped ? t("After a rotation learned on the other half. ",
        "Après une rotation apprise sur l'autre moitié. ") : t("As they are. ", "Telles quelles. "),
      t(`Median rank ${tools.number(one.median_rank, 1)} of ${one.candidates}; ${one.sentences} sentences.`,
        `Rang médian ${tools.number(one.median_rank, 1)} sur ${one.candidates} ; ${one.sentences} phrases.`))));
  return tools.section(
    t("Does a sentence find its translation?", "Une phrase retrouve-t-elle sa traduction ?"),
    h("p", null, t("How often the mean vector of a sentence is nearest to that of its own translation, among those of others.",
      "Combien de fois le vecteur moyen d'une phrase est le plus proche de celui de sa propre traduction, parmi ceux des autres.")),
    h("div", {class: "maps-cards"}, cards));
}

// ---- likeness of layers -------------------------------------------------------------------------------------------------------------

/** @param {Maps} maps */
function likenessPart(maps) {
  const {cka} = maps;
  if (!cka?.places?.length) return null;
  const pictures = [likenessFigure(cka.places, cka.places, cka.values, t("Between the layers of this model",
    "Entre les couches de ce modèle"))];
  if (cka.between) pictures.push(likenessFigure(cka.places, cka.other_places, cka.between, t(`With ${cka.other} (columns)`,
    `Avec ${cka.other} (colonnes)`)));
  return tools.section(
    t("How alike layers are", "La ressemblance des couches"),
    h("p", null, t(
      `Linear CKA (Kornblith et al. 2019) of ${cka.sentences} sentences: 1 where two layers arrange the sentences alike, up to rotation and scale; 0 where nothing is shared.`,
      `CKA linéaire (Kornblith et al. 2019) de ${cka.sentences} phrases : 1 où deux couches disposent les phrases pareillement, à une rotation et une échelle près ; 0 où rien n'est commun.`)),
    h("div", {class: "bey-pair"}, pictures), charts.legend({top: 1}));
}

/** @param {string[]} rows @param {string[]} columns @param {number[][]} values @param {string} title */
function likenessFigure(rows, columns, values, title) {
  const names = [rows, columns].map((places) => places.map((place) => placeName(place)));
  return h("div", null, h("h4", null, title), tools.figure(
    charts.heatmap({
      values: values.flat().map((value) => value ?? NaN), rows: names[0], columns: names[1], label: title, max: 1, size: 420,
      describe: (row, column, value) => `${names[0][row]} – ${names[1][column]}: ${tools.number(value, 2)}`,
    }), "", () => tools.table(["", ...names[1]], values.map((row, at) => [names[0][at], ...row.map((value) => tools.number(value, 2))]))));
}

/** @type {View} */
export const mapsView = {
  id: "maps",
  order: 8,
  label: {en: "Maps", fr: "Cartes"},
  available: (record) => Boolean(record.meta.extras?.maps) || (record.meta.planes.length > 0 && record.readTokens.length > 2),
  render(root, record) {
    const maps = record.meta.extras?.maps;
    const parts = [sentencePart(record)];
    if (maps) {
      parts.push(manyPart(record, maps), embeddingsPart(record, maps), retrievalPart(maps), likenessPart(maps));
    }
    root.append(...parts.filter(Boolean));
  },
};
