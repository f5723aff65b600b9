/* The equations of recurrent cells (those of nn/recurrent.py), unit by unit and time step by time step, each computed anew. */
import {t} from "../tools.js";
import {sumOf} from "./02_steps_before.js";
import {check, dot, judge, mean, SHOWN, variance} from "./02_steps_math.js";

/** @param {number} x */
const sigmoid = (x) => 1 / (1 + Math.exp(-x));

/** Recurrent layers of a record in one direction each: {name, half, layer, direction}. @param {PageRecord} record @returns {Cell[]} */
export function cellsOf(record) {
  return record.places("hidden").filter((place) => record.has(place.name)).map(({ path, side, layer, order }) => ({
    name: path, half: side === "source" ? "encoder" : "decoder", layer, order,
    direction: side === "target" ? null : order.endsWith("backward") ? "backward" : "forward",
  }));
}

/** What a cell computes, in the order of its equations, and how each is drawn: `signed` from -1 to 1, else from 0 to 1. */
const PARTS = {
  lstm: ["input_gate", "forget_gate", "output_gate", "candidate", "cell", "hidden"],
  gru: ["reset_gate", "update_gate", "candidate", "hidden"],
  rnn: ["hidden"],
};
/** The order of gates in the weights, as in torch. */
const ROWS = { lstm: ["input_gate", "forget_gate", "candidate", "output_gate"], gru: ["reset_gate", "update_gate", "candidate"], rnn: ["hidden"] };
const SYMBOLS = { input_gate: "i", forget_gate: "f", output_gate: "o", reset_gate: "r", update_gate: "z", cell: "c", hidden: "h" };

/** @param {string} kind @param {string} part */
export function symbolOf(kind, part) {
  return part === "candidate" ? { lstm: "g", gru: "n" }[kind] : SYMBOLS[part];
}

/** @param {PageRecord} record @param {Cell} cell */
export function partsOf(record, cell) {
  return PARTS[record.meta.model.cell].filter((part) => record.has(`${cell.name}.${part}`));
}

// ---- Where a step comes from ------------------------------------------------------------------------------------------------

/** The positions in the order in which the cell reads them. @param {PageRecord} record @param {Cell} cell */
function readingOrder(record, cell) {
  const length = record.array(`${cell.name}.hidden`).shape[0];
  const order = Array.from({ length }, (_, at) => at);
  if (cell.half === "decoder") return order;
  const forwards = cell.order.startsWith("reversed") ? [...order.slice(0, -1).reverse(), length - 1] : order;
  return cell.order.endsWith("backward") ? [...forwards].reverse() : forwards;
}

const previous = new Map();

/**
 * The position that the cell reads before another; undefined before its first.
 * @param {PageRecord} record @param {Cell} cell @param {number} time
 */
export function previousOf(record, cell, time) {
  if (!previous.has(cell.name)) {
    const order = readingOrder(record, cell);
    previous.set(cell.name, new Map(order.slice(1).map((at, place) => [at, order[place]])));
  }
  return previous.get(cell.name).get(time);
}

/**
 * The state before a time step: an array, or null where the page does not hold it.
 * @param {PageRecord} record @param {Cell} cell @param {number} time @param {string} part
 */
function before(record, cell, time, part) {
  const last = previousOf(record, cell, time);
  if (last !== undefined) return record.array(`${cell.name}.${part}`).row(last);
  const first = record.array(`${cell.name}.first_${part}`);
  if (first) return first.row(0);
  return cell.half === "encoder" ? new Float32Array(record.array(`${cell.name}.hidden`).shape[1]) : null;
}

/** @param {any[]} parts */
function joined(parts) {
  return parts.every((part) => part !== null) ? parts.flatMap((part) => Array.from(part)) : null;
}

/** x_t of a cell, or null where the page does not hold it. @param {PageRecord} record @param {Cell} cell @param {number} time */
function inputOf(record, cell, time) {
  const { model } = record.meta;
  /** @param {string} name */
  const row = (name, at = time) => record.array(name)?.row(at) ?? null;
  if (cell.half === "encoder") return row(cell.layer ? `encoder.${cell.layer - 1}.output` : "source_embedded");
  const parts = [row(record.places("embedded").find((place) => place.side === "target").name)];
  if (model.attention === "bahdanau") parts.push(row("attention.context"));
  if (model.input_feeding) parts.push(time ? row("attentional", time - 1) : new Float32Array(model.embedding_width));
  let values = joined(parts);
  for (let layer = 0; layer < cell.layer; layer += 1) {
    const below = cellsOf(record).find((one) => one.half === "decoder" && one.layer === layer);
    const hidden = below ? row(`${below.name}.hidden`) : null;
    if (!hidden || !values) return null;
    values = model.residual && layer ? sumOf(hidden, values) : Array.from(hidden);
  }
  return values;
}

