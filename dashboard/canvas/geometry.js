// Pure functions of the cell canvas: polygons, cameras, ticks, the grid behind the pointer. No page, no state.
//
// Places are whole numbers from 0 to 65535, two for each point, as dashboard/planes.py makes them; a polygon is a flat
// list of such numbers. `inside` does the same arithmetic as dashboard/picks.py, so both count the same cells.

export const EDGE = 65535;
export const CORNERS = 96; // of a polygon at most: 513 letters of text

/** Whether a point lies in a polygon: a ray to the right crosses an odd number of edges. */
export function inside(x, y, polygon) {
  let odd = false;
  for (let i = 0; i < polygon.length; i += 2) {
    const j = (i + 2) % polygon.length;
    const x1 = polygon[i], y1 = polygon[i + 1], x2 = polygon[j], y2 = polygon[j + 1];
    if (y1 > y !== y2 > y && x < ((x2 - x1) * (y - y1)) / (y2 - y1) + x1) odd = !odd;
  }
  return odd;
}

/** 1 for every point (flat list of places) in the polygon, else 0. */
export function enclosed(places, polygon) {
  const found = new Uint8Array(places.length / 2);
  const [left, top, right, bottom] = bounds(polygon);
  for (let i = 0; i < found.length; i++) {
    const x = places[2 * i], y = places[2 * i + 1];
    if (x >= left && x <= right && y >= top && y <= bottom && inside(x, y, polygon)) found[i] = 1;
  }
  return found;
}

/** Left, top, right and bottom of a flat list of places; the whole plane where it is empty. */
export function bounds(places) {
  if (!places.length) return [0, 0, EDGE, EDGE];
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
  for (let i = 0; i < places.length; i += 2) {
    if (places[i] < left) left = places[i];
    if (places[i] > right) right = places[i];
    if (places[i + 1] < top) top = places[i + 1];
    if (places[i + 1] > bottom) bottom = places[i + 1];
  }
  return [left, top, right, bottom];
}

/** A drawn line with whole corners, no more than needed within `tolerance`, and at most CORNERS of them. */
export function simplified(line, tolerance) {
  let kept = thinned(line, tolerance);
  for (let wider = tolerance || 1; kept.length > 2 * CORNERS; wider *= 1.5) kept = thinned(line, wider);
  return kept.map((value) => Math.min(EDGE, Math.max(0, Math.round(value))));
}

/** Douglas and Peucker, without recursion. */
function thinned(line, tolerance) {
  const last = line.length / 2 - 1;
  const keep = new Set([0, last]);
  const open = [[0, last]];
  while (open.length) {
    const [from, to] = open.pop();
    const [far, off] = farthest(line, from, to);
    if (off > tolerance) {
      keep.add(far);
      open.push([from, far], [far, to]);
    }
  }
  return [...keep].sort((a, b) => a - b).flatMap((i) => [line[2 * i], line[2 * i + 1]]);
}

/** The point between two others that lies farthest from the line through them, and how far. */
function farthest(line, from, to) {
  const [x, y] = [line[2 * from], line[2 * from + 1]];
  const [dx, dy] = [line[2 * to] - x, line[2 * to + 1] - y];
  const length = Math.hypot(dx, dy);
  let [far, most] = [from, -1];
  for (let i = from + 1; i < to; i++) {
    const [px, py] = [line[2 * i] - x, line[2 * i + 1] - y];
    const off = length ? Math.abs(px * dy - py * dx) / length : Math.hypot(px, py);
    if (off > most) [far, most] = [i, off];
  }
  return [far, most];
}

/** A polygon as text for a URL: base64 of its whole numbers, low byte first. */
export function written(polygon) {
  let bytes = "";
  for (const value of polygon) bytes += String.fromCharCode(value & 255, value >> 8);
  return btoa(bytes).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}

/** The polygon that `written` made text of. */
export function read(text) {
  const bytes = atob(text.replace(/-/g, "+").replace(/_/g, "/"));
  return Array.from({ length: bytes.length >> 1 }, (_, i) => bytes.charCodeAt(2 * i) | (bytes.charCodeAt(2 * i + 1) << 8));
}

/** The largest of 1, 2, 5, 10, 20, ... that is no more than `most`. */
export function round(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  return power * (most >= 5 * power ? 5 : most >= 2 * power ? 2 : 1);
}

/** Round values within low and high, about `wanted` of them. */
export function ticks(low, high, wanted) {
  if (!(high > low)) return [low];
  const power = 10 ** Math.floor(Math.log10((high - low) / wanted));
  const step = power * [1, 2, 5, 10].find((each) => (high - low) / (each * power) <= wanted);
  const first = Math.ceil(low / step - 1e-9);
  const found = [];
  for (let k = first; k * step <= high + step * 1e-9; k++) found.push(Number((k * step).toPrecision(12)));
  return found;
}

