/* How the translation was found, or what was expected next in a text: candidates at each position, the tree of hypotheses, and why the winner won. */
import * as tools from "../tools.js";
import {h, t} from "../tools.js";
import {chance, spell} from "./00_shared.js";
import {divisor, readTree, treePart} from "./03_beam_tree.js";

/**
 * Every hypothesis that can be compared: those that the search returned, then the others that ended in the tree.
 * `late` ones ended after as many as the search keeps had ended already.
 * @param {Decoding} decoding @param {Tree} tree
 */
function hypotheses(decoding, tree) {
  const returned = decoding.finished.map((one) => ({...one, returned: true, late: false}));
  const known = new Set(returned.map((one) => one.node));
  let ended = 0;
  const others = [];
  for (const node of tree.nodes.filter((one) => one.fate === "ended")) {
    ended += 1;
    if (known.has(node.number)) continue;
    const length = node.step + 1;
    others.push({
      node: node.number,
      text: tree.text(node),
      length,
      log_probability: node.total,
      divisor: divisor(length, decoding.length_penalty),
      score: node.score,
      truncated: false,
      returned: false,
      late: ended > decoding.beams,
    });
  }
  others.sort((a, b) => Number(a.late) - Number(b.late) || b.score - a.score);
  return [...returned, ...others];
}

// ---- what kind of search ----------------------------------------------------------------------------------------------------

/** @param {Decoding} decoding */
function kindOf(decoding) {
  if (decoding.sampled) return "sampled";
  return decoding.beams === 1 ? "greedy" : "beam";
}

/** @param {PageRecord} record @param {Tree} tree */
function introduction({alone, meta: {decoding}}, tree) {
  const [steps, nodes] = [tree.steps, tree.nodes.length];
  if (alone && !nodes) {
    return [h("p", {class: "dec-lead"}, t(
      "The text is given, nothing was searched for. At each position the model has read what stands before it, and says how likely each token is to come next.",
      "Le texte est donné, rien n'a été cherché. À chaque position, le modèle a lu ce qui précède et dit la probabilité de chaque token suivant."))];
  }
  const sentences = {
    sampled: t(
      `Every token was drawn at random by its probability, ${decoding.beams} ${decoding.beams === 1 ? "time" : "times"} over: nothing was searched for, and nothing was pruned.`,
      `Chaque token a été tiré au hasard selon sa probabilité, ${decoding.beams} fois : rien n'a été cherché, rien n'a été élagué.`,
    ),
    greedy: t(
      `Greedy search: at each of ${steps} steps the most probable token was taken, and nothing else was followed. The runner-up of each step is shown as pruned.`,
      `Recherche gloutonne : à chacun des ${steps} pas, le token le plus probable a été pris et rien d'autre n'a été suivi. Le deuxième de chaque pas est montré comme élagué.`,
    ),
    beam: t(
      `Beam search kept ${decoding.beams} hypotheses side by side for ${steps} steps and looked at ${nodes} in all. Finished ones are compared by log-probability divided by ((5 + length) / 6)^α, with α = ${tools.number(decoding.length_penalty, 2)}.`,
      `La recherche en faisceau a gardé ${decoding.beams} hypothèses côte à côte pendant ${steps} pas, et en a regardé ${nodes} en tout. Les hypothèses finies sont comparées par leur log-probabilité divisée par ((5 + longueur) / 6)^α, avec α = ${tools.number(decoding.length_penalty, 2)}.`,
    ),
  };
  const parts = [h("p", {class: "dec-lead"}, sentences[kindOf(decoding)])];
  if (alone) {
    const many = decoding.prefix > 1;
    parts.push(h("p", null, t(`The model wrote on after the ${many ? `${decoding.prefix} tokens` : "token"} of the text that was given; the search is of what follows.`,
      `Le modèle a écrit la suite ${many ? `des ${decoding.prefix} tokens` : "du token"} du texte donné ; la recherche est celle de cette suite.`)));
  } else if (decoding.prefix > 0) parts.push(h("p", null, prefixWords(decoding.prefix)));
  return parts;
}

