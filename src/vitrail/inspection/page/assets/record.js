/* The record that the page was made from: facts, and arrays by the names of vitrail.inspection.record. */
"use strict";

/** An array with a shape. Its data is decoded when it is first looked at. */
class VitrailArray {
  /** @param {{shape: number[], type: string, data: string, scale?: number}} packed */
  constructor(packed) {
    this.shape = packed.shape;
    /** "float32", "uint8" (truth values), or the name of what it was rounded to. */
    this.type = packed.type;
    this._packed = packed;
    this._data = null;
  }

  /** Every number, row after row. */
  get data() {
    if (this._data === null) this._data = VitrailArray._decode(this._packed);
    return this._data;
  }

  /** One number: as many indices as the shape has. */
  at(...indices) {
    return this.data[this._offset(indices)];
  }

  /** What lies under some leading indices, flat: of an (H, T, S) array row(h) has T·S numbers, row(h, t) has S. */
  row(...leading) {
    const size = this.shape.slice(leading.length).reduce((product, length) => product * length, 1);
    const start = this._offset(leading) * size;
    return this.data.subarray(start, start + size);
  }

  _offset(indices) {
    return indices.reduce((offset, index, axis) => offset * this.shape[axis] + index, 0);
  }

  static _decode(packed) {
    const text = atob(packed.data);
    const bytes = new Uint8Array(text.length);
    for (let place = 0; place < text.length; place += 1) bytes[place] = text.charCodeAt(place);
    return packed.type === "uint8" ? bytes : new Float32Array(bytes.buffer);
  }
}

/** What a view reads. */
class VitrailRecord {
  constructor({meta, arrays}) {
    this.meta = meta;
    this._packed = arrays;
    this._arrays = new Map();
    /** What the encoder reads. */
    this.sourceTokens = [...meta.source.pieces, "<eos>"];
    /** What the decoder reads. */
    this.targetTokens = ["<sos>", ...meta.target.pieces];
    /** What the decoder is asked for, position by position. */
    this.predictedTokens = [...meta.target.pieces, "<eos>"];
  }

  names() {
    return Object.keys(this._packed);
  }

  has(name) {
    return Object.hasOwn(this._packed, name);
  }

  /** An array by its name; null where the page does not hold it. */
  array(name) {
    if (!this.has(name)) return null;
    if (!this._arrays.has(name)) this._arrays.set(name, new VitrailArray(this._packed[name]));
    return this._arrays.get(name);
  }

  /** The attentions of a kind ("encoder", "decoder", "cross"), by layer: their weights are the array `place + ".weights"`. */
  attentions(kind) {
    const pattern = {
      encoder: /^encoder\.(\d+)\.self_attention\.weights$/,
      decoder: /^decoder\.(\d+)\.self_attention\.weights$/,
      cross: /^(?:decoder\.(\d+)\.cross_)?attention\.weights$/,
    }[kind];
    return this.names()
      .map((name) => [name, pattern.exec(name)])
      .filter(([, match]) => match !== null)
      .map(([name, match]) => ({
        layer: Number(match[1] ?? 0),
        place: name.slice(0, -".weights".length),
        heads: this._packed[name].shape[0],
      }))
      .sort((one, other) => one.layer - other.layer);
  }
}
