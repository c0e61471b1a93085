// The whole component: maps side by side on one selection, their tools, legend and words; and the talk with the server.

import { written } from "./geometry.js";
import { keep } from "./keep.js";
import { explained } from "./legend.js";
import { able } from "./paint.js";
import { element, Panel } from "./panel.js";
import { get, lacking, put, unpacked } from "./store.js";

const PATIENCE = 700; // ms without movement before the camera goes into the URL
const DWELL = 120; // ms over a cell before its details are asked for
const ASKS = 4; // times the same arrays are asked for before giving up
const ASIDE = 8; // classes of which the names stand beside the tools, not below the maps
const TOOLS = {
  pan: ["Move the map", "M8 2v12M2 8h12M8 2l-2 2M8 2l2 2M8 14l-2-2M8 14l2-2M2 8l2-2M2 8l2 2M14 8l-2-2M14 8l-2 2"],
  box: ["Select a box", "M3 3h10v10H3z"],
  lasso: ["Select by a lasso", "M8 3c4 0 6 1.6 6 3.7S11.500 10.500 8 10.500 2 8.800 2 6.700 4 3 8 3zM5.500 10.200c-1 1-.5 2.800-2.500 3"],
};
const MANNERS = {
  new: ["Select anew", "M8 8m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0"],
  add: ["Add to the selection (Shift)", "M8 3v10M3 8h10"],
  less: ["Take out of the selection (Alt)", "M3 8h10"],
};
const ACTS = {
  undo: ["Undo (Ctrl Z)", "M6 3L3 6l3 3M3 6h6.500a3.500 3.500 0 0 1 0 7H6"],
  redo: ["Redo (Ctrl Y)", "M10 3l3 3-3 3M13 6H6.500a3.500 3.500 0 0 0 0 7H10"],
  clear: ["Clear the selection (Esc)", "M4 4l8 8M12 4l-8 8"],
  nearer: ["Zoom in (+)", "M7 7m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0M10 10l4 4M7 5v4M5 7h4"],
  farther: ["Zoom out (-)", "M7 7m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0M10 10l4 4M5 7h4"],
  fit: ["Show all (F)", "M3 6V3h3M10 3h3v3M13 10v3h-3M6 13H3v-3"],
  dense: ["Density", "M3 12h2v-2H3zM7 12h2V7H7zM11 12h2V4h-2z"],
  save: ["Save the maps as a picture (PNG)", "M8 2v8M5 7l3 3 3-3M3 13h10"],
};
const SIGNS = { new: "n", add: "a", less: "s" };

const PAST = 100; // steps that can be undone
const SLOT = "milscope-history"; // of the tab's own storage, which a reload leaves as it is

class Board {
  constructor(root) {
    this.body = element("div", "board", root);
    const head = element("div", "head", this.body);
    this.tools = element("div", "tools", head);
    this.tools.setAttribute("role", "toolbar");
    this.tools.setAttribute("aria-label", "Tools of the maps");
    this.legend = element("div", "legend", head);
    this.maps = element("div", "maps", this.body);
    this.status = element("div", "status", this.body);
    this.status.setAttribute("aria-live", "polite");
    this.panels = new Map();
    Object.assign(this, { tool: "lasso", kind: "new", density: null, text: "", turn: 0, asked: new Map() });
    this.buttons = this.equip();
  }

  equip() {
    const buttons = {};
    const group = (all, act) => {
      const host = element("span", "group", this.tools);
      for (const [name, [words, path]] of Object.entries(all)) {
        const button = element("button", "", host);
        Object.assign(button, { type: "button", title: words, onclick: () => (act(name), this.mark()) });
        button.setAttribute("aria-label", words);
        button.innerHTML = `<svg viewBox="0 0 16 16" aria-hidden="true"><path d="${path}"/></svg>`;
        buttons[name] = button;
      }
    };
    group(TOOLS, (name) => (this.tool = name));
    group(MANNERS, (name) => (this.kind = name));
    group(ACTS, (name) => this[name]());
    return buttons;
  }

