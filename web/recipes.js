// The recipes view: starting a run, what runs now, and the table of all runs with what went in and what came out.

import { download, followJobs, get, post, remove } from "./api.js";
import { chip, count, element, empty, meter, table, time } from "./view.js";

const at = (id) => document.getElementById(id);
const RUNS = "/admin/v1/recipes/runs";
const KIND = { succeeded: "strong", failed: "bad", cancelled: "warn", running: "strong" };
const OWN = "";
let runs = new Map();
let watching = null;

export function start() {
  at("recipe-name").addEventListener("change", () => { at("recipe-own").hidden = at("recipe-name").value !== OWN; });
  at("recipe-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    at("recipe-error").textContent = "";
    try {
      await post(RUNS, request());
      at("recipe-details").open = false;
    } catch (error) {
      at("recipe-error").textContent = error.message;
    }
    await refresh();
  });
}

function request() {
  const [model, variant] = at("recipe-variant").value.split("@");
  const filled = (field, id) => {
    const text = at(id).value.trim();
    return text ? { [field]: text } : {};
  };
  const name = at("recipe-name").value;
  return {
    model, variant,
    ...(name === OWN ? { toml: at("recipe-toml").value } : { recipe: name }),
    ...filled("calibration", "recipe-calibration"),
    ...filled("data", "recipe-data"),
    ...filled("load_as", "recipe-load-as"),
  };
}

export async function show(admin) {
  if (!admin) return;
  const [{ data }, { recipes }] = await Promise.all([get("/v1/models"), get("/admin/v1/recipes")]);
  options(at("recipe-variant"), data.filter(({ id }) => id.includes("@")).map(({ id }) => [id, id]));
  options(at("recipe-name"), [...recipes.map(({ name }) => [name, name]), [OWN, "your own, in TOML"]]);
  at("recipe-own").hidden = at("recipe-name").value !== OWN;
  await refresh();
  watch();
}

function options(select, choices) {
  const chosen = select.value;
  select.replaceChildren(...choices.map(([value, label]) => element("option", { value }, label)));
  if (choices.some(([value]) => value === chosen)) select.value = chosen;
}

export function hide() {
  watching?.abort();
  watching = null;
}

async function refresh() {
  runs = new Map((await get(RUNS)).runs.map((run) => [run.id, run]));
  draw();
}

/** Follows the events of all jobs while the view is open. */
async function watch() {
  if (watching) return;
  watching = new AbortController();
  await followJobs(watching.signal, refresh, async (event) => {
    const run = runs.get(event.id);
    // Runs that somebody else has started show when they are under way; other jobs have no stage.
    if (!run) return event.stage ? refresh() : undefined;
    // What a stage leaves is in the table alone.
    const same = run.state === event.state && run.stage?.number === event.stage?.number;
    if (!same) return refresh();
    Object.assign(run, event);
    document.getElementById(`run-${run.id}`)?.replaceWith(card(run));
  });
}

const isOpen = (run) => run.state === "queued" || run.state === "running";

function draw() {
  const all = [...runs.values()];
  at("runs-open").replaceChildren(...all.filter(isOpen).reverse().map(card));
  at("runs-list").replaceChildren(...(all.length ? [element("h2", {}, "All runs"), runTable(all)] : [empty("No recipe has been run yet.")]));
}

/** A run that waits or is under way. */
function card(run) {
  return element("article", { class: "job card", id: `run-${run.id}` },
    element("header", {}, element("b", {}, `${run.recipe} on ${run.model}@${run.variant}`), chip(`#${run.id}`), chip(run.state, KIND[run.state] ?? ""),
      element("div", { class: "actions" }, element("button", { class: "quiet small", onclick: () => cancel(run) }, "Cancel"))),
    run.stage ? meter(run.total ? run.done / run.total : 0) : null,
    element("p", {}, progress(run)));
}

