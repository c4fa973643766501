// The jobs view: starting a pruning, and the progress of every job as it happens.

import { followJobs, get, post, remove } from "./api.js";
import { chip, count, element, empty, meter, percent, time } from "./view.js";

const at = (id) => document.getElementById(id);
const KIND = { succeeded: "strong", failed: "bad", cancelled: "warn", running: "strong" };
let jobs = new Map();
let watching = null;

export function start() {
  at("job-keep").addEventListener("input", () => { at("job-keep-value").value = percent(Number(at("job-keep").value)); });
  at("job-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    at("job-error").textContent = "";
    try {
      await post("/admin/v1/jobs", request());
      at("job-details").open = false;
    } catch (error) {
      at("job-error").textContent = error.message;
    }
    await refresh();
  });
}

function request() {
  const [model, variant] = at("job-variant").value.split("@");
  const loadAs = at("job-load-as").value.trim();
  return {
    kind: "prune", model, variant,
    policy: at("job-policy").value.trim(),
    units: [...document.querySelectorAll("#job-form [name=unit]:checked")].map((box) => box.value),
    keep: Number(at("job-keep").value),
    calibration: at("job-calibration").value.trim(),
    out: at("job-out").value.trim(),
    ...(loadAs ? { load_as: loadAs } : {}),
  };
}

export async function show(admin) {
  if (!admin) return;
  const { data } = await get("/v1/models");
  const variants = data.filter(({ id }) => id.includes("@"));
  const chosen = at("job-variant").value;
  at("job-variant").replaceChildren(...variants.map(({ id }) => element("option", { value: id }, id)));
  if (variants.some(({ id }) => id === chosen)) at("job-variant").value = chosen;
  await refresh();
  watch();
}

export function hide() {
  watching?.abort();
  watching = null;
}

async function refresh() {
  const list = (await get("/admin/v1/jobs")).jobs;
  jobs = new Map(list.map((job) => [job.id, job]));
  draw();
}

/** Follows the events of all jobs while the view is open. */
async function watch() {
  if (watching) return;
  watching = new AbortController();
  await followJobs(watching.signal, refresh, async (event) => {
    const job = jobs.get(event.id);
    if (job?.state !== event.state) return refresh();
    Object.assign(job, event);
    redraw(job);
  });
}

function draw() {
  const cards = [...jobs.values()].map(card);
  at("jobs-list").replaceChildren(...(cards.length ? cards : [empty("No job has run yet.")]));
}

function redraw(job) {
  document.getElementById(`job-${job.id}`)?.replaceWith(card(job));
}

function card(job) {
  const { request } = job;
  const open = job.state === "queued" || job.state === "running";
  const title = titleOf(request);
  return element("article", { class: "job card", id: `job-${job.id}` },
    element("header", {}, element("b", {}, title), chip(`#${job.id}`), chip(job.state, KIND[job.state] ?? ""),
      request.policy ? chip(request.policy) : null,
      open ? element("div", { class: "actions" }, element("button", { class: "quiet small", onclick: () => cancel(job) }, "Cancel")) : null),
    open ? meter(job.total ? job.done / job.total : 0) : null,
    element("p", {}, progress(job)),
    job.error ? element("p", { class: "error" }, job.error) : null,
    outcome(job));
}

function titleOf({ kind, model, variant, keep, recipe }) {
  if (kind === "recipe") return `Recipe ${recipe} on ${model}@${variant}`;
  return kind === "prune" ? `Prune ${model}@${variant} to ${percent(keep)}` : `Evaluate ${model}@${variant}`;
}

function progress(job) {
  const parts = [];
  if (job.state === "running" && job.phase) parts.push(`${job.phase} ${job.total ? `${job.done} of ${job.total}` : job.done || ""}`);
  parts.push(`submitted ${time(job.created_ms)}`);
  if (job.finished_ms && job.started_ms) parts.push(`took ${((job.finished_ms - job.started_ms) / 1000).toFixed(1)} s`);
  return parts.join(" · ");
}

function outcome({ request, result }) {
  if (!result) return null;
  if (request.kind === "recipe") return element("p", {}, element("a", { class: "link", href: "#recipes" }, "See the table of runs"));
  if (request.kind === "prune") {
    const loaded = result.loaded ? ` · serving as ${request.model}@${result.loaded.variant}, generation ${result.loaded.generation}` : "";
    return element("p", {}, `${count(result.before.parameters)} → ${count(result.after.parameters)} parameters · ${result.out}${loaded}`);
  }
  const rows = result.rows ?? [];
  return element("p", {}, rows.map((row) =>
    `${row.name}: ${row.measurements.map((m) => `${m.name} ${m.value.toPrecision(5)}`).join(", ")}`).join(" · "));
}

async function cancel({ id }) {
  await remove(`/admin/v1/jobs/${id}`).catch((error) => alert(error.message));
  await refresh();
}
