// One map: its canvases, its camera, and what mouse, fingers and keys do on it.

import { aimed, enclosed, fitted, gridded, nearest, panned, round, shot, simplified, zoomed } from "./geometry.js";
import { Painter, ratio, sharp } from "./paint.js";

const NEAR = 7; // pixels between pointer and cell at most
const CROWD = 2; // cells on each pixel from which the map shows density by itself
const BIN = 3; // pixels of a density bin
const STRONGEST = 0.05; // share of cells drawn as points on top of the density
const STEP = 60; // pixels of an arrow key

/** A map in `host`. `board` answers: tool, manner(event), density, selected(panel, polygon, manner), pointed(panel, i), looked(), keyed(event), drawn(). */
export class Panel {
  constructor(host, board) {
    this.board = board;
    this.figure = element("figure", "map", host);
    this.title = element("figcaption", "title", this.figure);
    this.stage = element("div", "stage", this.figure);
    [this.fog, this.canvas, this.over] = ["fog", "cells", "over"].map((name) => element("canvas", name, this.stage));
    this.tip = element("div", "tip", this.stage);
    this.tip.hidden = true;
    Object.assign(this.over, { tabIndex: 0 });
    this.over.setAttribute("role", "application");
    this.painter = new Painter(this.canvas);
    this.has = {};
    this.touches = new Map();
    this.listen();
    this.watch = new ResizeObserver(() => this.resize());
    this.watch.observe(this.stage);
    this.gone = new AbortController();
    this.sharpen();
  }

  /** Takes the places of other cells: {id, title, words, places, rows, down, unit, per}. */
  show(spec, view) {
    const same = this.spec?.id === spec.id && this.spec.places === spec.places;
    this.spec = spec;
    this.title.textContent = spec.title;
    this.stage.style.height = `${spec.height}px`;
    this.over.setAttribute("aria-label", spec.words);
    if (same) return;
    this.painter.setPlaces(spec.places);
    this.grid = null;
    this.has = {};
    this.measure();
    this.whole = fitted(spec.places, this.width, this.height);
    this.camera = aimed(view ?? "", this.whole);
  }

  /** Colours, focus and selection of all cells of the cohort; only what is new is taken over and drawn. */
  dress({ colours, only, chosen, shine, key }) {
    if (this.drawn && Object.entries(key).every(([name, value]) => this.has[name] === value)) return;
    if (this.has.colours !== key.colours) this.painter.setColours(this.mine(colours.codes), colours.palette, colours.rank);
    if (this.has.shine !== key.shine) this.painter.setShine(shine && this.mine(shine));
    if (this.has.only !== key.only || this.has.chosen !== key.chosen) {
      const [focus, lit] = [only && this.mine(only), chosen && this.mine(chosen)];
      const states = new Uint8Array(this.painter.given.n).fill(2);
      if (focus) for (let i = 0; i < states.length; i++) states[i] = focus[i] << 1;
      if (lit) for (let i = 0; i < states.length; i++) states[i] |= lit[i] & (states[i] >> 1);
      this.painter.setStates(states);
    }
    this.has = { ...key };
    this.redraw();
  }

  /** Of an array over the cohort, the part of this map's cells. */
  mine(array) {
    const { rows } = this.spec;
    if (!rows) return array;
    const part = new array.constructor(rows.length);
    for (let i = 0; i < rows.length; i++) part[i] = array[rows[i]];
    return part;
  }

  /** Draws the map once more before the next frame. */
  redraw() {
    this.stale = true;
    this.retouch();
  }

  /** Draws what lies over the cells once more before the next frame: cells take time, a line or a ring takes none. */
  retouch() {
    this.pending ??= requestAnimationFrame(() => {
      this.pending = null;
      if (!this.spec || !this.width) return;
      if (this.stale) this.draw();
      this.drawOver();
      this.board.drawn();
    });
  }

  draw() {
    Object.assign(this, { stale: false, drawn: true });
    const dense = this.density();
    const rest = 0.75 * this.size(this.painter.given.n);
    this.painter.draw(this.camera, { size: this.size(), rest, down: this.spec.down, share: dense ? STRONGEST : 1 });
    this.fog.hidden = !dense;
    if (dense) this.drawDensity();
  }

