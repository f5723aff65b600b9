/* Which source word each target word came from, read off cross-attention: links, matrix, the heads behind it, and the Pharaoh line. */
import * as charts from "../charts.js";
import * as tools from "../tools.js";
import {h, svg, t} from "../tools.js";
import {meanHead, regroup} from "./00_attention.js";
import {textWidth, wordTexts} from "./00_shared.js";

const FONT = "15px system-ui, sans-serif";

/** The matrices that can be shown: as recorded, all heads, a layer, or one head; between tokens. @param {PageRecord} record */
function choicesOf(record) {
  const choices = [];
  const weights = record.array("alignment.weights");
  if (weights) choices.push({value: "chosen", text: t("the chosen heads", "les têtes choisies"), values: weights.data});
  const layers = record.attentions("cross").map(({layer, place, heads}) => ({layer, heads, array: record.array(`${place}.weights`)}));
  const means = layers.map(({array}) => meanHead(array));
  if (means.length) {
    const values = means[0].map((_, place) => means.reduce((sum, mean) => sum + mean[place], 0) / means.length);
    choices.push({value: "all", text: t("average of all heads", "moyenne de toutes les têtes"), values});
  }
  layers.forEach(({layer, heads}, place) => {
    if (heads < 2 || layers.length < 2) return;
    choices.push({value: `L${layer}`, text: t(`layer ${layer}, all heads`, `couche ${layer}, toutes les têtes`), values: means[place]});
  });
  for (const {layer, heads, array} of layers) {
    for (let head = 0; head < heads && heads * layers.length > 1; head += 1) {
      choices.push({value: `L${layer}H${head}`, text: t(`layer ${layer}, head ${head}`, `couche ${layer}, tête ${head}`), values: array.row(head)});
    }
  }
  return choices;
}

/** Between words: a row for each target word. @param {PageRecord} record @param {Numbers} values */
function betweenWords(record, values) {
  const [target, source] = [record.meta.target, record.meta.source].map((side) => side.words.map((places) => ({places})));
  const flat = Array.from(regroup(values, record.sourceTokens.length, target, source));
  return target.map((_, row) => flat.slice(row * source.length, (row + 1) * source.length));
}

/** [source word, target word] of each link in "0-0 1-2". @param {any} line */
const readLinks = (line) => (line === "" ? [] : line.split(" ").map((pair) => pair.split("-").map(Number)));

// ---- two lines of words -----------------------------------------------------------------------------------------------------

const LEFTWARDS = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/;

/** Whether words stand from right to left: by the first letter of a script that does, or of one that does not. @param {string[]} words */
function readsLeftwards(words) {
  const letter = /\p{L}/u.exec(words.join(" "));
  return letter !== null && LEFTWARDS.test(letter[0]);
}

/** Words of a line, side by side: where each begins and how wide it is; `order` is the one from left to right. @param {string[]} words */
function setWords(words) {
  const order = [...words.keys()];
  if (readsLeftwards(words)) order.reverse();
  const spots = [];
  let x = 14;
  for (const number of order) {
    const width = Math.max(18, textWidth(words[number], FONT) + 14);
    spots[number] = {text: words[number], x, width};
    x += width + 10;
  }
  return {spots, order, width: x + 4};
}

/** @param {any} spot */
const middle = (spot) => spot.x + spot.width / 2;

/**
 * The values nearest to the given ones, by squares, of which none is less than the one before (pool adjacent violators).
 * @param {Numbers} values
 */
function increasing(values) {
  const blocks = [];
  for (const value of values) {
    let block = {mean: value, count: 1};
    while (blocks.length && blocks.at(-1).mean > block.mean) {
      const before = blocks.pop();
      const count = before.count + block.count;
      block = {mean: (before.mean * before.count + block.mean * block.count) / count, count};
    }
    blocks.push(block);
  }
  return blocks.flatMap(({mean, count}) => Array(count).fill(mean));
}

/**
 * Spread the shorter line over the width of the longer one: each word as near as its neighbours let it come to the middle of what it
 * is linked with.
 * partners of each word, the words of the longer line that it is linked with
 * @param {any} line @param {any} other @param {number[][]} partners
 */
