/* The record that the page was made from: facts, and arrays by the names of vitrail.inspection.record. */
/** An array with a shape. Its numbers are read from the page's bytes when they are first asked for. */
export class RecordArray {
  /**
   * @param {Entry} entry
   * @param {Uint8Array} bytes of the whole group
   */
  constructor(entry, bytes) {
    this.shape = entry.shape;
    /** "float32", "uint8" (truth values), or what the numbers were rounded to: "float16" (3 digits), "rounded8" (1/255 of the range). */
    this.type = entry.type;
    this._entry = entry;
    this._bytes = bytes;
    this._data = null;
  }

  /** Every number, row after row. */
  get data() {
    if (this._data === null) this._data = this._read();
    return this._data;
  }

  /** One number: as many indices as the shape has. @param {...number} indices */
  at(...indices) {
    return this.data[this._offset(indices)];
  }

  /**
   * What lies under some leading indices, flat: of an (H, T, S) array row(h) has T·S numbers, row(h, t) has S.
   * @param {...number} leading
   */
  row(...leading) {
    const size = this.shape.slice(leading.length).reduce((product, length) => product * length, 1);
    const start = this._offset(leading) * size;
    return this.data.subarray(start, start + size);
  }

  /** @param {number[]} indices */
  _offset(indices) {
    return indices.reduce((offset, index, axis) => offset * this.shape[axis] + index, 0);
  }

  _read() {
    const count = this.shape.reduce((product, length) => product * length, 1);
    const {at, low, high} = this._entry;
    /** @param {number} width */
    const part = (width) => this._bytes.slice(at, at + count * width);
    switch (this.type) {
      case "uint8": return part(1);
      case "rounded8": return Float32Array.from(part(1), (code) => low + (code / 255) * (high - low));
      case "float16": return Float32Array.from(new Uint16Array(part(2).buffer), RecordArray._half);
      default: return new Float32Array(part(4).buffer);
    }
  }

  /** A half-precision number from its 16 bits (IEEE 754). @param {number} bits */
  static _half(bits) {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 0x1f;
    const fraction = bits & 0x3ff;
    if (exponent === 0) return sign * fraction * 2 ** -24;
    if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
    return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }

  /**
   * Another array's numbers under a shape of one's own; `merged`: its heads (H, T, E) side by side, (T, HE).
   * @param {Entry} entry @param {RecordArray} other
   */
  static same(entry, other) {
    const array = new RecordArray(Object.assign({at: 0}, entry, {type: other.type}), null);
    array._read = () => (entry.merged ? RecordArray._merge(other) : other.data);
    return array;
  }

  /** @param {{shape: number[], data: any}} given */
  static _merge({shape: [heads, rows, width], data}) {
    const merged = new data.constructor(data.length);
    for (let head = 0; head < heads; head += 1) {
      for (let row = 0; row < rows; row += 1) {
        const from = (head * rows + row) * width;
        merged.set(data.subarray(from, from + width), (row * heads + head) * width);
      }
    }
    return merged;
  }
}

/** Bytes from deflated base64. @param {string} text */
async function inflate(text) {
  const packed = atob(text);
  const bytes = new Uint8Array(packed.length);
  for (let place = 0; place < packed.length; place += 1) bytes[place] = packed.charCodeAt(place);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** @type {Kind[]} */
export const KINDS = ["encoder", "decoder", "cross"];

/** Of each kind of attention, whose queries it has and whose keys. */
const SIDES = {encoder: ["source", "source"], decoder: ["target", "target"], cross: ["target", "source"]};

/** What a view reads. */
export class PageRecord {
  /** @param {{meta: Meta, arrays: any}} given @param {Uint8Array[]} blobs */
  constructor({meta, arrays}, blobs) {
    this.meta = meta;
    this._entries = arrays;
    this._blobs = blobs;
    this._arrays = new Map();
    const {source, target, truncated} = meta;
    /** Whether it is of a text by itself, which is the translation of nothing. */
    this.alone = source === null;
    /** Whether its text is only read: nothing is written. */
    this.reads = target === null;
    /** Whether nothing was computed for a sentence: the film of a training is all that there is. */
    this.bare = Object.keys(arrays).length === 0;
    /** Tokens before the pieces of the source. */
    this.lead = target === null && meta.first !== "" ? 1 : 0;
    /** What the encoder reads; nothing where the model has no source. */
    this.sourceTokens = source === null ? [] : [...(this.lead ? [meta.first] : []), ...source.pieces, "<eos>"];
    /** What the decoder reads; nothing where the model writes nothing. */
    this.targetTokens = target === null ? [] : [meta.first, ...target.pieces.slice(0, truncated ? -1 : undefined)];
    /** What the decoder is asked for, position by position; of a text that is only read, what is guessed. */
    this.predictedTokens = target === null ? (meta.extras?.guesses ?? []).map((guess) => guess.chosen.piece) : [...target.pieces, ...(truncated ? [] : ["<eos>"])];
    /** What is understood: the source, or else the text itself. */
    this.readTokens = source === null ? this.targetTokens : this.sourceTokens;
  }

  /** The sides that there are, first the source. @returns {Side[]} */
  get sides() {
    return [this.meta.source, this.meta.target].filter((side) => side !== null);
  }

  /** @param {string} text */
  static async read(text) {
    const [index, ...blobs] = await Promise.all(JSON.parse(text).map(inflate));
    return new PageRecord(JSON.parse(new TextDecoder().decode(index)), blobs);
  }

  names() {
    return Object.keys(this._entries);
  }

  /** @param {string} name */
  has(name) {
    return Object.hasOwn(this._entries, name);
  }

  /** An array by its name; null where the page does not hold it. @param {string} name */
  array(name) {
    if (!this.has(name)) return null;
    if (!this._arrays.has(name)) {
      const entry = this._entries[name];
      this._arrays.set(name, entry.same === undefined
        ? new RecordArray(entry, this._blobs[entry.blob])
        : RecordArray.same(entry, this.array(entry.same)));
    }
    return this._arrays.get(name);
  }

  /** The model's places of a role, such as "hidden", in the order of the model. @param {string} role */
  places(role) {
    return this.meta.places.filter((place) => place.role === role);
  }

  /** What the layers of a side hand on, from the first layer to the last. @param {string} side */
  layerOutputs(side) {
    return this.meta.places.filter((place) => place.layer_output && place.side === side);
  }

  /** The attentions of a kind that the page holds, by layer: their weights are the array `place + ".weights"`. @param {Kind} kind */
  attentions(kind) {
    const [side, reads] = SIDES[kind];
    return this.places("attention")
      .filter((place) => place.side === side && place.reads === reads && this.has(place.name))
      .map(({name, path, layer}) => ({layer: layer ?? 0, place: path, heads: this._entries[name].shape[0]}))
      .sort((one, other) => one.layer - other.layer);
  }
}
