/* Points on a plane, each with a name: labels stand where they cover nothing; the rest are told when they are pointed at. */
import * as tools from "../tools.js";
import {h, svg, t} from "../tools.js";
import {textWidth} from "./00_shared.js";

const LABEL = "12px system-ui, sans-serif";
const SIZE = {width: 760, height: 470, margin: 26};

/** Boxes overlap. @param {any} a @param {any} b */
const collide = (a, b) => a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;

/** Where the points lie on the paper: one scale for both axes, so that distances are those of the plane. @param {any[]} points */
function lay(points) {
  const {width, height, margin} = SIZE;
  /** @param {string} axis */
  const range = (axis) => [Math.min(...points.map((point) => point[axis])), Math.max(...points.map((point) => point[axis]))];
  const [[left, right], [low, high]] = [range("x"), range("y")];
  const scale = Math.min((width - 2 * margin) / (right - left || 1), (height - 2 * margin) / (high - low || 1));
  return points.map((point) => ({
    ...point,
    at: [width / 2 + (point.x - (left + right) / 2) * scale, height / 2 - (point.y - (low + high) / 2) * scale],
  }));
}

/** Give each point a label's box, or none where every place around it is taken. Strong points choose first. @param {any[]} spots */
function placeLabels(spots) {
  const taken = spots.filter((spot) => spot.strong).map(({at: [x, y]}) => ({x: x - 4, y: y - 4, width: 8, height: 8}));
  /** @param {any} box */
  const inside = (box) => box.x >= 2 && box.y >= 2 && box.x + box.width <= SIZE.width - 2 && box.y + box.height <= SIZE.height - 2;
  const order = [...spots].sort((one, other) => other.strong - one.strong);
  for (const spot of order) {
    const [x, y] = spot.at;
    const [width, height] = [textWidth(spot.label, LABEL) + 2, 14];
    const places = [[x + 6, y - 7], [x - 6 - width, y - 7], [x - width / 2, y - 20], [x - width / 2, y + 6], [x + 5, y - 18], [x + 5, y + 4], [x - 5 - width, y - 18], [x - 5 - width, y + 4]];
    /** @param {any} box */
    const own = (box) => box.x <= x && x <= box.x + box.width && box.y <= y && y <= box.y + box.height;
    const free = places.map(([left, top]) => ({x: left, y: top, width, height}))
      .find((box) => inside(box) && !own(box) && !taken.some((other) => collide(box, other)));
    spot.box = free ?? null;
    if (free) taken.push(free);
  }
}

/**
 * A scatter plot.
 * @param {{points: Point[], label: string, path?: boolean, onSelect?: (number: number) => void, selected?: number | null}} given
 *   strong points are drawn large and named first; `path` joins them in their order; onSelect(number) hears which point is chosen.
 */
export function scatter({points, label, path = false, onSelect = null, selected = null}) {
  const told = tools.live(t("Point at a dot, or move from dot to dot with the arrow keys.",
    "Pointez un point, ou passez de l'un à l'autre avec les flèches."));
  const spots = lay(points.map((point, number) => ({strong: true, ...point, number})));
  placeLabels(spots);
  /** @param {any} spot */
  const tell = (spot) => (told.textContent = spot.title ?? spot.label);
  const groups = spots.map((spot) => dot(spot, svg));
  const strong = spots.filter((spot) => spot.strong);
  const line = path && strong.length > 1 ? svg("polyline", {class: "sca-path", points: strong.map((spot) => spot.at.map((value) => value.toFixed(1)).join(",")).join(" ")}) : null;
  const picture = svg("svg", {viewBox: `0 0 ${SIZE.width} ${SIZE.height}`, class: "sca", role: "group", "aria-label": label},
    svg("rect", {x: 0.5, y: 0.5, width: SIZE.width - 1, height: SIZE.height - 1, rx: 10, class: "sca-frame"}),
    line, groups.filter((_, number) => !spots[number].strong), groups.filter((_, number) => spots[number].strong));
  walk(groups, spots, {tell, onSelect, selected});
  return h("div", {class: "sca-box"}, h("div", {class: "scroll"}, picture), told);
}

/** One point, its label where there is room, and a larger place to be pointed at. @param {any} spot @param {any} svg */
function dot(spot, svg) {
  const [x, y] = spot.at;
  return svg("g", {class: spot.strong ? "sca-dot sca-strong" : "sca-dot", role: "button", tabindex: -1, "aria-label": spot.title ?? spot.label},
    svg("circle", {cx: x, cy: y, r: 9, class: "sca-reach"}),
    svg("circle", {cx: x, cy: y, r: spot.strong ? 4 : 2.6, class: "sca-point"}),
    spot.box === null ? null : svg("text", {x: spot.box.x + 1, y: spot.box.y + 11}, spot.label));
}

/**
 * One stop of the tab key; arrows go from point to point in their order.
 * @param {any[]} groups @param {any[]} spots @param {{tell: any, onSelect: (...chosen: any[]) => void, selected: any}} given
 */
function walk(groups, spots, {tell, onSelect, selected}) {
  /** @param {number} number */
  const choose = (number) => {
    groups.forEach((group, own) => group.classList.toggle("sca-chosen", own === number));
    if (onSelect) onSelect(number);
  };
  groups.forEach((group, number) => {
    group.addEventListener("pointerenter", () => tell(spots[number]));
    group.addEventListener("click", () => choose(number));
    group.addEventListener("focus", () => {
      groups.forEach((other) => other.setAttribute("tabindex", "-1"));
      group.setAttribute("tabindex", "0");
      tell(spots[number]);
    });
    group.addEventListener("keydown", (event) => {
      const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
      if (event.key === "Enter" || event.key === " ") choose(number);
      else if (step && groups[number + step]) groups[number + step].focus();
      else if (!step) return;
      event.preventDefault();
    });
  });
  const first = selected ?? Math.max(0, spots.findIndex((spot) => spot.strong));
  if (groups[first]) groups[first].setAttribute("tabindex", "0");
  if (selected !== null && groups[selected]) groups[selected].classList.add("sca-chosen");
}

