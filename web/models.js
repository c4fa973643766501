// The models view: what is loaded, how large it is and how busy.

import { get, remove } from "./api.js";
import { bytes, chip, count, element, empty, meter, table } from "./view.js";

const list = () => document.getElementById("models-list");

export async function show(admin) {
  const views = admin ? await detailed() : await plain();
  list().replaceChildren(...(views.length ? views : [empty("No model is loaded.")]));
}

async function detailed() {
  const { models, not_loaded } = await get("/admin/v1/models");
  const missing = not_loaded.length ? [element("h2", {}, "Recorded but not loaded"), table([
    { title: "Address", of: (v) => element("code", {}, `${v.model}@${v.variant}`) },
    { title: "Problem", of: (v) => v.problem },
    { title: "", of: (v) => element("div", { class: "actions" }, element("button", { class: "quiet small", onclick: () => unload(v) }, "Forget")) },
  ], not_loaded)] : [];
  const loaded = models.flatMap(({ model, default_variant, variants }) => {
    const largest = Math.max(...variants.map((variant) => variant.parameters));
    return [element("h2", {}, model), table([
      { title: "Variant", of: (v) => [element("b", {}, v.variant), " ", v.variant === default_variant ? chip("default") : null, element("small", {}, v.path)] },
      { title: "Generation", number: true, of: (v) => v.generation },
      { title: "Parameters", number: true, of: (v) => [count(v.parameters), element("small", {}, `${((100 * v.parameters) / largest).toFixed(0)} %`)] },
      { title: "Weights", number: true, of: (v) => bytes(v.weight_bytes) },
      { title: "Context", number: true, of: (v) => v.max_model_len.toLocaleString() },
      { title: "Running / waiting", number: true, of: (v) => `${v.running} / ${v.waiting}` },
      { title: "KV cache", of: (v) => meter(v.kv_used_blocks / Math.max(1, v.kv_blocks)) },
      { title: "ms / token", number: true, of: (v) => v.milliseconds_per_token?.toFixed(1) ?? "–" },
      { title: "", of: (v) => element("div", { class: "actions" }, element("button", { class: "quiet small", onclick: () => unload(v) }, "Unload")) },
    ], variants)];
  });
  return [...loaded, ...missing];
}

async function unload({ model, variant }) {
  if (!confirm(`Unload ${model}@${variant}? Its requests in flight finish first.`)) return;
  await remove(`/admin/v1/models/${encodeURIComponent(model)}/${encodeURIComponent(variant)}`).catch((error) => alert(error.message));
  await show(true);
}

async function plain() {
  const { data } = await get("/v1/models");
  if (!data.length) return [];
  return [table([
    { title: "Address", of: (m) => element("code", {}, m.id) },
    { title: "Answered by", of: (m) => m.espalier.variant ?? `the router, or ${m.espalier.default_variant}` },
    { title: "Generation", number: true, of: (m) => m.espalier.generation ?? "" },
    { title: "Context", number: true, of: (m) => m.max_model_len.toLocaleString() },
  ], data)];
}
