/* Translates with the two models in onnxruntime-web, by beam search; one beam is greedy search. */
import {makeVocabulary} from "./tokens.js";
import {hasLetters, plain, read} from "./reading.js";

const PAD = 0, UNKNOWN = 1, START = 2, END = 3;

export class Translator {
  constructor(program, settings, encoder, decoder) {
    Object.assign(this, {program, settings, encoder, decoder});
    this.source = makeVocabulary(settings.vocabularies.source);
    this.target = makeVocabulary(settings.vocabularies.target);
  }

  /* The translation of one sentence. how: settings that replace the model's, such as {beams: 1}. */
  async translate(text, how = {}) {
    const search = {...this.settings.search, ...how};
    const sentence = read(text, this.settings);
    if (!sentence || (this.settings.pass_through && !hasLetters(sentence))) return sentence;
    // What is longer than the positions that the model has is cut.
    const most = this.settings.positions || Infinity;
    const tokens = this.source.encode(sentence).slice(0, most - 1);
    const longest = Math.min(Math.floor(search.max_ratio * tokens.length) + search.max_extra, most);
    return plain(this.target.decode(await this.find(tokens, search, longest)));
  }

  ids(values) {
    return new this.program.Tensor("int64", BigInt64Array.from(values, BigInt), [values.length]);
  }

  async find(tokens, search, longest) {
    const {given, carried} = this.settings;
    const source = this.ids([...tokens, END]);
    const encoded = await this.encoder.run({source: new this.program.Tensor("int64", source.data, [1, source.data.length])});
    const fixed = Object.fromEntries(given.map(name => [name, encoded[name]]));
    let states = carried.map(one => one.start ? encoded[one.start] : this.zeros([1, ...one.zeros]));
    const banned = search.allow_unknown ? [PAD, START] : [PAD, UNKNOWN, START];
    let rows = [[]], totals = [0], ends = 0;
    const finished = [];
    for (let length = 1; length <= longest; length++) {
      const inputs = Object.fromEntries(carried.map((one, number) => [one.read, states[number]]));
      const last = this.ids(rows.map(row => row.length ? row[row.length - 1] : START));
      const found = await this.decoder.run({last, ...fixed, ...inputs});
      const alive = [];
      best(found.logits, totals, banned, 2 * search.beams).forEach(({row, token, total}, column) => {
        if (token !== END && alive.length < search.beams) alive.push({row, total, tokens: [...rows[row], token]});
        else if (token === END && column < search.beams && ends < search.beams) {
          finished.push({tokens: rows[row], score: score(total, length, search)});
          ends += 1;
        }
      });
      const leader = Math.max(-Infinity, ...finished.map(one => one.score));
      if (!alive.length || ends >= search.beams || (finished.length && score(alive[0].total, longest, search) <= leader)) break;
      rows = alive.map(one => one.tokens);
      totals = alive.map(one => one.total);
      states = carried.map(one => this.gathered(found[one.written], alive.map(({row}) => row)));
    }
    if (!finished.length) return rows[0]; // cut at its limit
    return finished.reduce((one, other) => other.score > one.score ? other : one).tokens;
  }

  zeros(shape) {
    return new this.program.Tensor("float32", new Float32Array(shape.reduce((product, size) => product * size, 1)), shape);
  }

  /* Rows of a state: new row i continues old row rows[i]. */
  gathered(state, rows) {
    if (rows.length === state.dims[0] && rows.every((row, number) => row === number)) return state;
    const size = state.data.length / state.dims[0];
    const data = new Float32Array(size * rows.length);
    rows.forEach((row, number) => data.set(state.data.subarray(row * size, (row + 1) * size), number * size));
    return new this.program.Tensor("float32", data, [rows.length, ...state.dims.slice(1)]);
  }
}

/* log p / ((5 + length) / 6)^penalty; the end counts. */
function score(total, length, search) {
  return total / ((5 + length) / 6) ** search.length_penalty;
}

/* The best continuations of all rows, the best first; of equal ones the first. */
function best(logits, totals, banned, count) {
  const [rows, size] = logits.dims, found = [];
  for (let row = 0; row < rows; row++) {
    const values = logits.data.subarray(row * size, (row + 1) * size);
    const largest = values.reduce((most, value) => Math.max(most, value), -Infinity);
    const norm = largest + Math.log(values.reduce((sum, value) => sum + Math.exp(value - largest), 0));
    for (let token = 0; token < size; token++) {
      const total = totals[row] + values[token] - norm;
      if ((found.length >= count && total <= found[count - 1].total) || banned.includes(token)) continue;
      let place = found.length;
      while (place > 0 && found[place - 1].total < total) place -= 1;
      found.splice(place, 0, {row, token, total});
      if (found.length > count) found.pop();
    }
  }
  return found;
}
