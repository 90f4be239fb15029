// What the page does. Names and messages from outside are only ever set as text, never as markup.

const FILES_PER_REQUEST = 8;
const BYTES_PER_REQUEST = 8_000_000; // a larger file goes alone
const FORM_BYTES_PER_FILE = 1_000; // what a form adds to a file, at most
const POLL_MS = 5_000;
const KEY = "landuse-api-key";
const NBSP = "\u00a0";
const DRIFT = {
  ok: ["No drift", "The newest images look like those that the model was validated on."],
  drift: ["Drift found", "The newest images differ from those that the model was validated on, so it may be wrong more often."],
  too_few: ["Too few images yet", ""],
  unavailable: ["Not watched", "This export holds no validation images to compare with."],
  unknown: ["Not known", "The service does not answer. It is asked again every few seconds."],
};

const $ = (id) => document.getElementById(id);

let model = null;

// Words and numbers

/** A class or test as people read it: "DenseResidential" and "dense_residential" as "Dense residential". */
function pretty(name) {
  const words = name.replace(/(\p{Ll})(\p{Lu})/gu, (_, end, start) => `${end} ${start.toLowerCase()}`);
  const spaced = words.replace(/[_\-\s]+/g, " ").trim() || name;
  return spaced.charAt(0).toUpperCase() + spaced.slice(1);
}

/** A share of 0..1 in per cent; never 0 or 100 of what is only near to it. */
function percent(share) {
  if (share > 0 && share < 0.001) return `< 0.1${NBSP}%`;
  if (share < 1 && share >= 0.9995) return `> 99.9${NBSP}%`;
  return `${(100 * share).toFixed(1)}${NBSP}%`;
}

const images = (count) => `${count.toLocaleString("en")}${NBSP}image${count === 1 ? "" : "s"}`;
const known = (share) => (share == null ? undefined : percent(share));

/** A copy of a template; `texts`: selector -> text. */
function filled(template, texts) {
  const view = $(template).content.firstElementChild.cloneNode(true);
  for (const [selector, text] of Object.entries(texts)) view.querySelector(selector).textContent = text;
  return view;
}

/** Let an image element show a file. */
function show(image, file) {
  image.onload = image.onerror = ({ type }) => {
    URL.revokeObjectURL(image.src);
    image.hidden = type === "error"; // of a TIFF, say, which browsers do not show
  };
  image.src = URL.createObjectURL(file);
}

// The service

const refusal = (message, mayPass) => Object.assign(new Error(message), { mayPass });

function lost({ name }) {
  const reason = "The service cannot be reached, or the file cannot be read any more.";
  throw refusal(name === "AbortError" ? "Cancelled." : reason, true);
}

/** What the service answers, read `as` json or blob. */
async function call(path, { as = "json", ...options } = {}) {
  const key = sessionStorage.getItem(KEY);
  const response = await fetch(path, { headers: key ? { "X-API-Key": key } : {}, ...options }).catch(lost);
  if (response.ok) return response[as]().catch(lost);
  const answer = await response.json().catch(() => null);
  if (response.status === 401) askForKey(key);
  const message = answer?.error?.message ?? `The service answered with status ${response.status}.`;
  throw refusal(message, [401, 408, 429, 503].includes(response.status));
}

const isLocked = () => !$("key").hidden && !sessionStorage.getItem(KEY);

function askForKey(refused) {
  if (refused !== sessionStorage.getItem(KEY)) return; // another one has been entered since
  sessionStorage.removeItem(KEY);
  $("key-problem").hidden = !refused;
  $("key").hidden = false;
  $("key-field").focus();
  showAccess();
}

$("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, $("key-field").value.trim());
  $("key-field").value = "";
  $("key-problem").hidden = true;
  await refresh();
  $("key").hidden = !isLocked();
  if (!isLocked()) $("files").focus();
});

// Images: one card each, in a queue that is sent in parts

let listed = []; // cards, the newest first
const queue = []; // those of them that wait
let sending = null; // an AbortController while a part is under way

