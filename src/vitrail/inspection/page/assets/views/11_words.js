/* Word vectors: the map of words, a search, and the nearest neighbours of a word in all dimensions. */
import * as tools from "../tools.js";
import {h, t} from "../tools.js";
import {visible} from "./00_shared.js";
import {WordCanvas} from "./11_word_canvas.js";

const RESULTS = 12;
/** Kept over redraws. @type {{word: string | null, query: string, look: {zoom: number, x: number, y: number}}} */
const state = {word: null, query: "", look: {zoom: 1, x: 0, y: 0}};

/** A word for comparison without case, by two changes of it, so that ß is ss and ς is σ, as in Unicode's case folding. @param {string} word */
const fold = (word) => word.normalize("NFC").toUpperCase().toLowerCase();

/** The words of a map, found by what people type. */
class Lexicon {
  /** @param {WordMap} map */
  constructor(map) {
    this.map = map;
    this.folded = map.words.map(fold);
    this.places = new Map(map.words.map((word, place) => [word, place]));
    /** @type {number[]} */
    this.rows = [];
    let row = 0;
    map.gaps.forEach((gap, place) => {
      row = place === map.shown ? gap : row + gap;
      this.rows.push(row);
    });
  }

  /** The place of a word as the vectors take it: as it is written, composed, or in another case where case does not count. @param {string} text */
  exact(text) {
    for (const form of [text, text.normalize("NFC")]) {
      const place = this.places.get(form);
      if (place !== undefined) return place;
    }
    if (!this.map.fold) return null;
    const folded = fold(text);
    const place = this.folded.indexOf(folded);
    return place < 0 ? null : place;
  }

  /** Words that begin with a text, then words that hold it; case does not count. @param {string} text */
  like(text) {
    const folded = fold(text);
    if (!folded) return [];
    const [begin, hold] = [[], []];
    const exact = this.exact(text);
    for (let place = 0; place < this.folded.length && begin.length < RESULTS; place += 1) {
      const at = this.folded[place].indexOf(folded);
      if (at === 0 && place !== exact) begin.push(place);
      else if (at > 0 && hold.length < RESULTS) hold.push(place);
    }
    return [...(exact === null ? [] : [exact]), ...begin, ...hold].slice(0, RESULTS);
  }

  /** @param {number} place */
  onMap(place) {
    return place < this.map.shown;
  }
}

/** @type {{map: WordMap, lexicon: Lexicon} | null} */
let cached = null;
/** @param {WordMap} map */
function lexiconOf(map) {
  if (cached?.map !== map) cached = {map, lexicon: new Lexicon(map)};
  return cached.lexicon;
}

// ---- the search -------------------------------------------------------------------------------------------------------------------

/** What is said of a text that names no word of the map. @param {Lexicon} lexicon @param {string} text */
function notShown(lexicon, text) {
  const {map} = lexicon;
  const place = lexicon.exact(text);
  const [shown, total] = [tools.grouped(map.shown), tools.grouped(map.total)];
  if (place !== null) {
    const rank = tools.grouped(lexicon.rows[place] + 1);
    return t(`“${visible(map.words[place])}” is a word of the vocabulary (number ${rank} of ${total}), but not among the ${shown} shown. --show puts it on the map.`,
      `« ${visible(map.words[place])} » est un mot du vocabulaire (numéro ${rank} sur ${total}), mais pas parmi les ${shown} montrés. --show le met sur la carte.`);
  }
  if (map.words.length === map.total) {
    return t(`“${text}” is not among the ${shown} shown, nor in the vocabulary of ${total} words.`,
      `« ${text} » n'est ni parmi les ${shown} montrés, ni dans le vocabulaire de ${total} mots.`);
  }
  return t(`“${text}” is not among the ${shown} shown. This page knows ${tools.grouped(map.words.length)} of the ${total} words by name; it is none of them.`,
    `« ${text} » n'est pas parmi les ${shown} montrés. Cette page connaît ${tools.grouped(map.words.length)} des ${total} mots par leur nom ; il n'en est pas.`);
}

/**
 * A search box with a list of what is found, by mouse and by keyboard.
 * @param {Lexicon} lexicon @param {(place: number | null) => void} onSelect @param {(text: string) => void} tell
 */