  /** Pixels of a point: smaller where there are many, larger when zoomed in. */
  size(cells = this.painter.focus) {
    const few = 260 / Math.sqrt(Math.max(cells, 1));
    const near = Math.min(18, Math.max(1.7, Math.min(8, few)) * this.camera.zoom ** 0.6);
    return ratio() * near * Math.min(1.3, Math.max(0.75, this.height / 460));
  }

  density() {
    if (this.board.density !== null) return this.board.density;
    const seen = this.painter.focus / this.camera.zoom ** 2;
    return seen > CROWD * this.width * this.height;
  }

  /** How many cells lie where, as shades of grey on a logarithmic scale. */
  drawDensity() {
    const [across, down] = [Math.ceil(this.width / BIN), Math.ceil(this.height / BIN)];
    const [counts, unit, sign] = [new Uint32Array(across * down), this.unit() / BIN, this.spec.down ? 1 : -1];
    const { places, states } = this.painter.given;
    for (let i = 0; i < states.length; i++) {
      const x = Math.floor((places[2 * i] - this.camera.x) * unit + across / 2);
      const y = Math.floor((places[2 * i + 1] - this.camera.y) * unit * sign + down / 2);
      if (states[i] & 2 && x >= 0 && y >= 0 && x < across && y < down) counts[y * across + x]++;
    }
    const most = Math.log1p(counts.reduce((a, b) => Math.max(a, b), 1));
    const [red, green, blue] = rgb(this.figure);
    const image = new ImageData(across, down);
    for (let b = 0; b < counts.length; b++) {
      image.data.set([red, green, blue, counts[b] ? 25 + (165 * Math.log1p(counts[b])) / most : 0], 4 * b);
    }
    Object.assign(this.fog, { width: across, height: down });
    this.fog.getContext("2d").putImageData(image, 0, 0);
  }

  /** The line being drawn, the ring around the cell under the pointer, the scale bar. */
  drawOver() {
    const pen = this.over.getContext("2d");
    const look = getComputedStyle(this.figure);
    pen.setTransform(ratio(), 0, 0, ratio(), 0, 0);
    const half = this.width / 2; // Chromium may not show a frame that does nothing but clear a whole canvas
    for (const left of [0, half]) pen.clearRect(left, 0, half, this.height);
    Object.assign(pen, { strokeStyle: look.color, fillStyle: look.color, font: `12px ${look.fontFamily}`, lineWidth: 1.5 });
    if (this.spec.unit) this.drawScale(pen);
    if (this.ring >= 0) this.drawRing(pen);
    if (this.line) this.drawLine(pen, look.getPropertyValue("--st-primary-color") || "#1f6fc4");
  }

  drawScale(pen) {
    const per = this.spec.per / this.unit(); // units of the coordinates on a pixel
    const length = round(0.25 * this.width * per);
    const [x, y, wide] = [14, this.height - 14, length / per];
    pen.lineWidth = 3;
    pen.beginPath();
    pen.moveTo(x, y);
    pen.lineTo(x + wide, y);
    pen.stroke();
    const words = `${length.toLocaleString("en-GB")} ${this.spec.unit}`;
    const line = pen.strokeStyle;
    pen.strokeStyle = getComputedStyle(this.figure).getPropertyValue("--st-background-color");
    pen.strokeText(words, x + wide + 7, y + 4); // readable over cells
    pen.strokeStyle = line;
    pen.fillText(words, x + wide + 7, y + 4);
  }

  drawRing(pen) {
    const [x, y] = this.pixel(this.ring);
    pen.lineWidth = 2;
    pen.beginPath();
    pen.arc(x, y, this.size() / ratio() / 2 + 4, 0, 7);
    pen.stroke();
  }

  drawLine(pen, colour) {
    Object.assign(pen, { strokeStyle: colour, fillStyle: colour, lineWidth: 1.5 });
    pen.beginPath();
    for (const [x, y] of this.line) pen.lineTo(x, y);
    pen.closePath();
    pen.stroke();
    pen.globalAlpha = 0.1;
    pen.fill();
    pen.globalAlpha = 1;
  }

  /** Puts a ring around a cell of the cohort, if it is on this map; -1 takes it away. */
  point(cell) {
    const { rows } = this.spec ?? {};
    const ring = !rows || cell < 0 ? cell : found(rows, cell);
    if (ring === this.ring) return;
    this.ring = ring;
    this.retouch();
  }

  // ---------------------------------------------------------------- places and pixels

  unit() {
    return this.camera.fit * this.camera.zoom;
  }

