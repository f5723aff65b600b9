/** What several views need: texts of tokens and words, widths, rank correlation, grids. */
import * as tools from "../tools.js";

const BYTE = /^<0x([0-9A-Fa-f]{2})>$/;

/** What tokens spell together; bytes become the characters that they are part of. @param {string[]} pieces */
export function spell(pieces) {
  let text = "";
  let bytes = [];
  const flush = () => {
    if (bytes.length) text += new TextDecoder().decode(new Uint8Array(bytes));
    bytes = [];
  };
  for (const piece of pieces) {
    const byte = BYTE.exec(piece);
    if (byte) {
      bytes.push(parseInt(byte[1], 16));
      continue;
    }
    flush();
    if (!/^<(sos|eos|pad)>$/.test(piece)) text += piece;
  }
  flush();
  return text.replaceAll("▁", " ").trim();
}

/**
 * The text of a word of a side. Spans count characters, not the halves of them that JavaScript counts.
 * @param {Side} side @param {number} number
 */
export function wordText(side, number) {
  const tokens = side.words[number];
  const first = side.spans[tokens[0]][0];
  const last = side.spans[tokens[tokens.length - 1]][1];
  return Array.from(side.text).slice(first, last).join("").trim();
}

/**
 * A word of any text as it can be read beside others: signs that cannot be seen, or that turn the direction of what follows, by their
 * numbers. Joiners stay: scripts and emoji are written with them.
 * @param {string} word
 */
export function visible(word) {
  const shown = tools.piece(word).replace(/[\p{Cc}\p{Cs}\p{Bidi_Control}]/gu, (sign) => `[U+${sign.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}]`);
  return shown.trim() ? shown : Array.from(shown, (sign) => `[U+${sign.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}]`).join("");
}

/** All words of a side. @param {Side} side */
export function wordTexts(side) {
  return side.words.map((_, number) => wordText(side, number));
}

/** A probability in per cent, with two digits where it is small: 94%, 0.026%. @param {number} share */
export function chance(share) {
  if (!(share > 0 && share < 0.00095)) return tools.percent(share);
  return tools.percent(1).replace("100", tools.number(share * 100, share < 0.00001 ? 5 : 1 - Math.floor(Math.log10(share * 100))));
}

/** @type {CanvasRenderingContext2D} */
let pen = null;
/** The width of a text in pixels. @param {string} text @param {string} font */
export function textWidth(text, font) {
  pen = pen || document.createElement("canvas").getContext("2d");
  if (!pen) return text.length * 8;
  pen.font = font;
  return pen.measureText(text).width;
}

/** A text that fits into a width, with an ellipsis where it is cut. @param {string} text @param {string} font @param {number} width */
export function clip(text, font, width) {
  if (textWidth(text, font) <= width) return text;
  const characters = Array.from(text);
  while (characters.length > 1 && textWidth(characters.join("") + "…", font) > width) characters.pop();
  return characters.join("") + "…";
}

/** Ranks from 1; equal values share the mean of theirs. @param {ArrayLike<number>} values */
export function ranks(values) {
  const order = Array.from(values, (_, place) => place).sort((a, b) => values[a] - values[b]);
  const found = new Float64Array(values.length);
  for (let from = 0; from < order.length; ) {
    let to = from;
    while (to + 1 < order.length && values[order[to + 1]] === values[order[from]]) to += 1;
    for (let place = from; place <= to; place += 1) found[order[place]] = (from + to) / 2 + 1;
    from = to + 1;
  }
  return found;
}

/** Pearson's correlation; NaN where one side is constant. @param {number[] | Float64Array} a @param {Numbers} b */
export function correlation(a, b) {
  /** @param {Numbers} values */
  const mean = (values) => Array.from(values).reduce((sum, value) => sum + value, 0) / values.length;
  const [meanA, meanB] = [mean(a), mean(b)];
  let [both, squareA, squareB] = [0, 0, 0];
  for (let place = 0; place < a.length; place += 1) {
    both += (a[place] - meanA) * (b[place] - meanB);
    squareA += (a[place] - meanA) ** 2;
    squareB += (b[place] - meanB) ** 2;
  }
  return squareA && squareB ? both / Math.sqrt(squareA * squareB) : NaN;
}

/** Spearman's rank correlation. @param {ArrayLike<number>} a @param {ArrayLike<number>} b */
export function spearman(a, b) {
  return correlation(ranks(a), ranks(b));
}

/**
 * Buttons in rows as one stop of the tab key: arrows move between them, and the one that has the focus, or the pointer, is told.
 * cells rows of buttons  onShow (row, column)
 * @param {HTMLElement[][]} cells @param {(row: number, column: number) => void} onShow
 */
export function walkGrid(cells, onShow) {
  /** @param {number} row @param {number} column */
  const own = (row, column) => {
    cells.flat().forEach((cell) => (cell.tabIndex = -1));
    cells[row][column].tabIndex = 0;
  };
  cells.forEach((line, row) => line.forEach((cell, column) => {
    cell.addEventListener("focus", () => {
      own(row, column);
      onShow(row, column);
    });
    cell.addEventListener("pointerenter", () => onShow(row, column));
    cell.addEventListener("keydown", (event) => {
      const to = {
        ArrowUp: [row - 1, column], ArrowDown: [row + 1, column], ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1],
        Home: [row, 0], End: [row, line.length - 1],
      }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      cells[to[0]]?.[to[1]]?.focus();
    });
  }));
  if (cells.length && cells[0].length) own(0, 0);
}

