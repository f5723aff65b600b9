/* Step by step: the lecture notes' walk with the reader's own sentence, every number beside its equation and computed anew here. */
import * as charts from "../charts.js";
import {KINDS} from "../record.js";
import * as tools from "../tools.js";
import {h, t} from "../tools.js";
import {afterSteps} from "./02_steps_after.js";
import {attentionSteps} from "./02_steps_attention.js";
import {beforeSteps, surroundings} from "./02_steps_before.js";
import {checkList, equation, judge, mark, overall, prose, restore} from "./02_steps_math.js";

/** What is looked at; it outlives a redraw. token and key: null until chosen. */
/** @type {{kind: Kind, layer: number, head: number, token: number, key: number, step: string, all: boolean}} */
const chosen = { kind: null, layer: 0, head: 0, token: null, key: null, step: "embedding", all: false };
/** @type {() => void} */
let refresh = null;

/** Whether all steps are shown: by wish, or on paper, where nobody can go on to the next. */
const showsAll = () => chosen.all || tools.state.printing;

/** @param {PageRecord} record */
function kindWords(record) {
  return {
    encoder: t("Encoder self-attention", "Auto-attention de l'encodeur"),
    decoder: record.alone ? t("Masked self-attention", "Auto-attention masquée")
      : t("Decoder masked self-attention", "Auto-attention masquée du décodeur"),
    cross: t("Cross-attention", "Attention croisée"),
  };
}

/** Layers whose whole walk is in the page. @param {PageRecord} record @param {Kind} kind */
function layersOf(record, kind) {
  const needed = ["q", "k", "v", "raw_scores", "scores", "weights", "context"];
  /** @param {{place: string, heads: any}} given */
  const whole = ({ place, heads }) => needed.every((what) => record.has(`${place}.${what}`)) && record.array(`${place}.q`).shape[0] === heads;
  return record.attentions(kind).filter(whole);
}

/** @param {PageRecord} record */
function kindsOf(record) {
  return KINDS.filter((kind) => layersOf(record, kind).length);
}

/** @param {PageRecord} record */
function tokensOf(record) {
  return chosen.kind === "encoder" ? record.sourceTokens : record.targetTokens;
}

/** The pronoun of the lecture notes' example where the sentence has it, else a word in the middle. @param {string[]} tokens */
function firstToken(tokens) {
  const pronoun = tokens.findIndex((piece) => /^▁?(it|il|elle)$/i.test(piece));
  return pronoun >= 0 ? pronoun : Math.floor((tokens.length - 1) / 2);
}

/** Make the choice one that exists. @param {PageRecord} record */
function settle(record) {
  const kinds = kindsOf(record);
  if (!kinds.includes(chosen.kind)) chosen.kind = kinds[0];
  const layers = layersOf(record, chosen.kind);
  if (!layers.some((one) => one.layer === chosen.layer)) chosen.layer = layers[0].layer;
  const { heads } = layers.find((one) => one.layer === chosen.layer);
  if (chosen.head >= heads) chosen.head = 0;
  const tokens = tokensOf(record);
  if (chosen.token === null || chosen.token >= tokens.length) chosen.token = firstToken(tokens);
}

/** @param {PageRecord} record */
function stepsOf(record) {
  const c = surroundings(record, {
    ...chosen,
    setKey: (key) => change({ key }),
    setToken: (token) => change({ token, key: null }),
  });
  const made = [...beforeSteps, ...attentionSteps, ...afterSteps].map((make) => {
    c.types.clear();
    const step = make(c);
    return step && { ...step, checks: step.checks.map((found) => judge(found, c.types)) };
  });
  return made.filter((step) => step !== null);
}

/** @param {any} what */
function change(what) {
  Object.assign(chosen, what);
  refresh();
}

// ---- Controls ---------------------------------------------------------------------------------------------------------------

/** @param {any} element @param {string} key */
function keyed(element, key) {
  const control = element.matches("button, select, input") ? element : element.querySelector("select, input");
  control.dataset.key = key;
  return element;
}

