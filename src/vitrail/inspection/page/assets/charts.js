/* Pictures that many views draw: heatmaps, line charts, a scale of colours. */
import {css, divergingRgb, figure, h, inkOn, isDark, live, number, piece, rgb, series, svg, t, table, unique} from "./tools.js";

// ---- heatmap -------------------------------------------------------------------------------------------------------------------

/**
 * A picture of one pixel a cell, to be enlarged.
 * @param {Numbers} values @param {number} rows @param {number} columns @param {(value: number) => number[]} colourOf
 */
function pixels(values, rows, columns, colourOf) {
  const small = h("canvas", {width: columns, height: rows});
  const pen = small.getContext("2d");
  const image = pen.createImageData(columns, rows);
  for (let place = 0; place < rows * columns; place += 1) {
    const [red, green, blue] = colourOf(values[place]);
    image.data.set([red, green, blue, 255], place * 4);
  }
  pen.putImageData(image, 0, 0);
  return small;
}

/** @param {Numbers} values @param {boolean} diverging */
function largest(values, diverging) {
  let found = 0;
  for (const value of values) {
    const size = diverging ? Math.abs(value) : value;
    if (Number.isFinite(size) && size > found) found = size;
  }
  return found || 1;
}

/**
 * How values become colours: shares of `max`, the largest one when it is not given.
 * @param {Numbers} values @param {{diverging?: boolean, max?: number}} given
 */
export function scaleOf(values, {diverging = false, max = null} = {}) {
  const top = max ?? largest(values, diverging);
  return {top, diverging, of: diverging ? (value) => divergingRgb(value / top) : (value) => rgb(value / top)};
}

/**
 * A bare picture of a matrix, `width` CSS pixels wide; for small ones beside each other.
 * @param {Numbers} values @param {number} rows @param {number} columns
 * @param {{width?: number, height?: number, max?: number, diverging?: boolean}} given
 */
export function thumbnail(values, rows, columns, {width = 64, height = null, max = null, diverging = false} = {}) {
  const tall = height ?? Math.max(4, Math.round((width * rows) / columns));
  const canvas = h("canvas", {width: width * 2, height: tall * 2, style: {width: `${width}px`, height: `${tall}px`}, "aria-hidden": "true"});
  const pen = canvas.getContext("2d");
  pen.imageSmoothingEnabled = columns > canvas.width / 2; // cells smaller than pixels blend, rather than some being lost
  pen.drawImage(pixels(values, rows, columns, scaleOf(values, {diverging, max}).of), 0, 0, canvas.width, canvas.height);
  return canvas;
}

/**
 * A matrix as coloured cells between its rows' and its columns' names.
 *
 * A pointer or, when it has the focus, the arrow keys move a cursor; the cell under it is told in words. Enter or a click selects.
 * `marks`: [row, column] of cells that bear a ring. `paint`: value -> [red, green, blue], for values that are no amounts; `glyph`:
 * (row, column) -> a character in the cell, where there is room. `silent`: the caller tells what is under the cursor. The element has `point(row|null, column|null)` to move the cursor from outside,
 * which tells nobody.
 * @param {{values: Numbers, rows: string[], columns: string[], label: string, diverging?: boolean, max?: number, onHover?: (...pointed: any[]) => void, onSelect?: (...chosen: any[]) => void, describe?: (row: number, column: number, value: number) => string, rowTitle?: string, columnTitle?: string, size?: number, hint?: string, marks?: number[][], paint?: (value: number) => number[], glyph?: (row: number, column: number) => string, silent?: boolean}} given
 */