/** @param {number} count */
function prefixWords(count) {
  if (count === 1) {
    return t(
      "The first token was asked for (a forced prefix): there the model had no choice, and the tree does not branch.",
      "Le premier token était imposé (préfixe forcé) : le modèle n'y avait pas le choix, et l'arbre ne s'y ramifie pas.",
    );
  }
  return t(
    `The first ${count} tokens were asked for (a forced prefix): there the model had no choice, and the tree does not branch.`,
    `Les ${count} premiers tokens étaient imposés (préfixe forcé) : le modèle n'y avait pas le choix, et l'arbre ne s'y ramifie pas.`,
  );
}

/** What was given beside what the search found, on the same scale. @param {PageRecord} record */
function givenPart(record) {
  const {decoding, target} = record.meta;
  const found = decoding.finished[0];
  const total = decoding.steps.reduce((sum, step) => sum + Math.log(step.chosen.probability), 0);
  const length = decoding.steps.length;
  const by = divisor(length, decoding.length_penalty);
  const better = found && total / by < found.score;
  /** @param {string} text @param {number} logProbability @param {number} count @param {number} score */
  const row = (text, logProbability, count, score) => [
    text || "∅",
    tools.number(logProbability),
    String(count),
    tools.number(score),
  ];
  const rows = [[t("given", "donnée"), ...row(target.text, total, length, total / by)]];
  if (found) rows.push([t("found", "trouvée"), ...row(found.text, found.log_probability, found.length, found.score)]);
  const verdict = !found
    ? ""
    : found.text === target.text
      ? t("The search finds the very translation that was given.", "La recherche trouve exactement la traduction donnée.")
      : better
        ? t("The model prefers its own.", "Le modèle préfère la sienne.")
        : t(
            "The model gives the given one the better score: the search did not find it (a search error).",
            "Le modèle donne un meilleur score à la traduction donnée : la recherche ne l'a pas trouvée (erreur de recherche).",
          );
  const header = ["", t("translation", "traduction"), "log p", t("length", "longueur"), "score"];
  return tools.section(
    t("Given, and found", "Donnée, et trouvée"),
    tools.note("note", t("This translation was given, not searched for. ", "Cette traduction a été donnée, et non cherchée. "), verdict),
    tools.table(header, rows),
  );
}

// ---- position by position ---------------------------------------------------------------------------------------------------

/** How many positions come before the search: a language model's own text is what follows a text that was given. @param {PageRecord} record */
const positionsBefore = ({alone, meta}) => (alone ? meta.decoding.prefix : 0);

/** The walk from the first token to <eos>; choosing a position shows its candidates in full. @param {PageRecord} record @param {Tree} tree */
function walkPart(record, tree) {
  const {steps} = record.meta.decoding;
  const path = tree.follow(steps.slice(positionsBefore(record)).map((step) => step.chosen.token));
  const panel = h("div", {class: "dec-panel", "aria-live": "polite"});
  const buttons = steps.map((step, place) => stopButton(step, place, () => choose(place)));
  /** @param {number} place */
  const choose = (place, focus = false) => {
    buttons.forEach((button, own) => button.setAttribute("aria-pressed", String(own === place)));
    panel.replaceChildren(candidatesOf(record, tree, path, place));
    if (focus) buttons[place].focus({preventScroll: true});
    reveal(buttons[place], list);
  };
  const list = h(
    "ol",
    {class: "dec-walk", "aria-label": record.alone ? t("Positions of the text", "Positions du texte") : t("Positions of the translation", "Positions de la traduction")},
    h("li", {class: "dec-start"}, h("span", null, record.meta.first)),
    ...buttons.map((button) => h("li", null, button)),
  );
  list.addEventListener("keydown", (event) => {
    const at = buttons.indexOf(document.activeElement);
    const to = {ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: buttons.length - 1}[event.key];
    if (at < 0 || to === undefined || !buttons[to]) return;
    event.preventDefault();
    choose(to, true);
  });
  choose(mostDoubtful(steps));
  window.requestAnimationFrame(() => reveal(buttons[mostDoubtful(steps)], list)); // only now it has a place
  return tools.section(
    t("Position by position", "Position par position"),
    h(
      "p",
      null,
      t(
        "Each stop shows the probability of its token and the entropy H of the whole distribution (nats): the higher, the less sure. Choose one to see what else could have stood there.",
        "Chaque étape montre la probabilité de son token et l'entropie H de toute la distribution (en nats) : plus elle est grande, moins le modèle est sûr. Choisissez-en une pour voir ce qui aurait pu s'y trouver.",
      ),
    ),
    list,
    panel,
    walkTable(steps),
  );
}