class Card {
  constructor(file) {
    this.file = file;
    this.view = filled("card-template", { ".file-name": file.name });
    this.part("img").alt = `Preview of ${file.name}`;
    show(this.part("img"), file);
    offerMap(this);
  }

  part(selector) {
    return this.view.querySelector(selector);
  }

  state(name, text, mayPass = false) {
    this.view.className = `card result ${name}`;
    this.part(".state").textContent = this.said = text;
    this.part(".predictions").hidden = name !== "done";
    this.mayPass = mayPass;
  }

  succeed(predictions) {
    this.state("done", "");
    const rows = predictions.map(({ class: name, probability: share }) =>
      filled("prediction-template", { ".class-name": pretty(name), ".percent": percent(share) }),
    );
    this.part(".predictions").replaceChildren(...rows);
    this.view.getBoundingClientRect(); // the bars are laid out empty first, so that they grow
    rows.forEach((row, i) => (row.querySelector("i").style.width = `${100 * predictions[i].probability}%`));
    this.said = `${pretty(predictions[0].class)}, ${percent(predictions[0].probability)}.`;
  }
}

/** Show and send files. */
function add(files) {
  if (!files.length) return;
  const cards = files.map((file) => new Card(file));
  $("results").hidden = false;
  $("cards").prepend(...cards.map((card) => card.view));
  listed = [...cards, ...listed];
  enqueue(cards);
  cards[0].view.scrollIntoView({ block: "nearest" });
}

function enqueue(cards) {
  for (const card of cards) card.state("waiting", "Waiting…");
  queue.push(...cards);
  if (!sending) sendQueue();
}

async function sendQueue() {
  let numDone = 0;
  $("again").hidden = true;
  while (queue.length) {
    sending = new AbortController();
    const cards = nextPart();
    const total = numDone + cards.length + queue.length;
    $("progress").hidden = total === 1;
    $("progress-text").textContent = `${numDone} of ${images(total)} done`;
    $("progress-bar").value = numDone / total;
    await send(cards, sending.signal);
    numDone += cards.length;
    const said = numDone === 1 ? `${cards[0].file.name}: ${cards[0].said}` : `${images(numDone)} done.`;
    $("announcement").textContent = sending.signal.aborted ? "Cancelled." : said;
  }
  sending = null;
  $("progress").hidden = true;
  const numOpen = listed.filter((card) => card.mayPass).length;
  $("again").hidden = !numOpen;
  $("again").textContent = `Try ${images(numOpen)} again`;
  refreshDrift();
}

function cancel() {
  for (const card of queue.splice(0)) card.state("open", "Cancelled.", true);
  sending?.abort();
}

/** Take the cards of the next request from the queue. */
function nextPart() {
  const { max_files: maxFiles = Infinity, max_bytes: maxBytes = Infinity } = model?.limits ?? {};
  let count = 0;
  let bytes = 0;
  while (count < Math.min(FILES_PER_REQUEST, maxFiles, queue.length)) {
    bytes += queue[count].file.size + FORM_BYTES_PER_FILE;
    if (count && bytes > Math.min(BYTES_PER_REQUEST, maxBytes)) break;
    count += 1;
  }
  return queue.splice(0, count);
}

/** What is said of a file that the service would not take. */
function tooLarge({ size }) {
  const limit = model?.limits?.max_bytes ?? Infinity;
  const [has, most] = [size, limit].map((bytes) => `${(bytes / 1e6).toFixed(1)}${NBSP}MB`);
  return size + FORM_BYTES_PER_FILE > limit && `This file has ${has}; the service takes ${most} at most.`;
}

