/* The walk of the lecture notes, first part: from a word's embedding to the queries, keys and values of a head. */
import * as tools from "../tools.js";
import {h, t} from "../tools.js";
import {check, equation, literal, mean, normalise, product, project, variance, vectors} from "./02_steps_math.js";

/** A token in a sentence of ours: without the mark of its beginning, in quotation marks. @param {string} piece */
export function said(piece) {
  const text = literal(piece.replace(/^▁(?=.)/u, ""));
  return /^<(sos|eos|unk)>$/.test(text) ? text : t(`“${text}”`, `« ${text} »`);
}

// ---- Where we are -----------------------------------------------------------------------------------------------------------

/**
 * Everything that the steps ask about the chosen attention, head and word.
 * @param {PageRecord} record
 * @param {{kind: Kind, layer: number, head: number, token: number, key: number, setKey: (key: number) => void, setToken: (token: number) => void}} choice
 */
export function surroundings(record, choice) {
  const { kind, layer, head, token } = choice;
  const model = record.meta.model;
  const half = kind === "encoder" ? "encoder" : "decoder";
  const side = kind === "encoder" ? "source" : "target";
  const block = `${half}.${layer}`;
  const place = record.attentions(kind).find((one) => one.layer === layer).place;
  const own = kind === "cross" ? 2 : 1;
  const residual = `${block}.residual_${own}`;
  const handedOn = record.layerOutputs(side).find((one) => one.layer === layer);
  const last = Number(handedOn.path.at(-1));
  const pre = handedOn.role === "residual"; // where a norm comes after the sum, that is what the layer hands on
  const types = new Set();
  /** @param {string} name */
  const array = (name) => {
    const found = record.array(name);
    if (found) types.add(found.type);
    return found;
  };
  /** @param {string} name */
  const row = (name, at = token) => array(name)?.row(at) ?? null;
  const queryPieces = side === "source" ? record.sourceTokens : record.targetTokens;
  const keyPieces = kind === "decoder" ? queryPieces : record.sourceTokens;
  const q = array(`${place}.q`);
  return {
    record, model, kind, layer, head, token, key: choice.key, setKey: choice.setKey, setToken: choice.setToken,
    half, side, block, place, own, residual, last, pre, types, array, row, keyPieces,
    queryTokens: queryPieces.map(tools.piece), keyTokens: keyPieces.map((piece) => literal(tools.piece(piece))),
    word: said(queryPieces[token]), heads: q.shape[0], width: q.shape[2], D: model.width,
    turned: model.positions === "rotary" && kind !== "cross",
    read: `${residual}.${pre ? "normed" : "input"}`,
    memory: kind === "cross" ? "memory" : `${residual}.${pre ? "normed" : "input"}`,
    layers: record.layerOutputs(side).length,
  };
}

/**
 * Rows of `parameters.PLACE.which.weight` for the chosen head: one output column each, and their biases.
 * @param {Surroundings} c @param {string} which
 */
function columns(c, which) {
  const weight = c.array(`parameters.${c.place}.${which}.weight`);
  const bias = c.array(`parameters.${c.place}.${which}.bias`);
  if (!weight) return null;
  const rows = Array.from({ length: weight.shape[1] }, (_, at) => weight.row(c.head, at));
  return { rows, bias: bias ? bias.row(c.head) : null };
}

/** The same of a matrix that has no heads. @param {Surroundings} c @param {string} name */
export function plainColumns(c, name) {
  const weight = c.array(`parameters.${name}.weight`);
  const bias = c.array(`parameters.${name}.bias`);
  if (!weight) return null;
  return { rows: Array.from({ length: weight.shape[0] }, (_, at) => weight.row(at)), bias: bias ? bias.data : null };
}

/** @param {Surroundings} c @param {string} label @param {string} [reason] */
export function missing(c, label, reason) {
  return { label, reason: reason || t("its matrix is not in this page", "sa matrice n'est pas dans cette page") };
}

/** @param {Numbers} left @param {Numbers} right */
export function sumOf(left, right) {
  return Array.from(left, (value, at) => value + right[at]);
}

/** @param {Surroundings} c @param {string} name @param {Numbers} values */
export function vectorRow(c, name, values, chosen = false) {
  return { name, values, chosen };
}

// ---- Before attention -------------------------------------------------------------------------------------------------------