/**
 * Scroll a strip sideways so that one of its parts is in sight; the page stays where it is.
 * @param {HTMLElement} part @param {HTMLElement} strip
 */
function reveal(part, strip) {
  const [own, all] = [part.getBoundingClientRect(), strip.getBoundingClientRect()];
  if (own.left < all.left) strip.scrollLeft -= all.left - own.left;
  else if (own.right > all.right) strip.scrollLeft += own.right - all.right;
}

/** The position where the chosen token was least probable: the most interesting to begin with. @param {DecodingStep[]} steps */
function mostDoubtful(steps) {
  return steps.reduce((least, step, place) => (step.chosen.probability < steps[least].chosen.probability ? place : least), 0);
}

/** @param {DecodingStep} step @param {number} place @param {(...chosen: any[]) => void} onChoose */
function stopButton(step, place, onChoose) {
  const share = step.chosen.probability;
  const label = t(
    `Position ${place + 1}: ${step.chosen.piece}, probability ${tools.percent(share)}, entropy ${tools.number(step.entropy)} nats`,
    `Position ${place + 1} : ${step.chosen.piece}, probabilité ${tools.percent(share)}, entropie ${tools.number(step.entropy)} nats`,
  );
  return h(
    "button",
    {type: "button", class: step.rank === 1 ? "dec-stop" : "dec-stop dec-second", "aria-label": label, "aria-pressed": "false", onclick: onChoose},
    h("span", {class: "dec-token"}, tools.piece(step.chosen.piece)),
    h("span", {class: "dec-bar"}, h("span", {style: {width: `${(share * 100).toFixed(1)}%`}})),
    h("span", {class: "dec-small"}, chance(share)),
    h("span", {class: "dec-small"}, `H ${tools.number(step.entropy, 2)}`),
    step.rank === 1 ? "" : h("span", {class: "dec-small dec-rank"}, t(`rank ${step.rank}`, `rang ${step.rank}`)),
  );
}

/** @param {DecodingStep[]} steps */
function walkTable(steps) {
  const rows = steps.map((step, place) => [
    `${place + 1}. ${tools.piece(step.chosen.piece)}`,
    chance(step.chosen.probability),
    String(step.rank),
    tools.number(step.entropy),
    step.candidates.slice(0, 3).map((one) => `${tools.piece(one.piece)} ${chance(one.probability)}`).join(", "),
  ]);
  const header = [t("position", "position"), "p", t("rank", "rang"), t("entropy (nats)",
    "entropie (nats)"), t("best three", "les trois meilleurs")];
  return tools.folded(t("All positions as a table", "Toutes les positions en tableau"), () => tools.table(header, rows));
}

/** The panel of one position. @param {PageRecord} record @param {Tree} tree @param {TreeNode[]} path @param {number} place */
function candidatesOf(record, tree, path, place) {
  const {decoding} = record.meta;
  const step = decoding.steps[place];
  const before = decoding.steps.slice(0, place).map((one) => one.chosen.piece);
  const told = step.candidates.reduce((sum, one) => sum + one.probability, 0);
  const listed = step.candidates.some((one) => one.token === step.chosen.token);
  const searched = {tree, path, place: place - positionsBefore(record), decoding, alone: record.alone};
  const rows = step.candidates.map((one, rank) => candidateRow(one, rank + 1, one.token === step.chosen.token, searched));
  if (!listed) rows.push(candidateRow(step.chosen, step.rank, true, searched));
  const rest = Math.max(0, 1 - told - (listed ? 0 : step.chosen.probability));
  const forced = place < decoding.prefix && !record.meta.given && !record.alone;
  const inSearch = tree.nodes.length > 0;
  return h(
    "div",
    null,
    h(
      "h4",
      null,
      t(`Position ${place + 1} of ${decoding.steps.length}, after `, `Position ${place + 1} sur ${decoding.steps.length}, après `),
      h("span", {class: "dec-said"}, `${record.meta.first} ${spell(before)}`.trim()),
    ),
    h("p", {class: "dec-facts"}, ...factsOf(step), forced ? t(" This token was asked for.", " Ce token était imposé.") : ""),
    h(
      "table",
      {class: "dec-candidates"},
      h("caption", {class: "unseen"}, t("Candidates", "Candidats")),
      h(
        "thead",
        null,
        h("tr", null, ...[t("rank", "rang"), t("token", "token"), t("probability",
          "probabilité"), "log p", ...(inSearch ? [t("in the search", "dans la recherche")] : [])].map((text) => h("th", {scope: "col"}, text))),
      ),
      h(
        "tbody",
        null,
        ...rows,
        h(
          "tr",
          {class: "dec-rest"},
          h("td", null, ""),
          h("th", {scope: "row"}, t("all others", "tous les autres")),
          h("td", null, barOf(rest)),
          h("td", null, ""),
          inSearch ? h("td", null, "") : "",
        ),
      ),
    ),
  );
}