function spread(line, other, partners) {
  /** @param {Numbers} values */
  const mean = (values) => Array.from(values).reduce((sum, value) => sum + value, 0) / values.length;
  const slack = other.width - line.width;
  const wanted = line.order.map((number) => {
    const middles = partners[number].map((one) => middle(other.spots[one]));
    return middles.length ? mean(middles) - middle(line.spots[number]) : null;
  });
  const first = wanted.find((shift) => shift !== null) ?? slack / 2;
  let last = first; // a word without links goes with the one before
  const shifts = increasing(wanted.map((shift) => (last = shift ?? last)));
  line.order.forEach((number, place) => (line.spots[number].x += Math.min(Math.max(shifts[place], 0), slack)));
}

/** @param {string[]} source @param {string[]} target @param {Link[]} links @param {number[][]} matrix */
function linesPicture(source, target, links, matrix) {
  const [top, bottom] = [setWords(source), setWords(target)];
  const width = Math.max(top.width, bottom.width);
  if (top.width > bottom.width) spread(bottom, top, target.map((_, to) => links.filter((link) => link[1] === to).map((link) => link[0])));
  else spread(top, bottom, source.map((_, from) => links.filter((link) => link[0] === from).map((link) => link[1])));
  const height = 190;
  const curves = links.map(([from, to]) => {
    const [x1, x2] = [middle(top.spots[from]), middle(bottom.spots[to])];
    const weight = matrix[to][from];
    return svg(
      "path",
      {
        d: `M${x1},42C${x1},105 ${x2},85 ${x2},148`,
        class: "ali-link",
        "data-source": from,
        "data-target": to,
        style: `stroke-width:${(1 + 3 * Math.min(1, weight)).toFixed(2)}`,
      },
      svg("title", null, `${source[from]} – ${target[to]}: ${tools.number(weight)}`),
    );
  });
  /** @param {string} side @param {any} spot @param {number} number @param {number} y */
  const word = (side, spot, number, y) => {
    const partners = links.filter((link) => link[side === "source" ? 0 : 1] === number).map((link) => (side === "source" ? target[link[1]] : source[link[0]]));
    const told = partners.length ? partners.join(", ") : t("nothing", "rien");
    return svg(
      "g",
      {class: partners.length ? "ali-word" : "ali-word ali-alone", tabindex: 0, role: "img", "aria-label": `${spot.text} – ${told}`, [`data-${side}`]: number},
      svg("rect", {x: spot.x, y, width: spot.width, height: 28, rx: 7}),
      svg("text", {x: middle(spot), y: y + 19, "text-anchor": "middle"}, spot.text),
    );
  };
  const picture = svg(
    "svg",
    {width, height, viewBox: `0 0 ${width} ${height}`, class: "ali-lines", role: "group", "aria-label": t("Source words above, target words below",
      "Mots source en haut, mots cible en bas")},
    ...curves,
    ...top.spots.map((spot, number) => word("source", spot, number, 14)),
    ...bottom.spots.map((spot, number) => word("target", spot, number, 148)),
  );
  lightUp(picture);
  return picture;
}

/** The word under the pointer or the focus, its links and its partners stand out. @param {any} picture */
function lightUp(picture) {
  /** @param {any} event */
  const on = (event) => {
    const element = event.target.closest && event.target.closest(".ali-word");
    clear();
    if (!element) return;
    const side = element.hasAttribute("data-source") ? "source" : "target";
    const other = side === "source" ? "target" : "source";
    element.classList.add("ali-on");
    picture.classList.add("ali-lit");
    for (const link of picture.querySelectorAll(`.ali-link[data-${side}="${element.getAttribute(`data-${side}`)}"]`)) {
      link.classList.add("ali-on");
      picture.querySelector(`.ali-word[data-${other}="${link.getAttribute(`data-${other}`)}"]`).classList.add("ali-on");
    }
  };
  const clear = () => {
    picture.classList.remove("ali-lit");
    picture.querySelectorAll(".ali-on").forEach((element) => element.classList.remove("ali-on"));
  };
  picture.addEventListener("pointerover", on);
  picture.addEventListener("focusin", on);
  picture.addEventListener("pointerleave", clear);
  picture.addEventListener("focusout", clear);
}

// ---- the rest ---------------------------------------------------------------------------------------------------------------

/** @param {string[]} source @param {string[]} target @param {Link[]} links @param {number[][]} matrix */
function matrixPicture(source, target, links, matrix) {
  const linked = new Set(links.map((link) => link.join("-")));
  return charts.heatmap({
    values: matrix.flat(),
    rows: target,
    columns: source,
    max: 1,
    label: t("Attention between words: target words in rows, source words in columns",
      "Attention entre mots : mots cible en lignes, mots source en colonnes"),
    marks: links.map(([from, to]) => [to, from]),
    describe: (row, column, value) =>
      `${target[row]} – ${source[column]}: ${tools.number(value)}${linked.has(`${column}-${row}`) ? t(", linked", ", lié") : ""}`,
  });
}