// ---- Equations --------------------------------------------------------------------------------------------------------------

/**
 * W·x + b and U·h + b' of one gate and unit; null where the page lacks the weights.
 * @param {PageRecord} record @param {Cell} cell @param {{gate: string, unit: number, time: number}} given
 */
function inflow(record, cell, { gate, unit, time }) {
  const name = `parameters.${cell.name}`;
  const [input, hidden] = [`${name}.input_weight`, `${name}.hidden_weight`].map((one) => record.array(one));
  if (record.meta.model.norm !== "none" || !input || !hidden || unit >= input.shape[1]) return null;
  const at = ROWS[record.meta.model.cell].indexOf(gate);
  const x = inputOf(record, cell, time);
  const h = before(record, cell, time, "hidden");
  if (!x || !h || at >= input.shape[0]) return null;
  /** @param {string} which */
  const bias = (which) => record.array(`${name}.${which}`).at(at, unit);
  return { x: dot(x, input.row(at, unit)) + bias("input_bias"), h: dot(h, hidden.row(at, unit)) + bias("hidden_bias") };
}

/**
 * tanh's argument in h' = o * tanh(c'): c', or its layer norm.
 * @param {PageRecord} record @param {Cell} cell @param {{unit: number, time: number}} given
 */
function shownCell(record, cell, { unit, time }) {
  const values = record.array(`${cell.name}.cell`).row(time);
  if (record.meta.model.norm !== "layer") return values[unit];
  const gain = record.array(`parameters.${cell.name}.cell_norm.weight`);
  const shift = record.array(`parameters.${cell.name}.cell_norm.bias`);
  if (!gain || unit >= gain.shape[0]) return null;
  return ((values[unit] - mean(values)) / Math.sqrt(variance(values) + 1e-5)) * gain.data[unit] + shift.data[unit];
}

/**
 * The equations of a cell: {part, source, compute(at) -> number or null, terms(at) -> what stands in it as [symbol, number]}.
 * `at`: {unit, time}.
 * @param {PageRecord} record @param {Cell} cell
 */