/** @param {DecodingStep} step */
function factsOf(step) {
  const choices = Math.exp(step.entropy);
  return [
    t("Entropy ", "Entropie "),
    h("b", null, `${tools.number(step.entropy)} nats`),
    t(
      ` (${tools.number(step.entropy / Math.LN2)} bits): as unsure as between ${tools.number(choices, 2)} equally likely tokens. The chosen one, `,
      ` (${tools.number(step.entropy / Math.LN2)} bits) : aussi incertain qu'entre ${tools.number(choices, 2)} tokens équiprobables. Le token choisi, `,
    ),
    h("b", null, tools.piece(step.chosen.piece)),
    t(`, has rank ${step.rank} with ${chance(step.chosen.probability)}.`,
      `, a le rang ${step.rank} avec ${chance(step.chosen.probability)}.`),
  ];
}

/** @param {number} share */
function barOf(share) {
  return h(
    "span",
    {class: "dec-share"},
    h("span", {class: "dec-bar"}, h("span", {style: {width: `${(share * 100).toFixed(1)}%`}})),
    h("span", {class: "dec-value"}, chance(share)),
  );
}

/**
 * @param {Candidate} one @param {number} rank @param {boolean} chosen
 * @param {Searched} searched
 */
function candidateRow(one, rank, chosen, searched) {
  return h(
    "tr",
    {class: chosen ? "dec-chosen" : null, "data-token": one.token, "data-probability": one.probability},
    h("td", null, String(rank)),
    h("th", {scope: "row"}, tools.piece(one.piece), chosen ? h("span", {class: "dec-tag"}, t("chosen", "choisi")) : ""),
    h("td", null, barOf(one.probability)),
    h("td", null, one.probability > 0 ? tools.number(Math.log(one.probability)) : "−∞"),
    searched.tree.nodes.length ? h("td", {class: "dec-fate"}, whatBecame(one, searched)) : "",
  );
}

/**
 * What the search made of a candidate after the words before it.
 * @param {Candidate} one @param {Searched} searched
 */
function whatBecame(one, {tree, path, place, decoding, alone}) {
  if (place < 0) return t("before the search", "avant la recherche");
  if (place > path.length || (place > 0 && !path[place - 1])) return t("not reached by the search", "non atteint par la recherche");
  const parent = place === 0 ? null : path[place - 1].number;
  const node = (tree.children.get(parent) || []).find((child) => child.token === one.token);
  if (!node && !alone && place < decoding.prefix) return t("not allowed: another token was asked for", "interdit : un autre token était imposé");
  if (!node) return decoding.sampled ? t("not drawn", "non tiré") : t("not among the best", "pas parmi les meilleurs");
  if (node.fate === "ended") return t(`ended, score ${tools.number(node.score)}`, `terminée, score ${tools.number(node.score)}`);
  if (node.fate === "pruned") return t(`pruned at once, total ${tools.number(node.total)}`,
    `élaguée aussitôt, total ${tools.number(node.total)}`);
  const {best, last} = descendants(tree, node);
  if (best) return t(`${decoding.sampled ? "drawn" : "kept"}; best end: score ${tools.number(best.score)}`,
    `${decoding.sampled ? "tiré" : "gardée"} ; meilleure fin : score ${tools.number(best.score)}`);
  if (last === tree.steps - 1) {
    return decoding.sampled
      ? t("drawn; cut at the limit of length", "tiré ; coupé à la longueur limite")
      : t("kept; still open when the search stopped", "gardée ; encore ouverte à l'arrêt de la recherche");
  }
  return t(`kept until step ${last + 1}`, `gardée jusqu'au pas ${last + 1}`);
}

