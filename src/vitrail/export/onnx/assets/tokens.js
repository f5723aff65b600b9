/* Text to ids and back: the segmentation of a SentencePiece model, BPE or unigram with bytes, or single characters.

   how: {kind: "bpe" | "unigram" | "character", pieces: [...], scores: [...]}; piece n has the id n + first. */
const UNKNOWN = 1, END = 3, FIRST_BYTE = 4, FIRST_PIECE = 260;
const ESCAPE = "\ufdd0", SPACE = "▁";
const UNKNOWN_PENALTY = 10; // of SentencePiece, for a character that is no piece

export function makeVocabulary(how) {
  return how.kind === "character" ? new Characters(how) : new Pieces(how);
}

export class Characters {
  constructor(how) {
    this.tokens = how.pieces;
    this.ids = new Map(how.pieces.map((token, number) => [token, number + END + 1]));
  }

  encode(text) {
    return Array.from(collapse(text), sign => this.ids.get(sign) ?? UNKNOWN);
  }

  decode(ids) {
    return ids.filter(id => id > END).map(id => this.tokens[id - END - 1]).join("");
  }
}

export class Pieces {
  constructor(how) {
    this.pieces = how.pieces;
    this.ids = new Map(how.pieces.map((piece, number) => [piece, number + FIRST_PIECE]));
    this.scores = how.scores;
    this.unigram = how.kind === "unigram";
    this.longest = how.pieces.reduce((most, piece) => Math.max(most, piece.length), 0);
    this.unknownScore = Math.fround(how.scores.reduce((least, score) => Math.min(least, score), 0) - UNKNOWN_PENALTY);
  }

  encode(text) {
    const escaped = collapse(text).replaceAll(ESCAPE, `${ESCAPE}0`).replaceAll(SPACE, `${ESCAPE}1`).replaceAll(" ", SPACE);
    if (!escaped) return [];
    const symbols = this.unigram ? this.likeliest(SPACE + escaped) : this.merged(SPACE + escaped);
    return symbols.flatMap(symbol => this.ids.get(symbol) ?? Array.from(new TextEncoder().encode(symbol), byte => byte + FIRST_BYTE));
  }

  score(piece) {
    const id = this.ids.get(piece);
    return id === undefined ? undefined : this.scores[id - FIRST_PIECE];
  }

  /* BPE: the two neighbours whose piece has the best score are joined, the first of equal ones, as long as there are any. */
  merged(text) {
    const symbols = Array.from(text);
    const pairs = symbols.slice(1).map((symbol, number) => this.score(symbols[number] + symbol));
    for (;;) {
      let best = -1;
      for (let at = 0; at < pairs.length; at++)
        if (pairs[at] !== undefined && (best < 0 || pairs[at] > pairs[best])) best = at;
      if (best < 0) return symbols;
      symbols.splice(best, 2, symbols[best] + symbols[best + 1]);
      pairs.splice(best, 1);
      if (best > 0) pairs[best - 1] = this.score(symbols[best - 1] + symbols[best]);
      if (best < pairs.length) pairs[best] = this.score(symbols[best] + symbols[best + 1]);
    }
  }

  /* Unigram: the segmentation with the largest sum of scores (Viterbi), in numbers of 32 bits as SentencePiece has them. */
  likeliest(text) {
    const total = new Float32Array(text.length + 1), from = new Int32Array(text.length + 1).fill(-1);
    for (let start = 0; start < text.length;) {
      const width = text.codePointAt(start) > 0xffff ? 2 : 1;
      const offer = (end, score) => {
        const sum = Math.fround(total[start] + score);
        if (from[end] < 0 || sum > total[end]) [total[end], from[end]] = [sum, start];
      };
      for (let end = start + 1; end <= Math.min(text.length, start + this.longest); end++) {
        const score = this.score(text.slice(start, end));
        if (score !== undefined) offer(end, Math.fround(score));
      }
      if (!this.ids.has(text.slice(start, start + width))) offer(start + width, this.unknownScore);
      start += width;
    }
    const found = [];
    for (let end = text.length; end > 0; end = from[end]) found.unshift(text.slice(from[end], end));
    return found;
  }

  decode(ids) {
    let text = "", bytes = [];
    const close = () => { text += decodeBytes(bytes); bytes = []; };
    for (const id of ids.filter(one => one > END)) {
      if (id < FIRST_PIECE) { bytes.push(id - FIRST_BYTE); continue; }
      close();
      text += this.pieces[id - FIRST_PIECE];
    }
    close();
    const spaced = text.replaceAll(SPACE, " ");
    const unescaped = spaced.replace(new RegExp(`${ESCAPE}([01])`, "g"), (_, sign) => sign === "1" ? SPACE : ESCAPE);
    return unescaped.startsWith(" ") ? unescaped.slice(1) : unescaped;
  }
}

/* Without spaces at the ends, and with one where there were several. */
function collapse(text) {
  return text.split(" ").filter(Boolean).join(" ");
}

/* UTF-8; a byte that belongs to no character becomes U+FFFD. */
function decodeBytes(bytes) {
  const reader = new TextDecoder("utf-8", {fatal: true, ignoreBOM: true});
  let text = "";
  for (let at = 0; at < bytes.length;) {
    const width = bytes[at] < 0x80 ? 1 : bytes[at] < 0xe0 ? 2 : bytes[at] < 0xf0 ? 3 : 4;
    try {
      text += reader.decode(Uint8Array.from(bytes.slice(at, at + width)));
      at += width;
    } catch {
      text += "\ufffd";
      at += 1;
    }
  }
  return text;
}
