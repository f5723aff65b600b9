/* What the view of attention computes: weights between tokens or words, the mean of the heads, rollout, entropy. */
import {wordText} from "./00_shared.js";

/** Names of the tokens of each side of a kind: who reads (rows), what is read (columns). @param {PageRecord} record @param {Kind} kind */
export function sidesOf(record, kind) {
  return {
    encoder: {rows: record.sourceTokens, columns: record.sourceTokens},
    decoder: {rows: record.targetTokens, columns: record.targetTokens},
    cross: {rows: record.predictedTokens, columns: record.sourceTokens},
  }[kind];
}

/**
 * Tokens as groups, each a list of places with a name: one token a group, or one word. What belongs to no word stands by itself.
 * side meta.source or meta.target  lead 1 where <sos> stands before the pieces, else 0
 * @param {string[]} tokens @param {Side} side @param {number} lead @param {boolean} byWord @param {(token: string) => string} piece
 */
function groups(tokens, side, lead, byWord, piece) {
  /** @param {number} place */
  const alone = (place) => ({places: [place], name: piece(tokens[place])});
  if (!byWord) return tokens.map((_, place) => alone(place));
  const words = side.words.map((places, number) => ({
    places: places.map((place) => place + lead), name: wordText(side, number) || piece(tokens[places[0] + lead]),
  }));
  const taken = new Set(words.flatMap((word) => word.places));
  const others = tokens.map((_, place) => place).filter((place) => !taken.has(place)).map(alone);
  return [...words, ...others].sort((one, other) => one.places[0] - other.places[0]);
}

/**
 * Groups of the rows and of the columns of a kind.
 * @param {PageRecord} record @param {Kind} kind @param {boolean} byWord @param {(token: string) => string} piece
 */
export function groupsOf(record, kind, byWord, piece) {
  const {rows, columns} = sidesOf(record, kind);
  const {source, target} = record.meta;
  return {
    rows: groups(rows, kind === "encoder" ? source : target, kind === "encoder" ? record.lead : kind === "decoder" ? 1 : 0, byWord, piece),
    columns: groups(columns, kind === "decoder" ? target : source, kind === "decoder" ? 1 : record.lead, byWord, piece),
  };
}

/**
 * A matrix between groups: summed over the tokens that are read, averaged over those that read, so that rows still sum to 1.
 * `links.pool_by_word` does the same in Python; here it is of whichever head a reader chooses, since all of them between words as well as between
 * tokens would make pages twice as large.
 * @param {Numbers} values @param {number} width @param {{places: number[]}[]} rows @param {{places: number[]}[]} columns
 */
export function regroup(values, width, rows, columns) {
  const found = new Float64Array(rows.length * columns.length);
  rows.forEach((row, at) => columns.forEach((column, to) => {
    let sum = 0;
    for (const from of row.places) for (const place of column.places) sum += values[from * width + place];
    found[at * columns.length + to] = sum / (row.places.length || 1);
  }));
  return found;
}

/** The mean of all heads of an (H, T, S) array. @param {RecordArray} array */
export function meanHead(array) {
  const heads = array.shape[0];
  const found = new Float64Array(array.shape[1] * array.shape[2]);
  for (let head = 0; head < heads; head += 1) array.row(head).forEach((value, place) => (found[place] += value / heads));
  return found;
}

/**
 * Attention rollout up to a layer: the product of ½·A + ½·I over the layers from the first, A being the mean of the heads.
 * Source: Abnar & Zuidema 2020, section 3 (their rollout, with the residual connection as ½·I).
 * @param {PageRecord} record @param {Kind} kind @param {number} upTo
 */
export function rollout(record, kind, upTo) {
  let product = null;
  for (const {layer, place} of record.attentions(kind)) {
    if (layer > upTo) break;
    const array = record.array(`${place}.weights`);
    const size = array.shape[1];
    const mixed = meanHead(array).map((value, at) => 0.5 * value + (at % (size + 1) === 0 ? 0.5 : 0));
    product = product === null ? mixed : multiply(mixed, product, size);
  }
  return product;
}

/** @param {Numbers} left @param {Numbers} right @param {number} size */
function multiply(left, right, size) {
  const found = new Float64Array(size * size);
  for (let row = 0; row < size; row += 1) {
    for (let inner = 0; inner < size; inner += 1) {
      const factor = left[row * size + inner];
      if (factor === 0) continue;
      for (let column = 0; column < size; column += 1) found[row * size + column] += factor * right[inner * size + column];
    }
  }
  return found;
}

/**
 * Mean over the rows of -Σ a·ln a, in nats: 0 where each row reads one token, ln S where it reads all alike.
 * @param {Numbers} values @param {number} width
 */
export function entropy(values, width) {
  let sum = 0;
  for (const value of values) if (value > 0) sum -= value * Math.log(value);
  return sum / (values.length / width);
}

/**
 * The matrix of a head (a number), of "mean" or of "rollout", between tokens: {values, width}.
 * @param {PageRecord} record @param {{kind: Kind, layer: number, head: number | "mean" | "rollout"}} given
 */
export function matrixOf(record, {kind, layer, head}) {
  const {place} = record.attentions(kind).find((one) => one.layer === layer);
  const array = record.array(`${place}.weights`);
  const values = head === "rollout" ? rollout(record, kind, layer) : head === "mean" ? meanHead(array) : array.row(head);
  return {values, width: array.shape[2]};
}

