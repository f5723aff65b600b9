/* What the step-by-step views share: equations, rows of numbers, and the check of what a model recorded against what the page computes. */
import * as tools from "../tools.js";
import {h, t} from "../tools.js";

/** Numbers of a vector that are shown at once; the rest is folded. Of matrices, as many output columns are in the page. */
export const SHOWN = 8;
/**
 * A recomputed number may differ from the recorded one by this share of the largest recorded number, by the type of the arrays that go
 * into it: the model computes in float32, and the page of a wide model or a long sentence holds rounded numbers.
 */
const TOLERANCES = { float32: 1e-4, uint8: 1e-4, float16: 2e-2, rounded8: 2e-2 };
const EPSILON = 1e-5;
const UPRIGHT = new Set(["softmax", "norm", "relu", "gelu", "silu", "mean", "var", "sin", "cos", "tanh", "exp", "log", "ln", "max", "min", "Σ"]);

// ---- Computing, all in double precision -------------------------------------------------------------------------------------

/** @param {Numbers} left @param {Numbers} right */
export function dot(left, right) {
  let sum = 0;
  for (let at = 0; at < left.length; at += 1) sum += left[at] * right[at];
  return sum;
}

/**
 * x·W + b for the output columns whose weights are given: one row of `weights` each.
 * @param {Numbers} input @param {Numbers[]} weights @param {Numbers} bias
 */
export function project(input, weights, bias) {
  return weights.map((column, at) => dot(input, column) + (bias ? bias[at] : 0));
}

/** @param {number[]} scores */
export function softmax(scores) {
  const highest = Math.max(...scores);
  const powers = scores.map((score) => Math.exp(score - highest));
  const sum = powers.reduce((left, right) => left + right, 0);
  return powers.map((power) => power / sum);
}

/** @param {Numbers} values */
export function mean(values) {
  let sum = 0;
  for (const value of values) sum += value;
  return sum / values.length;
}

/** @param {Numbers} values */
export function variance(values) {
  const centre = mean(values);
  return mean(Array.from(values, (value) => (value - centre) ** 2));
}

/** erf by its series (|x| < 3) or continued fraction: torch's GELU uses the exact one. @param {number} x */
function erf(x) {
  const size = Math.abs(x);
  if (size < 3) {
    let term = size;
    let sum = size;
    for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum) && n < 200; n += 1) {
      term *= (-size * size) / n;
      sum += term / (2 * n + 1);
    }
    return (Math.sign(x) * 2 * sum) / Math.sqrt(Math.PI);
  }
  let fraction = size;
  for (let n = 60; n > 0; n -= 1) fraction = size + n / 2 / fraction;
  return Math.sign(x) * (1 - Math.exp(-size * size) / (fraction * Math.sqrt(Math.PI)));
}

export const ACTIVATIONS = {
  relu: (x) => Math.max(0, x),
  gelu: (x) => (x * (1 + erf(x / Math.SQRT2))) / 2,
  silu: (x) => x / (1 + Math.exp(-x)),
  swiglu: (x) => x / (1 + Math.exp(-x)),
};

/**
 * What a norm makes of a vector, or null where the page lacks what it takes. `name` is that of its parameters.
 * @param {PageRecord} record @param {string} kind @param {string} name @param {Numbers} input
 */
export function normalise(record, kind, name, input) {
  const gain = record.array(`${name}.weight`);
  if (!gain) return null;
  const shift = record.array(`${name}.bias`);
  const centre = record.array(`${name}.running_mean`);
  const spread = record.array(`${name}.running_variance`);
  if (kind === "batch" && !(centre && spread)) return null;
  const middle = kind === "layer" ? mean(input) : 0;
  const square = kind === "layer" ? variance(input) : mean(Array.from(input, (value) => value * value));
  return Array.from(input, (value, at) => {
    const from = kind === "batch" ? centre.data[at] : middle;
    const by = kind === "batch" ? spread.data[at] : square;
    return ((value - from) / Math.sqrt(by + EPSILON)) * gain.data[at] + (shift ? shift.data[at] : 0);
  });
}

