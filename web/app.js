// Starts the page: views by the URL's fragment, the state of the server, and what this listener allows.

import * as chat from "./chat.js";
import * as components from "./components.js";
import * as jobs from "./jobs.js";
import * as models from "./models.js";
import * as recipes from "./recipes.js";
import { get } from "./api.js";
import { empty } from "./view.js";

const VIEWS = { chat, models, recipes, jobs, components };
const REFRESH_MS = 5000;
let admin = false;
let current = null;

/** The admin API answers on the admin listener only; the same page there shows everything. */
async function findAdmin() {
  try {
    await get("/admin/v1/slots");
    admin = true;
  } catch (error) {
    admin = false;
    const reason = error.status === 404
      ? "Recipes, jobs and components are managed on the admin listener: open this page at its address (--admin-listen, 127.0.0.1:8001 unless set)."
      : error.message;
    for (const part of document.querySelectorAll("[data-admin]")) part.replaceChildren(empty(reason));
  }
}

async function open() {
  const name = VIEWS[location.hash.slice(1)] ? location.hash.slice(1) : "chat";
  if (current && current !== name) VIEWS[current].hide?.();
  current = name;
  for (const view of document.querySelectorAll(".view")) view.hidden = view.id !== name;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  await VIEWS[name].show(admin).catch((error) => setReady(false, error.message));
}

function setReady(yes, text) {
  const badge = document.getElementById("ready");
  badge.className = `ready ${yes ? "yes" : "no"}`;
  badge.querySelector("b").textContent = text;
}

async function poll() {
  try {
    const response = await fetch("/ready");
    const { ready, reasons } = await response.json();
    setReady(ready, ready ? "ready" : reasons.join("; "));
    if (current === "models") await models.show(admin);
  } catch {
    setReady(false, "the server does not answer");
  }
  setTimeout(poll, REFRESH_MS);
}

chat.start();
await findAdmin();
if (admin) {
  jobs.start();
  recipes.start();
  components.start();
}
addEventListener("hashchange", open);
await open();
await poll();
