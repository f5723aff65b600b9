/* Thousands of words on a canvas that can be moved and enlarged: dots, as many labels as do not cover each other, lines to neighbours. */
import * as tools from "../tools.js";
import {h, t} from "../tools.js";
import {clip, textWidth, visible} from "./00_shared.js";

const FONT = "12px system-ui, sans-serif";
const STRONG = "600 13px system-ui, sans-serif";
const LABEL = {height: 15, widest: 170};
const MARGIN = 28;
const MOST_ZOOM = 200;
/** A pixel of a touch is not as exact as one of a mouse. */
const REACH = {mouse: 12, touch: 26};
/** Letters that are written from right to left. */
const RIGHT_TO_LEFT = /^[^\p{L}]*[\p{Script=Arabic}\p{Script=Hebrew}\p{Script=Syriac}\p{Script=Thaana}\p{Script=Nko}\p{Script=Adlam}]/u;

/**
 * What is looked at: the enlargement, and the point of the plane in the middle, in widths of all words. Kept over redraws.
 * @typedef {{zoom: number, x: number, y: number}} Look
 */

/** The words' places between -0.5 and 0.5 of the wider side, the same scale on both axes. @param {number[][]} coordinates */
function unitPlane([xs, ys]) {
  const [left, right, low, high] = [xs, ys].flatMap((values) => [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))]);
  const size = Math.max(right - left, high - low) || 1;
  return {
    xs: Float64Array.from(xs, (value) => (value - (left + right) / 2) / size),
    ys: Float64Array.from(ys, (value) => ((low + high) / 2 - value) / size),
    wide: (right - left) / size || 1e-9, tall: (high - low) / size || 1e-9,
  };
}

export class WordCanvas {
  /**
   * @param {{words: string[], coordinates: number[][], look: Look, label: string, onSelect: (place: number | null) => void}} given
   */
  constructor({words, coordinates, look, label, onSelect}) {
    this.words = words;
    this.plane = unitPlane(coordinates);
    this.look = look;
    this.onSelect = onSelect;
    /** @type {number | null} */
    this.selected = null;
    /** @type {number | null} */
    this.pointed = null;
    /** @type {number[]} */
    this.near = [];
    this.labels = words.map((word) => clip(visible(word), FONT, LABEL.widest));
    this.widths = new Float32Array(words.length);
    this.canvas = h("canvas", {class: "wor-canvas", tabindex: 0, role: "application", "aria-label": label});
    this.element = h("div", {class: "wor-map"}, this.canvas, this._buttons());
    this.frame = 0;
    this.size = {width: 0, height: 0};
    /** @type {Record<string, string> | null} */
    this.colours = null;
    /** @type {Map<number, {x: number, y: number}>} */
    this.pointers = new Map();
    this.moved = 0;
    this._listen();
    new ResizeObserver(() => this.paint()).observe(this.canvas);
  }

  _buttons() {
    const {button} = tools;
    return h("div", {class: "wor-buttons"},
      button("+", () => this.zoomBy(1.6), {"aria-label": t("Enlarge", "Agrandir"), "data-zoom": "in"}),
      button("\u2212", () => this.zoomBy(1 / 1.6), {"aria-label": t("Make smaller", "Réduire"), "data-zoom": "out"}),
      button(t("Whole", "Tout"), () => this.whole(), {"data-zoom": "whole"}));
  }

  // ---- from the plane to the screen ----------------------------------------------------------------------------------------------

  /** Of the canvas when it was last drawn: to ask the page for each of thousands of words would be slow. */
  _size() {
    return this.size;
  }

  /** Pixels of the whole plane. */
  _scale() {
    const {width, height} = this._size();
    const {wide, tall} = this.plane;
    return Math.max(1, Math.min((width - 2 * MARGIN) / wide, (height - 2 * MARGIN) / tall)) * this.look.zoom;
  }

  /** @param {number} place @returns {[number, number]} */
  at(place) {
    const {width, height} = this._size();
    const scale = this._scale();
    return [width / 2 + (this.plane.xs[place] - this.look.x) * scale, height / 2 + (this.plane.ys[place] - this.look.y) * scale];
  }

  // ---- looking -------------------------------------------------------------------------------------------------------------------

