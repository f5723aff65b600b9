/* A source as the model reads it: composed (NFC), every space plain, invisible marks left out. */
const OF_LETTERS = "\\u034f\\u180b-\\u180f\\u200c\\u200d\\ufe00-\\ufe0f\\u{e0100}-\\u{e01ef}";
const TAGS = "\\u{e0020}-\\u{e007f}";
const SILENT = "\\u00ad\\u061c\\u200b\\u200e\\u200f\\u202a-\\u202e\\u2060-\\u2064\\u2066-\\u206f\\ufeff\\ufff9-\\ufffc"
  + `\\u{1bca0}-\\u{1bca3}\\u{1d173}-\\u{1d17a}\\u{e0001}${TAGS}`;
const IN_EMOJI = "(?<=[\\p{Extended_Pictographic}\\p{Emoji_Modifier}\\ufe0f])\\u200d(?=\\p{Extended_Pictographic})";
const IN_FLAG = `(?<=\\u{1f3f4}[${TAGS}]{0,7})[${TAGS}]`;
const SPACES = /[\p{Cc}\p{Z}\u2800\u3164\uffa0]+/gu;
const CONTROLS = /[\0-\x1f\x7f\x85\u2028\u2029]/g;

export function read(text, settings) {
  const whole = text.toWellFormed();
  if (settings.reading === 0) return plain(whole);
  const silent = new RegExp(`(?!${IN_EMOJI}|${IN_FLAG})(?![${settings.kept_marks}\\0])[${OF_LETTERS}${SILENT}]`, "gu");
  return whole.replace(silent, "").normalize("NFC").replace(SPACES, " ").trim();
}

/* One line: control characters and breaks are spaces. */
export function plain(text) {
  return text.replace(CONTROLS, " ").trim();
}

export function hasLetters(text) {
  return /\p{L}/u.test(text);
}