/** @param {Surroundings} c */
function embedding(c) {
  const values = c.row(`${c.side}_embedded`);
  if (!values) return null;
  const scale = Math.sqrt(values.length);
  const facts = c.side === "source" ? c.record.meta.source : c.record.meta.target;
  const id = facts.ids[c.side === "source" ? c.token - c.record.lead : c.token - 1];
  const which = id === undefined ? c.word : `${c.word} ${t(`(number ${id} of the vocabulary)`, `(n° ${id} du vocabulaire)`)}`;
  return {
    id: "embedding",
    title: t("X: the word becomes a vector", "X : le mot devient un vecteur"),
    equation: "X_t = √{D} · E_{token}",
    why: t(
      `${which} picks its row of a learned table: D = ${values.length} numbers. Training moves these rows, so that words used alike come to lie near each other. They are multiplied by $√{D}$ = ${tools.number(scale)}, so that the positions added next do not drown them.`,
      `${which} choisit sa ligne dans une table apprise : D = ${values.length} nombres. L'entraînement déplace ces lignes : les mots d'usage semblable deviennent voisins. On les multiplie par $√{D}$ = ${tools.number(scale)}, pour que les positions ajoutées ensuite ne les noient pas.`),
    body: () => [vectors([
      vectorRow(c, t("row of the table", "ligne de la table"), Array.from(values, (value) => value / scale)),
      vectorRow(c, "X", values),
    ], { caption: t(`The embedding of ${c.word}`, `Le plongement de ${c.word}`) })],
    checks: [missing(c, "X", t("the table of all words is not in this page; its row is shown as X/√D",
      "la table de tous les mots n'est pas dans cette page ; sa ligne est donnée par X/√D"))],
  };
}

/**
 * P[t, i] = sin(t / 10000^(2i/D)) for the first half of the columns, then the cosines of the same angles.
 * @param {number} position @param {number} width
 */
function sinusoid(position, width) {
  const half = width / 2;
  return Array.from({ length: width }, (_, at) => {
    const angle = position / 10000 ** ((at % half) / half);
    return at < half ? Math.sin(angle) : Math.cos(angle);
  });
}

/** @param {Surroundings} c */
function positions(c) {
  const values = c.row(`${c.side}_positions`);
  if (!values) return null;
  const kind = c.model.positions;
  const known = { sinusoidal: () => sinusoid(c.token, values.length), none: () => values.map(() => 0), rotary: () => values.map(() => 0) };
  const set = t("Attention by itself sees a set of words: “I am good” and “good am I” would give the same vectors. ",
    "L'attention seule voit un ensemble de mots : « I am good » et « good am I » donneraient les mêmes vecteurs. ");
  const how = {
    sinusoidal: t(`So each place in the sentence has a pattern of its own, here that of place ${c.token}: sines and cosines that turn fast in the first columns of each half and slowly in the last.`,
      `Chaque place de la phrase a donc son motif, ici celui de la place ${c.token} : des sinus et cosinus qui tournent vite dans les premières colonnes de chaque moitié, lentement dans les dernières.`),
    learned: t(`So each place has a vector of its own, here that of place ${c.token}, learned as the words' are.`,
      `Chaque place a donc son vecteur, ici celui de la place ${c.token}, appris comme ceux des mots.`),
    rotary: t("This model adds nothing here: it turns q and k by an angle that grows with the place (rotary positions).",
      "Ce modèle n'ajoute rien ici : il tourne q et k d'un angle qui croît avec la place (positions rotatives)."),
    none: t("This model is told no order at all: nothing is added.", "Ce modèle ne connaît aucun ordre : rien n'est ajouté."),
  };
  return {
    id: "positions",
    title: t("P: where the word stands", "P : la place du mot"),
    equation: kind === "sinusoidal" ? "P_{t,i} = sin(t ∕ 10000^{2i∕D}),  P_{t,i+D∕2} = cos(t ∕ 10000^{2i∕D})" : kind === "learned" ? "P_t" : "P_t = 0",
    why: set + how[kind],
    body: () => [vectors([vectorRow(c, `P, t = ${c.token}`, values)], { caption: t("The position's vector", "Le vecteur de la position") })],
    checks: [known[kind] ? check("P", values, known[kind]())
      : missing(c, "P", t("the learned table is not in this page", "la table apprise n'est pas dans cette page"))],
  };
}

