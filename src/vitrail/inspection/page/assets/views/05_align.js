/* From weights to links between words, as vitrail.inspection.links makes them; the view of alignment is written with it. */
/**
 * A matrix between tokens as one between words: summed over the source tokens of a word, averaged over its target tokens.
 * @param at (target token, source token) -> number
 * @param target, source lists of words, each a list of tokens
 */
export function betweenWords(at, target, source) {
  return target.map((rows) => source.map((columns) => {
    let sum = 0;
    for (const row of rows) for (const column of columns) sum += at(row, column);
    return rows.length ? sum / rows.length : 0;
  }));
}

const heaviest = (values) => values.reduce((best, value, place) => (value > values[best] ? place : best), 0);

/** [source, target] of the heaviest source word of each target word. */
export function forwardLinks(matrix) {
  return matrix.flatMap((row, target) => (row.length && row[heaviest(row)] > 0 ? [[heaviest(row), target]] : []));
}

/** [source, target] of the heaviest target word of each source word. */
function backwardLinks(matrix) {
  const columns = matrix.length ? matrix[0].map((_, source) => matrix.map((row) => row[source])) : [];
  return columns.flatMap((column, source) => (column[heaviest(column)] > 0 ? [[source, heaviest(column)]] : []));
}

const NEIGHBOURS = [[-1, 0], [0, -1], [1, 0], [0, 1], [-1, -1], [-1, 1], [1, -1], [1, 1]];

/** The links of both directions that agree, grown over neighbours that one direction has (Koehn et al. 2003, figure 1). */
export function grownLinks(matrix) {
  const name = (link) => link.join("-");
  const [forward, backward] = [forwardLinks(matrix), backwardLinks(matrix)];
  const inForward = new Set(forward.map(name));
  const union = new Set([...forward, ...backward].map(name));
  const links = new Map(backward.filter((link) => inForward.has(name(link))).map((link) => [name(link), link]));
  const sources = new Set([...links.values()].map((link) => link[0]));
  const targets = new Set([...links.values()].map((link) => link[1]));
  for (let waiting = sorted([...links.values()]); waiting.length; ) {
    const added = [];
    for (const [i, j] of waiting) {
      for (const [down, right] of NEIGHBOURS) {
        const near = [i + down, j + right];
        if (!union.has(name(near)) || links.has(name(near)) || (sources.has(near[0]) && targets.has(near[1]))) continue;
        links.set(name(near), near);
        sources.add(near[0]);
        targets.add(near[1]);
        added.push(near);
      }
    }
    waiting = sorted(added);
  }
  return sorted([...links.values()]);
}

const sorted = (links) => [...links].sort((one, other) => one[0] - other[0] || one[1] - other[1]);

/** The tokens of each word as spaces cut a side's text, which is how word aligners count. */
export function betweenSpaces(side) {
  const characters = Array.from(side.text);
  const words = [];
  characters.forEach((character, place) => {
    if (character === " ") return;
    if (place === 0 || characters[place - 1] === " ") words.push({first: place, last: place, tokens: []});
    words.at(-1).last = place;
  });
  side.spans.forEach(([first, last], token) => {
    let at = first;
    while (at < last && /\s/.test(characters[at])) at += 1;
    const inside = words.find((word) => word.first <= at && at <= word.last);
    const touching = first === last ? words.find((word) => word.first <= at && at <= word.last + 1) : null;
    const word = touching || inside;
    if (word) word.tokens.push(token);
  });
  return words.map((word) => word.tokens);
}

/** `0-0 1-2 2-1`: source word - target word, in the order of the source. */
export const toPharaoh = (links) => sorted(links).map((link) => link.join("-")).join(" ");