/** The best ended descendant of a node, and the last step at which one was kept. @param {Tree} tree @param {TreeNode} node */
function descendants(tree, node) {
  let best = null;
  let last = node.step;
  const queue = [node];
  while (queue.length) {
    const at = queue.pop();
    if (at.fate === "kept") last = Math.max(last, at.step);
    if (at.fate === "ended" && (!best || at.score > best.score)) best = at;
    queue.push(...(tree.children.get(at.number) || []));
  }
  return {best, last};
}

// ---- why the winner won -----------------------------------------------------------------------------------------------------

/** @param {PageRecord} record @param {Tree} tree */
function resultsPart(record, tree) {
  const {decoding} = record.meta;
  const all = hypotheses(decoding, tree);
  const table = h("div", {class: "dec-results"});
  /** @param {number} alpha */
  const draw = (alpha) => table.replaceChildren(...resultsAt(all, alpha, decoding));
  draw(decoding.length_penalty);
  const slider = tools.slider(
    t("What if α were", "Et si α valait"),
    {min: 0, max: 2, step: 0.1, value: decoding.length_penalty, describe: (alpha) => tools.number(alpha, 1)},
    draw,
  );
  return tools.section(
    record.meta.given ? t("Why the search chose its own",
      "Pourquoi la recherche a choisi la sienne") : t("Why this one won", "Pourquoi celle-ci a gagné"),
    h("p", {class: "dec-why"}, whyWon(all, decoding)),
    h("p", {class: "dec-proof"}, proof(decoding, tree)),
    all.length > 1 ? slider : "",
    table,
  );
}

/**
 * The hypotheses in the order that an α gives: complete before truncated, then by score.
 * @param {any[]} all @param {number} alpha @param {Decoding} decoding
 */
function resultsAt(all, alpha, decoding) {
  const scored = all.map((one) => ({...one, as: one, by: divisor(one.length, alpha), now: one.log_probability / divisor(one.length, alpha)}));
  scored.sort((a, b) => Number(a.late) - Number(b.late) || a.truncated - b.truncated || b.now - a.now);
  const rows = scored.map((one, rank) => [
    String(rank + 1),
    one.text || "∅",
    tools.number(one.log_probability),
    String(one.length),
    tools.number(one.by),
    tools.number(one.now, 4),
    statusOf(one),
  ]);
  const header = ["", t("hypothesis", "hypothèse"), "log p", t("length",
    "longueur"), `((5 + ${t("length", "longueur")}) / 6)^α`, "score", ""];
  const same = scored[0]?.as === all[0];
  const note = Math.abs(alpha - decoding.length_penalty) < 1e-9 ? "" : same
    ? t(`With α = ${tools.number(alpha, 1)} the same one wins.`, `Avec α = ${tools.number(alpha, 1)}, la même gagne.`)
    : t(`With α = ${tools.number(alpha, 1)} another would win: “${scored[0].text}”.`,
      `Avec α = ${tools.number(alpha, 1)}, une autre gagnerait : « ${scored[0].text} ».`);
  return [
    tools.table(header, rows, {caption: t(`Finished hypotheses, α = ${tools.number(alpha, 1)}`,
      `Hypothèses finies, α = ${tools.number(alpha, 1)}`)}),
    h("p", {class: "dec-note", "aria-live": "polite"}, note),
  ];
}

/** @param {any} one */
function statusOf(one) {
  if (one.truncated) return t("cut at the limit of length", "coupée à la longueur limite");
  if (one.late) return t("ended too late to count", "terminée trop tard pour compter");
  return one.returned ? t("returned", "rendue") : t("ended", "terminée");
}