/** @param {PageRecord} record */
function controls(record) {
  const words = kindWords(record);
  const layers = layersOf(record, chosen.kind);
  const { heads } = layers.find((one) => one.layer === chosen.layer);
  /** @param {number} count */
  const numbered = (count) => Array.from({ length: count }, (_, at) => ({ value: at, text: String(at) }));
  const every = record.attentions(chosen.kind).length;
  const bar = tools.toolbar(
    keyed(tools.select(t("Attention", "Attention"), kindsOf(record).map((kind) => ({ value: kind, text: words[kind] })), chosen.kind,
      (kind) => change({ kind, token: null, key: null })), "kind"),
    keyed(tools.select(t("Layer", "Couche"), layers.map(({ layer }) => ({ value: layer, text: String(layer) })), chosen.layer,
      (layer) => change({ layer: Number(layer), key: null })), "layer"),
    keyed(tools.select(t("Head", "Tête"), numbered(heads), chosen.head, (head) => change({ head: Number(head), key: null })), "head"));
  if (layers.length < every) {
    bar.append(h("span", { class: "quiet" }, t(`${layers.length} of ${every} layers are in this page with all their numbers`,
      `${layers.length} couches sur ${every} sont dans cette page avec tous leurs nombres`)));
  }
  return bar;
}

/** @param {PageRecord} record */
function words(record) {
  const texts = tokensOf(record).map(tools.piece);
  const label = chosen.kind === "encoder" ? t("Walk with the word", "Suivre le mot")
    : record.alone ? t("Walk with the word that the model has just read", "Suivre le mot que le modèle vient de lire")
      : t("Walk with the word that the decoder has just read", "Suivre le mot que le décodeur vient de lire");
  const row = charts.tokens({ tokens: texts, label, selected: chosen.token, onSelect: (token) => change({ token, key: null }) });
  [...row.children].forEach((button, at) => keyed(button, `token-${at}`));
  return h("div", { class: "walk-words" }, h("span", { class: "quiet" }, label), row);
}

// ---- Steps ------------------------------------------------------------------------------------------------------------------

/** @param {Step[]} steps */
function summary(steps) {
  const checks = steps.flatMap((step) => step.checks);
  const [good, bad] = [checks.filter((one) => one.ok), checks.filter((one) => !one.ok && !one.reason)];
  const numbers = good.reduce((sum, one) => sum + one.count, 0);
  const without = checks.length - good.length - bad.length;
  const words = h("p", { class: `walk-summary ${bad.length ? "differs" : "ok"}` }, mark(bad.length ? "differs" : "ok"), " ",
    bad.length
      ? t(`${bad.length} of ${checks.length} checks found numbers that differ from the model's.`, `${bad.length} vérifications sur ${checks.length} ont trouvé des nombres qui diffèrent de ceux du modèle.`)
      : t(`This page has computed ${numbers} numbers of this walk anew, in double precision, and all agree with the model's.`,
        `Cette page a recalculé ${numbers} nombres de ce parcours, en double précision, et tous s'accordent avec ceux du modèle.`));
  if (checks.some((one) => one.rounded)) {
    words.append(` ${t("The page holds rounded numbers: agreement is as close as these allow.", "La page contient des nombres arrondis : l'accord est aussi étroit qu'ils le permettent.")}`);
  }
  if (without) words.append(` ${t(`${without} can't be computed here; the step says why.`, `${without} ne peuvent être calculés ici ; l'étape dit pourquoi.`)}`);
  words.dataset.good = String(good.length);
  words.dataset.bad = String(bad.length);
  words.dataset.without = String(without);
  return words;
}

/** @param {Step[]} steps */
function list(steps) {
  const items = steps.map((step, at) => {
    const which = overall(step.checks);
    const current = !showsAll() && step.id === chosen.step;
    const button = h("button", {
      type: "button", class: "walk-jump", "aria-current": current ? "step" : null, "data-key": `step-${step.id}`, onclick: () => go(step.id),
    }, h("span", { class: "walk-number" }, String(at + 1)), h("span", { class: "walk-name" }, prose(step.title)), which ? mark(which) : null);
    return h("li", null, button);
  });
  return h("nav", { class: "walk-list", "aria-label": t("Steps", "Étapes") }, h("ol", null, items));
}

/** @param {Step} step @param {number} number */
function card(step, number) {
  const which = overall(step.checks);
  return h("article", { class: "walk-step", "data-step": step.id, id: `walk-${step.id}`, tabindex: -1 },
    h("h3", null, h("span", { class: "walk-number" }, String(number)), h("span", null, prose(step.title)), which ? [" ", mark(which)] : null),
    h("p", { class: "walk-formula" }, equation(step.equation)),
    h("p", { class: "walk-why" }, prose(step.why)),
    step.body(), step.checks.length ? checkList(step.checks) : null);
}

