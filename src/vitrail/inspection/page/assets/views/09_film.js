/* The training film: the same sentences looked at again and again while the model learned, on a slider over time. */
import * as charts from "../charts.js";
import * as tools from "../tools.js";
import {h, t} from "../tools.js";
import {brief, choicesPart, latentPart, wordsOf} from "./09_film_kinds.js";

const state = {frame: null, probe: 0, layer: "mean", kind: null, score: null, norm: 0, timer: null};
const PACE = 700; // milliseconds a frame

/** Stops the film where it stands. */
function halt() {
  if (state.timer !== null) clearInterval(state.timer);
  state.timer = null;
}

// ---- what is told -------------------------------------------------------------------------------------------------------------------

/**
 * Words of a text, or its characters where none has a space, each with whether the other text has it in the same order (longest common subsequence).
 * @param {string} text @param {string} other
 */
function shared(text, other) {
  const spaced = /\s/.test(text.trim()) || /\s/.test(other.trim());
  const [a, b] = [text, other].map((one) => (spaced ? one.split(/\s+/).filter(Boolean) : [...one]));
  const length = Array.from({length: a.length + 1}, () => new Array(b.length + 1).fill(0));
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) length[i][j] = a[i] === b[j] ? 1 + length[i + 1][j + 1] : Math.max(length[i + 1][j], length[i][j + 1]);
  }
  const found = a.map((word) => ({word, same: false, gap: spaced ? " " : ""}));
  for (let i = 0, j = 0; i < a.length && j < b.length; ) {
    if (a[i] === b[j]) found[(j += 1, i++)].same = true;
    else if (length[i + 1][j] >= length[i][j + 1]) i += 1;
    else j += 1;
  }
  return found;
}

/** What a probe is called in a list. @param {Film} film @param {number} number */
const nameOf = (film, number) => (film.task === "language" ? film.probes[number].reference : film.probes[number].source);

/** The unit of a loss. @param {Film} film */
const unit = (film) => (film.task === "classification" ? t("nats", "nats") : t("nats per token", "nats par token"));

/** @param {Film} film @param {string} name */
const scoreName = (film, name) => ({
  dev_bleu: "BLEU", dev_chrf: "chrF", dev_f1: t("macro F1", "F1 macro"), dev_matthews: "Matthews",
  dev_accuracy: t("share that is right", "part de réponses justes"), dev_exact_share: t("share given back exactly", "part rendue exactement"),
  dev_perplexity: t("perplexity", "perplexité"), dev_bits_per_byte: t("bits per byte", "bits par octet"),
  dev_perplexity_per_word: t("perplexity per word", "perplexité par mot"),
  dev_loss_nats_per_token: t(`loss on the dev set (${unit(film)})`, `perte sur le jeu de dev (${unit(film)})`),
})[name] ?? name;

// ---- the parts: each has an element and a way to move to a frame --------------------------------------------------------------------

/** A text that the model said, with what is not right marked. @param {Film} film @param {string} text @param {any} probe */
function told(film, text, probe) {
  const {begins, whole} = wordsOf(film);
  if (!text) return [t("(nothing)", "(rien)")];
  if (begins && text.startsWith(probe.source)) return [h("span", {class: "film-given"}, probe.source), text.slice(probe.source.length)];
  if (whole || begins) return [h("span", whole && probe.reference && text !== probe.reference ? {class: "film-other"} : null, text)];
  return shared(text, probe.reference).flatMap(({word, same, gap}) => [h("span", same ? null : {class: "film-other"}, word), gap]);
}

/** @param {Film} film */
function translationsPart(film) {
  const said = film.probes.map(() => h("p", {class: "film-said", dir: "auto"}));
  const lost = film.probes.map(() => h("span", {class: "film-loss"}));
  const worst = Math.max(...film.losses.flat().filter((value) => value !== null), 1e-9);
  const names = wordsOf(film);
  const cards = film.probes.map((probe, number) => h("div", {class: "film-card"},
    names.alone ? null : h("p", {class: "quiet", dir: "auto"}, probe.source), said[number],
    probe.reference && !(names.begins && probe.reference === probe.source)
      ? h("p", {class: "film-reference quiet"}, h("span", null, names.reference), h("bdi", null, probe.reference)) : null, lost[number]));
  /** @param {number} frame */
  const move = (frame) => film.probes.forEach((probe, number) => {
    said[number].replaceChildren(...told(film, film.translations[number][frame], probe));
    const loss = film.losses[number][frame];
    if (loss === null) return lost[number].replaceChildren();
    return lost[number].replaceChildren(
      h("span", {class: "maps-track"}, h("span", {style: {width: `${(loss / worst) * 100}%`}})), `${tools.number(loss, 2)} ${unit(film)}`);
  });
  return {move, element: tools.section(
    t("What it said at this step", "Ce qu'il disait à ce pas"),
    h("p", {class: "quiet"}, names.rule),
    h("div", {class: "film-cards"}, cards))};
}