/** @param {Surroundings} c */
function input(c) {
  const [x, p, both] = ["embedded", "positions", "input"].map((what) => c.row(`${c.side}_${what}`));
  if (!x || !p || !both) return null;
  const first = c.row(`${c.half}.0.residual_1.input`);
  /** @type {any[]} */
  const checks = [check("X + P", both, sumOf(x, p))];
  const [label, read] = [t("what block 0 reads", "ce que lit le bloc 0"), c.model.embedding_norm ? normalise(c.record, c.model.norm, `parameters.${c.side}_norm`, both) : both];
  if (first) checks.push(read ? check(label, first, read) : missing(c, label, t("the gains of the norm are not in this page", "les gains de la normalisation ne sont pas dans cette page")));
  return {
    id: "input",
    title: t("X + P: what the first block reads", "X + P : ce que lit le premier bloc"),
    equation: "X_t + P_t",
    why: t("Number by number, the word and its place are added: one vector now says both what the word is and where it stands.",
      "Nombre par nombre, on ajoute le mot et sa place : un seul vecteur dit maintenant quel est le mot et où il se trouve."),
    body: () => [vectors([vectorRow(c, "X", x), vectorRow(c, "P", p), vectorRow(c, "X + P", both, true)],
      { caption: t("Added number by number", "Ajoutés nombre par nombre") })],
    checks,
  };
}

/** What the blocks below, or the attention before in the same block, have handed on. @param {Surroundings} c */
function arrival(c) {
  const values = c.row(`${c.residual}.input`);
  if (!values || (c.kind !== "cross" && c.layer === 0)) return null;
  const before = c.kind === "cross" ? `${c.block}.residual_1` : `${c.half}.${c.layer - 1}.residual_${c.last}`;
  const handed = c.row(`${before}.${c.pre ? "sum" : "normed"}`);
  const label = c.kind === "cross" ? t("from masked self-attention", "de l'auto-attention masquée") : t(`from block ${c.layer - 1}`, `du bloc ${c.layer - 1}`);
  return {
    id: "arrival",
    title: c.kind === "cross" ? t("What masked self-attention hands on", "Ce que transmet l'auto-attention masquée")
      : t(`Through the blocks below: what block ${c.layer} reads`, `À travers les blocs précédents : ce que lit le bloc ${c.layer}`),
    equation: "x_t",
    why: c.kind === "cross"
      ? t(`In this block ${c.word} has already looked at the words that are written (choose decoder self-attention to follow that). With what it found there it now asks the source.`,
        `Dans ce bloc ${c.word} a déjà regardé les mots écrits (choisissez l'auto-attention du décodeur pour le suivre). Avec ce qu'il y a trouvé, il interroge maintenant la source.`)
      : t(`${c.layer} block${c.layer > 1 ? "s have" : " has"} done all that follows already, each with weights of its own. The vector of ${c.word} no longer stands for the word alone, but for the word in this sentence.`,
        `${c.layer} bloc${c.layer > 1 ? "s ont" : " a"} déjà fait tout ce qui suit, chacun avec ses propres poids. Le vecteur de ${c.word} ne dit plus le mot seul, mais le mot dans cette phrase.`),
    body: () => [vectors([vectorRow(c, `x, ${c.word}`, values)], { caption: t("The vector that arrives", "Le vecteur qui arrive") })],
    checks: [handed ? check(label, values, handed)
      : missing(c, label, t("the block below is not in this page", "le bloc précédent n'est pas dans cette page"))],
  };
}

const NORMS = {
  layer: "x̂ = ⁄{x − mean(x)}{√{var(x) + ε}} · g + b",
  rms: "x̂ = ⁄{x}{√{mean(x^2) + ε}} · g",
  batch: "x̂ = ⁄{x − μ}{√{σ^2 + ε}} · g + b",
};

/**
 * A norm: `from` and `to` are array names, `name` that of the norm's parameters.
 * @param {Surroundings} c @param {{id: string, title: string, why: string, from: string, to: string, name: string}} given
 */