function searchBox(lexicon, onSelect, tell) {
  const id = tools.unique("words");
  const list = h("ul", {class: "wor-results", role: "listbox", id, hidden: true, "aria-label": t("Words found", "Mots trouvés")});
  const box = h("input", {
    type: "search", class: "wor-search", role: "combobox", "aria-controls": id, "aria-expanded": "false", "aria-autocomplete": "list",
    autocomplete: "off", autocapitalize: "off", spellcheck: "false", dir: "auto", placeholder: t("a word", "un mot"),
  });
  box.value = state.query;
  let active = -1;
  /** @type {number[]} */
  let found = [];
  const close = () => {
    list.hidden = true;
    active = -1;
    box.setAttribute("aria-expanded", "false");
    box.removeAttribute("aria-activedescendant");
  };
  /** @param {number} place */
  const take = (place) => {
    close();
    state.query = box.value = lexicon.map.words[place];
    if (lexicon.onMap(place)) onSelect(place);
    else {
      onSelect(null);
      tell(notShown(lexicon, lexicon.map.words[place]));
    }
  };
  const mark = () => {
    [...list.children].forEach((one, number) => one.setAttribute("aria-selected", String(number === active)));
    if (active >= 0) {
      box.setAttribute("aria-activedescendant", list.children[active].id);
      list.children[active].scrollIntoView({block: "nearest"});
    } else box.removeAttribute("aria-activedescendant");
  };
  const search = () => {
    state.query = box.value;
    found = lexicon.like(box.value.trim());
    active = -1;
    list.replaceChildren(...found.map((place, number) => h("li", {
      role: "option", id: `${id}-${number}`, "aria-selected": "false", "data-place": place, onpointerdown: (event) => event.preventDefault(), onclick: () => take(place),
    }, h("bdi", null, visible(lexicon.map.words[place])), lexicon.onMap(place) ? null : h("span", {class: "quiet"}, t(" not shown", " pas montré")))));
    list.hidden = found.length === 0;
    box.setAttribute("aria-expanded", String(!list.hidden));
    tell(found.length || !box.value.trim() ? "" : notShown(lexicon, box.value.trim()));
  };
  const enter = () => {
    const text = box.value.trim();
    const place = active >= 0 ? found[active] : lexicon.exact(text);
    if (place !== null && place !== undefined) take(place);
    else if (text) {
      close();
      onSelect(null);
      tell(notShown(lexicon, text));
    }
  };
  box.addEventListener("input", search);
  box.addEventListener("blur", close);
  box.addEventListener("keydown", (event) => {
    const step = {ArrowDown: 1, ArrowUp: -1}[event.key];
    if (event.isComposing) return;
    if (step && list.hidden) search();
    if (step && found.length) active = (active + step + found.length + (active < 0 && step < 0 ? 1 : 0)) % found.length;
    else if (event.key === "Enter") enter();
    else if (event.key === "Escape" && !list.hidden) close();
    else return;
    event.preventDefault();
    mark();
  });
  return h("div", {class: "wor-find"}, h("label", {class: "control"}, h("span", null, t("Find", "Chercher")), box), list);
}

// ---- neighbours -------------------------------------------------------------------------------------------------------------------

/** @param {Lexicon} lexicon @param {number} place @param {(place: number) => void} onSelect */
function neighbourList(lexicon, place, onSelect) {
  const {map} = lexicon;
  const count = map.counts ? t(`, ${tools.grouped(map.counts[place])} times in the text`, `, ${tools.grouped(map.counts[place])} fois dans le texte`) : "";
  const rows = map.neighbours[place].map((other, number) => {
    const cosine = map.cosines[place][number];
    const name = lexicon.onMap(other)
      ? h("button", {type: "button", class: "wor-word", "data-place": other, onclick: () => onSelect(other)}, h("bdi", null, visible(map.words[other])))
      : h("span", {class: "wor-word wor-off", title: t("not on the map", "pas sur la carte")}, h("bdi", null, visible(map.words[other])), h("sup", null, "∗"));
    return h("li", null, name,
      h("span", {class: "maps-track", "aria-hidden": "true"}, h("span", {style: {width: `${Math.max(0, cosine) * 100}%`}})),
      h("span", {class: "maps-cosine"}, tools.number(cosine, 2)));
  });
  const off = map.neighbours[place].some((other) => !lexicon.onMap(other));
  return [
    h("h4", null, t("Nearest to ", "Les plus proches de "), h("bdi", {class: "maps-piece"}, visible(map.words[place]))),
    h("p", {class: "quiet wor-small"}, t(`Word number ${tools.grouped(lexicon.rows[place] + 1)}${count}. By the cosine in all ${map.dimension} dimensions, among all ${tools.grouped(map.total)} words: not by distance on the map.`,
      `Mot numéro ${tools.grouped(lexicon.rows[place] + 1)}${count}. Par le cosinus dans les ${map.dimension} dimensions, parmi les ${tools.grouped(map.total)} mots : pas par la distance sur la carte.`)),
    h("ol", null, rows),
    off ? h("p", {class: "quiet wor-small"}, t("∗ not on the map", "∗ pas sur la carte")) : null,
  ].filter((part) => part !== null);
}