/** One sentence. @param {any[]} all @param {Decoding} decoding */
function whyWon(all, decoding) {
  const [winner, ...others] = all;
  if (!winner) return t("Nothing ended.", "Rien ne s'est terminé.");
  const rivals = others.filter((one) => !one.late && !one.truncated);
  const cut = others.filter((one) => one.truncated);
  if (winner.truncated) return t("Nothing ended by itself before the limit of length, so the best of what was left was taken.",
    "Rien ne s'est terminé avant la longueur limite : le meilleur de ce qui restait a été pris.");
  if (!winner.truncated && cut.some((one) => one.score > winner.score)) {
    return t(
      "It has the best score of those that ended by themselves; one that scores higher was cut at the limit of length, and whole ones come first.",
      "Elle a le meilleur score de celles qui se sont terminées d'elles-mêmes ; une autre l'a meilleur mais a été coupée à la longueur limite, et les complètes passent d'abord.",
    );
  }
  if (!rivals.length) {
    return decoding.sampled
      ? t("Only one sample was drawn, so there was nothing to choose from.", "Un seul tirage : il n'y avait pas à choisir.")
      : decoding.beams === 1
        ? t("Greedy search follows one hypothesis only, and this is where it ended.",
          "La recherche gloutonne ne suit qu'une hypothèse : voici où elle s'est terminée.")
        : t("It is the only hypothesis that ended before the search could stop.",
          "C'est la seule hypothèse qui s'est terminée avant l'arrêt de la recherche.");
  }
  const second = rivals.reduce((best, one) => (one.score > best.score ? one : best));
  const likeliest = rivals.reduce((best, one) => (one.log_probability > best.log_probability ? one : best), winner);
  const [a, b] = [tools.number(winner.score), tools.number(second.score)];
  if (likeliest === winner) {
    return t(
      `It has the highest score, ${a} against ${b} for the next, and also the highest log-probability: length made no difference.`,
      `Elle a le meilleur score, ${a} contre ${b} pour la suivante, et aussi la plus grande log-probabilité : la longueur n'a rien changé.`,
    );
  }
  return t(
    `Length decided: “${likeliest.text}” is more probable (log p ${tools.number(likeliest.log_probability)} against ${tools.number(winner.log_probability)}) but has ${likeliest.length} tokens against ${winner.length}; divided by ((5 + length) / 6)^α the winner scores ${a} against ${tools.number(likeliest.score)}.`,
    `La longueur a décidé : « ${likeliest.text} » est plus probable (log p ${tools.number(likeliest.log_probability)} contre ${tools.number(winner.log_probability)}) mais compte ${likeliest.length} tokens contre ${winner.length} ; divisé par ((5 + longueur) / 6)^α, le score de la gagnante est ${a} contre ${tools.number(likeliest.score)}.`,
  );
}

/** The winner's score, computed anew from its tokens, and compared with the record. @param {Decoding} decoding @param {Tree} tree */
function proof(decoding, tree) {
  const winner = decoding.finished[0];
  if (!winner) return "";
  const path = winner.node === null ? [] : tree.path(tree.byNumber.get(winner.node));
  const total = path.length ? path.reduce((sum, node) => sum + node.log_probability, 0) : winner.log_probability;
  const by = divisor(winner.length, decoding.length_penalty);
  const score = total / by;
  const equal = Math.abs(score - winner.score) <= 1e-5 * Math.max(1, Math.abs(winner.score));
  return h(
    "span",
    {"data-score": String(score), "data-equal": String(equal)},
    t("Recomputed here from its tokens: ", "Recalculé ici à partir de ses tokens : "),
    h("code", null, `${tools.number(total, 5)} / ((5 + ${winner.length}) / 6)^${decoding.length_penalty} = ${tools.number(total, 5)} / ${tools.number(by, 5)} = ${tools.number(score, 5)}`),
    equal ? t(" ✓ as recorded", " ✓ comme enregistré") : t(` ✗ the record says ${winner.score}`, ` ✗ l'enregistrement dit ${winner.score}`),
  );
}

/** @type {View} */
export const decodingView = {
  id: "decoding",
  order: 3,
  label: {en: "Decoding", fr: "Décodage"},
  available: (record) => record.meta.decoding.steps.length > 0,
  render(root, record) {
    const {decoding} = record.meta;
    const tree = readTree(decoding, tools.piece(record.predictedTokens[positionsBefore(record) - 1] ?? record.meta.first));
    root.append(...introduction(record, tree));
    if (record.meta.given && !record.alone) root.append(givenPart(record));
    root.append(walkPart(record, tree));
    if (tree.nodes.length) root.append(treePart(record, tree));
    if (decoding.finished.length) root.append(resultsPart(record, tree));
  },
};