export function norm(c, { id, title, why, from, to, name }) {
  const before = c.row(from);
  const after = c.row(to);
  if (!before || !after) return null;
  const kind = c.model.norm;
  const computed = normalise(c.record, kind, `parameters.${name}`, before);
  const reason = kind === "batch"
    ? t("batch norm uses the running mean and variance of training, which are not in this page",
      "la normalisation par lot emploie moyenne et variance courantes de l'entraînement, absentes de cette page")
    : t("its gains are not in this page", "ses gains ne sont pas dans cette page");
  const each = {
    layer: t("Layer norm looks at this one vector alone: its mean becomes 0 and its spread 1, then each number has a learned gain g and shift b.",
      "La normalisation par couche ne regarde que ce vecteur : sa moyenne devient 0 et son écart 1, puis chaque nombre reçoit un gain g et un décalage b appris."),
    rms: t("RMS norm looks at this one vector alone: its root mean square becomes 1, then each number has a learned gain g.",
      "La normalisation RMS ne regarde que ce vecteur : sa moyenne quadratique devient 1, puis chaque nombre reçoit un gain g appris."),
    batch: t("Batch norm gives each of the D numbers the mean and spread that it had on average over the batches of training.",
      "La normalisation par lot donne à chacun des D nombres la moyenne et l'écart qu'il avait en moyenne sur les lots de l'entraînement."),
  };
  return {
    id, title, equation: NORMS[kind], why: `${why} ${each[kind]}`,
    body: () => [
      vectors([vectorRow(c, "$x$", before), vectorRow(c, "$x̂$", after, true)], { caption: t("Before and after the norm", "Avant et après la normalisation") }),
      h("p", { class: "walk-fact" },
        t(`Before: mean ${tools.number(mean(before))}, standard deviation ${tools.number(Math.sqrt(variance(before)))}. After, with gain and shift: ${tools.number(mean(after))} and ${tools.number(Math.sqrt(variance(after)))}.`,
          `Avant : moyenne ${tools.number(mean(before))}, écart type ${tools.number(Math.sqrt(variance(before)))}. Après, gain et décalage compris : ${tools.number(mean(after))} et ${tools.number(Math.sqrt(variance(after)))}.`)),
    ],
    checks: [computed ? check("x̂", after, computed) : missing(c, "x̂", reason)],
  };
}

/** @param {Surroundings} c */
function normBefore(c) {
  if (!c.pre) return null;
  return norm(c, {
    id: "norm-before", title: t("Norm, before attention", "Normalisation, avant l'attention"),
    why: t("Vectors differ in size from word to word and from training step to training step (covariate shift): the norm makes them alike.",
      "La taille des vecteurs varie d'un mot à l'autre et d'un pas d'entraînement à l'autre (décalage des covariables) : la normalisation les rend comparables."),
    from: `${c.residual}.input`, to: `${c.residual}.normed`, name: `${c.residual}.norm`,
  });
}

// ---- Queries, keys, values --------------------------------------------------------------------------------------------------

/** @param {Surroundings} c */
function shapes(c) {
  const { D, width, heads } = c;
  const asked = c.kind === "cross" ? t("each word of the source", "chaque mot de la source") : t("each word", "chaque mot");
  const roles = [
    ["W_Q", "q", c.word, t("query: what this word is looking for", "requête : ce que ce mot cherche")],
    ["W_K", "k", asked, t("key: what a word can be found by", "clé : ce par quoi on trouve un mot")],
    ["W_V", "v", asked, t("value: what a word gives to who finds it", "valeur : ce qu'un mot donne à qui le trouve")],
  ];
  return {
    id: "shapes",
    title: t("$W_Q$, $W_K$, $W_V$: three learned matrices", "$W_Q$, $W_K$, $W_V$ : trois matrices apprises"),
    equation: `q = x·W_Q + b_Q,  k = ${c.kind === "cross" ? "m" : "x"}·W_K + b_K,  v = ${c.kind === "cross" ? "m" : "x"}·W_V + b_V`,
    why: t(`Three small networks, each trained for its role, turn a vector of D = ${D} numbers into $d_k$ = ${width}. Every one of the ${heads} heads has three of its own, so that each can look for something else.`,
      `Trois petits réseaux, chacun entraîné pour son rôle, changent un vecteur de D = ${D} nombres en $d_k$ = ${width}. Chacune des ${heads} têtes a les trois siens : chacune peut chercher autre chose.`)
      + (c.kind === "cross" ? " " + t("Queries come from the translation, keys and values from m, the encoder's output: its latent representation of the source.",
        "Les requêtes viennent de la traduction, clés et valeurs de m, la sortie de l'encodeur : sa représentation latente de la source.") : ""),
    body: () => [
      tools.table([t("matrix", "matrice"), t("shape", "forme"), t("made for", "pour"), t("gives", "donne")],
        roles.map(([matrix, gives, whom, role]) => [equation(matrix), `${D} × ${width}`, whom, `${gives}, ${width} ${t("numbers", "nombres")} — ${role}`]),
        { caption: t(`Head ${c.head} of ${heads}; side by side the ${heads} heads make one matrix of ${D} × ${heads * width}`,
          `Tête ${c.head} sur ${heads} ; côte à côte, les ${heads} têtes font une matrice de ${D} × ${heads * width}`) }),
      h("p", { class: "walk-fact" },
        t(`Here vectors are rows, as in the program. With vectors as columns, as in many lecture notes, the same is q = W·x with W of ${width} × ${D}.`,
          `Ici les vecteurs sont des lignes, comme dans le programme. En colonnes, comme dans bien des cours, c'est q = W·x avec W de ${width} × ${D}.`)),
    ],
    checks: [],
  };
}