  /**
   * Enlarge; a point of the screen stays where it is: where none is given the chosen word, if it is in sight, or the middle.
   * @param {number} factor @param {number} [x] @param {number} [y]
   */
  zoomBy(factor, x, y) {
    const {width, height} = this._size();
    const chosen = this.selected === null ? [-1, -1] : this.at(this.selected);
    const inSight = chosen[0] >= 0 && chosen[1] >= 0 && chosen[0] <= width && chosen[1] <= height;
    const [middleX, middleY] = inSight ? chosen : [width / 2, height / 2];
    const [right, down] = [(x ?? middleX) - width / 2, (y ?? middleY) - height / 2];
    const before = this._scale();
    this.look.zoom = Math.min(MOST_ZOOM, Math.max(1, this.look.zoom * factor));
    const after = this._scale();
    this.look.x += right / before - right / after;
    this.look.y += down / before - down / after;
    if (this.look.zoom === 1) Object.assign(this.look, {x: 0, y: 0});
    this.paint();
  }

  whole() {
    Object.assign(this.look, {zoom: 1, x: 0, y: 0});
    this.paint();
  }

  /** @param {number} right @param {number} down */
  moveBy(right, down) {
    const scale = this._scale();
    const clamp = (value) => Math.min(0.6, Math.max(-0.6, value));
    this.look.x = clamp(this.look.x - right / scale);
    this.look.y = clamp(this.look.y - down / scale);
    this.paint();
  }

  /** Choose a word, and draw lines to others; it is brought into sight. @param {number | null} place @param {number[]} [near] */
  choose(place, near = []) {
    this.selected = place;
    this.near = near;
    if (place !== null) {
      const {width, height} = this._size();
      const [x, y] = this.at(place);
      if (width && (x < MARGIN || y < MARGIN || x > width - MARGIN || y > height - MARGIN)) {
        Object.assign(this.look, {x: this.plane.xs[place], y: this.plane.ys[place]});
      }
    }
    this.paint();
  }

  // ---- hands ---------------------------------------------------------------------------------------------------------------------

  _listen() {
    const {canvas} = this;
    canvas.addEventListener("pointerdown", (event) => {
      this.pointers.set(event.pointerId, this._place(event));
      this.moved = this.pointers.size > 1 ? Infinity : 0;
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => this._move(event));
    canvas.addEventListener("pointerup", (event) => this._up(event));
    canvas.addEventListener("pointercancel", (event) => this.pointers.delete(event.pointerId));
    canvas.addEventListener("pointerleave", () => this._point(null));
    canvas.addEventListener("wheel", (event) => {
      // Without a key, and before the map is in use, the wheel scrolls the page.
      if (!event.ctrlKey && !event.metaKey && document.activeElement !== canvas) return;
      event.preventDefault();
      const {x, y} = this._place(event);
      this.zoomBy(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), x, y);
    }, {passive: false});
    canvas.addEventListener("dblclick", (event) => this.zoomBy(2, this._place(event).x, this._place(event).y));
    canvas.addEventListener("keydown", (event) => this._key(event));
    canvas.addEventListener("focus", () => this.paint());
    canvas.addEventListener("blur", () => this.paint());
  }

  /** @param {any} event */
  _place(event) {
    const box = this.canvas.getBoundingClientRect();
    return {x: event.clientX - box.left, y: event.clientY - box.top};
  }

  /** @param {any} event */
  _move(event) {
    const now = this._place(event);
    const before = this.pointers.get(event.pointerId);
    if (!before) {
      this._point(this.nearestTo(now.x, now.y, REACH.mouse));
      return;
    }
    const others = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
    this.pointers.set(event.pointerId, now);
    if (others.length) {
      const [other] = others;
      const distance = (place) => Math.hypot(place.x - other.x, place.y - other.y) || 1;
      this.zoomBy(distance(now) / distance(before), (now.x + other.x) / 2, (now.y + other.y) / 2);
      return;
    }
    this.moved += Math.hypot(now.x - before.x, now.y - before.y);
    if (this.moved > 4) this.moveBy(now.x - before.x, now.y - before.y);
  }

  /** @param {any} event */
  _up(event) {
    if (!this.pointers.delete(event.pointerId) || this.moved > 4) return;
    const {x, y} = this._place(event);
    this.onSelect(this.nearestTo(x, y, event.pointerType === "touch" ? REACH.touch : REACH.mouse));
  }