export function heatmap({
  values, rows, columns, label, diverging = false, max = null, onHover = null, onSelect = null, describe = null,
  rowTitle = null, columnTitle = null, size = 560, hint = null, marks = [], paint = null, glyph = null, silent = false,
}) {
  const cell = Math.max(2, Math.min(32, Math.floor(size / Math.max(columns.length, rows.length, 1))));
  const width = cell * columns.length;
  const height = cell * rows.length;
  const scale = scaleOf(values, {diverging, max});
  const tell = describe ?? ((row, column, value) => `${rows[row]} → ${columns[column]}: ${number(value)}`);
  const canvas = h("canvas", {
    width: width * 2, height: height * 2, style: {width: `${width}px`, height: `${height}px`},
    tabindex: 0, role: "application", "aria-roledescription": t("heatmap", "carte de chaleur"),
    "aria-label": `${label}. ${t("Arrow keys move over the cells.", "Les flèches parcourent les cases.")}`,
  });
  const idle = hint ?? t("Point at a cell, or move with the arrow keys.", "Pointez une case, ou parcourez avec les flèches.");
  const told = live(idle);
  const rowLabels = rows.map((text) => h("span", {dir: "auto", title: text}, text));
  const columnLabels = columns.map((text) => h("span", {dir: "auto", title: text}, text));
  const cursor = {row: null, column: null};
  const colourOf = paint ?? scale.of;
  const base = pixels(values, rows.length, columns.length, colourOf);

  function draw() {
    const pen = canvas.getContext("2d");
    pen.setTransform(2, 0, 0, 2, 0, 0);
    pen.imageSmoothingEnabled = false;
    pen.drawImage(base, 0, 0, width, height);
    if (cell >= 9) leads(pen);
    for (const [row, column] of marks) ring(pen, row, column);
    if (glyph !== null && cell >= 12) letters(pen);
    mark(pen);
  }

  /** @param {CanvasRenderingContext2D} pen */
  function letters(pen) {
    Object.assign(pen, {font: `${Math.round(cell * 0.5)}px sans-serif`, textAlign: "center", textBaseline: "middle"});
    values.forEach((value, place) => {
      const [row, column] = [Math.floor(place / columns.length), place % columns.length];
      pen.fillStyle = inkOn(colourOf(value));
      pen.fillText(glyph(row, column), (column + 0.5) * cell, (row + 0.54) * cell);
    });
  }

  /** @param {CanvasRenderingContext2D} pen */
  function leads(pen) {
    pen.fillStyle = isDark() ? "#14161b" : "#fffefb";
    for (let row = 1; row < rows.length; row += 1) pen.fillRect(0, row * cell - 0.5, width, 1);
    for (let column = 1; column < columns.length; column += 1) pen.fillRect(column * cell - 0.5, 0, 1, height);
  }

  /** @param {CanvasRenderingContext2D} pen @param {number} row @param {number} column */
  function ring(pen, row, column) {
    pen.strokeStyle = inkOn(colourOf(values[row * columns.length + column]));
    pen.lineWidth = cell < 9 ? 1 : 1.6;
    pen.beginPath();
    pen.arc((column + 0.5) * cell, (row + 0.5) * cell, Math.max(1, cell * 0.2), 0, 2 * Math.PI);
    pen.stroke();
  }

  /** @param {CanvasRenderingContext2D} pen */
  function mark(pen) {
    pen.strokeStyle = isDark() ? "#f2b35b" : "#c2570c";
    pen.lineWidth = 2;
    const {row, column} = cursor;
    if (row !== null && column !== null) pen.strokeRect(column * cell + 1, row * cell + 1, cell - 2, cell - 2);
    else if (row !== null) pen.strokeRect(1, row * cell + 1, width - 2, cell - 2);
    else if (column !== null) pen.strokeRect(column * cell + 1, 1, cell - 2, height - 2);
    rowLabels.forEach((span, place) => span.classList.toggle("current", place === row));
    columnLabels.forEach((span, place) => span.classList.toggle("current", place === column));
  }

  /** @param {number} row @param {number} column */
  function point(row, column) {
    if (cursor.row === row && cursor.column === column) return false;
    Object.assign(cursor, {row, column});
    told.textContent = row === null || column === null ? idle : tell(row, column, values[row * columns.length + column]);
    draw();
    return true;
  }

  /** @param {number} row @param {number} column */
  function move(row, column) {
    if (point(row, column) && onHover !== null) onHover(row, column);
  }

  /** @param {PointerEvent} event @returns {[number, number]} */
  function cellAt(event) {
    const box = canvas.getBoundingClientRect();
    /** @param {number} share @param {number} count */
    const clamp = (share, count) => Math.min(Math.max(Math.floor(share * count), 0), count - 1);
    return [clamp((event.clientY - box.top) / box.height, rows.length), clamp((event.clientX - box.left) / box.width, columns.length)];
  }

  /** @param {any} event */
  function step(event) {
    const [row, column] = [cursor.row ?? 0, cursor.column ?? 0];
    const stay = cursor.row === null || cursor.column === null;
    const next = {
      ArrowUp: [row - 1, column], ArrowDown: [row + 1, column], ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1],
      Home: [row, 0], End: [row, columns.length - 1],
    }[event.key];
    if (next !== undefined) {
      const [down, right] = stay ? [row, column] : next;
      move(Math.min(Math.max(down, 0), rows.length - 1), Math.min(Math.max(right, 0), columns.length - 1));
    } else if ((event.key === "Enter" || event.key === " ") && onSelect !== null && !stay) onSelect(row, column);
    else if (event.key === "Escape") move(null, null);
    else return;
    event.preventDefault();
  }

  canvas.addEventListener("pointermove", (/** @type {PointerEvent} */ event) => move(...cellAt(event)));
  canvas.addEventListener("pointerleave", () => move(null, null));
  canvas.addEventListener("focus", () => cursor.row === null && move(0, 0));
  canvas.addEventListener("blur", () => move(null, null));
  canvas.addEventListener("keydown", step);
  canvas.addEventListener("click", (/** @type {PointerEvent} */ event) => onSelect !== null && onSelect(...cellAt(event)));
  draw();
  const element = h("div", {class: "heatmap"},
    h("div", {class: "scroll"}, frame({canvas, cell, rowLabels, columnLabels, rowTitle, columnTitle})),
    silent ? null : told);
  element.point = point;
  return element;
}