/** @param {string[]} source @param {string[]} target @param {Link[]} links @param {number[][]} matrix */
function linkTable(source, target, links, matrix) {
  const rows = target.map((word, to) => {
    const own = links.filter((link) => link[1] === to);
    return [word, own.map((link) => source[link[0]]).join(", ") || "–", own.map((link) => tools.number(matrix[to][link[0]])).join(", ")];
  });
  return tools.table([t("target", "cible"), "source", t("weight", "poids")], rows, {});
}

/** The line that word aligners write, source-target, from 0; a button copies it. @param {string} line */
function pharaohPart(line) {
  const field = h("input", {type: "text", readonly: "", value: line, "aria-label": t("Pharaoh line",
    "Ligne Pharaoh"), class: "ali-pharaoh"});
  field.addEventListener("focus", () => field.select());
  const said = h("span", {role: "status", class: "ali-said"});
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(line);
    } catch {
      field.select();
      document.execCommand("copy");
    }
    said.textContent = t("copied", "copié");
  };
  return tools.section(
    t("For other tools", "Pour d'autres outils"),
    h("p", null, t("The Pharaoh format: source word - target word, counted from 0, words being what stands between spaces.",
      "Le format Pharaoh : mot source - mot cible, comptés à partir de 0 ; un mot est ce qui se trouve entre deux espaces.")),
    h("div", {class: "ali-copy"}, field, tools.button(t("Copy", "Copier"), copy), said),
  );
}

/**
 * One sentence on where the alignment comes from, as `ChosenHeads.how` has it in English. Its facts are the record's; records that have
 * none tell them in that sentence alone, where they are read.
 * @param {Partial<AlignmentExtra>} extra @param {number} count
 */
