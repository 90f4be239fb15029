// Maps of large images: a card offers one, and shows it over the picture.

const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
const DRAWN_PX = 1024; // of the overlay's longer side

const mappings = new Set(); // an AbortController for each map that is asked for

/** Offer a map of an image that is larger than the model looks at, or whose size the browser does not know. */
function offerMap(card) {
  const image = card.part("img");
  const form = card.part(".mapping");
  const offer = (isLarge) => {
    form.hidden = !isLarge;
    card.part(".mapping input").value = model?.tile ?? ""; // nothing: the service knows it
  };
  image.addEventListener("load", () => {
    const longer = Math.max(image.naturalWidth, image.naturalHeight);
    offer(longer >= 2 * (model?.tile ?? 0));
  });
  image.addEventListener("error", () => offer(/\.tiff?$/i.test(card.file.name) || card.file.type === "image/tiff"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (card.mapping) card.mapping.abort();
    else makeMap(card);
  });
}

async function makeMap(card) {
  const [form, button, input] = ["", " button", " input"].map((part) => card.part(`.mapping${part}`));
  const label = button.textContent;
  const say = (name, text) => {
    form.classList.toggle("failed", name === "failed");
    form.classList.toggle("running", name === "running");
    card.part(".mapping .state").textContent = text;
    if (text) $("announcement").textContent = `${card.file.name}: ${text}`;
  };
  const mapping = (card.mapping = new AbortController());
  mappings.add(mapping);
  button.textContent = "Cancel";
  say("running", "Mapping… A large image can take a minute.");
  try {
    const problem = tooLarge(card.file);
    if (problem) throw refusal(problem);
    const body = new FormData();
    body.append("file", card.file, "image");
    const tile = input.value ? `?tile=${input.value}` : "";
    showMap(card, await call(`/map${tile}`, { method: "POST", body, signal: mapping.signal }));
    say("done", "");
  } catch (error) {
    say(mapping.signal.aborted ? "open" : "failed", error.message);
  } finally {
    mappings.delete(mapping);
    card.mapping = null;
    button.textContent = label;
  }
}

$("clear").addEventListener("click", () => mappings.forEach((mapping) => mapping.abort()));

// What a map shows

const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const sides = (edges) => edges.slice(0, -1).map((start, i) => [start, edges[i + 1] - start]);

function showMap(card, map) {
  const view = filled("map-template", { ".map-note": noteOf(map) });
  const part = (selector) => view.querySelector(selector);
  const canvas = part("canvas");
  const name = card.file.name;
  const all = map.classes.map(({ class: one, share }) => `${pretty(one)} ${percent(share)}`).join(", ");
  part("img").src = map.preview;
  part("img").alt = `Preview of ${name}`;
  canvas.setAttribute("aria-label", `Land use of ${name}: ${all}. Arrow keys tell of places.`);
  const scale = Math.min(1, DRAWN_PX / Math.max(map.width, map.height));
  [canvas.width, canvas.height] = [map.width, map.height].map((side) => Math.max(1, Math.round(scale * side)));
  const cells = { rows: sides(map.cells.rows), columns: sides(map.cells.columns) };
  cells.classes = bytes(map.cells.classes);
  cells.confidences = bytes(map.cells.confidences);
  const draw = (only) => drawCells(canvas, cells, map.classes, scale, only);
  draw(null);
  const fade = () => (canvas.style.opacity = part("input").value / 100);
  part("input").addEventListener("input", fade);
  fade();
  part(".legend").replaceChildren(...legendOf(map.classes, draw));
  tellPlaces(part, map, cells);
  card.view.querySelector(".map")?.remove();
  card.view.append(view);
  view.scrollIntoView({ block: "nearest" });
  $("announcement").textContent = `${name} is mapped: ${all}.`;
}

function noteOf({ tiles, tile, stride, width, height }) {
  const size = [width, height].map((side) => side.toLocaleString("en")).join(" × ");
  return (
    `${tiles.toLocaleString("en")} tiles of ${tile} × ${tile} pixels, ${stride} apart, of the image’s ${size}. A map is ` +
    "right only where a tile shows as much ground as the images that the model was trained with. Where the image lies is " +
    "not known here: for maps that lie on the ground, with hectares, there is the command python -m landuse.map."
  );
}

/** Buttons, each of which shows its class alone. */
function legendOf(classes, draw) {
  let only = null;
  const rows = classes.map(({ class: name, share, colour }, i) => {
    const row = filled("legend-template", { ".class-name": pretty(name), ".percent": percent(share) });
    row.querySelector("i").style.background = colour;
    row.querySelector("button").addEventListener("click", () => {
      only = only === i ? null : i;
      rows.forEach((other, j) => other.querySelector("button").setAttribute("aria-pressed", only === j));
      draw(only);
    });
    return row;
  });
  return rows;
}

/** Say what is found where somebody points, taps, or goes with the arrow keys. */
function tellPlaces(part, { classes, width, height }, { rows, columns, classes: numbers, confidences }) {
  const [canvas, mark] = [part("canvas"), part(".map-mark")];
  let place = [rows.length >> 1, columns.length >> 1];
  const tell = (row, column) => {
    place = [row, column];
    const number = row * columns.length + column;
    const sure = `${Math.round(confidences[number] / 2.55)}${NBSP}%`;
    const [[top, down], [left, across]] = [rows[row], columns[column]];
    const box = { left: left / width, top: top / height, width: across / width, height: down / height };
    for (const [name, share] of Object.entries(box)) mark.style[name] = `${100 * share}%`;
    mark.hidden = false;
    const where = [left + across / 2, top + down / 2].map((at) => Math.round(at).toLocaleString("en")).join(" / ");
    part(".map-place").textContent = `${pretty(classes[numbers[number]].class)}, ${sure} sure, at pixel ${where}`;
  };
  const point = (event) => {
    const box = canvas.getBoundingClientRect();
    const x = ((event.clientX - box.x) / box.width) * width;
    const y = ((event.clientY - box.y) / box.height) * height;
    const last = (parts, at) => Math.max(0, parts.findLastIndex(([start]) => start <= at));
    tell(last(rows, y), last(columns, x));
  };
  canvas.addEventListener("pointermove", point);
  canvas.addEventListener("pointerdown", point);
  canvas.addEventListener("keydown", (event) => {
    const step = mark.hidden ? [0, 0] : STEPS[event.key]; // the first one tells of the middle
    if (!(event.key in STEPS)) return;
    event.preventDefault();
    const [row, column] = place.map((at, i) => at + step[i]);
    tell(Math.min(Math.max(row, 0), rows.length - 1), Math.min(Math.max(column, 0), columns.length - 1));
    $("announcement").textContent = part(".map-place").textContent;
  });
}

function drawCells(canvas, cells, classes, scale, only) {
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  cells.rows.forEach(([top, down], row) => {
    const [y, end] = [top, top + down].map((at) => Math.round(scale * at));
    cells.columns.forEach(([left, across], column) => {
      const number = cells.classes[row * cells.columns.length + column];
      if (only !== null && number !== only) return;
      const [x, right] = [left, left + across].map((at) => Math.round(scale * at));
      context.fillStyle = classes[number].colour;
      context.fillRect(x, y, Math.max(1, right - x), Math.max(1, end - y));
    });
  });
}
