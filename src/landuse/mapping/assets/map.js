// The map that can be moved. Names come from outside and are only ever set as text, never as markup.

"use strict";

const NBSP = "\u00a0";
const LARGEST = 24; // CSS pixels that a pixel of the picture becomes
const WHEEL = 0.0016; // zoom per pixel that a wheel turns
const STEP = 1.5; // zoom per press
const TAP_PX = 6; // a pointer that moved less was not dragged

const LABEL = "Map. Arrow keys move it, plus and minus zoom, zero shows all; what is in the middle is read out.";

const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const { width, height } = data;
const view = $("view"), layers = $("layers");
const canvas = document.createElement("canvas");
const hidden = new Set(); // values of classes that are switched off
const place = { scale: 1, x: 0, y: 0 }; // from pixels of the picture to CSS pixels of the view
const pointers = new Map();
let layer = "classes", moved = 0, classes, confidence;

// What was measured

async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

const classAt = (x, y) => classes[y * width + x];

/** 0..254, or 255 where there is none. */
function confidenceAt(x, y) {
  const { step, columns } = data.confidence;
  return confidence[Math.floor(y / step) * columns + Math.floor(x / step)];
}

// Drawing

const rgb = (code) => [1, 3, 5].map((start) => parseInt(code.slice(start, start + 2), 16));

function mixed(stops, share) {
  const at = share * (stops.length - 1), first = Math.min(Math.floor(at), stops.length - 2);
  const [low, high] = [rgb(stops[first]), rgb(stops[first + 1])];
  return low.map((value, band) => Math.round(value + (high[band] - value) * (at - first)));
}

function draw() {
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer); // all machines that browsers run on put the lowest byte first
  const packed = ([red, green, blue]) => ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
  if (layer === "classes") {
    const shown = data.classes.filter(({ value }) => !hidden.has(value));
    const colours = new Map(shown.map(({ value, colour }) => [value, packed(rgb(colour))]));
    for (let index = 0; index < pixels.length; index++) pixels[index] = colours.get(classes[index]) ?? 0;
  } else if (layer === "confidence") {
    const colours = Uint32Array.from({ length: 256 }, (_, value) => (value === 255 ? 0 : packed(mixed(data.ramp, value / 254))));
    for (let y = 0, index = 0; y < height; y++) {
      for (let x = 0; x < width; x++, index++) {
        if (classes[index] !== data.nodata && !hidden.has(classes[index])) pixels[index] = colours[confidenceAt(x, y)];
      }
    }
  }
  context.putImageData(image, 0, 0);
}

// Moving

const fitting = () => Math.min(view.clientWidth / width, view.clientHeight / height);
const within = (start, length, room) => (length <= room ? (room - length) / 2 : Math.min(0, Math.max(room - length, start)));

function settle() {
  place.scale = Math.min(Math.max(place.scale, fitting()), Math.max(LARGEST, fitting()));
  place.x = within(place.x, width * place.scale, view.clientWidth);
  place.y = within(place.y, height * place.scale, view.clientHeight);
  layers.style.transform = `translate(${place.x}px, ${place.y}px) scale(${place.scale})`;
  view.classList.toggle("zoomed", place.scale > fitting() * 1.001);
  layers.classList.toggle("sharp", place.scale >= 2);
  if (!$("cross").hidden) read(view.clientWidth / 2, view.clientHeight / 2);
}

function zoom(factor, x = view.clientWidth / 2, y = view.clientHeight / 2) {
  const before = place.scale;
  place.scale = Math.min(Math.max(before * factor, fitting()), Math.max(LARGEST, fitting()));
  place.x = x - ((x - place.x) * place.scale) / before;
  place.y = y - ((y - place.y) * place.scale) / before;
  settle();
}

function whole() {
  place.scale = 0;
  settle();
}

function inside(event) {
  const box = view.getBoundingClientRect();
  return [event.clientX - box.left - view.clientLeft, event.clientY - box.top - view.clientTop];
}

// Reading

function coordinates(x, y) {
  const column = (x * data.scene.width) / width, row = (y * data.scene.height) / height;
  const pixel = `column ${Math.floor(column).toLocaleString("en")}, row ${Math.floor(row).toLocaleString("en")}`;
  if (!data.scene.transform) return pixel;
  const [a, b, c, d, e, f] = data.scene.transform;
  const size = Math.max(Math.hypot(a, d), Math.hypot(b, e));
  const digits = Math.min(8, Math.max(0, Math.ceil(-Math.log10(size))));
  const shown = [a * column + b * row + c, d * column + e * row + f].map((value) => value.toFixed(digits));
  return `x ${shown[0]}, y ${shown[1]}${data.scene.crs_name ? ` (${data.scene.crs_name})` : ""}; ${pixel}`;
}

function read(left, top) {
  const x = (left - place.x) / place.scale, y = (top - place.y) / place.scale;
  if (x < 0 || y < 0 || x >= width || y >= height) return;
  const [column, row] = [Math.floor(x), Math.floor(y)];
  const found = data.classes.find(({ value }) => value === classAt(column, row));
  const sure = confidenceAt(column, row);
  const name = found ? found.name : "No data";
  const share = !found || sure === 255 ? "" : ` with a confidence of ${((100 * sure) / 254).toFixed(0)}${NBSP}%`;
  $("reading").textContent = `${name}${share}; ${coordinates(x, y)}`;
}

