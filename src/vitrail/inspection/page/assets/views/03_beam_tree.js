/* The tree of a search, as data and as a picture; the view of decoding is written with it. */
import * as tools from "../tools.js";
import {h, svg, t} from "../tools.js";
import {chance, clip, spell, textWidth} from "./00_shared.js";

const FONT = "13px system-ui, sans-serif";
const MANY = 400; // nodes: from here on pruned branches begin hidden

/** The divisor of Wu et al. 2016, eq. 14. @param {number} length @param {number} alpha */
export const divisor = (length, alpha) => ((5 + length) / 6) ** alpha;

// ---- the tree as data -------------------------------------------------------------------------------------------------------

/** Nodes with their children and paths, and what became of each. @param {Decoding} decoding @param {string} root the token before them */
export function readTree(decoding, root) {
  const nodes = decoding.nodes;
  const children = new Map();
  for (const node of nodes) {
    if (!children.has(node.parent)) children.set(node.parent, []);
    children.get(node.parent).push(node);
  }
  const byNumber = new Map(nodes.map((node) => [node.number, node]));
  /** @param {TreeNode} node */
  const path = (node) => {
    const found = [];
    for (let at = node; at; at = at.parent === null ? null : byNumber.get(at.parent)) found.unshift(at);
    return found;
  };
  const steps = nodes.reduce((last, node) => Math.max(last, node.step + 1), 0);
  /** @param {number[]} tokens */
  const follow = (tokens) => {
    const found = [];
    let parent = null;
    for (const token of tokens) {
      const next = (children.get(parent) || []).find((node) => node.token === token);
      if (!next) break;
      found.push(next);
      parent = next.number;
    }
    return found;
  };
  return {root, nodes, children, byNumber, path, follow, steps, text: (node) => spell(path(node).map((one) => one.piece))};
}

/**
 * kept | pruned | ended; of those kept with nothing after them: open at the last step, else left behind.
 * @param {Tree} tree @param {TreeNode} node
 */
export function fateOf(tree, node) {
  if (node.fate !== "kept" || tree.children.has(node.number)) return node.fate;
  return node.step === tree.steps - 1 ? "open" : "left";
}

/** @param {string} fate */
export const fateWord = (fate) =>
  ({
    kept: t("kept", "gardée"),
    pruned: t("pruned", "élaguée"),
    ended: t("ended", "terminée"),
    open: t("kept; still open when the search stopped", "gardée ; encore ouverte à l'arrêt de la recherche"),
    left: t("kept, then overtaken: none of its continuations was good enough",
      "gardée, puis dépassée : aucune suite n'était assez bonne"),
  })[fate];

/** @param {string} fate */
const fateMark = (fate) => ({kept: "", pruned: "×", ended: "■", open: "…", left: "⊣"})[fate];

// ---- the tree as a picture --------------------------------------------------------------------------------------------------

const ROW = 34;
const BOX = 26;
const GAP = 40;
const TOP = 34;

/**
 * Where each node stands: a column a step; rows by total, or a row a sample where tokens were drawn.
 * @param {Tree} tree @param {Decoding} decoding @param {boolean} hidePruned
 */
function layOut(tree, decoding, hidePruned) {
  const columns = Array.from({length: tree.steps}, () => []);
  for (const node of tree.nodes) if (!hidePruned || node.fate !== "pruned") columns[node.step].push(node);
  const place = new Map();
  let x = 8 + textWidth(tree.root, FONT) + 20 + GAP;
  const starts = [];
  let rows = 1;
  columns.forEach((column) => {
    if (!decoding.sampled) column.sort((a, b) => b.total - a.total);
    const width = Math.min(150, Math.max(44, ...column.map((node) => textWidth(shown(tree, node), FONT) + 22)));
    column.forEach((node, order) => {
      const above = place.get(node.parent);
      const row = decoding.sampled && above ? above.row : order;
      rows = Math.max(rows, row + 1);
      place.set(node.number, {node, x, y: TOP + row * ROW, row, width});
    });
    starts.push({x, width});
    x += width + GAP;
  });
  return {place, starts, width: Math.ceil(x - GAP + 10), height: TOP + rows * ROW + 4, root: 8 + textWidth(tree.root, FONT) + 20};
}

/** @param {Tree} tree @param {TreeNode} node */
const shown = (tree, node) => `${node.piece.replaceAll("▁", "·")}${fateMark(fateOf(tree, node)) ? " " + fateMark(fateOf(tree, node)) : ""}`;