function howChosen(extra, count) {
  const found = /chosen on (?:the gold alignments of )?(\d+) sentences(?: so that both directions agree \(([\d.]+)%)?/.exec(extra.how);
  const sentences = extra.sentences ?? Number(found?.[1]);
  const worth = extra.worth ?? Number(found?.[2]) / 100;
  const by = extra.judged_by ?? (/, taken as they are/.test(extra.how) ? "nothing" : !found ? null : found[2] ? "agreement" : "gold");
  const share = tools.number(100 * worth, 1);
  const why = {
    agreement: t(`chosen on ${sentences} sentences so that both directions agree (${share}% of the tokens)`,
      `choix fait sur ${sentences} phrases pour que les deux sens s'accordent (${share}\u202f% des tokens)`),
    gold: t(`chosen on the gold alignments of ${sentences} sentences`, `choix fait sur les alignements de référence de ${sentences} phrases`),
    nothing: t("taken as they are", "sans choix"),
  }[by];
  if (why === undefined) return extra.how;
  const read = extra.row === "read" || /the next row, which has read it/.test(extra.how);
  const row = read ? t("; each token's weights are those of the next row, which has read it",
    " ; les poids d'un token sont ceux de la ligne suivante, qui l'a lu") : "";
  return t(`Average cross-attention of ${count === 1 ? "the one head" : `the ${count} heads`} below, ${why}${row}.`,
    `Attention croisée moyenne ${count === 1 ? "de la seule tête" : `des ${count} têtes`} ci-dessous, ${why}${row}.`);
}

/** @param {PageRecord} record */
function headsPart(record) {
  const heads = record.array("alignment.heads");
  if (!heads) return "";
  /** @type {Partial<AlignmentExtra>} */
  const extra = record.meta.extras?.alignment ?? {};
  const chips = Array.from({length: heads.shape[0]}, (_, row) =>
    h("li", null, t(`layer ${heads.at(row, 0)}, head ${heads.at(row, 1)}`, `couche ${heads.at(row, 0)}, tête ${heads.at(row, 1)}`)),
  );
  return tools.section(
    t("The heads it came from", "Les têtes dont elle vient"),
    extra.how ? h("p", null, howChosen(extra, heads.shape[0])) : "",
    h("ul", {class: "ali-heads"}, ...chips),
    scoresPicture(extra.layer_head_scores, heads),
  );
}

/** A score for every layer and head, where the analysis tells them. @param {number[][]} scores @param {RecordArray} heads */
function scoresPicture(scores, heads) {
  if (!Array.isArray(scores) || !scores.length || !Array.isArray(scores[0])) return "";
  return tools.figure(
    charts.heatmap({
      values: scores.flat(),
      rows: scores.map((_, layer) => t(`layer ${layer}`, `couche ${layer}`)),
      columns: scores[0].map((_, head) => t(`head ${head}`, `tête ${head}`)),
      marks: Array.from({length: heads.shape[0]}, (_, row) => [heads.at(row, 0), heads.at(row, 1)]),
      label: t("How well each head aligns", "Qualité d'alignement de chaque tête"),
      describe: (row, column, value) => t(`layer ${row}, head ${column}: ${tools.number(value)}`,
        `couche ${row}, tête ${column} : ${tools.number(value)}`),
    }),
    t("Score of every head; the chosen ones are marked.", "Score de chaque tête ; les têtes choisies sont marquées."),
    tools.table(
      ["", ...scores[0].map((_, head) => t(`head ${head}`, `tête ${head}`))],
      scores.map((row, layer) => [t(`layer ${layer}`, `couche ${layer}`), ...row.map((value) => tools.number(value))]),
      {},
    ),
  );
}

/** @type {View} */
export const alignmentView = {
  id: "alignment",
  order: 5,
  label: {en: "Alignment", fr: "Alignement"},
  available: (record) => record.has("alignment.weights") || record.attentions("cross").length > 0,
  render(root, record) {
    const [source, target] = [wordTexts(record.meta.source), wordTexts(record.meta.target)];
    const choices = choicesOf(record);
    root.append(h("p", {class: "ali-lead"}, t(
      "Cross-attention says where the decoder looked as it chose each word. Where it looked most is taken for the word's origin: often right, sometimes not.",
      "L'attention croisée dit où le décodeur a regardé en choisissant chaque mot. Là où il a le plus regardé, on voit l'origine du mot : souvent juste, parfois non.")));
    if (!source.length || !target.length || !choices.length) {
      root.append(tools.note("note", t("There are no words to align.", "Il n'y a pas de mots à aligner.")));
      return;
    }
    const state = {heads: choices[0].value, rule: "grown"};
    const body = h("div", {class: "view"});
    const draw = () => body.replaceChildren(...parts(record, state, {source, target, choices}));
    /** @param {string} key */
    const change = (key) => (value) => {
      state[key] = value;
      draw();
    };
    root.append(
      tools.toolbar(
        tools.select(t("Attention of", "Attention de"), choices.map(({value, text}) => ({value, text})), state.heads, change("heads")),
        tools.select(t("Links", "Liens"), [
          {value: "grown", text: t("where both directions agree, grown", "où les deux sens s'accordent, étendus")},
          {value: "target", text: t("the heaviest source word of each target word", "le mot source le plus lourd de chaque mot cible")},
        ], state.rule, change("rule"))),
      body, headsPart(record));
    draw();
  },
};

/**
 * Links, matrix and Pharaoh line of what is chosen.
 * @param {PageRecord} record @param {{heads: string, rule: string}} state
 * @param {{source: string[], target: string[], choices: {value: string, text: string, values: Numbers}[]}} given
 */
function parts(record, state, {source, target, choices}) {
  const {values} = choices.find((one) => one.value === state.heads);
  const matrix = betweenWords(record, values);
  const told = record.meta.links[state.heads][state.rule];
  const links = readLinks(told.links);
  return [
    tools.section(t("Links", "Liens"), tools.figure(
      h("div", {class: "ali-scroll", dir: readsLeftwards(source) ? "rtl" : "ltr", tabindex: 0, role: "region", "aria-label": t("Links, scrolls sideways",
        "Liens, défile latéralement")}, linesPicture(source, target, links, matrix)),
      t("The thicker a link, the heavier. Point at a word to single it out; one that nothing is linked to has a dashed frame.",
        "Plus un lien est épais, plus il est lourd. Pointez un mot pour l'isoler ; un mot sans lien a un cadre en tirets."),
      () => linkTable(source, target, links, matrix))),
    tools.section(t("Matrix", "Matrice"), tools.figure(
      matrixPicture(source, target, links, matrix),
      t("Weights summed over the tokens of a source word, averaged over those of a target word. Links bear a ring.",
        "Poids sommés sur les tokens d'un mot source, moyennés sur ceux d'un mot cible. Les liens portent un anneau."),
      () => tools.table(["", ...source], matrix.map((row, place) => [target[place], ...row.map((value) => tools.number(value))])))),
    pharaohPart(told.pharaoh ?? told.links),
  ];
}