function progress({ stage, done, total, state, created_ms }) {
  if (!stage) return state === "queued" ? `waits since ${time(created_ms)}` : "begins";
  const parts = [`stage ${stage.number} of ${stage.stages}: ${stage.name}`];
  if (stage.cut) parts.push(`cut ${stage.cut} of ${stage.cuts}`);
  parts.push(`${stage.activity}${total ? ` ${done} of ${total}` : ""}`);
  if (stage.loss != null) parts.push(`loss ${stage.loss.toFixed(4)}`);
  if (stage.tokens_per_second != null) parts.push(`${stage.tokens_per_second.toFixed(0)} tokens/s`);
  if (stage.seconds_left != null) parts.push(`${duration(stage.seconds_left)} left`);
  return parts.join(" · ");
}

function duration(seconds) {
  if (seconds < 90) return `${seconds.toFixed(0)} s`;
  return seconds < 5400 ? `${(seconds / 60).toFixed(0)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

const runTable = (all) => table([
  { title: "Run", of: (r) => [element("b", {}, r.recipe), " ", chip(`#${r.id}`), element("small", {}, `${r.model}@${r.variant}, ${time(r.created_ms)}`)] },
  { title: "State", of: (r) => [chip(r.state, KIND[r.state] ?? ""), r.error ? element("small", { class: "error" }, r.error) : null] },
  { title: "SHA-256", of: (r) => element("dl", { class: "hashes" },
    hash("recipe", r.recipe_sha256), r.texts.flatMap(({ path, sha256 }) => hash("text", sha256, path)),
    hash("unpruned", r.result?.unpruned_sha256, r.path), hash("result", r.result?.model?.sha256, r.result?.model?.path)) },
  { title: "Before → after", of: (r) => figures(r.result) },
  { title: "", of: (r) => element("div", { class: "actions" }, r.reports.map((path) => report(r, path)),
    r.state === "failed" || r.state === "cancelled" ? element("button", { class: "quiet small", onclick: () => resume(r) }, "Go on") : null,
    r.result?.model && !isOpen(r) ? element("button", { class: "quiet small", onclick: () => load(r) }, "Load as a variant") : null) },
], all);

/** The beginning of a hash; all of it, and of what, is its title. */
function hash(name, value, path = "") {
  return value ? [element("dt", {}, name), element("dd", { title: `${path} ${value}`.trim() }, element("code", {}, value.slice(0, 8)))] : [];
}

function figures(result) {
  if (!result?.after) return null;
  const { before, after, loaded } = result;
  const line = (name, old, now) => element("div", {}, element("span", { class: "note" }, `${name} `), old == null ? now : `${old} → ${now}`);
  const measured = after.measurements.map(({ name, value }) =>
    line(name, before?.measurements.find((m) => m.name === name)?.value.toPrecision(4), value.toPrecision(4)));
  return element("div", { class: "figures" }, line("parameters", before && count(before.parameters), count(after.parameters)), measured,
    loaded ? element("div", {}, chip(`serving as ${loaded.variant}`, "strong")) : null);
}

function report(run, path) {
  const format = path.split("/").pop();
  if (format !== "html") return null;
  // A link alone cannot carry the admin token.
  const open = (event) => {
    if (!sessionStorage.getItem("espalier-admin-token")) return;
    event.preventDefault();
    download(path, `${run.recipe}-${run.id}.html`).catch((error) => alert(error.message));
  };
  return element("a", { class: "link", href: path, target: "_blank", rel: "noopener", onclick: open }, "Report");
}

async function load({ model, recipe, result }) {
  const variant = prompt(`Serve ${result.model.path} as this variant of ${model}:`, recipe);
  if (!variant) return;
  await post("/admin/v1/models", { model, variant: variant.trim(), path: result.model.path }).then(
    ({ generation }) => alert(`${model}@${variant.trim()} serves as generation ${generation}.`),
    (error) => alert(error.message));
}

async function resume({ id }) {
  await post(`${RUNS}/${id}/resume`, {}).catch((error) => alert(error.message));
  await refresh();
}

async function cancel({ id }) {
  await remove(`${RUNS}/${id}`).catch((error) => alert(error.message));
  await refresh();
}
