/* What views are written with: elements, words in two languages, numbers, colours, controls, tables. */
export const state = {language: "en", printing: false, redraw: () => {}};
const dark = window.matchMedia("(prefers-color-scheme: dark)");
let scheme = "auto"; // or "light", "dark"

// ---- elements ------------------------------------------------------------------------------------------------------------------

/** @param {any} element @param {Attributes} attributes @param {any[]} children */
function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style" && typeof value === "object") setStyle(element, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
  return element;
}

/** @param {any} element @param {object} rules */
function setStyle(element, rules) {
  for (const [name, value] of Object.entries(rules)) element.style.setProperty(name, String(value));
}

/** An HTML element. Strings among the children become text, never markup. `style` is an object of CSS properties. */
/**
 * @param {string} tag
 * @param {Attributes} attributes
 * @param {...Child} children
 * @returns {any}
 */
export function h(tag, attributes = null, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** An SVG element, likewise. @param {string} tag @param {Attributes} [attributes] @param {...Child} children */
export function svg(tag, attributes = null, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

let counter = 0;
/** A name for an element that no other has. @param {string} stem */
export function unique(stem) {
  counter += 1;
  return `${stem}-${counter}`;
}

// ---- words and numbers ---------------------------------------------------------------------------------------------------------

/**
 * The words for the current language. French puts spaces before some marks, at which no line may break.
 * @param {string} en @param {string} fr
 */
export function t(en, fr) {
  return state.language === "fr" ? fr.replace(/ (?=[:;?!»])|(?<=«) /g, "\u00a0") : en;
}

/** @param {string} text */
function localised(text) {
  const signed = text.replaceAll("-", "\u2212");
  return state.language === "fr" ? signed.replace(".", ",") : signed;
}

/** A number as people read it. Whole numbers stay whole, so that an exact 0 differs from one that rounds to 0. @param {number} x */
export function number(x, digits = 3) {
  if (x === null || x === undefined || Number.isNaN(x)) return "–";
  if (!Number.isFinite(x)) return x < 0 ? "\u2212∞" : "∞";
  if (Number.isInteger(x)) return localised(String(x));
  const tiny = Math.abs(x) < 0.5 * 10 ** -digits;
  return localised(tiny || Math.abs(x) >= 1e7 ? x.toExponential(1) : x.toFixed(digits));
}

/** A whole number, its thousands apart. @param {number} count */
export function grouped(count) {
  return String(count).replace(/\B(?=(\d{3})+$)/g, t(",", "\u202f"));
}

/** A share of 1 in percent. @param {number} share */
export function percent(share) {
  if (!Number.isFinite(share)) return "–";
  const hundredths = share * 100;
  const text = localised(hundredths === 0 || hundredths >= 9.95 ? hundredths.toFixed(0) : hundredths.toFixed(1));
  return state.language === "fr" ? `${text}\u202f%` : `${text}%`;
}

/** A token as people read it: the mark of a word's beginning made light. @param {string} text */
export function piece(text) {
  return text.replaceAll("\u2581", "\u00b7").replaceAll("\n", "\u21b5").replaceAll("\t", "\u21e5");
}

// ---- colours -------------------------------------------------------------------------------------------------------------------

const SEQUENTIAL = {
  light: [[247, 245, 238], [205, 220, 232], [142, 180, 217], [78, 130, 194], [33, 80, 158], [16, 36, 92]],
  dark: [[29, 32, 41], [31, 52, 92], [43, 87, 158], [82, 142, 209], [158, 201, 236], [250, 240, 208]],
};
const DIVERGING = {
  light: [[148, 66, 8], [224, 152, 84], [247, 245, 238], [104, 156, 210], [22, 66, 146]],
  dark: [[250, 180, 110], [150, 90, 44], [29, 32, 41], [52, 100, 168], [150, 200, 245]],
};
const SERIES = {
  light: ["#1f5fa8", "#b3541e", "#2f7d5b", "#8a3f8f", "#7a6a00", "#46535e", "#c0355a", "#007d8c"],
  dark: ["#7fb5f0", "#f0a066", "#7fd0a8", "#d79adf", "#d8c65a", "#b6c2cc", "#f58aa6", "#6fd0dc"],
};

export function isDark() {
  return scheme === "auto" ? dark.matches : scheme === "dark";
}

/** @param {number[][]} stops @param {number} share */
function mix(stops, share) {
  const place = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const first = Math.min(Math.floor(place), stops.length - 2);
  return stops[first].map((low, channel) => Math.round(low + (stops[first + 1][channel] - low) * (place - first)));
}

/** Red, green and blue of a share of 1: light to dark on paper, dark to light on a dark screen. @param {number} share */
export function rgb(share) {
  return mix(SEQUENTIAL[isDark() ? "dark" : "light"], Number.isFinite(share) ? Math.max(share, 0) ** 0.7 : 0);
}

/** The same for -1 to 1: orange, nothing, blue. @param {number} value */
export function divergingRgb(value) {
  return mix(DIVERGING[isDark() ? "dark" : "light"], Number.isFinite(value) ? (value + 1) / 2 : 0.5);
}

/** @param {number[]} channels */
export const css = (channels) => `rgb(${channels.join(" ")})`;
/** @param {number} share */
export const colour = (share) => css(rgb(share));
/** @param {number} value */
export const diverging = (value) => css(divergingRgb(value));

/** Black or white, whichever can be read on a colour. @param {number[]} given */
export function inkOn([red, green, blue]) {
  return 0.299 * red + 0.587 * green + 0.114 * blue > 140 ? "#14161b" : "#fdfcf8";
}

/** @param {number} number */
export function series(number) {
  const colours = SERIES[isDark() ? "dark" : "light"];
  return colours[number % colours.length];
}

/** "auto", "light" or "dark". @param {any} wanted */
export function setScheme(wanted) {
  scheme = wanted;
  document.documentElement.style.colorScheme = wanted === "auto" ? "light dark" : wanted;
}

// ---- controls ------------------------------------------------------------------------------------------------------------------

/** @param {string} text @param {() => void} onClick @param {Attributes} [attributes] */
export function button(text, onClick, attributes = null) {
  return h("button", {type: "button", class: "button", onclick: onClick, ...attributes}, text);
}

/** @param {string} label @param {any[]} options @param {any} value @param {(value: any) => void} onChange */
export function select(label, options, value, onChange) {
  const box = h("select", {onchange: () => onChange(box.value)}, options.map((one) => h("option", {value: one.value}, one.text)));
  box.value = String(value);
  return h("label", {class: "control"}, h("span", null, label), box);
}

/**
 * @param {string} label @param {{min: number, max: number, value: number, step?: number, describe?: (value: number) => string}} given
 * @param {(value: number) => void} onChange
 */
export function slider(label, {min, max, value, step = 1, describe = String}, onChange) {
  const told = h("output", null, describe(value));
  const box = h("input", {
    type: "range", min, max, step, value,
    oninput: () => {
      told.textContent = describe(Number(box.value));
      onChange(Number(box.value));
    },
  });
  box.value = String(value);
  return h("label", {class: "control"}, h("span", null, label), box, told);
}

/**
 * A few values side by side, one of them pressed.
 * @param {string} label @param {any[]} options @param {any} value @param {(value: any) => void} onChange
 */
export function choice(label, options, value, onChange) {
  const group = h("div", {class: "choice", role: "group", "aria-label": label});
  for (const one of options) {
    group.append(button(one.text, () => {
      for (const other of group.children) other.setAttribute("aria-pressed", String(other.dataset.value === String(one.value)));
      onChange(one.value);
    }, {"data-value": one.value, "aria-pressed": String(one.value) === String(value)}));
  }
  for (const one of group.children) one.setAttribute("aria-pressed", String(one.dataset.value === String(value)));
  return h("div", {class: "control"}, h("span", {"aria-hidden": "true"}, label), group);
}

// ---- arrangement ---------------------------------------------------------------------------------------------------------------

/** @param {string} title @param {...Child} children */
export function section(title, ...children) {
  return h("section", {class: "section"}, h("h3", null, title), children);
}

/** Controls side by side. @param {...Child} children */
export function toolbar(...children) {
  return h("div", {class: "toolbar"}, children);
}

/**
 * A table; the first cell of each row names it. Cells are strings, numbers or nodes.
 * @param {Child[]} header @param {Child[][]} rows @param {{caption?: string}} given
 */
export function table(header, rows, {caption = null} = {}) {
  /** @param {Child} value */
  const cell = (value) => (typeof value === "number" ? number(value) : value);
  /** @param {Child} value */
  const isNumber = (value) => typeof value === "number" || (typeof value === "string" && /^[\u2212\d][\d.,e\u2212%\s\u202f]*$/.test(value));
  return h("div", {class: "table", tabindex: 0, role: "region", "aria-label": caption ?? t("table", "tableau")},
    h("table", null,
      caption === null ? null : h("caption", null, caption),
      h("thead", null, h("tr", null, header.map((name) => h("th", {scope: "col"}, name)))),
      h("tbody", null, rows.map((row) => h("tr", null, row.map((value, place) => place === 0
        ? h("th", {scope: "row", dir: "auto"}, cell(value))
        : h("td", {class: isNumber(value) ? "number" : null, dir: "auto"}, cell(value))))))));
}

/**
 * Something folded, made when it is first opened. `content`: a string, a node, or a function that gives one.
 * @param {string} summary @param {Child | (() => Child)} content
 */
export function folded(summary, content) {
  const box = h("details", {ontoggle: () => {
    if (box.open && box.childElementCount === 1) box.append(typeof content === "function" ? content() : wrap(content));
  }}, h("summary", null, summary));
  return box;
}

/** @param {Child} content */
const wrap = (content) => (typeof content === "string" ? h("p", null, content) : content);

/**
 * A picture with a caption and, folded, what it says in words or as a table: a string, a node, or a function that gives one.
 * @param {Child} element @param {string} caption @param {Child | (() => Child)} [textAlternative]
 */
export function figure(element, caption, textAlternative = null) {
  return h("figure", null, element, h("figcaption", null, caption),
    textAlternative === null ? null : folded(t("As text", "En texte"), textAlternative));
}

/** A line that is read out when it changes. */
export function live(text = "") {
  return h("output", {class: "live", "aria-live": "polite"}, text);
}

/**
 * A remark beside the matter: kind "note", "good" or "bad"; words say what the colour says.
 * @param {"note" | "good" | "bad"} kind @param {...Child} children
 */
export function note(kind, ...children) {
  const marks = {note: "i", good: "\u2713", bad: "!"};
  return h("p", {class: `note ${kind}`}, h("span", {class: "mark", "aria-hidden": "true"}, marks[kind]), h("span", null, children));
}

// ---- the page ------------------------------------------------------------------------------------------------------------------

/** Draw the current view anew. */
export const redraw = () => state.redraw();

/** @param {() => void} listener */
export const onSchemeChange = (listener) => dark.addEventListener("change", listener);