/** The attention of a probe at a step, in shares of 1. @param {Film} film @param {number} frame */
function weightsAt(film, frame) {
  const layers = film.attention[state.probe]?.[frame] ?? [];
  if (!layers.length) return null;
  const chosen = state.layer === "mean" ? layers : [layers[Number(state.layer)] ?? layers[0]];
  const [rows, columns] = [chosen[0].length, chosen[0][0].length];
  const values = new Float32Array(rows * columns);
  for (const layer of chosen) layer.forEach((row, t) => row.forEach((value, s) => (values[t * columns + s] += value / 100 / chosen.length)));
  return values;
}

/** @param {Film} film @param {() => number} current */
function attentionPart(film, current) {
  const able = film.probes.map((_, number) => number).filter((number) => film.attention[number]?.some((layers) => layers.length));
  if (!able.length) return null;
  if (!able.includes(state.probe)) state.probe = able[0];
  const count = film.attention[state.probe].find((layers) => layers.length).length;
  const crossed = (film.task ?? "translation") === "translation";
  const body = h("div", null);
  /** @param {number} frame */
  const move = (frame) => {
    const {source_tokens: columns, target_tokens} = film.probes[state.probe];
    const rows = crossed ? target_tokens : columns;
    const values = weightsAt(film, frame);
    if (!values) return body.replaceChildren(h("p", {class: "quiet"}, t("Not recorded.", "Non enregistré.")));
    const [down, across] = [rows, columns].map((tokens) => tokens.map(tools.piece));
    return body.replaceChildren(tools.figure(
      charts.heatmap({values, rows: down, columns: across, max: 1, size: 420, label: crossed
        ? t(`Cross-attention at step ${film.steps[frame]}`, `Attention croisée au pas ${film.steps[frame]}`)
        : t(`Self-attention at step ${film.steps[frame]}`, `Auto-attention au pas ${film.steps[frame]}`)}),
      crossed ? t("Cross-attention while the reference is read, mean of the heads.", "Attention croisée pendant la lecture de la référence, moyenne des têtes.")
        : t("Self-attention: each token (row) and those that it reads (columns), mean of the heads.",
          "Auto-attention : chaque token (ligne) et ceux qu'il lit (colonnes), moyenne des têtes."),
      () => tools.table(["", ...across], down.map((name, row) => [name, ...across.map((_, column) => tools.percent(values[row * across.length + column]))]))));
  };
  /** @param {string} key @param {(value: any) => any} read */
  const change = (key, read) => (value) => {
    state[key] = read(value);
    move(current());
  };
  const layers = [{value: "mean", text: t("all layers",
    "toutes les couches")}, ...Array.from({length: count}, (_, layer) => ({value: String(layer), text: String(layer)}))];
  return {move, element: tools.section(
    t("Where it looked at this step", "Où il regardait à ce pas"),
    tools.toolbar(
      able.length > 1 ? tools.select(t("Sentence",
        "Phrase"), able.map((number) => ({value: String(number), text: nameOf(film, number)})), String(state.probe), change("probe", Number)) : null,
      count > 1 ? tools.choice(t("Layer", "Couche"), layers, state.layer, change("layer", String)) : null),
    body)};
}

/**
 * A line chart with an upright at the step.
 * @param {Film} film @param {{series: Series[], label: string, yLabel: string, log: boolean}} given @param {number} frame
 */
function chart(film, {series, label, yLabel, log}, frame) {
  return charts.lines({series, labels: film.steps.map(brief), label, yLabel, log, marker: frame});
}

/**
 * A chart among several that a choice picks: `make(key)` gives what `chart` draws.
 * @param {Film} film @param {{title: string, text?: string, label: string, options: any[], key: any, make: (value: any) => any[]}} given
 * @param {() => number} current
 */
function chosenChart(film, {title, text, label, options, key, make}, current) {
  if (!options.length) return null;
  if (!options.some((one) => String(one.value) === String(state[key]))) state[key] = options[0].value;
  const body = h("div", {class: "film-charts"});
  let pictures = [];
  /** @param {any} value */
  const draw = (value) => {
    state[key] = value;
    pictures = make(value).filter((one) => one.series.some(({values}) => values.some(Number.isFinite))).map((one) => chart(film, one, current()));
    body.replaceChildren(...pictures);
  };
  draw(state[key]);
  const pick = options.length < 2 ? null : options.length > 5 ? tools.select(label, options, state[key], draw) : tools.choice(label, options, state[key], draw);
  return {move: (frame) => pictures.forEach((one) => one.point?.(frame)), element: tools.section(title, text ? h("p", null, text) : null, pick, body)};
}

