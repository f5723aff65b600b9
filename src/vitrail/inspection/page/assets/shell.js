/*
 * The page around the views: what was translated, one tab a view, the language, light and dark.
 *
 * A view is a module under views/ that exports a `View` (types.d.ts); main.js names them all. It is drawn when it is first shown, after
 * a change of language or of light and dark, and by tools.redraw(). State that should outlive that stands in the module.
 *
 * Of a wide model the page may hold only some layers for the walk (record.meta.walk names them, such as "encoder.0"), fewer columns under
 * `parameters.` than were recorded (ask the array's shape), and rounded numbers (the array's `type`): views look at what is there.
 */
import {KINDS, PageRecord} from "./record.js";
import * as tools from "./tools.js";
import {h, svg, t} from "./tools.js";

/** @type {View[]} */
let views = [];
/** @type {{record: PageRecord, first: string, scheme: string, current: View, drawn: Set<string>}} */
const page = {record: null, first: "en", scheme: "auto", current: null, drawn: new Set()};

/** @param {View} one */
const panelOf = (one) => document.getElementById(`view-${one.id}`);
/** @param {View} one */
const tabOf = (one) => document.getElementById(`tab-${one.id}`);
const shown = () => views.filter((one) => one.available(page.record)).sort((one, other) => one.order - other.order);

// ---- a view ------------------------------------------------------------------------------------------------------------------

/** @param {View} one */
function draw(one) {
  const panel = panelOf(one);
  panel.replaceChildren(h("h2", {class: "printed"}, one.label[tools.state.language]));
  const root = h("div", {class: "view"});
  panel.append(root);
  page.drawn.add(one.id);
  try {
    one.render(root, page.record);
  } catch (error) {
    root.replaceChildren(tools.note("bad", t("This view could not be drawn: ", "Cette vue n'a pas pu être dessinée : "), String(error)));
    console.error(error);
  }
}

/** @param {View} one @param {{focus?: boolean}} given */
function show(one, {focus = false} = {}) {
  page.current = one;
  for (const other of shown()) {
    const current = other === one;
    panelOf(other).hidden = !current;
    tabOf(other).setAttribute("aria-selected", String(current));
    tabOf(other).tabIndex = current ? 0 : -1;
  }
  if (!page.drawn.has(one.id)) draw(one);
  if (focus) tabOf(one).focus();
  tabOf(one).scrollIntoView({block: "nearest", inline: "nearest"});
}

// ---- the address: #view or #view.language ---------------------------------------------------------------------------------------

/** @param {View} one */
function address(one) {
  return tools.state.language === page.first ? `#${one.id}` : `#${one.id}.${tools.state.language}`;
}

/** @param {View} one @param {{focus?: boolean}} [options] */
function go(one, options = {}) {
  show(one, options);
  if (window.location.hash === address(one)) return;
  try {
    window.history.replaceState(null, "", address(one));
  } catch {
    // In a notebook's cell the page is about:srcdoc with an origin of its own: it has no address that could change.
  }
}

function read() {
  const [id, language] = window.location.hash.slice(1).split(".");
  return {one: shown().find((other) => other.id === id) ?? shown()[0], language: ["en", "fr"].includes(language) ? language : null};
}

// ---- tabs --------------------------------------------------------------------------------------------------------------------

function tabs() {
  const row = h("div", {class: "tabs", role: "tablist", "aria-label": t("Views", "Vues"), onkeydown: onTabKey});
  for (const one of shown()) {
    row.append(h("button", {
      type: "button", role: "tab", id: `tab-${one.id}`, class: "tab", "aria-controls": `view-${one.id}`, onclick: () => go(one),
    }, one.label[tools.state.language]));
  }
  return row;
}

/** @param {any} event */
function onTabKey(event) {
  const all = shown();
  const at = all.indexOf(page.current);
  const next = {
    ArrowRight: (at + 1) % all.length, ArrowLeft: (at - 1 + all.length) % all.length, Home: 0, End: all.length - 1,
  }[event.key];
  if (next === undefined) return;
  event.preventDefault();
  go(all[next], {focus: true});
}