// ---- Checking ---------------------------------------------------------------------------------------------------------------

/**
 * How far recorded numbers are from recomputed ones. There may be fewer of the latter: those are compared, the scale is of all.
 * @param {Numbers} recorded @param {Numbers} computed
 */
function compare(recorded, computed) {
  let largest = 0;
  let scale = 0;
  for (const value of recorded) if (Number.isFinite(value)) scale = Math.max(scale, Math.abs(value));
  for (let at = 0; at < computed.length; at += 1) {
    const difference = Math.abs(recorded[at] - computed[at]);
    largest = Number.isNaN(difference) ? Infinity : Math.max(largest, difference);
  }
  return { count: computed.length, largest, scale };
}

/**
 * Whether what differs is no more than the rounding of the numbers explains. `types`: of the arrays that were read.
 * @param {Check} found @param {Set<string>} types
 */
export function judge(found, types) {
  if (found.reason) return found;
  const tolerance = found.exact ? 0 : Math.max(...[...types].map((type) => TOLERANCES[type] ?? 1e-4), 1e-4);
  return { ...found, rounded: tolerance > 1e-4, ok: found.largest <= tolerance * found.scale + (found.exact ? 0 : 1e-7) };
}

/**
 * A check for a step: `recorded` and `computed` numbers, or a `reason` why nothing can be computed here.
 * @param {string} label @param {Numbers} recorded @param {Numbers} computed
 */
export function check(label, recorded, computed) {
  return { label, ...compare(recorded, computed) };
}

/** 2.4e-7 as people write it. @param {number} value */
export function tiny(value) {
  if (!Number.isFinite(value)) return h("span", null, "∞");
  if (value === 0) return h("span", null, "0");
  const [digits, power] = value.toExponential(1).split("e");
  const shown = t(digits, digits.replace(".", ","));
  return h("span", null, `${shown}·10`, h("sup", null, String(Number(power)).replace("-", "−")));
}

/** @param {Check} found */
function state(found) {
  return found.reason ? "none" : found.ok ? "ok" : "differs";
}

/**
 * The state of several checks together: one that differs outweighs all, one that is ok outweighs those that cannot be made.
 * @param {Check[]} checks
 */
export function overall(checks) {
  const states = checks.map(state);
  return states.includes("differs") ? "differs" : states.includes("ok") ? "ok" : states.length ? "none" : "";
}

/** The sign of a state, with words for those who do not see it. @param {string} which */
export function mark(which) {
  const words = {
    ok: t("recomputed, equal", "recalculé, égal"),
    differs: t("recomputed, differs", "recalculé, différent"),
    none: t("not recomputed", "non recalculé"),
  };
  const signs = { ok: "✓", differs: "✗", none: "–" };
  return h("span", { class: `walk-mark ${which}`, role: "img", "aria-label": words[which], title: words[which] }, signs[which]);
}

/** One line: what was computed anew, how many numbers, and the largest difference. @param {Check} found */
function checkLine(found) {
  const line = h("li", { class: `walk-check ${state(found)}` }, mark(state(found)), " ", prose(found.label), t(": ", " : "));
  line.dataset.check = state(found);
  if (found.reason) {
    line.append(found.reason);
    return line;
  }
  line.dataset.largest = String(found.largest);
  line.dataset.count = String(found.count);
  const count = found.count === 1 ? t("1 number", "1 nombre") : t(`${found.count} numbers`, `${found.count} nombres`);
  line.append(`${count}, `, t("largest difference ", "plus grand écart "), tiny(found.largest));
  if (found.rounded) line.append(t(" (the page holds rounded numbers)", " (la page contient des nombres arrondis)"));
  if (!found.ok) line.append(t(": more than rounding explains", " : plus que n'explique l'arrondi"));
  return line;
}

/** @param {Check[]} checks */
export function checkList(checks) {
  return h("ul", { class: "walk-checks", "aria-label": t("Recomputed in this page", "Recalculé dans cette page") },
    ...checks.map((found) => checkLine(found)));
}

// ---- Equations --------------------------------------------------------------------------------------------------------------

