// The maps as one picture to keep, at print size: their titles, their cells, and what the colours mean.

import { ticks } from "./geometry.js";
import { ratio } from "./paint.js";

const SHARP = 3; // times the pixels of the screen
const PAD = 14; // pixels of the page around everything
const LINE = 22; // pixels of a line of words

/** Saves what `panels` show, under `legend`, in the colours of `body`. */
export function keep(panels, legend, body) {
  const [maps, look, times] = [panels.map((panel) => panel.picture(SHARP)), getComputedStyle(body), SHARP * ratio()];
  const wide = maps.reduce((sum, map) => sum + map.width / times + PAD, PAD);
  const below = LINE * (2 + (legend?.names?.length ?? 0));
  const high = Math.max(...maps.map((map) => map.height / times)) + LINE + below + 2 * PAD;
  const page = Object.assign(document.createElement("canvas"), { width: wide * times, height: high * times });
  const pen = page.getContext("2d");
  pen.scale(times, times);
  Object.assign(pen, { fillStyle: look.getPropertyValue("--st-background-color") || "#fff", font: `13px ${look.fontFamily}` });
  pen.fillRect(0, 0, wide, high);
  pen.fillStyle = look.color;
  let x = PAD;
  for (const [k, map] of maps.entries()) {
    pen.fillText(panels[k].title.textContent, x, PAD + 13, map.width / times);
    pen.drawImage(map, x, PAD + LINE, map.width / times, map.height / times);
    x += map.width / times + PAD;
  }
  if (legend) explain(pen, legend, high - PAD - below);
  page.toBlob((blob) => download("milscope-cells.png", blob));
}

function explain(pen, legend, y) {
  pen.fillText(legend.title, PAD, y + 16);
  const words = pen.fillStyle;
  for (const [k, [name, colour]] of (legend.names ?? []).entries()) {
    pen.fillStyle = colour;
    pen.fillRect(PAD, y + LINE * (k + 1) + 5, 11, 11);
    pen.fillStyle = words;
    pen.fillText(name, PAD + 18, y + LINE * (k + 1) + 15);
  }
  if (legend.names) return;
  const { low, high, colours } = legend;
  const shades = pen.createLinearGradient(PAD, 0, PAD + 240, 0);
  for (const [k, colour] of colours.entries()) shades.addColorStop(k / (colours.length - 1), colour);
  pen.fillStyle = shades;
  pen.fillRect(PAD, y + LINE, 240, 9);
  pen.fillStyle = words;
  for (const value of ticks(low, high, 5)) {
    pen.fillText(value.toLocaleString("en-GB", { maximumSignificantDigits: 3 }), PAD + (240 * (value - low)) / (high - low), y + LINE + 22);
  }
}

function download(name, blob) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