  /** The pixel of the map's i-th cell. */
  pixel(i) {
    const { places } = this.painter.given;
    const y = (places[2 * i + 1] - this.camera.y) * this.unit() * (this.spec.down ? 1 : -1);
    return [(places[2 * i] - this.camera.x) * this.unit() + this.width / 2, y + this.height / 2];
  }

  /** The place under a pixel. */
  place([x, y]) {
    const sign = this.spec.down ? 1 : -1;
    return [this.camera.x + (x - this.width / 2) / this.unit(), this.camera.y + ((y - this.height / 2) / this.unit()) * sign];
  }

  at(event) {
    const box = this.over.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  // ---------------------------------------------------------------- moving

  zoom(factor, [x, y] = [this.width / 2, this.height / 2]) {
    const sign = this.spec.down ? 1 : -1;
    this.look(zoomed(this.camera, factor, x - this.width / 2, (y - this.height / 2) * sign));
  }

  pan(dx, dy) {
    this.look(panned(this.camera, dx, this.spec.down ? dy : -dy));
  }

  fit() {
    this.look(this.whole);
  }

  look(camera) {
    this.camera = camera;
    this.redraw();
    this.board.looked();
  }

  /** The camera as text, "" where it shows the whole. */
  get view() {
    return this.whole ? shot(this.camera, this.whole) : "";
  }

  /** Fits the canvases to the stage; whether that changed anything. */
  measure() {
    [this.width, this.height] = [this.stage.clientWidth, this.stage.clientHeight];
    const [width, height] = [this.width, this.height].map((pixels) => Math.round(pixels * ratio()));
    if (this.over.width === width && this.over.height === height) return false;
    for (const canvas of [this.canvas, this.over]) Object.assign(canvas, { width, height });
    return true;
  }

  /** Fits the canvases anew when the window comes to a screen with other pixels. */
  sharpen() {
    const anew = () => (this.resize(), this.sharpen());
    const other = window.matchMedia(`(resolution: ${window.devicePixelRatio || 1}dppx)`);
    other.addEventListener("change", anew, { once: true, signal: this.gone.signal });
  }

  resize() {
    if (!this.measure() || !this.spec || !this.width) return;
    const moved = this.camera.zoom !== 1;
    this.whole = fitted(this.spec.places, this.width, this.height);
    this.camera = moved ? { ...this.camera, fit: this.whole.fit } : this.whole;
    this.redraw();
  }

  /** The map as it is, on a canvas with `times` the pixels of the screen. */
  picture(times) {
    const layers = () => (this.measure(), this.draw(), this.drawOver(), [this.fog, this.canvas, this.over]);
    sharp.times = times;
    const drawn = layers().filter((layer) => !layer.hidden);
    const made = Object.assign(document.createElement("canvas"), { width: this.over.width, height: this.over.height });
    for (const layer of drawn) made.getContext("2d").drawImage(layer, 0, 0, made.width, made.height);
    sharp.times = 1;
    layers();
    return made;
  }

  // ---------------------------------------------------------------- mouse, fingers, keys

  listen() {
    const on = (name, act) => this.over.addEventListener(name, (event) => this.spec && act.call(this, event), { passive: false });
    on("pointerdown", this.press);
    on("pointermove", this.move);
    on("pointerup", this.release);
    on("pointercancel", this.abandon);
    on("pointerleave", () => this.board.pointed(this, -1));
    on("wheel", this.wheel);
    on("keydown", this.key);
    on("dblclick", () => this.board.keyed({ key: "Escape" }));
    this.canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    this.canvas.addEventListener("webglcontextrestored", () => {
      this.painter.revive();
      this.redraw();
    });
  }

  press(event) {
    event.preventDefault();
    this.over.focus({ preventScroll: true });
    this.over.setPointerCapture(event.pointerId);
    this.touches.set(event.pointerId, this.at(event));
    const drags = this.board.tool === "pan" || event.button > 0 || this.touches.size > 1;
    this.line = drags ? null : [this.at(event)];
    this.manner = this.board.manner(event);
  }

  move(event) {
    const before = this.touches.get(event.pointerId);
    const now = this.at(event);
    if (!before) return this.hover(now);
    if (this.touches.size > 1) this.pinch(event.pointerId, before, now);
    else if (!this.line) this.pan(now[0] - before[0], now[1] - before[1]);
    else this.trace(now);
    this.touches.set(event.pointerId, now);
  }

  trace(now) {
    const [x, y] = this.line[0];
    if (this.board.tool === "box") this.line = [[x, y], [now[0], y], now, [x, now[1]]];
    else this.line.push(now);
    this.retouch();
  }

  pinch(finger, before, now) {
    const [other] = [...this.touches].filter(([id]) => id !== finger).map(([, place]) => place);
    const [was, is] = [before, now].map(([x, y]) => Math.hypot(x - other[0], y - other[1]));
    if (was && is) this.zoom(is / was, [(now[0] + other[0]) / 2, (now[1] + other[1]) / 2]);
    this.pan((now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
  }

  release(event) {
    this.touches.delete(event.pointerId);
    const line = this.line;
    this.line = null;
    this.retouch();
    if (line && this.board.tool !== "pan" && span(line) > 4) this.select(line);
  }

  abandon(event) {
    this.touches.delete(event.pointerId);
    this.line = null;
    this.retouch();
  }

  /** Hands the cells within a line of pixels on. */
  select(line) {
    const polygon = simplified(line.flatMap((pixel) => this.place(pixel)), 0.7 / this.unit());
    if (polygon.length >= 6) this.board.selected(this, polygon, enclosed(this.spec.places, polygon), this.manner);
  }

  hover(pixel) {
    this.grid ??= gridded(this.spec.places);
    const [x, y] = this.place(pixel);
    const { places, states } = this.painter.given;
    const i = nearest(this.grid, places, x, y, NEAR / this.unit(), (k) => states?.[k] & 2);
    this.board.pointed(this, i < 0 ? -1 : (this.spec.rows?.[i] ?? i), i);
  }

  wheel(event) {
    event.preventDefault();
    this.zoom(Math.exp(-Math.max(-120, Math.min(120, event.deltaY * (event.deltaMode ? 30 : 1))) / 300), this.at(event));
  }

  key(event) {
    const moves = { ArrowLeft: [STEP, 0], ArrowRight: [-STEP, 0], ArrowUp: [0, STEP], ArrowDown: [0, -STEP] }[event.key];
    const factor = { "+": 1.4, "=": 1.4, "-": 1 / 1.4, _: 1 / 1.4 }[event.key];
    if (event.ctrlKey || event.metaKey ? !this.board.keyed(event) : !(moves || factor || this.named(event))) return;
    if (moves) this.pan(...moves);
    if (factor) this.zoom(factor);
    event.preventDefault();
    event.stopPropagation();
  }

  /** Keys with a meaning of their own: f fits, Enter selects what is in view, the rest is the board's. */
  named(event) {
    if (event.key === "f") return this.fit(), true;
    if (event.key !== "Enter") return this.board.keyed(event);
    this.manner = this.board.manner(event);
    this.select([[0, 0], [this.width, 0], [this.width, this.height], [0, this.height]]);
    return true;
  }

  /** Shows lines of text beside the map's i-th cell. */
  tell(i, lines) {
    this.tip.hidden = i < 0;
    if (i < 0) return;
    const [x, y] = this.pixel(i);
    this.tip.replaceChildren(...lines.map((words) => Object.assign(document.createElement("div"), { textContent: words })));
    this.tip.style.left = x > this.width / 2 ? "" : `${x + 12}px`;
    this.tip.style.right = x > this.width / 2 ? `${this.width - x + 12}px` : "";
    this.tip.style.top = `${Math.max(0, Math.min(y, this.height - this.tip.offsetHeight))}px`;
  }

  dispose() {
    this.watch.disconnect();
    this.gone.abort();
    cancelAnimationFrame(this.pending);
    this.painter.dispose();
    this.figure.remove();
  }
}

/** A new element of a class, put into `host`. */
export function element(tag, name, host) {
  const made = document.createElement(tag);
  made.className = name;
  host.append(made);
  return made;
}

function span(line) {
  const [across, down] = [0, 1].map((k) => line.map((pixel) => pixel[k])).map((all) => Math.max(...all) - Math.min(...all));
  return Math.min(across, down);
}

/** The place of a value in sorted rows, or -1. */
function found(rows, cell) {
  let [low, high] = [0, rows.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rows[middle] < cell) low = middle + 1;
    else high = middle;
  }
  return rows[low] === cell ? low : -1;
}

function rgb(figure) {
  return getComputedStyle(figure).color.match(/[\d.]+/g).map(Number);
}