/**
 * The canvas between its labels; where cells are small only some labels are shown.
 * @param {{canvas: HTMLCanvasElement, cell: number, rowLabels: HTMLElement[], columnLabels: HTMLElement[], rowTitle: string, columnTitle: string}} given
 */
function frame({canvas, cell, rowLabels, columnLabels, rowTitle, columnTitle}) {
  const every = Math.ceil(13 / cell);
  const longest = Math.max(...columnLabels.map((span) => Math.min([...span.textContent].length, 22)), 1);
  const rise = Math.round(longest * 7.4 * 0.77 + 16);
  /** @param {HTMLElement} span @param {number} place */
  const shown = (span, place) => (place % every === 0 ? span : null);
  const top = h("div", {class: "columns", style: {height: `${rise}px`, width: `${cell * columnLabels.length}px`}});
  columnLabels.forEach((span, place) => {
    span.style.left = `${(place + 0.5) * cell}px`;
    if (shown(span, place)) top.append(span);
  });
  const side = h("div", {class: "rows"});
  rowLabels.forEach((span, place) => {
    Object.assign(span.style, {top: `${(place + 0.5) * cell}px`});
    if (shown(span, place)) side.append(span);
  });
  const widest = Math.max(...rowLabels.map((span) => Math.min([...span.textContent].length, 22)), 1);
  side.style.width = `${widest * 8 + 12}px`;
  const over = columnLabels.map((span, place) => Math.min([...span.textContent].length, 22) * 5 + 14 - (columnLabels.length - place - 0.5) * cell);
  return h("div", {class: "frame", style: {"padding-right": `${Math.max(0, Math.round(Math.max(...over, 0)))}px`}},
    h("div", {class: "corner"}, rowTitle === null ? null : h("span", null, `${rowTitle} ↓`), columnTitle === null ? null : h("span", null, `${columnTitle} →`)),
    top, side, canvas);
}

/** What the colours stand for. */
export function legend({top = 1, diverging = false, label = ""} = {}) {
  const stops = Array.from({length: 13}, (_, place) => place / 12);
  const colours = stops.map((share) => css(diverging ? divergingRgb(2 * share - 1) : rgb(share)));
  return h("div", {class: "legend"},
    h("span", null, diverging ? number(-top) : "0"),
    h("span", {class: "bar", "aria-hidden": "true", style: {background: `linear-gradient(to right, ${colours.join(", ")})`}}),
    h("span", null, number(top)), label === "" ? null : h("span", {class: "quiet"}, label));
}

// ---- line chart ----------------------------------------------------------------------------------------------------------------

const DASHES = ["", "7 3", "2 3", "9 3 2 3", "4 2", "12 4", "1 4", "6 2 2 2"];
const CHART = {width: 720, height: 280, left: 62, right: 36, top: 14};

/** Whether labels are so many and so long that they must lean. @param {string[]} labels */
const leans = (labels) => labels.some((text) => [...String(text)].length > 3) && labels.length > 8;

/** Round values between two, about five of them. @param {number} low @param {number} high @param {boolean} log */
function ticks(low, high, log) {
  if (log) {
    const [first, last] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
    return Array.from({length: last - first + 1}, (_, place) => 10 ** (first + place));
  }
  const rough = (high - low) / 5;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * unit).find((size) => size >= rough);
  const found = [];
  for (let at = Math.floor(low / step); at * step < high + step * 0.999; at += 1) found.push(Number((at * step).toPrecision(12)));
  return found;
}

/**
 * Lines over the same places, told apart by colour and dash. null or NaN leaves a gap; with `log`, so do values <= 0.
 * `marker`: a place to mark by an upright; the element has `point(place)` to move it.
 * @param {{series: Series[], labels: string[], label: string, yLabel?: string, log?: boolean, marker?: number}} given
 */