  /** Shows on the buttons what is on, and what would do nothing. */
  mark() {
    const on = { [this.tool]: true, [this.kind]: true, dense: this.density === true };
    for (const name of [...Object.keys(TOOLS), ...Object.keys(MANNERS), "dense"]) {
      this.buttons[name].setAttribute("aria-pressed", String(Boolean(on[name])));
    }
    const { past, future } = this.history;
    Object.assign(this.buttons.undo, { disabled: !past.length });
    Object.assign(this.buttons.redo, { disabled: !future.length });
    Object.assign(this.buttons.clear, { disabled: !this.text });
    this.body.dataset.tool = this.tool;
  }

  save() {
    keep([...this.panels.values()], this.head.legend, this.body);
  }

  // ---------------------------------------------------------------- what the server says

  /** Takes a message of the server; asks for arrays that have gone missing before it shows anything of it. */
  hear({ data, setStateValue, setTriggerValue }) {
    Object.assign(this, { setStateValue, setTriggerValue });
    if (!able.known) Object.assign(able, { known: true, yes: able() });
    if (!able.yes) return setStateValue("raster", true);
    const head = unpacked(data);
    const { text, turn } = head.selection;
    const needs = text && turn >= this.turn ? [...head.needs, `${head.about}/chosen/${text}`] : head.needs;
    const gone = lacking(needs);
    if (gone.length) return this.ask(gone);
    this.asked.clear();
    this.apply(head);
  }

  ask(names) {
    const times = (this.asked.get(names[0]) ?? 0) + 1;
    this.asked.set(names[0], times);
    if (times <= ASKS) this.setTriggerValue("missing", names);
    else this.status.textContent = "The cells did not arrive. Reload the page.";
  }

  apply(head) {
    const { text, turn } = head.selection;
    this.head = head;
    if (turn >= this.turn) {
      if (this.turn && text !== this.text) this.remember();
      Object.assign(this, { text, turn });
    }
    this.maps.style.gridTemplateColumns = head.columns;
    explained(this.legend, head.legend);
    if (head.legend.names?.length > ASIDE) this.maps.after(this.legend);
    else this.tools.after(this.legend);
    this.arrange();
    this.dress();
    this.body.dataset.ready = (this.heard = (this.heard ?? 0) + 1);
  }

  /** One panel for each map of the message, in its order. */
  arrange() {
    const views = Object.fromEntries(this.head.view.split(".").map((part) => part.split("~")));
    const slots = this.head.panels.map((spec) => spec.slot);
    for (const [slot, panel] of this.panels) {
      if (!slots.includes(slot)) {
        panel.dispose();
        this.panels.delete(slot);
      }
    }
    for (const [k, spec] of this.head.panels.entries()) {
      if (!this.panels.has(spec.slot)) this.panels.set(spec.slot, new Panel(this.maps, this));
      const panel = this.panels.get(spec.slot);
      if (this.maps.children[k] !== panel.figure) this.maps.append(panel.figure); // moving it would take the focus away
      panel.show({ ...spec, places: get(spec.places), rows: spec.rows ? get(spec.rows) : null }, views[spec.id]);
    }
  }

  /** Colours, focus and selection onto every map. */
  dress() {
    const { colours, only, shine, palette, rank } = this.head;
    const chosen = this.mask(this.text);
    const look = {
      colours: { codes: get(colours), palette: entries(palette), rank: Uint8Array.from(rank) },
      only: only && get(only),
      shine: shine && get(shine),
      chosen: this.text ? get(chosen) : null,
      key: { colours: colours + palette[0] + palette[255], only, shine, chosen: this.text && get(chosen) ? chosen : "" },
    };
    for (const panel of this.panels.values()) panel.dress(look);
    this.count();
    this.mark();
  }

