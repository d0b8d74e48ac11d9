// What moves on the page: filters, sorting, pages, curves, categories and the details of a cell.
// Reads the one JSON block (foundad/report/page/data.py says what is in it). Every text from it becomes a text node, never markup.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const { axes, metrics, groups, notes, pool, runs } = data;
const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"];
const LIGHTER = ["#56B4E9", "#F08A4B", "#2BC49A", "#DE9CC2", "#F0C04A", "#9BD0F2"]; // the same hues on dark ground
const SYMBOLS = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x"];
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash"];
const DASH = "–";
const IMAGE_LEVEL = "image level";
const collator = new Intl.Collator("en", { numeric: true });
const byId = (id) => document.getElementById(id);

// ------------------------------------------------------------------------------------------------- elements and numbers

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "onclick") made.addEventListener("click", value);
    else if (value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function number(value, metric) {
  if (value === null || value === undefined) return DASH;
  return metric.share ? (100 * value).toFixed(1) : Number(value.toPrecision(3)).toString();
}

function spread(mean, deviation, metric) {
  if (mean === null || mean === undefined) return element("span", { class: "absent" }, DASH);
  const span = element("span", {}, number(mean, metric));
  if (deviation !== null) span.append(" ", element("span", { class: "deviation" }, `± ${number(deviation, metric)}`));
  return span;
}

const metricTitle = (metric) => (metric.protocol === IMAGE_LEVEL ? metric.name : `${metric.name} (${metric.protocol})`);

function duration(seconds) {
  if (seconds === null) return DASH;
  return seconds < 120 ? `${seconds.toFixed(1)} s` : seconds < 7200 ? `${(seconds / 60).toFixed(1)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

// ------------------------------------------------------------------------------------------------- the rows

const groupRuns = groups.shots.map(() => []);
runs.group.forEach((group, run) => groupRuns[group].push(run));
const groupRows = groups.shots.map(() => []);

const rows = data.rows.group.map((group, place) => {
  const metric = metrics[data.rows.metric[place]];
  const row = {
    place,
    group,
    metricObject: metric,
    dataset: axes.dataset[groups.dataset[group]].title,
    encoder: axes.encoder[groups.encoder[group]].title,
    method: axes.method[groups.method[group]].title,
    shots: groups.shots[group],
    metric: metric.name,
    protocol: metric.protocol,
    mean: data.rows.mean[place],
    deviation: data.rows.deviation[place],
    n: data.rows.seeds[place].filter((value) => value !== null).length,
    notes: data.rows.notes[place].map((note) => notes[note]),
  };
  row.words = `${row.dataset} ${row.encoder} ${row.method} ${row.shots}-shot ${row.metric} ${row.protocol}`.toLowerCase();
  groupRows[group].push(row);
  return row;
});

const cellTitle = (row) => `${row.method}, ${row.dataset}, ${row.encoder}, ${row.shots}-shot`;

// ------------------------------------------------------------------------------------------------- selects

/** Fill a select with [value, label] pairs, keeping what was chosen where it still exists. */
function fill(select, options, preferred) {
  const wanted = [...(select.options.length ? [select.value] : []), preferred, options[0]?.[0]];
  select.replaceChildren(...options.map(([value, label]) => element("option", { value }, label)));
  select.value = wanted.find((value) => options.some(([known]) => String(known) === String(value))) ?? "";
}

const places = (things, keep = () => true) => things.map((thing, place) => [place, thing.title]).filter(([place]) => keep(place));

/** A table's head whose columns sort: clicking calls sorted(column, descending). Returns a function that shows the order. */
function sortableHead(table, columns, sorted) {
  const heads = columns.map((column, place) => {
    const button = element("button", { type: "button", onclick: () => sorted(place) }, column.label);
    return element("th", { scope: "col", "aria-sort": "none", class: column.number ? "number" : null }, button);
  });
  table.tHead.replaceChildren(element("tr", {}, ...heads));
  return (chosen, descending) =>
    heads.forEach((head, place) =>
      head.setAttribute("aria-sort", place !== chosen ? "none" : descending ? "descending" : "ascending"));
}

/** Compares values, those that are missing always last. */
function comparison(value, descending) {
  const sign = descending ? -1 : 1;
  return (a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === null || y === null) return (x === null) - (y === null);
    return sign * (typeof x === "string" ? collator.compare(x, y) : x - y);
  };
}

// ------------------------------------------------------------------------------------------------- results

const FILTERS = ["dataset", "encoder", "method", "shots", "metric", "protocol"];
const COLUMNS = [
  { key: "method", label: "Method" },
  { key: "dataset", label: "Dataset" },
  { key: "encoder", label: "Encoder" },
  { key: "shots", label: "Shots", number: true },
  { key: "metric", label: "Metric" },
  { key: "protocol", label: "Protocol" },
  { key: "mean", label: "Mean", number: true },
  { key: "deviation", label: "± deviation", number: true },
  { key: "n", label: "Seeds", number: true },
];
const view = { column: COLUMNS.findIndex((column) => column.key === "mean"), descending: true, page: 0, shown: [] };
let showOrder;

function setUpResults() {
  for (const key of FILTERS) {
    const values = [...new Set(rows.map((row) => row[key]))];
    if (key === "shots") values.sort((a, b) => a - b);
    fill(byId(`filter-${key}`), [["", "all"], ...values.map((value) => [value, key === "shots" ? `${value}-shot` : value])]);
  }
  if (rows.some((row) => row.metric === "I-AUROC")) byId("filter-metric").value = "I-AUROC";
  showOrder = sortableHead(byId("rows"), COLUMNS, (column) => {
    view.descending = view.column === column ? !view.descending : ["mean", "n"].includes(COLUMNS[column].key);
    view.column = column;
    view.page = 0;
    showRows();
  });
  const changed = () => {
    view.page = 0;
    showRows();
  };
  byId("filters").addEventListener("input", changed);
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("filters").addEventListener("reset", () => {
    for (const key of FILTERS) byId(`filter-${key}`).value = "";
    byId("find").value = "";
    queueMicrotask(() => {
      for (const key of FILTERS) byId(`filter-${key}`).value = "";
      changed();
    });
  });
  byId("size").addEventListener("change", changed);
  for (const [id, step] of [["previous", -1], ["next", 1]]) {
    byId(id).addEventListener("click", () => {
      view.page += step;
      showRows();
      byId("results").scrollIntoView({ block: "start" });
    });
  }
  byId("download").addEventListener("click", download);
  byId("rows").tBodies[0].addEventListener("click", (event) => {
    const line = event.target.closest("tr[data-row]");
    if (line && !getSelection().toString()) showDetails(rows[Number(line.dataset.row)]);
  });
  showRows();
}

function showRows() {
  const chosen = FILTERS.map((key) => [key, byId(`filter-${key}`).value]).filter(([, value]) => value !== "");
  const words = byId("find").value.toLowerCase().split(/\s+/).filter(Boolean);
  const { key } = COLUMNS[view.column];
  view.shown = rows
    .filter((row) => chosen.every(([axis, value]) => String(row[axis]) === value) && words.every((word) => row.words.includes(word)))
    .sort(comparison((row) => row[key], view.descending));
  const size = Number(byId("size").value);
  const pages = Math.max(1, Math.ceil(view.shown.length / size));
  view.page = Math.min(Math.max(view.page, 0), pages - 1);
  const start = view.page * size;
  byId("rows").tBodies[0].replaceChildren(...view.shown.slice(start, start + size).map(line));
  showOrder(view.column, view.descending);
  const total = rows.length.toLocaleString("en");
  byId("count").textContent = view.shown.length
    ? `Rows ${start + 1} to ${Math.min(start + size, view.shown.length)} of ${view.shown.length.toLocaleString("en")}` +
      (view.shown.length < rows.length ? `, filtered from ${total}` : "")
    : `No row matches; there are ${total} in all`;
  byId("page").textContent = `Page ${view.page + 1} of ${pages}`;
  byId("previous").disabled = view.page === 0;
  byId("next").disabled = view.page === pages - 1;
  const named = metrics.filter((metric) => metric.name === byId("filter-metric").value);
  byId("definition").textContent = named.map((metric) => `${metricTitle(metric)}: ${metric.definition}.`).join(" ");
}

function line(row) {
  const value = element("td", { class: row.metricObject.share ? "number share" : "number" }, number(row.mean, row.metricObject));
  if (row.metricObject.share && row.mean !== null) value.style.setProperty("--share", row.mean);
  const seeds = element("td", { class: "number" });
  if (row.notes.length) seeds.append(element("span", { class: "badge", title: row.notes.join("\n") }, "note"), " ");
  seeds.append(String(row.n));
  // Phones show this line instead of the columns it repeats.
  const setting = `${row.dataset}, ${row.encoder}, ${row.shots}-shot, ${metricTitle(row.metricObject)}`;
  const open = element("button", { type: "button", class: "open", "aria-haspopup": "dialog", title: "Seeds, categories, config and versions" }, row.method);
  const control = axes.method[groups.method[row.group]].control;
  return element(
    "tr", { "data-row": row.place, class: control ? "control" : null },
    element("th", { scope: "row" }, open, element("span", { class: "setting" }, setting)), element("td", {}, row.dataset), element("td", {}, row.encoder),
    element("td", { class: "number" }, String(row.shots)), element("td", {}, row.metric), element("td", {}, row.protocol),
    value, element("td", { class: "number deviation" }, row.deviation === null ? DASH : number(row.deviation, row.metricObject)),
    seeds,
  );
}

/** The filtered rows as a file; text that a spreadsheet could take for a formula is marked as text. */
function download() {
  const quote = (value) => {
    const text = String(value ?? "");
    return `"${(typeof value === "string" && /^[=+\-@]/.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
  };
  const keys = [...COLUMNS.map((column) => column.key), "notes"];
  const lines = view.shown.map((row) => keys.map((key) => quote(key === "notes" ? row.notes.join("; ") : row[key])).join(","));
  const url = URL.createObjectURL(new Blob([[keys.join(","), ...lines, ""].join("\n")], { type: "text/csv" }));
  element("a", { href: url, download: "results.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

// ------------------------------------------------------------------------------------------------- details of a cell

function showDetails(row) {
  byId("details-title").textContent = cellTitle(row);
  const body = byId("details-body");
  const seeds = groupRuns[row.group];
  const values = data.rows.seeds[row.place];
  body.replaceChildren(
    element("p", {}, `${metricTitle(row.metricObject)} `, element("strong", {}, spread(row.mean, row.deviation, row.metricObject)), ` over ${row.n} seed${row.n === 1 ? "" : "s"}`),
    element("p", { class: "fine" }, `${row.metricObject.definition}.`),
    ...row.notes.map((note) => element("p", { class: "issue" }, note)),
  );
  const table = element("table", {},
    element("thead", {}, element("tr", {}, ...["Seed", "State", metricTitle(row.metricObject), "Fit", "Score", "Images", "Memory"].map((head, place) =>
      element("th", { scope: "col", class: place > 1 ? "number" : null }, head)))),
    element("tbody", {}, ...seeds.map((run, place) => element("tr", {},
      element("th", { scope: "row" }, String(runs.seed[run])),
      element("td", {}, runs.done[run] ? "done" : "failed"),
      element("td", { class: "number" }, number(values[place] ?? null, row.metricObject)),
      element("td", { class: "number" }, duration(runs.fit_seconds[run])),
      element("td", { class: "number" }, duration(runs.score_seconds[run])),
      element("td", { class: "number" }, runs.images[run] === null ? DASH : String(runs.images[run])),
      element("td", { class: "number" }, runs.peak_memory_bytes[run] === null ? DASH : `${(runs.peak_memory_bytes[run] / 2 ** 20).toFixed(0)} MiB`)))));
  body.append(element("div", { class: "scroll", role: "region", "aria-label": "Seeds", tabindex: "0" }, table));
  const inside = categoriesOf.get(row.place);
  if (inside) {
    const list = element("dl", { class: "facts" });
    for (const { category, mean, deviation } of inside) {
      list.append(element("dt", {}, data.categories.names[category]), element("dd", {}, spread(mean, deviation, row.metricObject)));
    }
    body.append(element("details", {}, element("summary", {}, `${inside.length} categories`), list));
  }
  for (const run of seeds) body.append(provenance(run, seeds.length === 1));
  body.scrollTop = 0;
  byId("details").showModal();
  byId("details-title").focus();
}

/** The record of one cell: plain facts, then every object (config of method and encoder, versions, fit) as JSON. */
function provenance(run, open) {
  const box = element("details", { class: "provenance", open: open ? "" : null }, element("summary", {}, `Seed ${runs.seed[run]}: config, versions, machine`));
  const reason = runs.reason[run];
  if (reason !== null) box.append(element("p", { class: "issue" }, notes[reason]));
  const record = runs.record[run];
  if (record === null) {
    box.append(element("p", { class: "message" }, "There is no record: the cell failed before it was fitted."));
    return box;
  }
  const facts = element("dl", { class: "facts" });
  const objects = [];
  for (const [key, value] of Object.entries(record)) {
    if (value !== null && typeof value === "object" && "$" in value) objects.push([key, pool[value.$]]);
    else facts.append(element("dt", {}, key), element("dd", {}, String(value)));
  }
  if (runs.parameters[run] !== null) facts.append(element("dt", {}, "parameters"), element("dd", {}, runs.parameters[run].toLocaleString("en")));
  box.append(facts);
  for (const [key, value] of objects) {
    box.append(element("details", {}, element("summary", {}, key), element("pre", { tabindex: "0" }, readable(value))));
  }
  return box;
}

/** JSON with short lists on one line. */
function readable(value) {
  return JSON.stringify(value, null, 2).replace(/\[\s+([^[\]{}]*?)\s+\]/g, (whole, inside) => {
    const flat = inside.replace(/\s*\n\s*/g, " ");
    return flat.length < 100 ? `[${flat}]` : whole;
  });
}

const categoriesOf = new Map();
data.categories.row.forEach((row, place) => {
  if (!categoriesOf.has(row)) categoriesOf.set(row, []);
  categoriesOf.get(row).push({
    category: data.categories.category[place],
    mean: data.categories.mean[place],
    deviation: data.categories.deviation[place],
  });
});

// ------------------------------------------------------------------------------------------------- curves

let plotly = null;

/** Unpack plotly (base64 of gzip inside the page) once; nothing is fetched. */
function loadPlotly() {
  plotly ??= (async () => {
    const packed = Uint8Array.from(atob(byId("plotly").textContent), (character) => character.charCodeAt(0));
    const source = await new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
    document.head.append(element("script", {}, source));
    return window.Plotly;
  })();
  return plotly;
}

/** Plotly reads a little markup in its texts; ours hold none. */
const literal = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

/** The chosen curves: name -> {shade, dash, points}; a point says where it is, its mean, deviation, seeds and shots. */
function resultLines(metric) {
  const [dataset, encoder, x] = ["dataset", "encoder", "x"].map((key) => byId(`curve-${key}`).value);
  const competitors = axes.method.map((_, place) => place).filter((place) => !axes.method[place].control);
  const lines = new Map();
  for (const row of rows) {
    const method = groups.method[row.group];
    if (row.mean === null || row.metricObject !== metric || String(groups.dataset[row.group]) !== dataset) continue;
    if (encoder !== "" && String(groups.encoder[row.group]) !== encoder) continue;
    if (axes.method[method].control && !byId("curve-controls").checked) continue;
    const at = x === "shots" ? row.shots : meanOfRuns(row.group, x);
    if (at === null) continue;
    const name = encoder === "" ? `${row.method}, ${row.encoder}` : row.method;
    const dash = encoder === "" ? groups.encoder[row.group] : 0;
    if (!lines.has(name)) lines.set(name, { shade: competitors.indexOf(method), dash, points: [] });
    lines.get(name).points.push({ at, mean: row.mean, deviation: row.deviation, n: row.n, note: `${row.shots}-shot, ` });
  }
  for (const line of lines.values()) line.points.sort((a, b) => a.at - b.at);
  return lines;
}

function meanOfRuns(group, key) {
  const known = groupRuns[group].map((run) => runs[key][run]).filter((value) => value !== null);
  return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
}

/** The same of a sweep that an experiment draws. */
function sweepLines(sweep, metric) {
  const names = [...new Set(sweep.line)];
  const numeric = sweep.x.every((value) => value !== "" && Number.isFinite(Number(value)));
  const lines = new Map();
  sweep.line.forEach((name, point) => {
    if (sweep.metric[point] !== metric.id || sweep.panel[point] !== byId("curve-dataset").value) return;
    if (!lines.has(name)) lines.set(name, { shade: names.indexOf(name), dash: 0, points: [] });
    const at = numeric ? Number(sweep.x[point]) : sweep.x[point];
    lines.get(name).points.push({ at, mean: sweep.mean[point], deviation: sweep.std[point], n: sweep.seeds[point], note: "" });
  });
  return lines;
}

const chosenSweep = () => data.sweeps[byId("curve-source").value];

async function showCurves() {
  const sweep = chosenSweep();
  const metric = metrics.find((one) => one.id === byId("curve-metric").value);
  const lines = !metric ? new Map() : sweep ? sweepLines(sweep, metric) : resultLines(metric);
  const x = byId("curve-x");
  const xTitle = sweep ? sweep.label : x.selectedOptions[0].textContent + (x.value === "fit_seconds" ? " (s)" : "");
  const table = byId("curve-rows");
  const heads = ["Line", xTitle, metric ? metricTitle(metric) : "", "Seeds"];
  table.tHead.replaceChildren(element("tr", {}, ...heads.map((head, place) => element("th", { scope: "col", class: place ? "number" : null }, head))));
  table.tBodies[0].replaceChildren(...[...lines].flatMap(([name, line]) => line.points.map((point) => element("tr", {},
    element("th", { scope: "row" }, name),
    element("td", { class: "number" }, typeof point.at === "number" ? Number(point.at.toPrecision(3)).toLocaleString("en") : point.at),
    element("td", { class: "number" }, spread(point.mean, point.deviation, metric)), element("td", { class: "number" }, String(point.n))))));
  byId("curve-message").textContent = lines.size ? "" : "There is no value for this choice.";
  byId("plot").hidden = !lines.size;
  if (!lines.size) return;
  let library;
  try {
    library = await loadPlotly();
  } catch {
    byId("curve-message").textContent = "This browser cannot unpack the curves; their numbers are in the table below.";
    byId("plot").hidden = true;
    return;
  }
  const style = getComputedStyle(document.documentElement);
  const probe = document.body.appendChild(element("i", { hidden: "" }));
  const colour = (name) => {
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color;
  };
  const [ink, soft, grid, surface] = ["--ink", "--soft", "--line", "--surface"].map(colour);
  probe.remove();
  const palette = Number(surface.match(/\d+/)[0]) < 128 ? LIGHTER : COLOURS;
  const scale = metric.share ? 100 : 1;
  const traces = [...lines].map(([name, { shade: place, dash, points }]) => {
    const shade = place < 0 ? soft : palette[place % palette.length];
    return {
      name: literal(name),
      x: points.map((point) => (typeof point.at === "string" ? literal(point.at) : point.at)),
      y: points.map((point) => scale * point.mean),
      error_y: { type: "data", array: points.map((point) => scale * (point.deviation ?? 0)), thickness: 1.2, width: 4, color: shade },
      text: points.map((point) => `${point.note}n = ${point.n}`),
      hovertemplate: "%{y:.1f} (%{text})<extra>%{fullData.name}</extra>",
      mode: "lines+markers",
      line: { color: shade, width: 2.2, dash: DASHES[dash % DASHES.length] },
      marker: { size: 8, symbol: SYMBOLS[Math.max(0, place) % SYMBOLS.length] },
    };
  });
  const ticks = [...new Set(traces.flatMap((trace) => trace.x))].sort((a, b) => a - b);
  const numeric = ticks.every((tick) => typeof tick === "number");
  // Powers of two and times lie apart on a scale of logarithms; a share from 0 to 1 does not.
  const type = !numeric ? "category" : ticks[0] > 0 && ticks.at(-1) / ticks[0] >= 4 ? "log" : "linear";
  const named = numeric && ticks.length <= 12 && (sweep || x.value === "shots");
  const axis = { gridcolor: grid, linecolor: soft, zeroline: false, automargin: true, fixedrange: matchMedia("(pointer: coarse)").matches };
  library.react(byId("plot"), traces, {
    font: { family: style.fontFamily, size: 13, color: ink },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    margin: { t: 16, r: 16, b: 48, l: 56 },
    hoverlabel: { bgcolor: surface, font: { color: ink } },
    legend: { orientation: "h", y: 1.04, yanchor: "bottom", x: 0 },
    xaxis: { ...axis, type, title: { text: literal(xTitle), standoff: 8 }, ...(named ? { tickvals: ticks, ticktext: ticks.map(String) } : {}) },
    yaxis: { ...axis, title: { text: `${metricTitle(metric)}${metric.share ? " (%)" : ""}` } },
  }, { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] });
  byId("plot").setAttribute("aria-label", `${metricTitle(metric)} against ${xTitle}: ${[...lines.keys()].join("; ")}. The numbers are in the table below.`);
}

function setUpCurves() {
  fill(byId("curve-source"), [["", "results"], ...data.sweeps.map((sweep, place) => [place, sweep.title])]);
  byId("curve-source").parentElement.hidden = !data.sweeps.length;
  const choose = () => {
    const sweep = chosenSweep();
    for (const id of ["curve-encoder", "curve-x", "curve-controls"]) byId(id).parentElement.hidden = Boolean(sweep);
    if (sweep) {
      fill(byId("curve-dataset"), [...new Set(sweep.panel)].map((panel) => [panel, panel || "all"]));
      const found = new Set(sweep.metric.filter((_, point) => sweep.panel[point] === byId("curve-dataset").value));
      fill(byId("curve-metric"), metrics.filter((metric) => found.has(metric.id)).map((metric) => [metric.id, metricTitle(metric)]), "i_auroc");
      return;
    }
    fill(byId("curve-dataset"), places(axes.dataset));
    const dataset = byId("curve-dataset").value;
    const inside = groups.shots.map((_, group) => group).filter((group) => String(groups.dataset[group]) === dataset);
    const encoders = new Set(inside.map((group) => groups.encoder[group]));
    const found = new Set(inside.flatMap((group) => groupRows[group].map((row) => row.metricObject.id)));
    fill(byId("curve-encoder"), [...places(axes.encoder, (place) => encoders.has(place)), ["", "all"]]);
    fill(byId("curve-metric"), metrics.filter((metric) => found.has(metric.id)).map((metric) => [metric.id, metricTitle(metric)]), "i_auroc");
  };
  choose();
  let seen = false;
  byId("curve-dataset").form.addEventListener("input", () => {
    choose();
    if (seen) showCurves();
  });
  new IntersectionObserver((entries, observer) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    seen = true;
    showCurves();
  }, { rootMargin: "300px" }).observe(byId("curves"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => seen && showCurves());
  return () => seen && showCurves();
}

// ------------------------------------------------------------------------------------------------- categories

const order = { column: 0, descending: false };

function setUpCategories() {
  const several = new Set([...categoriesOf.keys()].map((row) => groups.dataset[rows[row].group]));
  fill(byId("category-dataset"), places(axes.dataset, (place) => several.has(place)));
  if (!several.size) {
    byId("category-message").textContent = "Every dataset has one category; its results are above.";
    return;
  }
  const choose = () => {
    const chosen = (key) => byId(`category-${key}`).value;
    const inside = groups.shots.map((_, group) => group).filter((group) => String(groups.dataset[group]) === chosen("dataset"));
    const encoders = new Set(inside.map((group) => groups.encoder[group]));
    fill(byId("category-encoder"), places(axes.encoder, (place) => encoders.has(place)));
    const same = inside.filter((group) => String(groups.encoder[group]) === chosen("encoder"));
    const shots = [...new Set(same.map((group) => groups.shots[group]))].sort((a, b) => a - b);
    fill(byId("category-shots"), shots.map((count) => [count, `${count}-shot`]), shots.at(-1));
    const found = new Set(same.flatMap((group) => groupRows[group].map((row) => row.metricObject.id)));
    fill(byId("category-metric"), metrics.filter((metric) => found.has(metric.id)).map((metric) => [metric.id, metricTitle(metric)]), "i_auroc");
    showCategories(same.filter((group) => String(groups.shots[group]) === chosen("shots")));
  };
  byId("category-dataset").form.addEventListener("input", choose);
  choose();
}

function showCategories(chosen) {
  const table = byId("category-rows");
  const metric = metrics.find((one) => one.id === byId("category-metric").value);
  const columns = chosen.flatMap((group) => groupRows[group].filter((row) => row.metricObject === metric));
  const cells = columns.map((row) => new Map((categoriesOf.get(row.place) ?? []).map((one) => [one.category, one])));
  const names = [...new Set(cells.flatMap((cell) => [...cell.keys()]))];
  // The tint spans the competitors: beside an oracle and a random score they would all look the same.
  const ranked = columns.map((row) => !axes.method[groups.method[row.group]].control);
  const known = cells.filter((_, column) => ranked[column]).flatMap((cell) => [...cell.values()].map((one) => one.mean));
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const draw = () => {
    const value = order.column === 0 || order.column > columns.length
      ? (name) => data.categories.names[name]
      : (name) => cells[order.column - 1].get(name)?.mean ?? null;
    names.sort(comparison(value, order.descending));
    table.tBodies[0].replaceChildren(...names.map((name) => element("tr", {},
      element("th", { scope: "row" }, data.categories.names[name]),
      ...cells.map((cell, column) => {
        const one = cell.get(name);
        const entry = element("td", {}, one ? spread(one.mean, one.deviation, metric) : DASH);
        if (one && ranked[column] && metric.share && high > low) entry.style.setProperty("--heat", ((one.mean - low) / (high - low)).toFixed(3));
        return entry;
      }))));
    show(order.column, order.descending);
  };
  const show = sortableHead(table, [{ label: "Category" }, ...columns.map((row) => ({ label: row.method, number: true }))], (column) => {
    order.descending = order.column === column ? !order.descending : column > 0;
    order.column = column;
    draw();
  });
  table.tFoot.replaceChildren(element("tr", {}, element("th", { scope: "row" }, "Mean"), ...columns.map((row) => element("td", {}, spread(row.mean, row.deviation, metric)))));
  draw();
}

// ------------------------------------------------------------------------------------------------- failures, provenance

const LISTED = 200;

function setUpFailures() {
  const list = byId("failure-list");
  const kinds = [["failed", runs.reason, (run) => !runs.done[run]], ["with a warning", runs.warnings, () => true]];
  for (const [kind, messages, applies] of kinds) {
    const found = new Map();
    messages.forEach((message, run) => {
      if (!applies(run) || (message === null && kind !== "failed")) return;
      if (!found.has(message)) found.set(message, []);
      found.get(message).push(run);
    });
    for (const [message, which] of found) {
      const cells = element("ul");
      for (const run of which.slice(0, LISTED)) {
        const row = groupRows[runs.group[run]][0];
        const text = `${cellTitle(row)}, seed ${runs.seed[run]}`;
        cells.append(element("li", {}, element("button", { type: "button", class: "open", onclick: () => showDetails(row) }, text)));
      }
      if (which.length > LISTED) cells.append(element("li", {}, `and ${which.length - LISTED} more`));
      const count = `${which.length} cell${which.length === 1 ? "" : "s"} ${kind}`;
      list.append(element("details", { class: "issue" },
        element("summary", {}, element("strong", {}, count), `: ${message === null ? "no reason recorded" : notes[message]}`), cells));
    }
  }
  if (!list.children.length) list.append(element("p", { class: "message" }, "No cell failed and none looks suspicious."));
}

function setUpProvenance() {
  const found = new Map();
  runs.record.forEach((record) => {
    if (record === null) return;
    const key = JSON.stringify(["machine", "versions", "device", "precision"].map((name) => record[name]?.$ ?? record[name]));
    if (!found.has(key)) found.set(key, { record, count: 0 });
    found.get(key).count += 1;
  });
  const plain = (value) => (value && typeof value === "object" && "$" in value ? pool[value.$] : value);
  const environments = byId("environments");
  const heads = ["Cells", "Device", "Machine", "Versions"];
  environments.tHead.append(element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head))));
  for (const { record, count } of [...found.values()].sort((a, b) => b.count - a.count)) {
    const machine = plain(record.machine) ?? {};
    const versions = Object.entries(plain(record.versions) ?? {}).map(([name, version]) => `${name} ${version}`).join(", ");
    environments.tBodies[0].append(element("tr", {},
      element("td", {}, String(count)), element("td", {}, `${record.device ?? DASH}, ${record.precision ?? DASH}`),
      element("td", {}, Object.values(machine).filter(Boolean).join(", ")), element("td", {}, versions)));
  }
  const sources = byId("sources");
  sources.tHead.append(element("tr", {}, ...["Name", "Licence", "Source"].map((head) => element("th", { scope: "col" }, head))));
  for (const one of [...axes.dataset, ...axes.encoder]) {
    sources.tBodies[0].append(element("tr", {}, element("th", { scope: "row" }, one.title), element("td", {}, one.licence), element("td", {}, one.source)));
  }
}

