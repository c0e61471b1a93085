// What the colours mean: a bar with round ticks for numbers, names with their hues for classes.

import { ticks } from "./geometry.js";
import { element } from "./panel.js";

/** Fills `host` with the legend of {title, low, high, colours} or {title, names: [[name, colour], ...], more}. */
export function explained(host, legend) {
  host.replaceChildren();
  if (!legend) return;
  element("div", "meaning", host).textContent = legend.title;
  if (legend.names) named(host, legend);
  else barred(host, legend);
}

function named(host, { names, more }) {
  const list = element("ul", "names", host);
  for (const [name, colour] of names) {
    const entry = element("li", "", list);
    element("i", "", entry).style.background = colour;
    element("span", "", entry).textContent = name;
  }
  if (more) element("li", "", list).textContent = more;
}

function barred(host, { low, high, colours }) {
  const bar = element("div", "bar", host);
  element("div", "colours", bar).style.background = `linear-gradient(to right, ${colours.join(",")})`;
  for (const value of ticks(low, high, 5)) {
    const tick = element("span", "tick", bar);
    tick.textContent = value.toLocaleString("en-GB", { maximumSignificantDigits: 3 }).replace("-", "−");
    tick.style.left = `${(100 * (value - low)) / (high - low)}%`;
  }
}
