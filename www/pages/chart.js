// A chart of lines that share both axes, which start at zero: one that bends up is a cost that grows.

import { setText } from "../chat/base/dom.js";
import { words } from "./words.js";

/** A line, and its points from left to right. @typedef {{ kind: string, points: { x: number, y: number }[] }} Line */

/**
 * @param {SVGSVGElement} chart  with a title, of 640 by 320
 * @param {Line[]} lines
 * @param {number} [least]  where the horizontal axis ends at least
 */
export function drawChart(chart, lines, least = 1) {
  const [left, right, top, bottom] = [52, 616, 12, 286];
  const all = lines.flatMap(({ points }) => points);
  const most = Math.max(...all.map(({ y }) => y), 1e-9);
  const step = roundStep(most / 4);
  const last = Math.max(...all.map(({ x }) => x), least);
  const x = (/** @type {number} */ value) => left + ((right - left) * value) / last;
  const y = (/** @type {number} */ value) => bottom - ((bottom - top) * value) / (step * Math.ceil(most / step));
  /** @type {(Element | null)[]} */
  const shapes = [chart.querySelector("title")];
  for (let value = 0; value <= step * Math.ceil(most / step) + 1e-9; value += step) {
    shapes.push(svg("line", { class: "grid", x1: left, x2: right, y1: y(value), y2: y(value) }));
    shapes.push(svg("text", { x: left - 8, y: y(value) + 4, "text-anchor": "end" }, words.figures(value)));
  }
  for (const value of new Set(all.map(({ x }) => x))) {
    // The short ones would stand in each other's way.
    if (value * 8 >= last) shapes.push(svg("text", { x: x(value), y: bottom + 20, "text-anchor": "middle" }, String(value)));
  }
  for (const { kind, points } of lines) {
    shapes.push(svg("polyline", { class: kind, points: points.map((point) => [x(point.x), y(point.y)]).join(" ") }));
    for (const point of points) shapes.push(svg("circle", { class: kind, cx: x(point.x), cy: y(point.y), r: 4 }));
  }
  chart.replaceChildren(...shapes.filter((shape) => shape !== null));
}

/** The next of 1, 2, 5, 10, … @param {number} value */
function roundStep(value) {
  const ten = 10 ** Math.floor(Math.log10(value));
  return ten * ([1, 2, 5].find((factor) => factor * ten >= value) ?? 10);
}

/**
 * @param {string} name
 * @param {Record<string, string | number>} attributes
 * @param {import("../chat/base/dom.js").Text} [text]
 */
function svg(name, attributes, text = "") {
  const shape = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) shape.setAttribute(key, String(value));
  if (text) setText(shape, text);
  return shape;
}
