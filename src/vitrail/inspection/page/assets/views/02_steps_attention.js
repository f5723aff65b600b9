/* The walk of the lecture notes, second part: scores, softmax, and what a head makes of them. */
(() => {
  const W = (Vitrail.walk ??= {});

  // ---- The table that grows with the steps ------------------------------------------------------------------------------------

  /** The rows of one query: raw and scaled scores, mask and weights over the keys. */
  function scoresOf(c) {
    const pick = (what) => Array.from(c.array(`${c.place}.${what}`).row(c.head, c.token));
    const keep = c.array(`${c.place}.keep`);
    return {
      raw: pick("raw_scores"), scaled: pick("scores"), weights: pick("weights"),
      keep: keep ? Array.from(keep.row(c.token), Boolean) : c.keyTokens.map(() => true),
    };
  }

  /** Scaled scores with the mask added, as −∞ where a word may not be read. */
  function masked(s) {
    return s.scaled.map((score, at) => (s.keep[at] ? score : -Infinity));
  }

  /** Which key the detail is about: the one that was asked for, else the one that gets most. */
  function keyOf(c, s) {
    return c.key !== null && c.key < c.keyTokens.length ? c.key : s.weights.indexOf(Math.max(...s.weights));
  }

  function bar(c, share) {
    const filled = c.tools.h("span", { class: "walk-bar", "aria-hidden": "true" }, c.tools.h("span"));
    filled.firstChild.style.width = `${(share * 100).toFixed(2)}%`;
    return filled;
  }

  /** What the table shows of a step: names of the columns so far; the last is new. */
  function columnsUpTo(c, s, last) {
    const { t, tools } = c;
    const shifted = masked(s);
    const highest = Math.max(...shifted);
    const all = [
      ["raw", "q·k", (at) => tools.number(s.raw[at])],
      ["scaled", "÷ √{d_k}", (at) => tools.number(s.scaled[at])],
      ["mask", t("+ mask", "+ masque"), (at) => (s.keep[at] ? "+ 0" : "− ∞")],
      ["exp", "exp(s − max s)", (at) => tools.number(Math.exp(shifted[at] - highest))],
      ["weights", t("weight", "poids"), (at) => [tools.number(s.weights[at]), bar(c, s.weights[at])]],
    ];
    const end = all.findIndex(([id]) => id === last);
    return all.slice(0, end + 1);
  }

  /** One row a word: its name, a button that chooses it for the detail, and the numbers of the steps so far. */
  function scoreTable(c, s, last, news = [last]) {
    const { t, tools } = c;
    const shown = columnsUpTo(c, s, last);
    const chosen = keyOf(c, s);
    const head = tools.h("tr", null, tools.h("th", { scope: "col" }, t("key of", "clé de")),
      shown.map(([id, name]) => tools.h("th", { scope: "col", class: news.includes(id) ? "new" : null, "data-column": id }, W.equation(tools, name))));
    const rows = c.keyTokens.map((name, at) => tools.h("tr", { class: [at === chosen ? "chosen" : "", s.keep[at] ? "" : "masked"].join(" ").trim() || null },
      tools.h("th", { scope: "row" }, tools.h("button", {
        type: "button", class: "walk-key", dir: "auto", "aria-pressed": String(at === chosen), "data-key": `${last}-${at}`,
        title: t("Write this product out below", "Écrire ce produit ci-dessous"), onclick: () => c.setKey(at),
      }, name)),
      shown.map(([id, , cell]) => tools.h("td", { class: `walk-value${news.includes(id) ? " new" : ""}`, "data-column": id }, cell(at)))));
    const table = tools.h("table", { class: "walk-scores" },
      tools.h("caption", null, t(`${c.word} asks, head ${c.head}`, `${c.word} demande, tête ${c.head}`)),
      tools.h("thead", null, head), tools.h("tbody", null, rows));
    const sums = { exp: sumOfPowers(s), weights: s.weights.reduce((left, right) => left + right, 0) };
    if (last === "weights") {
      table.append(tools.h("tfoot", null, tools.h("tr", null, tools.h("th", { scope: "row" }, t("sum", "somme")),
        shown.map(([id]) => tools.h("td", { class: "walk-value", "data-column": id }, id in sums ? tools.number(sums[id]) : "")))));
    }
    return W.scroller(tools, table, t("Scores, a row a word", "Scores, une ligne par mot"));
  }

  function sumOfPowers(s) {
    const shifted = masked(s);
    const highest = Math.max(...shifted);
    return shifted.reduce((sum, score) => sum + Math.exp(score - highest), 0);
  }

  // ---- Steps ------------------------------------------------------------------------------------------------------------------

  function rawScores(c) {
    const { t } = c;
    const s = scoresOf(c);
    const q = c.array(`${c.place}.q`).row(c.head, c.token);
    const k = c.array(`${c.place}.k`);
    const computed = c.keyTokens.map((_, at) => W.dot(q, k.row(c.head, at)));
    const at = keyOf(c, s);
    return {
      id: "raw",
      title: t(`q·k: ${c.word} against the key of every word`, `q·k : ${c.word} face à la clé de chaque mot`),
      equation: "QK^T",
      why: t(`The query of ${c.word} is multiplied with the key of each word. A dot product is large where two vectors point the same way: that key answers what ${c.word} asks. It costs one multiplication a number, and one matrix product does it for all words.`,
        `La requête de ${c.word} est multipliée par la clé de chaque mot. Un produit scalaire est grand quand deux vecteurs vont dans le même sens : cette clé répond à ce que demande ${c.word}. Il coûte une multiplication par nombre, et un seul produit de matrices le fait pour tous les mots.`),
      body: () => [
        W.product(c.tools, `q_{${c.word}}·k_{${W.said(c.tools, c.keyPieces[at])}}`, q, k.row(c.head, at), { total: computed[at] }),
        scoreTable(c, s, "raw"),
      ],
      checks: [W.check(t("q·k with every key", "q·k avec chaque clé"), s.raw, computed)],
    };
  }

  function scaling(c) {
    const { t } = c;
    const s = scoresOf(c);
    const root = Math.sqrt(c.width);
    const at = keyOf(c, s);
    return {
      id: "scaled",
      title: t("÷ $√{d_k}$: scores of a fit size", "÷ $√{d_k}$ : des scores de bonne taille"),
      equation: "⁄{QK^T}{√{d_k}}",
      why: t(`A key has $d_k$ = ${c.width} numbers; the sum of ${c.width} products of numbers of variance 1 has variance ${c.width}. Divided by $√{d_k}$ = ${c.tools.number(root)} it has variance 1 again. Without that, softmax would give nearly all to one word from the start, and where it is that sure it hardly learns.`,
        `Une clé a $d_k$ = ${c.width} nombres ; la somme de ${c.width} produits de nombres de variance 1 a pour variance ${c.width}. Divisée par $√{d_k}$ = ${c.tools.number(root)}, sa variance redevient 1. Sans cela softmax donnerait presque tout à un mot dès le début, et là où il est si sûr il n'apprend presque plus.`),
      body: () => [
        c.tools.h("p", { class: "walk-product" }, `${c.tools.number(s.raw[at])} ÷ ${c.tools.number(root)} = `, c.tools.h("strong", null, c.tools.number(s.raw[at] / root))),
        scoreTable(c, s, "scaled"),
      ],
      checks: [W.check(t("scaled scores", "scores réduits"), s.scaled, s.raw.map((score) => score / root))],
    };
  }

  function mask(c) {
    const { t } = c;
    const s = scoresOf(c);
    const rule = c.keyTokens.map((_, at) => c.kind !== "decoder" || at <= c.token);
    const hidden = s.keep.filter((one) => !one).length;
    const why = {
      encoder: t("In the encoder every word may look at every other, before and after it: nothing is masked. (In training, the padding of shorter sentences would be.)",
        "Dans l'encodeur chaque mot peut regarder tous les autres, avant et après lui : rien n'est masqué. (À l'entraînement, le remplissage des phrases plus courtes le serait.)"),
      decoder: t(`A translation is written from left to right, so ${c.word} must not look at what stands after it: ${hidden} word${hidden === 1 ? " is" : "s are"} masked by adding −∞. Otherwise the decoder would read the next word in training instead of learning to predict it.`,
        `Une traduction s'écrit de gauche à droite : ${c.word} ne doit pas regarder ce qui le suit. ${hidden} mot${hidden === 1 ? " est masqué" : "s sont masqués"} en ajoutant −∞. Sinon, à l'entraînement, le décodeur lirait le mot suivant au lieu d'apprendre à le prédire.`),
      cross: t("The whole source is known before the first word is translated, so every word of it may be read: nothing is masked.",
        "Toute la source est connue avant que le premier mot soit traduit : chacun de ses mots peut être lu, rien n'est masqué."),
    };
    return {
      id: "mask",
      title: t("The mask: what may not be read", "Le masque : ce qui ne peut être lu"),
      equation: "⁄{QK^T}{√{d_k}} + mask",
      why: why[c.kind],
      body: () => [scoreTable(c, s, "mask")],
      checks: [W.check(t("mask", "masque"), s.keep.map(Number), rule.map(Number))],
    };
  }

  function softmaxStep(c) {
    const { t } = c;
    const s = scoresOf(c);
    const computed = W.softmax(masked(s));
    const all = c.array(`${c.place}.weights`);
    const sum = s.weights.reduce((left, right) => left + right, 0);
    const hidden = s.weights.filter((_, at) => !s.keep[at]);
    const checks = [W.check(t("weights", "poids"), s.weights, computed), W.check(t("their sum is 1", "leur somme est 1"), [sum], [1])];
    if (hidden.length) checks.push(exactly(t("masked words get exactly 0", "les mots masqués reçoivent exactement 0"), hidden));
    return {
      id: "softmax",
      title: t("softmax: shares of attention", "softmax : des parts d'attention"),
      equation: c.kind === "encoder" ? "softmax⟮⁄{QK^T}{√{d_k}}⟯" : "softmax⟮⁄{QK^T}{√{d_k}} + mask⟯",
      why: t(`Along the horizontal, over the keys of one query: exp makes every score positive, and divided by their sum they add up to 1. Why softmax, and not a sigmoid for each key? Because the words compete: ${c.word} has one whole attention to give, and what one word gets another loses.`,
        `Selon l'horizontale, sur les clés d'une requête : exp rend chaque score positif et, divisés par leur somme, ils font 1 ensemble. Pourquoi softmax, et non un sigmoïde par clé ? Parce que les mots sont en concurrence : ${c.word} a une seule attention à donner, et ce que l'un reçoit, l'autre le perd.`),
      body: () => [
        scoreTable(c, s, "weights", ["exp", "weights"]),
        c.tools.figure(c.tools.heatmap({
          values: all.row(c.head), rows: c.queryTokens, columns: c.keyPieces.map(c.tools.piece), max: 1,
          label: t(`Weights of all queries, head ${c.head}`, `Poids de toutes les requêtes, tête ${c.head}`),
          size: 420, rowTitle: t("query", "requête"), columnTitle: t("key", "clé"), onSelect: (row) => c.setToken(row),
        }), t(`All queries of this head under each other; each row adds up to 1. The row of ${c.word} is the one above; choosing another row walks with that word.`,
          `Toutes les requêtes de cette tête l'une sous l'autre ; chaque ligne fait 1. La ligne de ${c.word} est celle d'au-dessus ; choisir une autre ligne, c'est suivre cet autre mot.`),
        () => W.matrixTable(c.tools, {
          rows: c.queryTokens, columns: c.keyPieces.map(c.tools.piece), at: (row, column) => all.at(c.head, row, column),
          caption: t(`Weights of all queries, head ${c.head}`, `Poids de toutes les requêtes, tête ${c.head}`),
        })),
      ],
      checks,
    };
  }

  /** All zero, to the last bit. */
  function exactly(label, values) {
    return { ...W.check(label, values, values.map(() => 0)), exact: true };
  }

  function mix(c) {
    const { t } = c;
    const s = scoresOf(c);
    const v = c.array(`${c.place}.v`);
    const z = c.array(`${c.place}.context`).row(c.head, c.token);
    const computed = Array.from(z, (_, at) => c.keyTokens.reduce((sum, __, key) => sum + s.weights[key] * v.row(c.head, key)[at], 0));
    const order = s.weights.map((_, at) => at).sort((one, two) => s.weights[two] - s.weights[one]).slice(0, 4);
    const share = order.reduce((sum, at) => sum + s.weights[at], 0);
    return {
      id: "context",
      title: t("Z: the values, mixed by these shares", "Z : les valeurs, mêlées selon ces parts"),
      equation: c.kind === "encoder" ? "Z = softmax⟮⁄{QK^T}{√{d_k}}⟯·V" : "Z = softmax⟮⁄{QK^T}{√{d_k}} + mask⟯·V",
      why: t(`Each word hands over its value times its share, and the sum is what ${c.word} has found. The ${order.length} largest shares, ${c.tools.percent(share)} together, are shown.`,
        `Chaque mot donne sa valeur multipliée par sa part ; la somme est ce que ${c.word} a trouvé. On montre les ${order.length} plus grandes parts, ${c.tools.percent(share)} ensemble.`),
      body: () => [W.vectors(c.tools, [
        ...order.map((at) => W.vectorRow(c, `${c.tools.number(s.weights[at])} · $v$, ${c.keyTokens[at]}`, Array.from(v.row(c.head, at), (value) => s.weights[at] * value))),
        W.vectorRow(c, `$Z$, ${c.word}`, z, true),
      ], { caption: t("Weight times value, and the sum over all words", "Poids fois valeur, et la somme sur tous les mots") })],
      checks: [W.check("Z", z, computed)],
    };
  }

  W.attention = [rawScores, scaling, mask, softmaxStep, mix];
})();