// ---- header ------------------------------------------------------------------------------------------------------------------

/** @param {string} code */
function languageName(code) {
  if (code === "") return "";
  try {
    return new Intl.DisplayNames([tools.state.language], {type: "language"}).of(code) ?? code;
  } catch {
    return code;
  }
}

/** @param {Side} side @param {string} code @param {string} name */
function sentence(side, code, name) {
  const empty = side.text === "" ? t("(nothing)", "(rien)") : side.text;
  return h("div", {class: "side"},
    h("span", {class: "tongue"}, languageName(code) || name),
    h("p", {class: "sentence", dir: "auto", lang: code || null}, empty));
}

/** Whose attention a recurrent model has. @param {string} name */
function attentionWords(name) {
  if (!name || name === "none") return t("no attention", "sans attention");
  const [author, way] = name.split("-");
  const whose = author[0].toUpperCase() + author.slice(1);
  const how = way === undefined ? "" : ` (${way})`;
  return t(`${whose}'s attention${how}`, `attention de ${whose}${how}`);
}

/** How word vectors were trained, and how many there are. @param {WordMap} words */
function vectorWords({training, total, dimension}) {
  const method = training.method ? {word2vec: "Word2Vec", fasttext: "fastText", glove: "GloVe"}[training.method] : t("method not known", "méthode inconnue");
  const objective = training.kind === "tree" ? t("hierarchical softmax", "softmax hiérarchique")
    : training.kind === "negatives" ? t(`negative sampling, ${training.negatives} draws`, `échantillonnage négatif, ${training.negatives} tirages`) : null;
  return [method, training.architecture ?? null, objective, t(`${tools.grouped(total)} words`, `${tools.grouped(total)} mots`),
    t(`${dimension} numbers each`, `${dimension} nombres chacun`),
    training.text_words ? t(`text of ${tools.grouped(training.text_words)} words`, `texte de ${tools.grouped(training.text_words)} mots`) : null].filter((fact) => fact !== null);
}

/** What the model is made of and how large it is: by its places, and its configuration. @param {PageRecord} record */
function modelWords(record) {
  const {model, extras} = record.meta;
  if (extras.words) return vectorWords(extras.words);
  const [below, above] = ["source", "target"].map((side) => record.layerOutputs(side).length);
  const [alone, reads] = [below === 0, above === 0];
  const layers = alone ? above : reads ? below : `${below} + ${above}`;
  const size = [t(`${layers} ${layers === 1 ? "layer" : "layers"}`, `${layers} ${layers === 1 ? "couche" : "couches"}`), t(`width ${model.width}`, `largeur ${model.width}`)];
  if (record.places("hidden").length) return [String(model.cell).toUpperCase(), ...size, attentionWords(model.attention)];
  const heads = Math.max(...record.places("attention").map((place) => place.heads));
  return [alone ? t("Transformer decoder", "Décodeur Transformer") : reads ? t("Transformer encoder", "Encodeur Transformer") : "Transformer", ...size, t(`${heads} heads`, `${heads} têtes`)];
}

/** @param {PageRecord} record */
function searchWords({meta, alone, reads}) {
  if (reads) return [];
  const {beams, length_penalty: penalty} = meta.decoding;
  if (meta.given) return [alone ? t("text given", "texte donné") : t("translation given", "traduction donnée")];
  if (meta.decoding.sampled) return [t("drawn at random", "tiré au hasard")];
  if (beams === 1) return [t("greedy search", "recherche gloutonne")];
  return [t(`beam search, ${beams} beams`, `recherche en faisceau, ${beams} hypothèses`),
    t(`length penalty ${tools.number(penalty, 2)}`, `pénalité de longueur ${tools.number(penalty, 2)}`)];
}