  /** Says how many cells are selected. */
  count() {
    const { only, cells } = this.head;
    const [mask, focus] = [this.text && get(this.mask(this.text)), only && get(only)];
    const shown = focus ? sum(focus) : cells;
    const lit = mask ? sum(mask, focus) : 0;
    const of = `${shown.toLocaleString("en-GB")} cells`;
    this.body.dataset.selected = lit;
    this.status.textContent = this.text ? `${lit.toLocaleString("en-GB")} of ${of} selected` : this.head.idle || of;
  }

  // ---------------------------------------------------------------- the selection

  mask(text) {
    return `${this.head?.about ?? ""}/chosen/${text}`;
  }

  /** {past, future} of the selection of the analysis shown, as texts. */
  get history() {
    const about = this.head?.about ?? "";
    if (histories.about !== about) Object.assign(histories, { about, history: remembered(about) });
    return histories.history;
  }

  remember() {
    const { past, future } = this.history;
    past.push(this.text);
    past.splice(0, past.length - PAST);
    future.length = 0;
    this.keep();
  }

  /** Keeps past and future for after a reload, where the browser lets a page keep anything. */
  keep() {
    try {
      sessionStorage.setItem(SLOT, JSON.stringify({ about: this.head.about, history: this.history }));
    } catch {
      // undo then ends with the page
    }
  }

  /** A polygon drawn on a map: the selection changes here at once, and the server hears of the polygon alone. */
  selected(panel, polygon, within, manner) {
    const step = `${SIGNS[manner]}${panel.spec.id}~${written(polygon)}`;
    const before = manner === "new" || !this.text ? null : get(this.mask(this.text));
    if (manner !== "new" && this.text && !before) return;
    const text = before ? `${this.text}.${step}` : `n${step.slice(1)}`;
    if (manner === "less" && !before) return;
    if (text.length > this.head.longest) {
      this.status.textContent = "This selection has too many steps. Clear it and select anew.";
      return;
    }
    put(`${this.head.about}/chosen/${text}`, merged(before, within, panel.spec.rows, manner, this.head.cells));
    this.remember();
    this.choose(text);
  }

  choose(text) {
    this.text = text;
    this.turn += 1;
    this.dress();
    this.setStateValue("selection", { text, turn: this.turn });
  }

  undo() {
    const { past, future } = this.history;
    if (!past.length) return;
    future.push(this.text);
    this.choose(past.pop());
    this.keep();
  }

  redo() {
    const { past, future } = this.history;
    if (!future.length) return;
    past.push(this.text);
    this.choose(future.pop());
    this.keep();
  }

  clear() {
    if (!this.text) return;
    this.remember();
    this.choose("");
  }

  // ---------------------------------------------------------------- what the maps ask

  /** How a stroke changes the selection: by the keys held, else by the buttons. */
  manner(event) {
    return event.shiftKey ? "add" : event.altKey ? "less" : this.kind;
  }

  /** Keys that mean the same on every map. */
  keyed({ key, ctrlKey, metaKey, shiftKey }) {
    const letter = key.toLowerCase();
    const act = ctrlKey || metaKey ? { z: shiftKey ? "redo" : "undo", y: "redo" }[letter] : { escape: "clear" }[letter];
    if (act) this[act]();
    return Boolean(act);
  }

  nearer() {
    for (const panel of this.panels.values()) panel.zoom(1.5);
  }

  farther() {
    for (const panel of this.panels.values()) panel.zoom(1 / 1.5);
  }

  fit() {
    for (const panel of this.panels.values()) panel.fit();
  }

  dense() {
    const now = [...this.panels.values()].some((panel) => panel.density());
    this.density = !now;
    for (const panel of this.panels.values()) panel.redraw();
  }

  /** The camera of a map has moved: the URL learns of it when it rests. */
  looked() {
    clearTimeout(this.resting);
    this.resting = setTimeout(() => {
      const seen = [...this.panels.values()].filter((panel) => panel.view).map((panel) => `${panel.spec.id}~${panel.view}`);
      if (seen.join(".") !== this.told) this.setStateValue("view", (this.told = seen.join(".")));
    }, PATIENCE);
  }