/** A node's outline: kept round, pruned dashed, ended cut at its corners. @param {any} spot @param {string} fate @param {any} svg */
function outline(spot, fate, svg) {
  const {x, y, width} = spot;
  if (fate !== "ended") return svg("rect", {x, y, width, height: BOX, rx: fate === "pruned" ? 2 : 9, class: "dec-box"});
  const c = 7;
  const points = [
    [x + c, y],
    [x + width - c, y],
    [x + width, y + c],
    [x + width, y + BOX - c],
    [x + width - c, y + BOX],
    [x + c, y + BOX],
    [x, y + BOX - c],
    [x, y + c],
  ];
  return svg("polygon", {points: points.map((point) => point.join(",")).join(" "), class: "dec-box"});
}

/** @param {any} from @param {any} to @param {string} classes @param {any} svg */
function edge(from, to, classes, svg) {
  const [x1, y1, x2, y2] = [from.x + from.width, from.y + BOX / 2, to.x, to.y + BOX / 2];
  const bend = (x2 - x1) / 2;
  return svg("path", {d: `M${x1},${y1}C${x1 + bend},${y1} ${x2 - bend},${y2} ${x2},${y2}`, class: classes});
}

/**
 * The tree: SVG, its legend, the panel of the node under the pointer or the focus, and a table as the text alternative.
 * @param {PageRecord} record @param {Tree} tree
 */
export function treePart(record, tree) {
  const {decoding} = record.meta;
  const winner = decoding.finished.length && decoding.finished[0].node !== null ? decoding.finished[0].node : null;
  const marked = {
    winner: new Set(winner === null ? [] : tree.path(tree.byNumber.get(winner)).map((node) => node.number)),
    given: new Set(record.meta.given ? tree.follow(decoding.steps.map((step) => step.chosen.token)).map((node) => node.number) : []),
  };
  const detail = h("div", {class: "dec-detail", "aria-live": "polite"});
  const frame = h("div", {class: "scroll dec-scroll", role: "region", "aria-label": t("Tree of hypotheses, scrolls sideways",
    "Arbre des hypothèses, défile latéralement")});
  /** @param {TreeNode} node */
  const show = (node) => detail.replaceChildren(...detailOf(tree, node, record, winner));
  const hasPruned = tree.nodes.some((node) => node.fate === "pruned");
  /** @param {boolean} hidePruned */
  const draw = (hidePruned) => {
    frame.replaceChildren(drawTree(tree, decoding, marked, hidePruned, show));
  };
  const hide = hasPruned && tree.nodes.length > MANY;
  const box = h("input", {type: "checkbox"});
  box.checked = !hide;
  box.addEventListener("change", () => draw(!box.checked));
  draw(hide);
  const first = winner === null ? tree.nodes[0] : tree.byNumber.get(winner);
  if (first) show(first);
  const title = decoding.sampled ? t("The samples", "Les tirages") : decoding.beams === 1 ? t("The greedy walk",
    "La marche gloutonne") : t("The beam tree", "L'arbre du faisceau");
  return tools.section(
    title,
    legend(tree, decoding, record),
    hasPruned ? h("label", {class: "dec-check"}, box, t(" show pruned branches", " montrer les branches élaguées")) : "",
    frame,
    detail,
    treeTable(tree),
  );
}

/** @param {Tree} tree @param {Decoding} decoding @param {PageRecord} record */
function legend(tree, decoding, record) {
  /** @param {string} fate @param {any} extra @param {string} text */
  const sample = (fate, extra, text) =>
    h(
      "span",
      {class: "dec-key"},
      svg(
        "svg",
        {width: 46, height: 30, viewBox: "0 0 46 30", "aria-hidden": "true"},
        svg("path", {d: "M0,15H14", class: `dec-edge dec-${fate} ${extra}`}),
        svg(
          "g",
          {class: `dec-node dec-${fate} ${extra}`},
          outline({x: 14, y: 2, width: 30}, fate, svg),
          svg("text", {x: 29, y: 19, "text-anchor": "middle"}, fateMark(fate) || "·a"),
        ),
      ),
      text,
    );
  const fates = new Set(tree.nodes.map((node) => fateOf(tree, node)));
  return h(
    "p",
    {class: "dec-legend"},
    sample("kept", "", decoding.sampled ? t("drawn", "tiré") : t("kept", "gardée")),
    fates.has("pruned") ? sample("pruned", "", t("pruned", "élaguée")) : "",
    fates.has("left") ? sample("left", "", t("kept, then overtaken", "gardée, puis dépassée")) : "",
    fates.has("open") ? sample("open", "", t("still open at the end", "encore ouverte à la fin")) : "",
    sample("ended", "", t("ended", "terminée")),
    sample("ended", "dec-winner", decoding.sampled ? t("the best sample",
      "le meilleur tirage") : t("the winner's path", "le chemin de la gagnante")),
    record.meta.given ? sample("kept", "dec-was-given", t("the given translation", "la traduction donnée")) : "",
  );
}