// ---------------------------------------------------------------- cameras

/** A camera is {x, y, zoom, fit}: what is in the middle, and pixels per unit as `zoom` times the `fit` of the whole. */
export function fitted(places, width, height) {
  const [left, top, right, bottom] = bounds(places);
  const across = Math.max(right - left, 1) / Math.max(width - 28, 1);
  const down = Math.max(bottom - top, 1) / Math.max(height - 28, 1);
  return { x: (left + right) / 2, y: (top + bottom) / 2, zoom: 1, fit: 1 / Math.max(across, down) };
}

/** The camera after zooming by `factor` around a pixel (from the middle of the map), which stays where it is. */
export function zoomed(camera, factor, x, y) {
  const zoom = Math.min(400, Math.max(0.5, camera.zoom * factor));
  const moved = (1 / camera.zoom - 1 / zoom) / camera.fit;
  return { ...camera, zoom, x: camera.x + x * moved, y: camera.y + y * moved };
}

/** The camera after moving the map by pixels. */
export function panned(camera, dx, dy) {
  const unit = camera.fit * camera.zoom;
  return { ...camera, x: camera.x - dx / unit, y: camera.y - dy / unit };
}

/** A camera as short text; "" where it shows the whole. */
export function shot(camera, whole) {
  const still = camera.zoom === 1 && camera.x === whole.x && camera.y === whole.y;
  const parts = [camera.x, camera.y, 100 * camera.zoom];
  return still ? "" : parts.map((value) => Math.round(Math.max(0, value)).toString(36)).join("-");
}

/** The camera that `shot` made text of; the whole where the text is none. */
export function aimed(text, whole) {
  const [x, y, zoom] = text.split("-").map((part) => parseInt(part, 36));
  if (![x, y, zoom].every(Number.isFinite)) return whole;
  return { ...whole, x: Math.min(x, EDGE), y: Math.min(y, EDGE), zoom: Math.min(400, Math.max(0.5, zoom / 100)) };
}

// ---------------------------------------------------------------- what is under the pointer

const SIDE = 256; // bins of the grid in each direction

/** Points sorted into bins: {starts, points}. */
export function gridded(places) {
  const n = places.length / 2;
  const starts = new Uint32Array(SIDE * SIDE + 1);
  const bin = (i) => (places[2 * i + 1] >> 8) * SIDE + (places[2 * i] >> 8);
  for (let i = 0; i < n; i++) starts[bin(i) + 1]++;
  for (let b = 0; b < SIDE * SIDE; b++) starts[b + 1] += starts[b];
  const [next, points] = [starts.slice(), new Uint32Array(n)];
  for (let i = 0; i < n; i++) points[next[bin(i)]++] = i;
  return { starts, points };
}

/** The point nearest to (x, y) within `reach` for which `wanted(i)` holds, or -1. */
export function nearest(grid, places, x, y, reach, wanted) {
  const column = (value) => Math.min(SIDE - 1, Math.max(0, value >> 8));
  let [best, least] = [-1, reach * reach];
  for (let row = column(y - reach); row <= column(y + reach); row++) {
    const from = grid.starts[row * SIDE + column(x - reach)];
    const to = grid.starts[row * SIDE + column(x + reach) + 1];
    for (let k = from; k < to; k++) {
      const i = grid.points[k];
      const off = (places[2 * i] - x) ** 2 + (places[2 * i + 1] - y) ** 2;
      if (off <= least && wanted(i)) [best, least] = [i, off];
    }
  }
  return best;
}

/**
 * Drawing order of points: cells out of focus first, then by rank of their colour, selected ones last.
 * codes and states (n,) bytes, rank (256,); bit 1 of a state: in focus, bit 0: selected. Returns the order and where
 * the cells in focus begin.
 */
export function layered(codes, states, rank) {
  const starts = new Uint32Array(515);
  const layer = (i) => (states[i] & 2 ? 1 + rank[codes[i]] + (states[i] & 1 ? 256 : 0) : 0);
  for (let i = 0; i < codes.length; i++) starts[layer(i) + 1]++;
  for (let l = 0; l < 514; l++) starts[l + 1] += starts[l];
  const [order, focus] = [new Uint32Array(codes.length), starts[1]];
  const chosen = starts[257];
  for (let i = 0; i < codes.length; i++) order[starts[layer(i)]++] = i;
  return { order, focus, chosen };
}