/**
 * Typeset a small notation: _x ^x or _{..} ^{..}, √{..}, ⁄{above}{below}, tall ⟮brackets⟯; letters are variables unless they name a function.
 * @param {string} source
 */
export function equation(source) {
  const plain = source.replace(/⁄\{([^{}]*)\}\{([^{}]*)\}/g, "($1)/($2)").replace(/[{}]/g, "").replaceAll("⟮", "(").replaceAll("⟯", ")");
  const shown = h("span", { class: "walk-equation", role: "math", "aria-label": plain });
  const letters = [...source];
  let at = 0;

  function group() {
    const inside = h("span", null);
    if (letters[at] === "{") {
      at += 1;
      fill(inside, "}");
      at += 1;
    } else atom(inside);
    return [...inside.childNodes];
  }

  /** @param {any} into */
  function atom(into) {
    const sign = letters[at];
    if (/\p{L}/u.test(sign)) {
      let word = "";
      while (at < letters.length && /\p{L}/u.test(letters[at])) word += letters[at++];
      into.append(h(UPRIGHT.has(word) || word.length > 2 ? "span" : "i", null, word));
    } else if (/\d/.test(sign)) {
      let digits = "";
      while (at < letters.length && /[\d.,]/.test(letters[at])) digits += letters[at++];
      into.append(digits);
    } else {
      at += 1;
      into.append(sign);
    }
  }

  /** @param {any} into @param {string} stop */
  function fill(into, stop) {
    while (at < letters.length && letters[at] !== stop) {
      const sign = letters[at];
      if (sign === "_" || sign === "^") {
        at += 1;
        into.append(h(sign === "_" ? "sub" : "sup", null, ...group()));
      } else if (sign === "√") {
        at += 1;
        into.append(h("span", { class: "walk-root" }, "√", h("span", null, ...group())));
      } else if (sign === "⟮" || sign === "⟯") {
        at += 1;
        into.append(h("span", { class: "walk-tall" }, sign === "⟮" ? "(" : ")"));
      } else if (sign === "⁄") {
        at += 1;
        const above = h("span", null, ...group());
        into.append(h("span", { class: "walk-fraction" }, above, h("span", null, ...group())));
      } else atom(into);
    }
  }

  fill(shown, "");
  return shown;
}

const SPECIAL = [..."$_^{}√⁄⟮⟯"];
/** The first of the code points that no text may hold: each stands for one of `SPECIAL` in a reader's own words. */
const RESERVED = 0xfdd0;

/** A reader's own text for a place where some signs are notation: they stand aside until `restore`. @param {string} text */
export function literal(text) {
  return Array.from(text, (sign) => (SPECIAL.includes(sign) ? String.fromCodePoint(RESERVED + SPECIAL.indexOf(sign)) : sign)).join("");
}

/** @param {string} text */
const back = (text) => text.replace(/[\ufdd0-\ufdd8]/g, (sign) => SPECIAL[sign.codePointAt(0) - RESERVED]);

/** Bring back what `literal` set aside, in an element and all that it holds. @param {any} element */
export function restore(element) {
  const texts = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  for (let node = /** @type {Text} */ (texts.nextNode()); node; node = /** @type {Text} */ (texts.nextNode())) {
    if (/[\ufdd0-\ufdd8]/.test(node.data)) node.data = back(node.data);
  }
  for (const one of element.querySelectorAll("[aria-label], [title]")) {
    for (const name of ["aria-label", "title"]) {
      const text = one.getAttribute(name);
      if (text && /[\ufdd0-\ufdd8]/.test(text)) one.setAttribute(name, back(text));
    }
  }
  return element;
}

/** Prose with equations in it, between dollar signs. @param {string} text */
export function prose(text) {
  return text.split("$").map((part, at) => (at % 2 ? equation(part) : part));
}

// ---- Rows of numbers --------------------------------------------------------------------------------------------------------

/** @param {Vector[]} rows */
function largestOf(rows) {
  let largest = 0;
  for (const row of rows) for (const value of row.values) if (Math.abs(value) > largest) largest = Math.abs(value);
  return largest || 1;
}