/** @param {Tree} tree @param {Decoding} decoding @param {any} marked @param {boolean} hidePruned @param {any} show */
function drawTree(tree, decoding, marked, hidePruned, show) {
  const {place, starts, width, height, root} = layOut(tree, decoding, hidePruned);
  const origin = {x: 8, y: TOP, width: root - 8};
  /** @param {TreeNode} node */
  const classesOf = (node) =>
    [`dec-${fateOf(tree, node)}`, marked.winner.has(node.number) ? "dec-winner" : "", marked.given.has(node.number) ? "dec-was-given" : ""].join(" ");
  const edges = [];
  const groups = new Map();
  for (const spot of place.values()) {
    const above = spot.node.parent === null ? origin : place.get(spot.node.parent);
    const line = above ? edge(above, spot, `dec-edge ${classesOf(spot.node)}`, svg) : null;
    edges.push({line, strong: marked.winner.has(spot.node.number)});
    groups.set(spot.node.number, {spot, line, group: nodeGroup(tree, spot, classesOf(spot.node))});
  }
  edges.sort((a, b) => a.strong - b.strong); // the winner's path is drawn over the others
  const picture = svg(
    "svg",
    {width, height, viewBox: `0 0 ${width} ${height}`, role: "tree", class: "dec-tree", "aria-label": t("Tree of hypotheses: arrow keys walk it",
      "Arbre des hypothèses : les flèches le parcourent")},
    ...starts.map((start, step) => svg("text", {x: start.x + start.width / 2, y: 16, "text-anchor": "middle", class: "dec-step", "aria-hidden": "true"}, String(step + 1))),
    ...edges.filter((one) => one.line).map((one) => one.line),
    svg(
      "g",
      {class: "dec-node dec-root", "aria-hidden": "true"},
      svg("rect", {x: origin.x, y: origin.y, width: origin.width, height: BOX, rx: 13, class: "dec-box"}),
      svg("text", {x: origin.x + origin.width / 2, y: origin.y + 17, "text-anchor": "middle"}, tree.root),
    ),
    ...Array.from(groups.values(), (one) => one.group),
  );
  walkTree(picture, tree, groups, show, marked);
  return picture;
}

/** @param {Tree} tree @param {any} spot @param {string} classes */
function nodeGroup(tree, spot, classes) {
  const {node, x, y, width} = spot;
  const probability = Math.exp(node.log_probability);
  const name = t(
    `${tree.text(node) || node.piece}; ${fateWord(fateOf(tree, node))}; total ${tools.number(node.total)}`,
    `${tree.text(node) || node.piece} ; ${fateWord(fateOf(tree, node))} ; total ${tools.number(node.total)}`,
  );
  return svg(
    "g",
    {class: `dec-node ${classes}`, role: "treeitem", tabindex: -1, "aria-level": node.step + 1, "aria-selected": "false", "aria-label": name, "data-node": node.number},
    outline(spot, fateOf(tree, node), svg),
    svg("rect", {x: x + 8, y: y + BOX - 4, width: Math.max(0, (width - 16) * probability).toFixed(1), height: 2, class: "dec-probability"}),
    svg("text", {x: x + width / 2, y: y + 17, "text-anchor": "middle"}, clip(shown(tree, node), FONT, width - 10)),
  );
}

/**
 * Pointer and keys: left goes to the parent, right to the best child, up and down stay in the step. One node at a time takes the tab key.
 * @param {any} picture @param {Tree} tree @param {any} groups @param {any} show @param {any} marked
 */
