/* Attention as lines between two columns of tokens. */
import * as tools from "../tools.js";
import {h, svg} from "../tools.js";

const LINE = {height: 27, width: 150, least: 0.015, rowsInFull: 48};

/**
 * Who reads on the left, what is read on the right, a line for each weight that can be seen.
 *
 * Tokens answer to the pointer and to the keyboard: each column is one stop of the tab key, up and down move in it.
 * The element has `point(row|null, column|null)`: show what a row reads, or who reads a column, with numbers.
 * onHover (row|null, column|null)   onSelect the same, for a click or Enter
 * @param {{values: Numbers, rows: string[], columns: string[], rowTitle: string, columnTitle: string, label: string, onHover: (...pointed: any[]) => void, onSelect: (...chosen: any[]) => void}} given
 */
export const attentionLines = ({values, rows, columns, rowTitle, columnTitle, label, onHover, onSelect}) => {
  const tall = Math.max(rows.length, columns.length) * LINE.height;
  /** @param {number} row @param {number} column */
  const at = (row, column) => values[row * columns.length + column];
  /** @param {number} place */
  const y = (place) => (place + 0.5) * LINE.height;
  const drawing = svg("svg", {width: LINE.width, height: tall, viewBox: `0 0 ${LINE.width} ${tall}`, "aria-hidden": "true"});

  /** The weights worth a line: all that can be seen, but of very long sentences only the three largest of each row. @param {number} row */
  function worthy(row) {
    const places = columns.map((_, column) => column).filter((column) => at(row, column) >= LINE.least);
    if (rows.length <= LINE.rowsInFull) return places;
    return places.sort((one, other) => at(row, other) - at(row, one)).slice(0, 3);
  }

  /** @param {number} row @param {number} column @param {boolean} bright */
  function line(row, column, bright) {
    const weight = Math.min(at(row, column), 1);
    const [from, to, middle] = [y(row), y(column), LINE.width / 2];
    return svg("path", {
      d: `M0 ${from}C${middle} ${from} ${middle} ${to} ${LINE.width} ${to}`, class: bright ? "attention-line bright" : "attention-line",
      style: {"stroke-width": (0.8 + 4.2 * weight).toFixed(2), opacity: (bright ? 0.25 + 0.75 * weight : 0.06 + 0.84 * weight).toFixed(3)},
    });
  }

  function drawAll() {
    drawing.replaceChildren(...rows.flatMap((_, row) => worthy(row).map((column) => line(row, column, false))));
  }

  /** @param {string[]} names @param {string} which @param {string} title */
  function side(names, which, title) {
    const shares = names.map(() => h("span", {class: "share", "aria-hidden": "true"}));
    const buttons = names.map((name, place) => h("button", {
      type: "button", class: "end", dir: "auto", title: name, tabindex: place === 0 ? 0 : -1, "aria-pressed": "false",
      onpointerenter: () => onHover(...pair(which, place)),
      onfocus: () => onHover(...pair(which, place)),
      onblur: () => onHover(null, null),
      onclick: () => onSelect(...pair(which, place)),
      onkeydown: (event) => step(event, place, which),
    }, name));
    const list = h("div", {class: `ends ${which}`, role: "group", "aria-label": title, onpointerleave: () => onHover(null, null)},
      names.map((_, place) => h("div", {class: "place", style: {height: `${LINE.height}px`}},
        which === "reads" ? [shares[place], buttons[place]] : [buttons[place], shares[place]])));
    return {list, buttons, shares};
  }

  /** @param {string} which @param {number} place */
  const pair = (which, place) => (which === "reads" ? [place, null] : [null, place]);

  /** @param {any} event @param {number} place @param {string} which */
  function step(event, place, which) {
    const {buttons} = which === "reads" ? left : right;
    const other = which === "reads" ? right : left;
    const next = {
      ArrowUp: buttons[place - 1], ArrowDown: buttons[place + 1], Home: buttons[0], End: buttons.at(-1),
      ArrowRight: which === "reads" ? other.buttons[Math.min(place, other.buttons.length - 1)] : undefined,
      ArrowLeft: which === "reads" ? undefined : other.buttons[Math.min(place, other.buttons.length - 1)],
    }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    next.parentElement.parentElement.querySelectorAll(".end").forEach((one) => (one.tabIndex = one === next ? 0 : -1));
    next.focus();
  }

  const left = side(rows, "reads", rowTitle);
  const right = side(columns, "read", columnTitle);

  /**
   * A column of names with the weight of each beside it, or without.
   * @param {{buttons: HTMLElement[], shares: HTMLElement[]}} given @param {(place: number) => number} weightOf @param {number} own
   */
  function tell({buttons, shares}, weightOf, own) {
    buttons.forEach((button, place) => {
      const weight = weightOf === null ? null : weightOf(place);
      const told = weight !== null && weight >= 0.005;
      shares[place].textContent = told ? tools.number(weight, 2) : "";
      button.classList.toggle("current", place === own);
      button.style.background = told ? tools.colour(weight) : "";
      button.style.color = told ? tools.inkOn(tools.rgb(weight)) : "";
    });
  }

  /** @param {number} row @param {number} column */
  function point(row, column) {
    tell(right, row === null ? null : (place) => at(row, place), row === null ? column : null);
    tell(left, row === null && column !== null ? (place) => at(place, column) : null, row);
    if (row === null && column === null) drawAll();
    else {
      const chosen = row !== null ? columns.map((_, place) => [row, place]) : rows.map((_, place) => [place, column]);
      drawing.replaceChildren(...chosen.filter(([from, to]) => at(from, to) >= 0.0005).map(([from, to]) => line(from, to, true)));
    }
  }

  /** @param {number} row @param {number} column */
  function press(row, column) {
    left.buttons.forEach((button, place) => button.setAttribute("aria-pressed", String(place === row)));
    right.buttons.forEach((button, place) => button.setAttribute("aria-pressed", String(row === null && place === column)));
  }

  drawAll();
  const element = h("div", {class: "attention-lines", role: "group", "aria-label": label},
    h("div", {class: "titles", "aria-hidden": "true"}, h("span", null, rowTitle), h("span", null, columnTitle)),
    h("div", {class: "between"}, left.list, drawing, right.list));
  return Object.assign(element, {point, press});
};