/** What of the text or of its translation this page does not show. @param {Meta} meta */
function partRemarks(meta) {
  const {part, parts, cut, truncated, translation} = meta;
  const found = [];
  if (parts > 1) {
    found.push(t(`Part ${part} of ${parts}: the text is translated in parts, each by itself.`,
      `Partie ${part} sur ${parts} : le texte est traduit par parties, chacune pour elle-même.`)
      + (translation ? t(` The whole translation: “${translation}”`, ` La traduction entière : « ${translation} »`) : ""));
  }
  if (cut) {
    found.push(t("This part begins or ends inside a sentence, which was too long to be translated at once.",
      "Cette partie commence ou finit au milieu d'une phrase trop longue pour être traduite d'un coup."));
  }
  if (truncated && meta.source === null) {
    found.push(t("The text reached the limit of length: no <eos> was said.", "Le texte a atteint la longueur limite : aucun <eos> n'a été dit."));
  } else if (truncated) {
    found.push(t("The translation reached the limit of length: it does not end, no <eos> was said.",
      "La traduction a atteint la longueur limite : elle ne finit pas, aucun <eos> n'a été dit."));
  }
  return found;
}

/** @param {PageRecord} record */
function remarks(record) {
  const found = [...partRemarks(record.meta), ...(record.meta.notes ?? []).map((one) => one[tools.state.language])]
    .map((one) => tools.note("note", one));
  const any = record.bare || KINDS.some((kind) => record.attentions(kind).length > 0);
  if (!any && (record.alone || record.reads)) {
    found.unshift(tools.note("note", t(
      "This model has no attention: what it knows of the text so far is in the states of its cells alone, so there are no weights to show.",
      "Ce modèle n'a pas d'attention : ce qu'il sait du texte jusque-là n'est que dans les états de ses cellules ; il n'y a donc pas de poids à montrer.")));
  } else if (!any) {
    found.unshift(tools.note("note", t(
      "This model has no attention: its decoder hears the sentence only through the encoder's last state, so there are no weights to show.",
      "Ce modèle n'a pas d'attention : son décodeur n'entend la phrase que par le dernier état de l'encodeur ; il n'y a donc pas de poids à montrer.")));
  }
  return found;
}

function header() {
  const {record} = page;
  const {meta} = record;
  const facts = [...modelWords(record), ...searchWords(record)];
  return h("header", {class: "header"},
    h("div", {class: "top"}, brand(), h("div", {class: "switches"}, languageSwitch(), schemeSwitch())),
    record.alone || record.reads ? h("h1", {class: "pair"}, sentence(record.sides[0], meta.languages[record.reads ? 0 : 1], meta.extras.words ? t("Word vectors", "Vecteurs de mots") : record.bare ? t("Run", "Entraînement") : t("Text", "Texte"))) : h("h1", {class: "pair"},
      sentence(meta.source, meta.languages[0], t("Source", "Source")),
      h("span", {class: "arrow", "aria-hidden": "true"}, "→"),
      h("span", {class: "unseen"}, t("is translated as", "est traduit par")),
      sentence(meta.target, meta.languages[1], t("Translation", "Traduction"))),
    h("ul", {class: "facts", "aria-label": t("Model and search", "Modèle et recherche")}, facts.map((fact) => h("li", null, fact))),
    remarks(record));
}

/** Four panes in lead. */
function brand() {
  /** @param {string} d @param {string} name */
  const pane = (d, name) => svg("path", {d, class: name});
  return h("span", {class: "brand"},
    svg("svg", {viewBox: "0 0 24 24", width: 22, height: 22, "aria-hidden": "true"},
      pane("M2 11V9a10 10 0 0 1 9-7v9z", "pane-1"), pane("M13 2a10 10 0 0 1 9 7v2h-9z", "pane-2"),
      pane("M2 13h9v9H2z", "pane-3"), pane("M13 13h9v9h-9z", "pane-4")),
    "Vitrail");
}

function languageSwitch() {
  const names = {en: "English", fr: "Français"};
  return h("div", {class: "choice", role: "group", "aria-label": t("Language of this page", "Langue de cette page")},
    Object.keys(names).map((code) => h("button", {
      type: "button", class: "button", lang: code, title: names[code], "aria-label": names[code], "data-language": code,
      "aria-pressed": String(code === tools.state.language),
      onclick: () => {
        setLanguage(code);
        /** @type {HTMLElement} */ (document.querySelector(`[data-language=${code}]`)).focus();
      },
    }, code.toUpperCase())));
}