/** @param {Film} film @param {() => number} current */
function scoresPart(film, current) {
  const names = Object.keys(film.scores).filter((name) => film.scores[name].some((value) => value !== null));
  const losses = {value: "probes", text: t("loss of these sentences", "perte de ces phrases")};
  return chosenChart(film, {
    title: t("How well it did", "Ses progrès"), label: t("Measure", "Mesure"), key: "score",
    options: [...names.map((name) => ({value: name, text: scoreName(film, name)})), losses],
    make: (name) => [name === "probes"
      ? {series: film.losses.map((values, number) => ({name: nameOf(film, number), values})), label: losses.text, yLabel: unit(film)}
      : {series: [{name: scoreName(film, name), values: film.scores[name]}], label: scoreName(film, name), yLabel: ""}],
  }, current);
}

/** @param {Film} film @param {() => number} current */
function entropyPart(film, current) {
  const names = {encoder: t("encoder", "encodeur"), decoder: t("decoder", "décodeur"), cross: t("cross", "croisée")};
  const kinds = ["encoder", "decoder", "cross"].filter((kind) => film.entropies[kind]?.length);
  /** @param {any} heads @param {number} frame */
  const mean = (heads, frame) => {
    const known = heads.map((values) => values[frame]).filter((value) => value !== null);
    return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
  };
  return chosenChart(film, {
    title: t("How widely heads look", "L'étendue du regard des têtes"), label: t("Attention", "Attention"), key: "kind",
    text: t("Entropy of the weights as a share of the largest possible: 0 one position alone, 1 all alike. Mean of the heads of a layer.",
      "Entropie des poids, en part de la plus grande possible : 0 une seule position, 1 toutes pareilles. Moyenne des têtes d'une couche."),
    options: kinds.map((kind) => ({value: kind, text: names[kind]})),
    make: (kind) => [{
      series: film.entropies[kind].map((heads, layer) => ({name: t(`layer ${layer}`,
        `couche ${layer}`), values: film.steps.map((_, frame) => mean(heads, frame))})),
      label: t(`Entropy, ${names[kind]}`, `Entropie, ${names[kind]}`), yLabel: t("share of the largest", "part du maximum"),
    }],
  }, current);
}

/** ||dL/dW|| by group of weights and step; the colour is its logarithm, since groups differ by orders of magnitude. @param {Film} film */
function gradientPart(film) {
  const {places, norms} = film.gradients ?? {};
  if (!places?.length) return null;
  const logs = norms.flat().map((value) => (value > 0 ? Math.log10(value) : NaN));
  const finite = logs.filter(Number.isFinite);
  const [low, high] = [Math.min(...finite), Math.max(...finite)];
  const values = logs.map((value) => (Number.isFinite(value) ? (high === low ? 1 : 0.04 + 0.96 * (value - low) / (high - low)) : 0));
  const picture = charts.heatmap({
    values, rows: places, columns: film.steps.map(brief), max: 1, size: 640,
    label: t("Gradient norm by group of weights and step", "Norme du gradient par groupe de poids et par pas"),
    rowTitle: t("weights", "poids"), columnTitle: t("step", "pas"),
    describe: (row, column) => t(`${places[row]} at step ${film.steps[column]}: ${tools.number(norms[row][column], 4)}`,
      `${places[row]} au pas ${film.steps[column]} : ${tools.number(norms[row][column], 4)}`),
  });
  return {move: (frame) => picture.point(null, frame), element: tools.section(
    t("Gradients, layer by layer", "Gradients, couche par couche"),
    tools.figure(picture,
      t(`The norm of the gradient of the loss, from ${tools.number(10 ** low, 4)} (light) to ${tools.number(10 ** high, 4)} (dark) on a logarithmic scale; input first. The frame is the step above.`,
        `La norme du gradient de la perte, de ${tools.number(10 ** low, 4)} (clair) à ${tools.number(10 ** high, 4)} (foncé) sur une échelle logarithmique ; l'entrée d'abord. Le cadre est le pas choisi.`),
      () => tools.table(["", ...film.steps.map(String)], places.map((place, row) => [place, ...norms[row].map((value) => tools.number(value, 4))]))))};
}

/** The first features by themselves, before and after a norm. @param {FilmNorm} norm @param {any} t */
function unitCharts(norm, t) {
  /** @param {string} side */
  const series = (side) => (norm[side].units ?? []).map((values, unit) => ({name: t(`feature ${unit}`,
    `composante ${unit}`), values: values.map((pair) => pair?.[0] ?? null)}));
  return [
    {series: series("input"), label: t("Means of the first features that it reads",
      "Moyennes des premières composantes qu'elle lit"), yLabel: ""},
    {series: series("output"), label: t("Means of the first features that it gives",
      "Moyennes des premières composantes qu'elle rend"), yLabel: ""},
  ].filter((one) => one.series.length);
}