/** @param {Surroundings} c */
function turnedReason(c) {
  return t("recorded after its rotation by the position, of which the page lacks the other half of the columns",
    "enregistré après sa rotation par la position, dont la page n'a pas l'autre moitié des colonnes");
}

/** @param {Surroundings} c */
function query(c) {
  const x = c.row(c.read);
  const q = c.array(`${c.place}.q`).row(c.head, c.token);
  const matrix = columns(c, "query");
  const can = x && matrix && !c.turned;
  return {
    id: "query",
    title: t(`q: what ${c.word} is looking for`, `q : ce que cherche ${c.word}`),
    equation: "q = x·W_Q + b_Q",
    why: t(`Each of the ${c.width} numbers of q is one dot product: ${c.word}'s vector with one column of the matrix.`,
      `Chacun des ${c.width} nombres de q est un produit scalaire : le vecteur de ${c.word} par une colonne de la matrice.`)
      + (c.turned ? " " + t("Then q is turned by an angle that grows with the place, and so is each k: their product depends on the distance of two words, not on where they stand.",
        "Puis q est tourné d'un angle qui croît avec la place, et chaque k aussi : leur produit dépend de la distance de deux mots, non de leur place.") : ""),
    body: () => [
      vectors([...(x ? [vectorRow(c, "$x$", x)] : []), vectorRow(c, `$q$, ${c.word}`, q, true)], { caption: t(`The query of ${c.word}, head ${c.head}`, `La requête de ${c.word}, tête ${c.head}`) }),
      ...(can ? [product("q_1", x, matrix.rows[0], { bias: matrix.bias ? matrix.bias[0] : null, total: project(x, matrix.rows, matrix.bias)[0] })] : []),
    ],
    checks: [can ? check("q", q, project(x, matrix.rows, matrix.bias)) : missing(c, "q", c.turned ? turnedReason(c) : "")],
  };
}

/** k or v of every word: the first columns, recomputed row by row. @param {Surroundings} c @param {string} which @param {string} letter */
function checkEvery(c, which, letter) {
  const recorded = c.array(`${c.place}.${letter}`);
  const inputs = c.array(c.memory);
  const matrix = columns(c, which);
  if (!inputs || !matrix) return missing(c, letter, "");
  if (letter === "k" && c.turned) return missing(c, letter, turnedReason(c));
  const found = [];
  const computed = [];
  c.keyTokens.forEach((_, at) => {
    computed.push(...project(inputs.row(at), matrix.rows, matrix.bias));
    found.push(...recorded.row(c.head, at).slice(0, matrix.rows.length));
  });
  return check(t(`${letter} of every word`, `${letter} de chaque mot`), found, computed);
}

/** @param {Surroundings} c */
function keysAndValues(c) {
  const [k, v] = ["k", "v"].map((letter) => c.array(`${c.place}.${letter}`));
  /** @param {RecordArray} array */
  const rows = (array) => c.keyTokens.map((name, at) => vectorRow(c, name, array.row(c.head, at), c.kind !== "cross" && at === c.token));
  return {
    id: "keys",
    title: t("k and v of every word", "k et v de chaque mot"),
    equation: c.kind === "cross" ? "K = M·W_K + b_K,  V = M·W_V + b_V" : "K = X·W_K + b_K,  V = X·W_V + b_V",
    why: t("All words do the same at once: their keys under each other make the matrix K, their values the matrix V.",
      "Tous les mots font de même en une fois : leurs clés l'une sous l'autre font la matrice K, leurs valeurs la matrice V."),
    body: () => [
      vectors(rows(k), { caption: t(`K: ${c.keyTokens.length} × ${c.width}, a row a word`, `K : ${c.keyTokens.length} × ${c.width}, une ligne par mot`) }),
      vectors(rows(v), { caption: t(`V: ${c.keyTokens.length} × ${c.width}, a row a word`, `V : ${c.keyTokens.length} × ${c.width}, une ligne par mot`) }),
    ],
    checks: [checkEvery(c, "key", "k"), checkEvery(c, "value", "v")],
  };
}

export const beforeSteps = [embedding, positions, input, arrival, normBefore, shapes, query, keysAndValues];
