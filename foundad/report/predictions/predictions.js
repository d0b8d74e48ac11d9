// The threshold, the order and the filters of a page of predictions. Reads the one JSON block; every text from it becomes a text
// node, never markup.
"use strict";

const { rows } = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const collator = new Intl.Collator("en", { numeric: true });
const scores = rows.map((row) => row.score);
const learned = rows.find((row) => row.threshold !== null)?.threshold ?? null;
const known = learned === null ? scores : [...scores, learned];
const low = known.reduce((a, b) => Math.min(a, b), known[0] ?? 0);
const high = known.reduce((a, b) => Math.max(a, b), known[0] ?? 1);
// Without a learned threshold the page starts where nothing is anomalous.
let threshold = learned ?? high;

const ORDERS = {
  high: (a, b) => b.row.score - a.row.score,
  low: (a, b) => a.row.score - b.row.score,
  name: (a, b) => collator.compare(a.row.name, b.row.name),
  given: (a, b) => a.place - b.place,
};

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

const cards = rows.map((row, place) => {
  const card = element("li", "card");
  const image = element("img");
  image.alt = `${row.name}: picture with its anomaly map`;
  image.loading = "lazy";
  image.decoding = "async";
  const score = element("p", "score", `${row.score} `);
  const verdict = element("span", "verdict");
  score.append(verdict);
  card.append(image, element("p", "name", row.name), score);
  return { row, place, card, image, verdict };
});

function isAnomalous(one) {
  return one.row.score > threshold;
}

function show() {
  const which = byId("which").value;
  const words = byId("find").value.toLowerCase();
  const maps = byId("maps").checked;
  const shown = cards.filter(
    (one) =>
      (which === "all" || (which === "anomalous") === isAnomalous(one)) && one.row.name.toLowerCase().includes(words),
  );
  shown.sort((a, b) => ORDERS[byId("order").value](a, b) || a.place - b.place);
  for (const one of shown) {
    const source = maps ? one.row.overlay : one.row.picture;
    if (one.image.src !== source) one.image.src = source;
    one.card.classList.toggle("anomalous", isAnomalous(one));
    one.verdict.textContent = isAnomalous(one) ? "anomalous" : "normal";
  }
  byId("pictures").replaceChildren(...shown.map((one) => one.card));
  const anomalous = cards.filter(isAnomalous).length;
  byId("count").textContent = `${anomalous} of ${cards.length} pictures are anomalous, ${shown.length} are shown`;
}

function setThreshold(value, written) {
  threshold = value;
  byId("slider").value = String(value);
  if (!written) byId("value").value = Number(value.toPrecision(6)).toString();
  show();
}

const margin = (high - low) * 0.02 || 1;
byId("slider").min = String(low - margin);
byId("slider").max = String(high + margin);
byId("slider").addEventListener("input", () => setThreshold(Number(byId("slider").value)));
byId("value").addEventListener("input", () => {
  const value = Number(byId("value").value);
  if (byId("value").value.trim() && Number.isFinite(value)) setThreshold(value, true);
});
byId("learned").hidden = learned === null;
byId("learned").addEventListener("click", () => setThreshold(learned));
for (const id of ["order", "which", "find", "maps"]) byId(id).addEventListener("input", show);
byId("controls").addEventListener("submit", (event) => event.preventDefault());
setThreshold(threshold);
document.documentElement.dataset.ready = "";