/** @param {Film} film @param {() => number} current */
function normsPart(film, current) {
  const norms = film.norms ?? [];
  const names = {input: t("what it reads", "ce qu'elle lit"), output: t("what it gives", "ce qu'elle rend")};
  /** @param {FilmNorm} norm @param {any} what */
  const pair = (norm, what) => ["input", "output"].map((side) => ({name: names[side], values: norm[side][what]}));
  const kind = {layer: t("layer norm", "norme de couche"), rms: "RMS norm", batch: t("batch norm", "norme de lot")};
  return chosenChart(film, {
    title: t("Norms", "Normes"), label: t("Norm", "Norme"), key: "norm",
    text: t("Mean and variance over all tokens and features, before and after a norm, and how far features moved since the frame before.",
      "Moyenne et variance sur tous les tokens et composantes, avant et après une norme, et le déplacement des composantes depuis l'image précédente."),
    options: norms.map((norm, number) => ({value: String(number), text: `${norm.place} (${kind[norm.kind] ?? norm.kind})`})),
    make: (number) => {
      const norm = norms[Number(number)];
      const drift = norm.running && {series: [{name: t("mean",
        "moyenne"), values: norm.running.mean_drift}, {name: "variance", values: norm.running.variance_drift}],
        label: t("Running statistics away from the batch's", "Écart des statistiques courantes à celles du lot"), yLabel: ""};
      return [
        {series: pair(norm, "mean"), label: t("Mean", "Moyenne"), yLabel: ""},
        {series: pair(norm, "variance"), label: t("Variance (logarithmic)", "Variance (logarithmique)"), yLabel: "", log: true},
        {series: pair(norm, "shift"), label: t("Shift since the frame before, in deviations",
          "Déplacement depuis l'image précédente, en écarts types"), yLabel: ""},
        ...unitCharts(norm, t),
        ...(drift ? [drift] : []),
      ];
    },
  }, current);
}

// ---- the projector ------------------------------------------------------------------------------------------------------------------

/** @param {Film} film @param {(frame: number) => void} move */
function projector(film, move) {
  const last = film.steps.length - 1;
  /** @param {number} frame */
  const told = (frame) => t(`step ${film.steps[frame]} (${frame + 1} of ${last + 1})`,
    `pas ${film.steps[frame]} (${frame + 1} sur ${last + 1})`);
  const control = tools.slider(t("Training", "Entraînement"), {min: 0, max: last, value: state.frame, describe: told}, (frame) => {
    halt();
    name();
    go(frame);
  });
  const [box, output] = [control.querySelector("input"), control.querySelector("output")];
  const play = tools.button("", () => (state.timer === null ? start() : stop()));
  const name = () => (play.textContent = state.timer === null ? t("▶ Play", "▶ Lire") : t("❚❚ Pause", "❚❚ Pause"));
  /** @param {number} frame */
  const go = (frame) => {
    state.frame = frame;
    box.setAttribute("aria-valuetext", told(frame));
    move(frame);
  };
  /** @param {number} frame */
  const show = (frame) => {
    box.value = String(frame);
    output.textContent = told(frame);
    go(frame);
  };
  const stop = () => {
    halt();
    name();
  };
  const start = () => {
    if (state.frame >= last) show(0);
    state.timer = setInterval(() => {
      if (!box.isConnected || state.frame >= last) return stop();
      return show(state.frame + 1);
    }, PACE);
    name();
  };
  name();
  go(state.frame);
  return h("div", {class: "film-bar"}, play, control);
}

/** @type {View} */
export const filmView = {
  id: "film",
  order: 9,
  label: {en: "Training film", fr: "Film de l'entraînement"},
  available: (record) => (record.meta.extras?.film?.steps?.length ?? 0) > 0,
  render(root, record) {
    halt();
    const {film} = record.meta.extras;
    if (state.frame === null || state.frame >= film.steps.length) state.frame = film.steps.length - 1;
    const current = () => state.frame;
    const parts = [
      translationsPart(film), choicesPart(film, current), latentPart(film, current), attentionPart(film, current), scoresPart(film, current),
      entropyPart(film, current), gradientPart(film), normsPart(film, current),
    ].filter(Boolean);
    root.append(
      h("p", null, t(`After each validation the model was asked for the same ${film.probes.length} sentences. Move through its training, or let it play.`,
        `Après chaque validation, on a demandé au modèle les mêmes ${film.probes.length} phrases. Parcourez son entraînement, ou laissez défiler.`)),
      projector(film, (frame) => parts.forEach((part) => part.move(frame))), ...parts.map((part) => part.element));
  },
};
