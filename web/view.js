// Small pieces that the views share: elements, numbers, tables.

/** An element with attributes and children; children that are strings become text, never markup. */
export function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") node.className = value;
    else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value != null) node.setAttribute(key, value);
  }
  node.append(...children.flat().filter((child) => child != null).map((child) => (child instanceof Node ? child : String(child))));
  return node;
}

export const chip = (text, kind = "") => element("span", { class: `chip ${kind}` }, text);

export function meter(share) {
  const fill = element("i");
  fill.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
  return element("span", { class: "meter" }, fill);
}

export function table(columns, rows) {
  const cell = (tag, column, content) => element(tag, { class: column.number ? "number" : "" }, content);
  return element("div", { class: "table card" }, element("table", {},
    element("thead", {}, element("tr", {}, columns.map((column) => cell("th", column, column.title)))),
    element("tbody", {}, rows.map((row) => element("tr", {}, columns.map((column) => cell("td", column, column.of(row)))))),
  ));
}

export const empty = (...text) => element("div", { class: "empty" }, ...text);

const scaled = (value, base, units) => {
  let step = 0;
  while (value >= base && step < units.length - 1) { value /= base; step += 1; }
  return `${value >= 100 || step === 0 ? value.toFixed(0) : value.toFixed(1)} ${units[step]}`.trim();
};
export const bytes = (value) => scaled(value, 1024, ["B", "KiB", "MiB", "GiB", "TiB"]);
export const count = (value) => scaled(value, 1000, ["", "K", "M", "B", "T"]);
export const time = (milliseconds) => new Date(milliseconds).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
export const percent = (share) => `${(share * 100).toFixed(share >= 0.1 ? 0 : 1)} %`;