export function lines({series: many, labels, label, yLabel = "", log = false, marker = null}) {
  /** @param {number} value */
  const usable = (value) => value !== null && Number.isFinite(value) && (!log || value > 0);
  const all = many.flatMap((one) => [...one.values].filter(usable));
  if (all.length === 0) return h("p", {class: "quiet"}, t("Nothing to draw.", "Rien à tracer."));
  const [least, most] = [Math.min(...all), Math.max(...all)];
  const marks = ticks(log ? least : Math.min(least, 0), most === least ? most + (Math.abs(most) || 1) : most, log);
  const [low, high] = [marks[0], marks.at(-1)];
  const into = log ? Math.log10 : (value) => value;
  /** @param {number} value */
  const share = (value) => (high === low ? 0.5 : (into(value) - into(low)) / (into(high) - into(low)));
  const {width, height, left, right, top} = CHART;
  const bottom = leans(labels) ? 70 : 34;
  /** @param {number} place */
  const x = (place) => left + (labels.length < 2 ? 0.5 : place / (labels.length - 1)) * (width - left - right);
  /** @param {number} value */
  const y = (value) => height - bottom - share(value) * (height - top - bottom);
  const drawing = svg("svg", {viewBox: `0 0 ${width} ${height}`, class: "chart", role: "img", "aria-label": label},
    marks.map((mark) => [
      svg("line", {class: "grid", x1: left, x2: width - right, y1: y(mark), y2: y(mark)}),
      svg("text", {class: "tick", x: left - 8, y: y(mark) + 4, "text-anchor": "end"}, number(mark, 2)),
    ]),
    xLabels(labels, x, height - bottom),
    svg("text", {class: "axis", transform: `translate(14 ${top + (height - top - bottom) / 2}) rotate(-90)`, "text-anchor": "middle"}, yLabel),
    many.map((one, place) => path(one, place, {x, y, usable})));
  const upright = svg("line", {class: "upright", y1: top, y2: height - bottom});
  const element = figure(h("div", {class: "scroll"}, drawing, keys(many)), label, () => table(
    ["", ...labels], many.map((one) => [one.name, ...[...one.values].map((value) => number(value))]), {caption: label}));
  element.point = (place) => {
    upright.setAttribute("x1", x(place));
    upright.setAttribute("x2", x(place));
    drawing.append(upright);
  };
  if (marker !== null) element.point(marker);
  return element;
}

/** @param {string[]} labels @param {any} x @param {number} bottom */
function xLabels(labels, x, bottom) {
  const every = Math.ceil(labels.length / 24);
  const tilted = leans(labels);
  return labels.map((text, place) => (place % every ? null : svg("text", tilted
    ? {class: "tick", transform: `translate(${x(place) + 3} ${bottom + 14}) rotate(-40)`, "text-anchor": "end"}
    : {class: "tick", x: x(place), y: bottom + 18, "text-anchor": "middle"}, [...String(text)].slice(0, 9).join(""))));
}

/** @param {any} one @param {any} number_ @param {{x: any, y: any, usable: any}} given */
function path(one, number_, {x, y, usable}) {
  let drawing = "";
  let down = false;
  [...one.values].forEach((value, place) => {
    if (usable(value)) drawing += `${down ? "L" : "M"}${x(place).toFixed(1)} ${y(value).toFixed(1)}`;
    down = usable(value);
  });
  const dash = DASHES[number_ % DASHES.length];
  const dots = one.values.length <= 32
    ? [...one.values].map((value, place) => (usable(value)
      ? svg("circle", {cx: x(place), cy: y(value), r: 2.6, fill: series(number_)}, svg("title", null, `${one.name}: ${number(value)}`))
      : null))
    : null;
  return svg("g", null, svg("path", {d: drawing, class: "line", stroke: series(number_), "stroke-dasharray": dash || null}), dots);
}

/** @param {Series[]} many */
function keys(many) {
  if (many.length < 2) return null;
  return h("ul", {class: "keys"}, many.map((one, place) => h("li", null,
    svg("svg", {width: 34, height: 10, "aria-hidden": "true"}, svg("line", {
      x1: 1, x2: 33, y1: 5, y2: 5, class: "line", stroke: series(place), "stroke-dasharray": DASHES[place % DASHES.length] || null,
    })), one.name)));
}

// ---- tokens --------------------------------------------------------------------------------------------------------------------

/**
 * Tokens side by side, each a button. One can be selected; each can be shaded by a share of 1.
 * @param {{tokens: string[], label: string, selected?: number|null, shares?: number[], onSelect?: function, onHover?: function}} given
 */
export function tokens({tokens: texts, label, selected = null, shares = null, onSelect = null, onHover = null}) {
  const row = h("div", {class: "tokens", role: "group", "aria-label": label});
  texts.forEach((text, place) => row.append(h("button", {
    type: "button", class: "token", dir: "auto", "aria-pressed": String(place === selected),
    title: shares === null ? null : number(shares[place]),
    style: shares === null ? null : {background: css(rgb(shares[place])), color: inkOn(rgb(shares[place]))},
    onclick: () => {
      [...row.children].forEach((other, at) => other.setAttribute("aria-pressed", String(at === place)));
      if (onSelect !== null) onSelect(place);
    },
    onpointerenter: () => onHover !== null && onHover(place),
    onpointerleave: () => onHover !== null && onHover(null),
    onfocus: () => onHover !== null && onHover(place),
    onblur: () => onHover !== null && onHover(null),
  }, piece(text))));
  return row;
}