/** What the map shows and what it does not. @param {WordMap} map */
function meaning(map) {
  if (map.explained === null) {
    const name = {tsne: "t-SNE", umap: "UMAP"}[map.method];
    return tools.note("note", t(
      `Laid out by ${name}: only who is near whom means something. Distances between groups, their sizes and the axes mean nothing.`,
      `Disposé par ${name} : seul le voisinage a un sens. Les distances entre groupes, leur taille et les axes n'en ont pas.`));
  }
  const [x, y] = map.explained;
  return tools.note("note", t(
    `The two principal components of these words' vectors, each at length 1, hold ${tools.percent(x + y)} of their variance (${tools.percent(x)} across, ${tools.percent(y)} upwards): words that are near here may be far apart in the other dimensions.`,
    `Les deux composantes principales des vecteurs de ces mots, chacun à la longueur 1, contiennent ${tools.percent(x + y)} de leur variance (${tools.percent(x)} en largeur, ${tools.percent(y)} en hauteur) : des mots proches ici peuvent être loin dans les autres dimensions.`));
}

/** @param {WordMap} map */
function asTable(map) {
  return () => tools.table([t("word", "mot"), "x", "y", t("nearest", "le plus proche")], map.words.slice(0, map.shown).map((word, place) => [
    visible(word), tools.number(map.coordinates[0][place]), tools.number(map.coordinates[1][place]),
    map.neighbours[place].length ? visible(map.words[map.neighbours[place][0]]) : "–"]));
}

/** @type {View} */
export const wordsView = {
  id: "words",
  order: 0,
  label: {en: "Map of words", fr: "Carte des mots"},
  available: (record) => Boolean(record.meta.extras?.words),
  render(root, record) {
    const map = record.meta.extras.words;
    const lexicon = lexiconOf(map);
    const count = t(`${tools.grouped(map.shown)} of ${tools.grouped(map.total)} words shown`, `${tools.grouped(map.shown)} mots sur ${tools.grouped(map.total)} montrés`);
    const told = tools.live(count);
    const near = h("div", {class: "maps-near wor-near"});
    const help = () => h("p", {class: "quiet wor-small"}, t(
      "Click a word, or find one, to see its nearest neighbours. On the map: arrow keys go from word to word, + and − enlarge, Shift and arrows move, 0 shows all.",
      "Cliquez un mot, ou cherchez-en un, pour voir ses plus proches voisins. Sur la carte : les flèches vont de mot en mot, + et − agrandissent, Maj et flèches déplacent, 0 montre tout."));
    /** @param {number} place */
    const nearest = (place) => map.neighbours[place].slice(0, 3).map((other) => visible(map.words[other])).join(", ");
    /** @param {number | null} place */
    const select = (place) => {
      state.word = place === null ? null : map.words[place];
      canvas.choose(place, place === null ? [] : map.neighbours[place].filter((other) => lexicon.onMap(other)));
      near.replaceChildren(...(place === null ? [help()] : neighbourList(lexicon, place, select)));
      told.textContent = place === null ? count : t(`${visible(map.words[place])}: nearest ${nearest(place)}`, `${visible(map.words[place])} : les plus proches ${nearest(place)}`);
    };
    const canvas = new WordCanvas({
      words: map.words.slice(0, map.shown), coordinates: map.coordinates, look: state.look, onSelect: select,
      label: t(`Map of ${map.shown} words. Arrow keys go from word to word.`, `Carte de ${map.shown} mots. Les flèches vont de mot en mot.`),
    });
    root.append(
      h("div", null, searchBox(lexicon, select, (text) => (told.textContent = text || count)), told),
      h("div", {class: "maps-two"}, tools.figure(canvas.element, t("Where words would cover each other, the more frequent one is written; enlarge to read more.",
        "Là où des mots se couvriraient, le plus fréquent est écrit ; agrandissez pour en lire plus."), asTable(map)), near),
      meaning(map),
      map.walks.length ? "" : tools.note("note", t("vitrail vectors map … --pair \"WORD OTHER\" adds the objective of two words, step by step.",
        "vitrail vectors map … --pair \"MOT AUTRE\" ajoute l'objectif de deux mots, pas à pas.")));
    const kept = state.word === null ? undefined : lexicon.places.get(state.word);
    select(kept !== undefined && lexicon.onMap(kept) ? kept : null);
    canvas.paint();
  },
};