  /** The pointer is over a cell of the cohort (-1: over none), the i-th of `panel`. */
  pointed(panel, cell, i = -1) {
    for (const each of this.panels.values()) each.point(cell);
    clearTimeout(this.dwelling);
    panel.tell(i, cell < 0 ? [] : this.described(cell));
    if (cell >= 0 && !this.head.details) {
      this.dwelling = setTimeout(() => this.setTriggerValue("details", true), DWELL);
    }
  }

  /** What is known of a cell, a line each. */
  described(cell) {
    const { details, legend } = this.head;
    const code = get(this.head.colours)[cell];
    const shade = legend.names ? legend.names[code - 1]?.[0] : null;
    if (!details) return [shade ?? "…"];
    const owner = details.offsets.findLastIndex((start) => start <= cell);
    const lines = [`${details.patients[owner]}, cell ${nameOf(cell, details)}`];
    if (shade && legend.key !== "patient") lines.push(`${legend.title}: ${shade}`);
    const value = get(details.importance)[cell] * details.scale;
    if (details.scale) lines.push(`Importance ${signed(value)}`);
    const [top, height] = [get(details.top), get(details.height)];
    const high = [0, 1, 2].filter((k) => height[3 * cell + k] > 0);
    const words = high.map((k) => `${details.features[top[3 * cell + k]]} +${(height[3 * cell + k] / 10).toFixed(1)}`);
    if (words.length) lines.push(`High in ${words.join(", ")} SD`);
    return lines;
  }

  /** A map has been drawn; tests and measurements wait for it. */
  drawn() {
    this.body.dataset.drawn = this.draws = (this.draws ?? 0) + 1;
  }

  dispose() {
    clearTimeout(this.resting);
    clearTimeout(this.dwelling);
    for (const panel of this.panels.values()) panel.dispose();
    this.body.remove();
  }
}

/** The selection after a stroke: `within` speaks of the map's cells, the result (n,) of all. */
function merged(before, within, rows, manner, n) {
  const mask = before ? before.slice() : new Uint8Array(n);
  const value = manner === "less" ? 0 : 1;
  for (let i = 0; i < within.length; i++) if (within[i]) mask[rows ? rows[i] : i] = value;
  return mask;
}

/** The past and future that this tab has kept of an analysis. */
function remembered(about) {
  try {
    const kept = JSON.parse(sessionStorage.getItem(SLOT));
    const texts = (all) => all.filter((text) => typeof text === "string").slice(-PAST);
    if (kept.about === about) return { past: texts(kept.history.past), future: texts(kept.history.future) };
  } catch {
    // nothing was kept, or something else
  }
  return { past: [], future: [] };
}

/** Those of the analysis that the window shows, shared by its views. */
const histories = (window.milscopeHistory ??= { about: null, history: null });

function sum(mask, focus) {
  let total = 0;
  for (let i = 0; i < mask.length; i++) total += focus ? mask[i] & focus[i] : mask[i];
  return total;
}

/** 256 colours as #rrggbbaa to bytes. */
function entries(palette) {
  return Uint8Array.from(palette.flatMap((colour) => [1, 3, 5, 7].map((at) => parseInt(colour.slice(at, at + 2), 16))));
}

function nameOf(cell, { ids }) {
  if (!ids) return (cell + 1).toLocaleString("en-GB");
  const starts = get(ids[0]);
  return new TextDecoder().decode(get(ids[1]).subarray(starts[cell], starts[cell + 1]));
}

function signed(value) {
  return `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(Math.abs(value) < 9.95 ? 2 : 0)}`;
}

const boards = (window.milscopeBoards ??= new WeakMap());

/** Called by Streamlit at first and with every change; what it returns is called when the component goes. */
export default function (component) {
  const root = component.parentElement;
  if (!boards.has(root)) boards.set(root, new Board(root));
  boards.get(root).hear(component);
  return () => {
    boards.get(root)?.dispose();
    boards.delete(root);
  };
}