function walkTree(picture, tree, groups, show, marked) {
  let current = null;
  /** @param {number} number */
  const light = (number) => {
    picture.querySelectorAll(".dec-on").forEach((element) => element.classList.remove("dec-on"));
    const node = tree.byNumber.get(number);
    for (const one of tree.path(node)) {
      const drawn = groups.get(one.number);
      if (drawn) [drawn.group, drawn.line].forEach((element) => element && element.classList.add("dec-on"));
    }
    show(node);
  };
  /** @param {number} number */
  const settle = (number) => {
    if (current !== null && groups.has(current)) {
      groups.get(current).group.setAttribute("tabindex", "-1");
      groups.get(current).group.setAttribute("aria-selected", "false");
    }
    current = number;
    groups.get(number).group.setAttribute("tabindex", "0");
  };
  /** @param {any} event */
  const numberOf = (event) => {
    const group = event.target.closest && event.target.closest("[data-node]");
    return group ? Number(group.getAttribute("data-node")) : null;
  };
  picture.addEventListener("pointerover", (event) => {
    const number = numberOf(event);
    if (number !== null) light(number);
  });
  picture.addEventListener("pointerdown", (event) => {
    const number = numberOf(event);
    if (number !== null) groups.get(number).group.focus();
  });
  picture.addEventListener("focusin", (event) => {
    const number = numberOf(event);
    if (number === null) return;
    settle(number);
    groups.get(number).group.setAttribute("aria-selected", "true");
    light(number);
  });
  picture.addEventListener("keydown", (event) => {
    const to = current === null ? null : neighbour(tree, groups, current, event.key);
    if (to === null || to === undefined) return;
    event.preventDefault();
    const {group} = groups.get(to);
    group.focus();
    group.scrollIntoView({block: "nearest", inline: "center"});
  });
  const winners = Array.from(groups.keys()).filter((number) => marked.winner.has(number));
  const first = winners.length ? winners[0] : groups.keys().next().value;
  if (first !== undefined) settle(first);
}

/** @param {Tree} tree @param {any} groups @param {number} number @param {any} key */
function neighbour(tree, groups, number, key) {
  const node = tree.byNumber.get(number);
  /** @param {any} list */
  const drawn = (list) => list.filter((one) => groups.has(one.number));
  if (key === "ArrowLeft") return node.parent !== null && groups.has(node.parent) ? node.parent : null;
  if (key === "ArrowRight") {
    const next = drawn(tree.children.get(number) || []).sort((a, b) => b.total - a.total);
    return next.length ? next[0].number : null;
  }
  if (key !== "ArrowUp" && key !== "ArrowDown") return null;
  const column = drawn(tree.nodes.filter((one) => one.step === node.step)).sort((a, b) => groups.get(a.number).spot.y - groups.get(b.number).spot.y);
  const at = column.findIndex((one) => one.number === number) + (key === "ArrowDown" ? 1 : -1);
  return column[at] ? column[at].number : null;
}

/** @param {Tree} tree @param {TreeNode} node @param {PageRecord} record @param {any} winner */
function detailOf(tree, node, record, winner) {
  const alpha = record.meta.decoding.length_penalty;
  const fate = fateOf(tree, node);
  const length = node.step + 1;
  /** @param {string} name @param {string} value */
  const pair = (name, value) => h("div", null, h("dt", null, name), h("dd", null, value));
  return [
    h("p", {class: "dec-text"}, h("span", {class: "dec-said"}, tree.text(node) || "∅"), node.number === winner ? h("span", {class: "dec-tag"}, t("winner",
      "gagnante")) : ""),
    h(
      "dl",
      {class: "dec-numbers"},
      pair(t("last token", "dernier token"), tools.piece(node.piece)),
      pair(t("its log p", "son log p"), `${tools.number(node.log_probability)} (p = ${chance(Math.exp(node.log_probability))})`),
      pair(t("total log p", "log p total"), tools.number(node.total)),
      pair(t("tokens", "tokens"), String(length)),
      pair(t("score", "score"), `${tools.number(node.total)} / ${tools.number(divisor(length, alpha))} = ${tools.number(node.score)}`),
      pair(t("fate", "sort"), `${fateMark(fate)} ${fateWord(fate)}`.trim()),
    ),
  ];
}

/** Every node in words. @param {Tree} tree */
function treeTable(tree) {
  const header = [t("step", "pas"), t("hypothesis so far", "hypothèse jusque-là"), "log p", "total", "score", t("fate", "sort")];
  /** @param {TreeNode} node */
  const row = (node) => [
    String(node.step + 1),
    tree.text(node) || node.piece,
    tools.number(node.log_probability),
    tools.number(node.total),
    tools.number(node.score),
    fateWord(fateOf(tree, node)),
  ];
  return tools.folded(t("The tree as a table", "L'arbre en tableau"), () => tools.table(header, tree.nodes.map(row)));
}