/** @param {string} id @param {{focus?: boolean}} given */
function go(id, { focus = false } = {}) {
  if (chosen.all) {
    document.getElementById(`walk-${id}`).scrollIntoView({ block: "start" });
    document.getElementById(`walk-${id}`).focus({ preventScroll: true });
    return;
  }
  change({ step: id });
  if (focus) document.getElementById(`walk-${id}`).focus({ preventScroll: true });
}

/** @param {Step[]} steps */
function stage(steps) {
  const at = steps.findIndex((step) => step.id === chosen.step);
  const shown = showsAll() ? steps.map((step, place) => card(step, place + 1)) : [card(steps[at], at + 1)];
  const move = h("div", { class: "walk-move" },
    keyed(tools.button(t("← Back", "← Retour"), () => go(steps[at - 1].id), { disabled: at === 0 }), "back"),
    keyed(tools.button(t("Next →", "Suivant →"), () => go(steps[at + 1].id), { disabled: at === steps.length - 1, class: "button walk-next" }), "next"),
    h("span", { class: "quiet" }, t(`step ${at + 1} of ${steps.length}; the arrow keys ← → do the same`, `étape ${at + 1} sur ${steps.length} ; les flèches ← → font de même`)));
  return h("div", { class: "walk-stage" }, showsAll() ? null : move, shown);
}

// ---- The whole --------------------------------------------------------------------------------------------------------------

/** @param {HTMLElement} container @param {PageRecord} record */
function fill(container, record) {
  settle(record);
  const steps = stepsOf(record);
  if (!steps.some((step) => step.id === chosen.step)) chosen.step = steps[0].id;
  const mode = tools.choice(t("Show", "Montrer"), [{ value: "one", text: t("one step", "une étape") }, { value: "all", text: t("all steps", "toutes") }],
    showsAll() ? "all" : "one", (value) => change({ all: value === "all" }));
  mode.querySelectorAll("button").forEach((button) => keyed(button, `mode-${button.dataset.value}`));
  const bar = controls(record);
  bar.append(mode);
  container.replaceChildren(bar, words(record), summary(steps),
    restore(h("div", { class: showsAll() ? "walk all" : "walk" }, list(steps), stage(steps))));
  /** @type {HTMLElement} */
  const current = container.querySelector("[aria-current=step]");
  const ol = container.querySelector(".walk-list ol");
  if (current) {
    ol.scrollTop = current.offsetTop - ol.clientHeight / 2;
    ol.scrollLeft = current.offsetLeft - ol.clientWidth / 2;
  }
}

/** Fill anew and give the focus back to what had it. @param {HTMLElement} container @param {() => void} change */
function keepFocus(container, change) {
  const key = container.contains(document.activeElement) ? document.activeElement.getAttribute("data-key") ?? undefined : undefined;
  change();
  if (key === undefined) return;
  /** @type {HTMLButtonElement} */
  const same = container.querySelector(`[data-key="${CSS.escape(key)}"]`);
  if (same && !same.disabled) same.focus({ preventScroll: true });
  else /** @type {HTMLElement} */ (container.querySelector(".walk-step"))?.focus({ preventScroll: true });
}

const OWN_ARROWS = "select, input, textarea, canvas, summary, .table, .scroll, [role=tablist]";

/** The arrow keys go from step to step, wherever they mean nothing else. @param {any} event */
function onKey(event) {
  const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!move || event.defaultPrevented || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey || chosen.all) return;
  const { container, record } = shownIn;
  if (!container || !container.isConnected || container.offsetParent === null) return;
  const inside = container.contains(event.target);
  if (event.target !== document.body && !(inside && !event.target.closest(OWN_ARROWS))) return;
  const steps = stepsOf(record);
  const next = steps[steps.findIndex((step) => step.id === chosen.step) + move];
  if (!next) return;
  event.preventDefault();
  go(next.id, { focus: true });
}

/** Where the view is, for the one listener of the document. */
/** @type {{container: HTMLElement, record: PageRecord}} */
const shownIn = { container: null, record: null };
document.addEventListener("keydown", onKey);

/** @type {View} */
export const stepsView = {
  id: "steps",
  order: 2,
  label: { en: "Step by step", fr: "Pas à pas" },
  available: (record) => kindsOf(record).length > 0,
  render(root, record) {
    const container = h("div", { class: "walk-view" });
    root.append(container);
    Object.assign(shownIn, { container, record });
    refresh = () => keepFocus(container, () => fill(container, record));
    fill(container, record);
  },
};