/** A whole vector as a strip of colours: one glance for what is folded. @param {Numbers} values @param {number} largest */
export function strip(values, largest) {
  const step = 100 / values.length;
  const stops = Array.from(values, (value, at) => {
    const colour = tools.diverging(value / largest);
    return `${colour} ${(at * step).toFixed(3)}% ${((at + 1) * step).toFixed(3)}%`;
  });
  const shown = h("span", { class: "walk-strip", "aria-hidden": "true" });
  shown.style.background = `linear-gradient(to right, ${stops.join(",")})`;
  return shown;
}

/** @param {number} value @param {number} largest */
function numberCell(value, largest) {
  const cell = h("td", { class: "walk-value" }, tools.number(value));
  cell.style.borderBottomColor = tools.diverging(value / largest);
  return cell;
}

/**
 * Vectors under each other: [{name, values, chosen}], the first numbers of each, all of them as a strip, and the rest folded.
 * @param {Vector[]} rows @param {{caption: string}} given
 */
export function vectors(rows, { caption }) {
  const total = rows[0].values.length;
  const shown = Math.min(SHOWN, total);
  const largest = largestOf(rows);
  const head = h("tr", null, h("th", { scope: "col" }, ""));
  for (let at = 1; at <= shown; at += 1) head.append(h("th", { scope: "col" }, String(at)));
  if (total > shown) {
    head.append(h("th", { scope: "col", class: "walk-wide" }, t(`all ${total}`, `les ${total}`)));
  }
  const body = rows.map((row) => {
    const line = h("tr", row.chosen ? { class: "chosen" } : null, h("th", { scope: "row" }, prose(row.name)));
    for (let at = 0; at < shown; at += 1) line.append(numberCell(row.values[at], largest));
    if (total > shown) line.append(h("td", null, strip(row.values, largest)));
    return line;
  });
  const table = h("table", { class: "walk-vectors" }, h("caption", null, caption),
    h("thead", null, head), h("tbody", null, ...body));
  const parts = [scroller(table, caption)];
  if (total > shown) parts.push(tools.folded(t(`All ${total} numbers`, `Les ${total} nombres`), () => restore(everyNumber(rows))));
  return h("div", { class: "walk-block" }, ...parts);
}

/** @param {Vector[]} rows */
function everyNumber(rows) {
  return h("dl", { class: "walk-all" }, ...rows.flatMap((row) => [
    h("dt", null, prose(row.name)),
    h("dd", null, Array.from(row.values, (value) => tools.number(value)).join("  ")),
  ]));
}

/**
 * A matrix in words: the text alternative of a heatmap.
 * @param {{rows: string[], columns: any[], at: (row: number, column: number) => number, caption: string}} given
 */
export function matrixTable({ rows, columns, at, caption }) {
  return tools.table(["", ...columns], rows.map((name, row) => [name, ...columns.map((_, column) => tools.number(at(row, column)))]), { caption });
}

/** What is wide scrolls by itself, by keyboard as well. @param {any} content @param {string} label */
export function scroller(content, label) {
  return h("div", { class: "table walk-scroll", role: "region", tabindex: 0, "aria-label": label }, content);
}

/**
 * The first terms of a dot product, written out, and what all of them come to.
 * @param {string} name @param {Numbers} left @param {Numbers} right @param {{bias?: number, total: number}} given
 */
export function product(name, left, right, { bias = null, total }) {
  const shown = Math.min(3, left.length);
  const terms = [];
  for (let at = 0; at < shown; at += 1) terms.push(`${bracket(left[at])}·${bracket(right[at])}`);
  if (left.length > shown) terms.push(t(`… ${left.length - shown} more`, `… ${left.length - shown} autres`));
  if (bias !== null) terms.push(bracket(bias));
  return h("p", { class: "walk-product" }, equation(name), ` = ${terms.join(" + ")} = `,
    h("strong", null, tools.number(total)));
}

/** Negative numbers in brackets, so that signs do not meet. @param {number} value */
export function bracket(value) {
  return value < 0 ? `(${tools.number(value)})` : tools.number(value);
}

