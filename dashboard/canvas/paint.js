// Draws the cells of one map with WebGL2: a point for each cell, one draw call, colours looked up in a palette.

import { layered } from "./geometry.js";

const VERTEX = `#version 300 es
layout(location = 0) in vec2 place;
layout(location = 1) in uint code;
layout(location = 2) in uint state;
layout(location = 3) in float shine;
uniform vec2 middle, scale;
uniform float size, rest, fading, lit;
uniform sampler2D palette;
out vec4 colour;
out float across;
void main() {
  bool focus = (state & 2u) != 0u, chosen = (state & 1u) != 0u;
  gl_Position = vec4((place - middle) * scale, 0.0, 1.0);
  across = chosen ? size + 1.5 : focus ? size : rest;
  gl_PointSize = across + 1.0;
  colour = texelFetch(palette, ivec2(focus ? int(code) : 0, 0), 0);
  float seen = focus ? mix(1.0, shine, fading) : 0.16;
  colour.a *= chosen ? 1.0 : lit > 0.5 && focus ? 0.27 * seen : seen;
}`;

const FRAGMENT = `#version 300 es
precision mediump float;
in vec4 colour;
in float across;
out vec4 shown;
void main() {
  float off = length(gl_PointCoord - 0.5) * (across + 1.0);
  float alpha = colour.a * clamp(0.5 * across + 0.5 - off, 0.0, 1.0);
  shown = vec4(colour.rgb * alpha, alpha);
}`;

/** Whether this browser can draw at all. */
export function able() {
  const context = document.createElement("canvas").getContext("webgl2");
  context?.getExtension("WEBGL_lose_context")?.loseContext();
  return context !== null;
}

/** What is drawn on one canvas. After a lost context `revive` makes everything anew from what it was given. */
/** Pixels of the canvas for one of the page: those of the screen, `sharp.times` as many while a picture is taken. */
export const sharp = { times: 1 };
export const ratio = () => sharp.times * (window.devicePixelRatio || 1);

export class Painter {
  constructor(canvas) {
    this.canvas = canvas;
    this.given = { shine: null, palette: new Uint8Array(1024), n: 0 };
    this.revive();
  }

  /** Makes the program and the buffers, and fills them with what was given before. */
  revive() {
    const gl = this.canvas.getContext("webgl2", { antialias: false, premultipliedAlpha: true });
    this.gl = gl;
    this.program = linked(gl);
    const names = ["middle", "scale", "size", "rest", "fading", "lit"];
    this.at = Object.fromEntries(names.map((name) => [name, gl.getUniformLocation(this.program, name)]));
    this.array = gl.createVertexArray();
    this.buffers = ["places", "codes", "states", "shine", "order"].reduce((all, name) => ({ ...all, [name]: gl.createBuffer() }), {});
    this.texture = gl.createTexture();
    const { places, codes, states, shine, palette, rank } = this.given;
    if (places) this.setPlaces(places);
    if (codes) this.setColours(codes, palette, rank);
    if (states) this.setStates(states);
    this.setShine(shine);
  }

  /** Where the points are: a flat list of whole numbers. */
  setPlaces(places) {
    Object.assign(this.given, { places, n: places.length / 2, codes: null, states: null });
    this.fill("places", places);
  }

  /** The palette's entry of every point, the palette (256 RGBA), and which entries lie above which (256 ranks). */
  setColours(codes, palette, rank) {
    const gl = this.gl;
    Object.assign(this.given, { codes, palette, rank });
    this.fill("codes", codes);
    gl.bindTexture(gl.TEXTURE_2D, this.texture);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, 256, 1, 0, gl.RGBA, gl.UNSIGNED_BYTE, palette);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
    this.arrange();
  }

  /** Of every point: bit 0 selected, bit 1 in focus. */
  setStates(states) {
    this.given.states = states;
    this.fill("states", states);
    this.arrange();
  }

  /** Opacity of every point (bytes), or null for one opacity. */
  setShine(shine) {
    this.given.shine = shine;
    if (shine) this.fill("shine", shine);
  }

  /** Puts the points into drawing order. */
  arrange() {
    const { codes, states, rank } = this.given;
    if (!codes || !states) return;
    this.layers = layered(codes, states, rank);
    this.fill("order", this.layers.order, this.gl.ELEMENT_ARRAY_BUFFER);
  }

  /** How many cells are in focus. */
  get focus() {
    return this.layers ? this.given.n - this.layers.focus : this.given.n;
  }

  /** Draws what `camera` sees, in points of `size` pixels, `rest` those out of focus; `share` < 1: only the top. */
  draw(camera, { size, rest, down, share }) {
    const { gl, at, canvas, given, layers } = this;
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    if (!given.n || !layers) return;
    const unit = 2 * camera.fit * camera.zoom * ratio();
    gl.useProgram(this.program);
    gl.uniform2f(at.middle, camera.x, camera.y);
    gl.uniform2f(at.scale, unit / canvas.width, (down ? -unit : unit) / canvas.height);
    gl.uniform1f(at.size, size);
    gl.uniform1f(at.rest, rest);
    gl.uniform1f(at.fading, given.shine ? 1 : 0);
    gl.uniform1f(at.lit, layers.chosen < given.n ? 1 : 0);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    this.bind();
    const first = share < 1 ? Math.min(layers.chosen, Math.round(given.n - share * (given.n - layers.focus))) : 0;
    gl.drawElements(gl.POINTS, given.n - first, gl.UNSIGNED_INT, 4 * first);
  }

  /** Gives the memory of the graphics card back. */
  dispose() {
    this.gl.getExtension("WEBGL_lose_context")?.loseContext();
  }

  fill(name, array, target = this.gl.ARRAY_BUFFER) {
    this.gl.bindVertexArray(null);
    this.gl.bindBuffer(target, this.buffers[name]);
    this.gl.bufferData(target, array, this.gl.STATIC_DRAW);
  }

  bind() {
    const { gl, buffers } = this;
    gl.bindVertexArray(this.array);
    gl.bindTexture(gl.TEXTURE_2D, this.texture);
    gl.bindBuffer(gl.ARRAY_BUFFER, buffers.places);
    gl.enableVertexAttribArray(0);
    gl.vertexAttribPointer(0, 2, gl.UNSIGNED_SHORT, false, 0, 0);
    for (const [place, name] of [[1, "codes"], [2, "states"]]) {
      gl.bindBuffer(gl.ARRAY_BUFFER, buffers[name]);
      gl.enableVertexAttribArray(place);
      gl.vertexAttribIPointer(place, 1, gl.UNSIGNED_BYTE, 0, 0);
    }
    if (this.given.shine) {
      gl.bindBuffer(gl.ARRAY_BUFFER, buffers.shine);
      gl.enableVertexAttribArray(3);
      gl.vertexAttribPointer(3, 1, gl.UNSIGNED_BYTE, true, 0, 0);
    } else {
      gl.disableVertexAttribArray(3);
      gl.vertexAttrib1f(3, 1);
    }
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, buffers.order);
  }
}

function linked(gl) {
  const program = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) throw new Error(gl.getProgramInfoLog(program));
  return program;
}