// ------------------------------------------------------------------------------------------------- the page

function setUpPage(redraw) {
  const button = byId("scheme");
  const schemes = ["system", "light", "dark"];
  button.hidden = false;
  button.addEventListener("click", () => {
    const next = schemes[(schemes.indexOf(button.dataset.scheme ?? "system") + 1) % schemes.length];
    button.dataset.scheme = next;
    button.textContent = `Theme: ${next}`;
    document.documentElement.style.colorScheme = next === "system" ? "" : next;
    redraw();
  });
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog || event.target.closest("[data-close]")) dialog.close();
    });
  }
  document.querySelectorAll(".zoom").forEach((zoom) => zoom.addEventListener("click", () => {
    const picture = zoom.querySelector("img");
    byId("enlarged-picture").src = picture.src;
    byId("enlarged-picture").alt = picture.alt;
    byId("enlarged-title").textContent = picture.alt;
    byId("enlarged").showModal();
  }));
  const links = [...document.querySelectorAll("nav a")];
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const link of links) {
        if (link.hash === `#${entry.target.id}`) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
      }
    }
  }, { rootMargin: "-20% 0px -75% 0px" });
  document.querySelectorAll("main > section").forEach((section) => watch.observe(section));
}

setUpResults();
setUpPage(setUpCurves());
setUpCategories();
setUpFailures();
setUpProvenance();
document.documentElement.dataset.ready = "";
