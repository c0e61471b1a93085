// What the page keeps of a cohort: arrays by name, shared by all views and runs of one browser window.

const ROOM = 384 * 2 ** 20; // bytes kept; the arrays used longest ago go first
const TYPES = { u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, i1: Int8Array, i2: Int16Array };

const kept = (window.milscopeCells ??= new Map());

/** The array of this name, or undefined. */
export function get(name) {
  const found = kept.get(name);
  if (found) {
    kept.delete(name);
    kept.set(name, found);
  }
  return found;
}

/** Keeps an array, and lets go of others where there is no room. */
export function put(name, array) {
  kept.delete(name);
  kept.set(name, array);
  let held = 0;
  for (const each of kept.values()) held += each.byteLength;
  for (const [old, each] of kept) {
    if (held <= ROOM || old === name) break;
    kept.delete(old);
    held -= each.byteLength;
  }
}

/** The names among `names` that are not kept. */
export function lacking(names) {
  return names.filter((name) => !kept.has(name));
}

/** Takes a message of dashboard/canvas.py apart: its arrays are kept, its head is returned. */
export function unpacked(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const size = view.getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + size)));
  for (const { name, type, length, at } of head.arrays) {
    const body = bytes.subarray(4 + size + at);
    if (type === "bits") put(name, spread(body, length));
    else put(name, new TYPES[type](body.slice(0, length * TYPES[type].BYTES_PER_ELEMENT).buffer));
  }
  return head;
}

/** One byte for each of `length` bits, the lowest bit of each byte first. */
export function spread(bits, length) {
  const found = new Uint8Array(length);
  for (let i = 0; i < length; i++) found[i] = (bits[i >> 3] >> (i & 7)) & 1;
  return found;
}