  /** @param {any} event */
  _key(event) {
    const arrow = {ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (arrow && event.shiftKey) this.moveBy(-60 * arrow[0], -60 * arrow[1]);
    else if (arrow) this._step(arrow[0], arrow[1]);
    else if (event.key === "+" || event.key === "=") this.zoomBy(1.6);
    else if (event.key === "-") this.zoomBy(1 / 1.6);
    else if (event.key === "0" || event.key === "Home") this.whole();
    else if (event.key === "Escape" && this.selected !== null) this.onSelect(null);
    else return;
    event.preventDefault();
  }

  /** To the next word in a direction: near, and more ahead than aside. @param {number} right @param {number} down */
  _step(right, down) {
    if (this.selected === null) {
      const {width, height} = this._size();
      this.onSelect(this.nearestTo(width / 2, height / 2, Infinity));
      return;
    }
    const [x, y] = this.at(this.selected);
    let [best, least] = [null, Infinity];
    for (let place = 0; place < this.words.length; place += 1) {
      const [atX, atY] = this.at(place);
      const ahead = (atX - x) * right + (atY - y) * down;
      const aside = Math.abs((atX - x) * down) + Math.abs((atY - y) * right);
      if (place !== this.selected && ahead > 1e-9 && aside <= ahead && ahead + 2 * aside < least) [best, least] = [place, ahead + 2 * aside];
    }
    if (best !== null) this.onSelect(best);
  }

  /** The word whose dot is nearest to a point of the screen, or null. @param {number} x @param {number} y @param {number} reach */
  nearestTo(x, y, reach) {
    let [best, least] = [null, reach];
    for (let place = 0; place < this.words.length; place += 1) {
      const [atX, atY] = this.at(place);
      const distance = Math.hypot(atX - x, atY - y);
      if (distance < least) [best, least] = [place, distance];
    }
    return best;
  }

  /** @param {number | null} place */
  _point(place) {
    if (place === this.pointed) return;
    this.pointed = place;
    this.canvas.style.cursor = place === null ? "grab" : "pointer";
    this.canvas.title = place === null ? "" : visible(this.words[place]);
    this.paint();
  }

  // ---- drawing -------------------------------------------------------------------------------------------------------------------

  /** Draw at the next frame; on paper at once. */
  paint() {
    if (tools.state.printing) this._draw();
    else if (!this.frame) {
      this.frame = requestAnimationFrame(() => {
        this.frame = 0;
        this._draw();
      });
    }
  }

  /** The colours of the page's style, light or dark: where these change, the whole view is made anew. */
  _colours() {
    if (this.colours) return this.colours;
    /** @param {string} name */
    const resolve = (name) => {
      this.canvas.style.color = `var(--${name})`;
      return getComputedStyle(this.canvas).color;
    };
    const found = Object.fromEntries(["surface", "ink", "quiet", "strong", "accent", "mark"].map((name) => [name, resolve(name)]));
    this.canvas.style.color = "";
    this.colours = found;
    return found;
  }

  _draw() {
    const {clientWidth: width, clientHeight: height} = this.canvas;
    this.size = {width, height};
    const pen = this.canvas.getContext("2d");
    if (!width || !pen) return;
    const dense = Math.min(3, window.devicePixelRatio || 1);
    const [columns, rows] = [Math.round(width * dense), Math.round(height * dense)];
    if (this.canvas.width !== columns || this.canvas.height !== rows) Object.assign(this.canvas, {width: columns, height: rows});
    pen.setTransform(dense, 0, 0, dense, 0, 0);
    const colours = this._colours();
    pen.fillStyle = colours.surface;
    pen.fillRect(0, 0, width, height);
    this.canvas.style.touchAction = this.look.zoom > 1 ? "none" : "pan-y";
    const inSight = [];
    for (let place = 0; place < this.words.length; place += 1) {
      const [x, y] = this.at(place);
      if (x > -20 && y > -20 && x < width + 20 && y < height + 20) inSight.push(place);
    }
    this._dots(pen, inSight, colours);
    this._lines(pen, colours);
    this._texts(pen, inSight, colours);
  }

  /** @param {CanvasRenderingContext2D} pen @param {number[]} places @param {Record<string, string>} colours */
  _dots(pen, places, colours) {
    const radius = Math.min(3, 1.4 + Math.log2(this.look.zoom) / 4 + (this.words.length < 500 ? 1 : 0));
    pen.fillStyle = colours.quiet;
    pen.globalAlpha = this.selected === null ? 0.75 : 0.4;
    pen.beginPath();
    for (const place of places) {
      const [x, y] = this.at(place);
      pen.moveTo(x + radius, y);
      pen.arc(x, y, radius, 0, 2 * Math.PI);
    }
    pen.fill();
    pen.globalAlpha = 1;
  }

  /** From the chosen word to its neighbours. @param {CanvasRenderingContext2D} pen @param {Record<string, string>} colours */
  _lines(pen, colours) {
    if (this.selected === null) return;
    const [x, y] = this.at(this.selected);
    pen.strokeStyle = colours.accent;
    pen.lineWidth = 1.2;
    pen.beginPath();
    for (const place of this.near) {
      pen.moveTo(x, y);
      pen.lineTo(...this.at(place));
    }
    pen.stroke();
    pen.fillStyle = colours.accent;
    pen.beginPath();
    for (const place of this.near) {
      const [atX, atY] = this.at(place);
      pen.moveTo(atX + 4, atY);
      pen.arc(atX, atY, 4, 0, 2 * Math.PI);
    }
    pen.fill();
    pen.fillStyle = colours.mark;
    pen.beginPath();
    pen.arc(x, y, 5.5, 0, 2 * Math.PI);
    pen.fill();
  }

  /**
   * The chosen word, the one that is pointed at and the neighbours first, then the most frequent words, as long as there is room.
   * @param {CanvasRenderingContext2D} pen @param {number[]} places @param {Record<string, string>} colours
   */
  _texts(pen, places, colours) {
    const {width, height} = this._size();
    const first = [this.selected, this.pointed, ...this.near].filter((place) => place !== null);
    const strong = new Set(first);
    const most = Math.max(first.length + 10, Math.round((width * height) / 3200));
    /** Boxes of labels by line of the screen, each in the line of its upper edge: only those of three lines can be near. @type {Map<number, {x: number, y: number, width: number}[]>} */
    const taken = new Map();
    let written = 0;
    pen.textBaseline = "middle";
    pen.lineJoin = "round";
    pen.lineWidth = 3.5;
    for (const place of [...strong, ...places.filter((one) => !strong.has(one))]) {
      if (written >= most) break;
      const own = strong.has(place);
      const wide = own ? textWidth(this.labels[place], STRONG) : (this.widths[place] ||= textWidth(this.labels[place], FONT));
      const box = this._room(place, wide, taken, own);
      if (!box) continue;
      written += 1;
      const row = Math.floor(box.y / LABEL.height);
      if (taken.has(row)) taken.get(row).push(box);
      else taken.set(row, [box]);
      pen.font = own ? STRONG : FONT;
      pen.direction = RIGHT_TO_LEFT.test(this.labels[place]) ? "rtl" : "ltr";
      pen.textAlign = "left";
      pen.globalAlpha = own || this.selected === null ? 1 : 0.55;
      pen.strokeStyle = colours.surface;
      pen.strokeText(this.labels[place], box.x, box.y + LABEL.height / 2);
      pen.fillStyle = place === this.selected ? colours.mark : own ? colours.ink : this.selected === null ? colours.ink : colours.quiet;
      pen.fillText(this.labels[place], box.x, box.y + LABEL.height / 2);
    }
    pen.globalAlpha = 1;
    this.canvas.dataset.labels = String(written);
  }

  /**
   * A free place for a label beside its dot, or null; the chosen word and its neighbours get one even where it covers others.
   * @param {number} place @param {number} wide @param {Map<number, {x: number, y: number, width: number}[]>} taken @param {boolean} needed
   */
  _room(place, wide, taken, needed) {
    const {width, height} = this._size();
    const [x, y] = this.at(place);
    if (x < 0 || y < 0 || x > width || y > height) return null;
    const middle = y - LABEL.height / 2;
    const aside = needed ? 9 : 7;
    const tries = [[x + aside, middle], [x - aside - wide, middle], [x - wide / 2, y - LABEL.height - 5], [x - wide / 2, y + 5]]
      .map(([left, top]) => ({x: left, y: top, width: wide}));
    const inside = tries.filter((box) => box.x >= 2 && box.y >= 2 && box.x + wide <= width - 2 && box.y + LABEL.height <= height - 2);
    /** @param {{x: number, y: number}} box */
    const isFree = (box) => {
      const row = Math.floor(box.y / LABEL.height);
      return [row - 1, row, row + 1].every((near) => (taken.get(near) ?? []).every((other) => box.x > other.x + other.width + 3
        || other.x > box.x + wide + 3 || Math.abs(box.y - other.y) >= LABEL.height));
    };
    const free = inside.find(isFree);
    return free ?? (needed && place === this.selected ? inside[0] ?? tries[0] : null);
  }
}