export function equationsOf(record, cell) {
  const kind = record.meta.model.cell;
  /** @param {string} part @param {{unit: number, time: number}} given */
  const value = (part, { unit, time }) => record.array(`${cell.name}.${part}`).at(time, unit);
  /** @param {string} part @param {At} at */
  const old = (part, at) => before(record, cell, at.time, part)?.[at.unit] ?? null;
  /** @param {string} gate @param {At} at */
  const flow = (gate, at) => inflow(record, cell, { gate, ...at });
  /** @param {string} gate @param {string} letter */
  const flowTerms = (gate, letter) => (at) => {
    const found = flow(gate, at);
    return found === null ? null : [[`W_${letter}·x + b`, found.x], [`U_${letter}·h + b′`, found.h]];
  };
  /** @param {string} part @param {string} letter */
  const gate = (part, letter) => ({
    part, source: `${letter} = σ(W_${letter}·x + b + U_${letter}·h + b′)`, terms: flowTerms(part, letter),
    compute: (at) => {
      const found = flow(part, at);
      return found === null ? null : sigmoid(found.x + found.h);
    },
  });
  if (kind === "rnn") {
    return [{
      part: "hidden", source: "h′ = tanh(W·x + b + U·h + b′)",
      terms: (at) => {
        const found = flow("hidden", at);
        return found === null ? null : [["W·x + b", found.x], ["U·h + b′", found.h]];
      },
      compute: (at) => {
        const found = flow("hidden", at);
        return found === null ? null : Math.tanh(found.x + found.h);
      },
    }];
  }
  if (kind === "gru") {
    return [gate("reset_gate", "r"), gate("update_gate", "z"), {
      part: "candidate", source: "n = tanh(W_n·x + b + r * (U_n·h + b′))",
      terms: (at) => flowTerms("candidate", "n")(at)?.concat([["r", value("reset_gate", at)]]) ?? null,
      compute: (at) => {
        const found = flow("candidate", at);
        return found === null ? null : Math.tanh(found.x + value("reset_gate", at) * found.h);
      },
    }, {
      part: "hidden", source: "h′ = (1 − z) * n + z * h",
      terms: (at) => [["z", value("update_gate", at)], ["n", value("candidate", at)], ["h", old("hidden", at)]],
      compute: (at) => {
        const [z, n, h] = [value("update_gate", at), value("candidate", at), old("hidden", at)];
        return h === null ? null : n + z * (h - n);
      },
    }];
  }
  const normed = record.meta.model.norm === "layer";
  return [gate("input_gate", "i"), gate("forget_gate", "f"), gate("output_gate", "o"), {
    part: "candidate", source: "g = tanh(W_g·x + b + U_g·h + b′)", terms: flowTerms("candidate", "g"),
    compute: (at) => {
      const found = flow("candidate", at);
      return found === null ? null : Math.tanh(found.x + found.h);
    },
  }, {
    part: "cell", source: "c′ = f * c + i * g",
    terms: (at) => [["f", value("forget_gate", at)], ["c", old("cell", at)], ["i", value("input_gate", at)], ["g", value("candidate", at)]],
    compute: (at) => {
      const c = old("cell", at);
      return c === null ? null : value("forget_gate", at) * c + value("input_gate", at) * value("candidate", at);
    },
  }, {
    part: "hidden", source: normed ? "h′ = o * tanh(norm(c′))" : "h′ = o * tanh(c′)",
    terms: (at) => [["o", value("output_gate", at)], [normed ? "norm(c′)" : "c′", shownCell(record, cell, at)]],
    compute: (at) => {
      const shown = shownCell(record, cell, at);
      return shown === null ? null : value("output_gate", at) * Math.tanh(shown);
    },
  }];
}

/** Why an equation can't be computed for a unit. @param {PageRecord} record @param {{part: string, unit: number}} given */
export function reasonOf(record, { part, unit }) {
  const { model } = record.meta;
  const elementwise = part === "cell" || (part === "hidden" && model.cell !== "rnn");
  if (elementwise && part === "hidden" && model.norm === "layer") {
    return t("the gains of this unit's norm are not in this page", "les gains de la normalisation de cette unité ne sont pas dans cette page");
  }
  if (elementwise) return t("the state before the first step is not in this page", "l'état d'avant la première étape n'est pas dans cette page");
  if (model.norm !== "none") {
    return t("what a norm inside the cell is computed from is not in this page", "ce dont part la normalisation dans la cellule n'est pas dans cette page");
  }
  return unit >= SHOWN
    ? t(`the page holds the weights of units 0 to ${SHOWN - 1} alone`, `la page ne contient que les poids des unités 0 à ${SHOWN - 1}`)
    : t("its weights or its input are not in this page", "ses poids ou son entrée ne sont pas dans cette page");
}

/**
 * A check of one equation for all units and time steps for which the page can compute it.
 * @param {PageRecord} record @param {Cell} cell @param {any} equation @returns {Check}
 */
export function checkEquation(record, cell, equation) {
  const recorded = record.array(`${cell.name}.${equation.part}`);
  const [times, units] = recorded.shape;
  const [found, computed] = [[], []];
  for (let unit = 0; unit < units; unit += 1) {
    if (equation.compute({ unit, time: 0 }) === null && equation.compute({ unit, time: times - 1 }) === null) break;
    for (let time = 0; time < times; time += 1) {
      const value = equation.compute({ unit, time });
      if (value === null) continue;
      computed.push(value);
      found.push(recorded.at(time, unit));
    }
  }
  const symbol = `$${symbolOf(record.meta.model.cell, equation.part)}$`;
  if (!computed.length) return { label: symbol, reason: reasonOf(record, { part: equation.part, unit: 0 }) };
  const many = Math.round(computed.length / times);
  const label = many < units
    ? t(`${symbol} of units 0 to ${many - 1} at every step`, `${symbol} des unités 0 à ${many - 1} à chaque étape`)
    : t(`${symbol} of all units at every step`, `${symbol} de toutes les unités à chaque étape`);
  const types = new Set([recorded.type, record.array(`${cell.name}.hidden`).type]);
  return judge(check(label, found, computed), types);
}

