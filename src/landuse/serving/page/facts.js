// What is said of the model, and of drift

function showModel() {
  const { version, variant, classes, image_size: size, temperature, source = {}, facts = {} } = model;
  $("model-line").textContent = `Which of ${classes.length} classes an image shows, and how sure that is`;
  const range = facts.test_accuracy_ci95?.map((end) => (100 * end).toFixed(1)).join(" to ");
  const rows = {
    "Test accuracy": known(facts.test_accuracy),
    "95 % interval": range && `${range}${NBSP}%`,
    "Validation accuracy": known(facts.val_accuracy),
    "Calibration error": known(facts.ece),
    Temperature: temperature.toFixed(2),
    Input: `${size} × ${size} pixels`,
    Architecture: source.architecture?.name,
    Parameters: source.num_parameters?.toLocaleString("en"),
    Data: source.data,
    Run: source.run,
    Variant: variant,
    Version: version,
  };
  const given = Object.entries(rows).filter(([, value]) => typeof value === "string");
  $("facts").replaceChildren(...given.map(([key, value]) => filled("fact-template", { dt: key, dd: value })));
  $("classes").hidden = false;
  $("classes").querySelector("summary").textContent = `${classes.length} classes`;
  $("classes").querySelector("p").textContent = classes.map(pretty).join(", ");
}

function testRow({ name, kind, drifted, statistic, adjusted_p_value: p }) {
  const row = filled("drift-test-template", {
    span: pretty(name),
    "td:nth-of-type(1)": kind === "classes" ? `χ²${NBSP}${statistic.toFixed(0)}` : statistic.toFixed(2),
    "td:nth-of-type(2)": p < 0.0001 ? `<${NBSP}0.0001` : p.toPrecision(2),
  });
  row.classList.toggle("differs", drifted);
  return row;
}

function showDrift({ state: told, num_images: count = 0, min_images: needed = 0, alpha = 0, tests = [] }) {
  const state = told in DRIFT ? told : "unknown";
  const [word, text] = DRIFT[state];
  if ($("drift-state").dataset.state !== state) { // a screen reader repeats what is set again
    $("drift-state").dataset.state = state;
    $("drift-state").querySelector("use").setAttribute("href", `#sign-${state}`);
    $("drift-word").textContent = word;
    $("drift-text").textContent = text;
  }
  $("drift-progress").hidden = state !== "too_few";
  $("drift-progress").value = count / Math.max(1, needed);
  const differing = tests.filter((test) => test.drifted).map((test) => test.name);
  const most = differing.length ? `Most of all: ${differing.slice(0, 3).join(", ")}. ` : "";
  const compared = `${most}The newest ${images(count)} were compared; the chance of a false alarm is ${percent(alpha)}.`;
  const missing = `${count} of the ${images(needed)} that a comparison needs.`;
  $("drift-note").textContent = { ok: compared, drift: compared, too_few: missing }[state] ?? "";
  $("drift-tests").hidden = !tests.length;
  $("drift-tests").querySelector("summary").textContent = `${differing.length} of ${tests.length} tests see a difference`;
  $("drift-tests").querySelector("tbody").replaceChildren(...tests.map(testRow));
}

function showAccess() {
  const needsKey = !$("key").hidden || sessionStorage.getItem(KEY);
  const key = needsKey ? ' -H "X-API-Key: $LANDUSE_API_KEY"' : "";
  const line = (file, path) => `curl${key} -F file=@${file} "${window.location.origin}/${path}"`;
  $("curl").textContent = `${line("image.jpg", "predict?top_n=3")}\n${line("scene.jpg", "map?stride=0.5")}`;
  $("metrics").hidden = needsKey; // a link cannot show a key
}