async function send(cards, signal) {
  const problem = tooLarge(cards[0].file);
  if (problem) {
    cards[0].state("failed", problem);
    return;
  }
  const form = new FormData();
  cards.forEach((card, i) => {
    card.state("running", "Classifying…");
    form.append("file", card.file, `image${i}`); // what a file is called is nobody else's business
  });
  const answer = await call("/predict?top_n=5", { method: "POST", body: form, signal }).catch((error) => {
    for (const card of cards) card.state(signal.aborted ? "open" : "failed", error.message, error.mayPass);
  });
  if (!answer) return;
  if (answer.model.version !== model?.version) model = null; // the service has another one now; it is asked again
  for (const { file, predictions, error } of answer.results) {
    if (error) cards[file].state("failed", error.message);
    else cards[file].succeed(predictions);
  }
}

// Ways to give images

$("files").addEventListener("change", () => {
  add([...$("files").files]);
  $("files").value = ""; // the same file may be chosen again
});

document.addEventListener("paste", (event) => {
  const { files } = event.clipboardData;
  if (files.length) event.preventDefault();
  add([...files]);
});

const drags = (event) => event.dataTransfer.types.includes("Files");

document.addEventListener("dragover", (event) => {
  if (!drags(event)) return;
  event.preventDefault();
  document.body.classList.add("dragging");
});

document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dragging"); // it has left the window
});

document.addEventListener("drop", async (event) => {
  if (!drags(event)) return;
  event.preventDefault();
  document.body.classList.remove("dragging");
  const items = [...event.dataTransfer.items].filter((item) => item.kind === "file");
  const found = await Promise.all(items.map((item) => {
    const entry = item.webkitGetAsEntry();
    return entry?.isDirectory ? imagesIn(entry).catch(() => []) : item.getAsFile();
  }));
  add(found.flat());
  $("files-problem").hidden = found.flat().length > 0;
});

/** The images in a folder, and in the folders that it holds. */
async function imagesIn(folder) {
  const reader = folder.createReader();
  const read = () => new Promise((...hands) => reader.readEntries(...hands));
  const entries = [];
  for (let part = await read(); part.length; part = await read()) entries.push(...part);
  entries.sort((one, other) => one.name.localeCompare(other.name, "en", { numeric: true }));
  const files = await Promise.all(entries.map((entry) =>
    entry.isDirectory ? imagesIn(entry) : new Promise((...hands) => entry.file(...hands)),
  ));
  return files.flat().filter((file) => file.type.startsWith("image/"));
}

$("cancel").addEventListener("click", () => {
  cancel();
  $("results-heading").focus();
});

$("again").addEventListener("click", () => {
  enqueue(listed.filter((card) => card.mayPass));
  $("results-heading").focus();
});

$("clear").addEventListener("click", () => {
  cancel();
  listed = [];
  $("cards").replaceChildren();
  $("results").hidden = true;
  $("announcement").textContent = "Results cleared.";
  $("files").focus();
});

async function showSamples() {
  const { samples } = await call("/samples");
  const views = await Promise.all(samples.map(async ({ name, url }) => {
    const label = `Sample of ${pretty(name).toLowerCase()}`;
    const file = new File([await call(url, { as: "blob" })], label);
    const view = filled("sample-template", { span: pretty(name) });
    show(view.querySelector("img"), file);
    view.querySelector("button").addEventListener("click", () => add([file]));
    return view;
  }));
  $("sample-list").replaceChildren(...views);
  $("samples").hidden = !views.length;
}

// Now and every few seconds, while somebody looks

let timer = 0;
let refreshing = false;
let driftShown = "";

async function refreshDrift() {
  const drift = await call("/drift").catch(() => ({ state: "unknown" }));
  const content = JSON.stringify(drift);
  if (content !== driftShown) showDrift(drift);
  driftShown = content;
}

async function refresh() {
  clearTimeout(timer);
  if (document.hidden || refreshing) return;
  refreshing = true;
  try {
    if (!model) {
      model = await call("/model");
      showModel();
      await showSamples();
    }
  } catch (error) {
    if (!model) $("model-line").textContent = isLocked() ? "" : error.message;
  }
  if (!isLocked()) {
    await refreshDrift();
    timer = setTimeout(refresh, POLL_MS);
  }
  refreshing = false;
}

document.addEventListener("visibilitychange", refresh);
showAccess();
refresh();
