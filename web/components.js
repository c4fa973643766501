// The components view: slots with their history, deployed components, deployment by drag and drop.

import { get, post, remove, upload } from "./api.js";
import { bytes, chip, element, empty, table, time } from "./view.js";

const at = (id) => document.getElementById(id);

export function start() {
  const zone = at("component-drop");
  zone.addEventListener("dragover", (event) => { event.preventDefault(); zone.classList.add("over"); });
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    deploy(event.dataTransfer.files[0]);
  });
  at("component-file").addEventListener("change", (event) => {
    deploy(event.target.files[0]);
    event.target.value = "";
  });
}

function report(text, failed = false) {
  at("component-result").className = failed ? "note error" : "note";
  at("component-result").textContent = text;
}

async function deploy(file) {
  if (!file) return;
  report(`Checking ${file.name} …`);
  try {
    const { component, created, activation, load_ms } = await upload(`/admin/v1/components?label=${encodeURIComponent(file.name)}`, file);
    report(`${component.name}@${component.version} ${created ? "is deployed" : "was deployed before"} and active in ${activation.slot}, revision ${activation.revision} (ready in ${load_ms.toFixed(0)} ms).`);
  } catch (error) {
    report(error.message, true);
  }
  await show(true);
}

export async function show(admin) {
  if (!admin) return;
  const { components, slots } = await get("/admin/v1/components");
  at("slots-list").replaceChildren(element("h2", {}, "Slots"), slots.length ? slotTable(slots) : empty("Nothing is active: the default variant answers, built-in policies and metrics are used."));
  at("components-list").replaceChildren(element("h2", {}, "Deployed"), components.length ? componentTable(components, slots) : empty("No component is deployed."));
}

const slotTable = (slots) => table([
  { title: "Slot", of: (s) => element("b", {}, s.slot) },
  { title: "Active", of: (s) => [element("code", {}, s.component), settings(s), s.problem ? element("small", { class: "error" }, s.problem) : null] },
  { title: "Canary", of: (s) => s.canary ? [element("code", {}, s.canary.component), element("small", {}, `${(100 * s.canary.weight).toFixed(1)} % of the calls`), settings(s.canary), s.canary_problem ? element("small", { class: "error" }, s.canary_problem) : null] : null },
  { title: "Revision", number: true, of: (s) => s.revision },
  { title: "Since", number: true, of: (s) => time(s.activated * 1000) },
  { title: "", of: (s) => element("div", { class: "actions" },
    s.canary ? element("button", { class: "quiet small", onclick: () => change("promote", { slot: s.slot, expected_revision: s.revision }) }, "Promote") : null,
    element("button", { class: "quiet small", disabled: !s.canary && s.history.every((h) => h.digest === s.digest && told(h) === told(s)), onclick: () => change("rollback", { slot: s.slot, expected_revision: s.revision }) }, "Roll back")) },
], slots);

const told = ({ configuration, granted_hosts }) => [
  ...Object.entries(configuration ?? {}).map(([key, value]) => `${key}=${value}`),
  ...(granted_hosts ?? []).map((host) => `may reach ${host}`),
].join("; ");
const settings = (placed) => told(placed) ? element("small", {}, told(placed)) : null;

const componentTable = (components, slots) => table([
  { title: "Component", of: (c) => [element("b", {}, c.name), " ", chip(c.version), element("small", {}, c.summary)] },
  { title: "World", of: (c) => c.world },
  { title: "Size", number: true, of: (c) => bytes(c.size) },
  { title: "Digest", of: (c) => element("code", { title: c.digest }, c.digest.slice(0, 12)) },
  { title: "Active in", of: (c) => c.places.map((place) => chip(place.canary ? `${place.slot} (canary)` : place.slot, "strong")) },
  { title: "", of: (c) => element("div", { class: "actions" },
    c.active_in.length ? null : element("button", { class: "quiet small", onclick: () => activate(c, slots) }, "Activate"),
    c.places.length ? null : element("button", { class: "quiet small", onclick: () => discard(c) }, "Remove")) },
], components);

const PREFIX = { "request-router": "router", "scoring-policy": "scoring/", "evaluation-metric": "metric/" };

function activate({ world, name, digest }, slots) {
  const slot = PREFIX[world].endsWith("/") ? PREFIX[world] + name : PREFIX[world];
  const revision = slots.find((s) => s.slot === slot)?.revision ?? 0;
  return change("activate", { slot, component: digest, expected_revision: revision });
}

async function change(what, value) {
  try {
    const { slot, component, revision } = await post(`/admin/v1/slots/${what}`, value);
    report(`${component} is active in ${slot}, revision ${revision}.`);
  } catch (error) {
    report(error.message, true);
  }
  await show(true);
}

async function discard({ name, version, digest }) {
  if (!confirm(`Remove ${name}@${version}?`)) return;
  await remove(`/admin/v1/components/${digest}`).catch((error) => report(error.message, true));
  await show(true);
}