function schemeSwitch() {
  const words = {auto: t("Auto", "Auto"), light: t("Light", "Clair"), dark: t("Dark", "Sombre")};
  return h("div", {class: "choice", role: "group", "aria-label": t("Light or dark", "Clair ou sombre")},
    Object.keys(words).map((name) => h("button", {
      type: "button", class: "button", "data-scheme": name, "aria-pressed": String(name === page.scheme),
      onclick: () => {
        page.scheme = name;
        setScheme(name);
      },
    }, words[name])));
}

// ---- the whole ---------------------------------------------------------------------------------------------------------------

/** @param {string} code */
function setLanguage(code) {
  tools.state.language = code;
  build(page.current);
}

/** @param {string} name */
function setScheme(name) {
  tools.setScheme(name);
  document.querySelectorAll("[data-scheme]").forEach((one) => one.setAttribute("aria-pressed", String(one.getAttribute("data-scheme") === name)));
  renew();
}

/** Every view is out of date: draw the current one now, the others when they are shown. */
function renew() {
  page.drawn.clear();
  if (page.current !== null) show(page.current);
}

/** Everything anew, with a view in front. @param {View} one */
function build(one) {
  const {language} = tools.state;
  document.documentElement.lang = language;
  document.title = `${page.record.sides[0].text} · Vitrail`;
  page.drawn.clear();
  const main = h("main", {id: "views"}, shown().map((other) => h("div", {
    id: `view-${other.id}`, class: "panel", role: "tabpanel", "aria-labelledby": `tab-${other.id}`, tabindex: -1,
  })));
  const skip = h("a", {class: "skip", href: "#views", onclick: (event) => {
    event.preventDefault();
    panelOf(page.current).focus();
  }}, t("Skip to the view", "Aller à la vue"));
  const footer = h("footer", null, page.record.meta.extras.words ? t(
    "Everything on this page was computed from these vectors; the page holds all its data and asks nothing of any network.",
    "Tout ce que montre cette page a été calculé à partir de ces vecteurs ; elle contient toutes ses données et ne demande rien au réseau.") : t(
    "Everything on this page was computed by the model itself; the page holds all its data and asks nothing of any network.",
    "Tout ce que montre cette page a été calculé par le modèle ; elle contient toutes ses données et ne demande rien au réseau."));
  document.body.replaceChildren(skip, header(), h("nav", {class: "tabbar"}, tabs()), main, footer);
  if (one !== undefined) go(one);
}

/** On paper: every view one after another, whole and on white. Views ask `tools.state.printing`. */
function preparePrint() {
  tools.state.printing = true;
  tools.setScheme("light");
  page.drawn.clear();
  for (const one of shown()) {
    panelOf(one).hidden = false;
    draw(one);
  }
}

function endPrint() {
  tools.state.printing = false;
  setScheme(page.scheme);
}

/** @param {View[]} all */
export async function start(all) {
  views = all;
  const language = document.documentElement.lang;
  page.first = language;
  tools.state.language = language;
  try {
    page.record = await PageRecord.read(document.getElementById("vitrail-record").textContent);
  } catch (error) {
    document.body.append(tools.note("bad", t(
      "This page could not be read: it is damaged, or the browser is older than 2023. ",
      "Cette page n'a pas pu être lue : elle est abîmée, ou le navigateur date d'avant 2023. "), String(error)));
    console.error(error);
    return;
  }
  tools.state.language = read().language ?? language;
  tools.state.redraw = () => page.current !== null && draw(page.current);
  build(read().one);
  window.addEventListener("hashchange", () => {
    const wanted = read();
    tools.state.language = wanted.language ?? page.first;
    build(wanted.one);
  });
  tools.onSchemeChange(renew);
  window.addEventListener("beforeprint", preparePrint);
  window.addEventListener("afterprint", endPrint);
}