// What a user does

function follow(event) {
  const before = pointers.get(event.pointerId);
  const [x, y] = inside(event);
  if (!before) {
    if (event.pointerType === "mouse") read(x, y);
    return;
  }
  const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
  moved += Math.hypot(x - before[0], y - before[1]);
  if (other) {
    const distance = (point) => Math.max(1, Math.hypot(point[0] - other[0], point[1] - other[1]));
    zoom(distance([x, y]) / distance(before), (x + other[0]) / 2, (y + other[1]) / 2);
  }
  place.x += (x - before[0]) / pointers.size;
  place.y += (y - before[1]) / pointers.size;
  pointers.set(event.pointerId, [x, y]);
  settle();
}

function release(event) {
  if (!pointers.delete(event.pointerId)) return;
  view.classList.toggle("dragged", pointers.size > 0);
  if (event.type === "pointerup" && moved < TAP_PX) read(...inside(event));
}

function press(event) {
  const far = 0.15 * Math.min(view.clientWidth, view.clientHeight);
  const actions = {
    ArrowLeft: () => { place.x += far; }, ArrowRight: () => { place.x -= far; },
    ArrowUp: () => { place.y += far; }, ArrowDown: () => { place.y -= far; },
    "+": () => zoom(STEP), "=": () => zoom(STEP), "-": () => zoom(1 / STEP), 0: whole,
  };
  if (!(event.key in actions) || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  $("cross").hidden = false;
  actions[event.key]();
  settle();
}

function listen() {
  view.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    $("cross").hidden = true;
    if (!pointers.size) moved = 0;
    pointers.set(event.pointerId, inside(event));
    view.setPointerCapture(event.pointerId);
    view.classList.add("dragged");
  });
  view.addEventListener("pointermove", follow);
  for (const kind of ["pointerup", "pointercancel"]) view.addEventListener(kind, release);
  view.addEventListener("wheel", (event) => {
    const turned = event.deltaY * (event.deltaMode === 1 ? 30 : 1);
    if (turned > 0 && !view.classList.contains("zoomed")) return; // nothing to zoom out of: the page scrolls
    event.preventDefault();
    $("cross").hidden = true;
    zoom(Math.exp(-WHEEL * turned), ...inside(event));
  }, { passive: false });
  view.addEventListener("dblclick", (event) => zoom(STEP, ...inside(event)));
  view.addEventListener("keydown", press);
  view.addEventListener("blur", () => { $("cross").hidden = true; });
  new ResizeObserver(settle).observe(view);
  $("in").addEventListener("click", () => zoom(STEP));
  $("out").addEventListener("click", () => zoom(1 / STEP));
  $("whole").addEventListener("click", whole);
  $("opacity").addEventListener("input", ({ target }) => { canvas.style.opacity = target.value / 100; });
}

function choose(chosen) {
  layer = chosen;
  for (const button of document.querySelectorAll("[data-layer]")) {
    button.setAttribute("aria-pressed", String(button.dataset.layer === chosen));
  }
  $("confidence-legend").hidden = chosen !== "confidence";
  $("opacity").disabled = chosen === "none";
  draw();
}

function switched(entries, isShown) {
  for (const entry of entries) {
    entry.setAttribute("aria-pressed", String(isShown));
    if (isShown) hidden.delete(Number(entry.dataset.value));
    else hidden.add(Number(entry.dataset.value));
  }
  draw();
}

/** Make buttons of what the legend lists. */
function enliven() {
  const entries = [...document.querySelectorAll(".legend li[data-value]")].map((item) => {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.value = item.dataset.value;
    button.setAttribute("aria-pressed", "true");
    button.append(...item.childNodes);
    item.append(button);
    item.classList.add("live");
    button.addEventListener("click", () => switched([button], button.getAttribute("aria-pressed") !== "true"));
    return button;
  });
  $("all").addEventListener("click", () => switched(entries, true));
  $("nothing").addEventListener("click", () => switched(entries, false));
  for (const button of document.querySelectorAll("[data-layer]")) {
    button.addEventListener("click", () => choose(button.dataset.layer));
  }
}

async function start() {
  const Values = data.wide ? Uint16Array : Uint8Array;
  classes = new Values(await unpacked(data.values));
  confidence = new Uint8Array(await unpacked(data.confidence.values));
  Object.assign(canvas, { width, height });
  layers.querySelectorAll("img")[1].replaceWith(canvas);
  canvas.style.opacity = 0.6;
  layers.style.width = `${width}px`;
  layers.style.height = `${height}px`;
  view.classList.add("alive");
  view.style.aspectRatio = `${width} / ${height}`;
  view.tabIndex = 0;
  view.setAttribute("role", "application");
  view.setAttribute("aria-label", LABEL);
  view.setAttribute("aria-describedby", "reading");
  for (const id of ["controls", "some", "reading"]) $(id).hidden = false;
  $("reading").textContent = "Point at the map or tap it to read class, confidence and coordinates.";
  enliven();
  listen();
  draw();
  whole();
}

// A browser that cannot unpack the data still shows the picture and the table.
if (window.DecompressionStream && window.ResizeObserver) start();
