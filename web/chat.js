// The chat view: a conversation, streamed, with what the model thought, who answered and how fast.

import { events, get } from "./api.js";
import { chip, element } from "./view.js";

const at = (id) => document.getElementById(id);
const SUGGESTIONS = ["Why is the sky blue?", "Write a haiku about pruning trees.", "List three uses of WebAssembly."];

let history = [];
let running = null;

export function start() {
  at("chat-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (running) running.abort();
    else send(at("chat-input").value.trim());
  });
  at("chat-input").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      if (!running) at("chat-form").requestSubmit();
    }
  });
  at("chat-input").addEventListener("input", grow);
  at("chat-clear").addEventListener("click", clear);
  for (const [input, output] of [["chat-temperature", "chat-temperature-value"], ["chat-top-p", "chat-top-p-value"]]) {
    at(input).addEventListener("input", () => { at(output).value = at(input).value; });
  }
  clear();
}

export async function show() {
  const { data } = await get("/v1/models");
  const select = at("chat-model");
  const chosen = select.value;
  select.replaceChildren(...data.map(({ id }) =>
    element("option", { value: id }, id.includes("@") ? `\u2003${id}` : `${id} (router picks)`)));
  if (data.some(({ id }) => id === chosen)) select.value = chosen;
}

function clear() {
  running?.abort();
  history = [];
  at("chat-messages").replaceChildren(element("div", { class: "welcome" },
    element("h1", {}, "Ask the model"),
    "Answers say which variant and which generation gave them.",
    element("div", { class: "suggestions" }, SUGGESTIONS.map((text) =>
      element("button", { class: "quiet small", type: "button", onclick: () => send(text) }, text))),
  ));
}

function grow() {
  const input = at("chat-input");
  input.style.height = "auto";
  input.style.height = `${input.scrollHeight}px`;
}

function bubble(role, text) {
  const node = element("article", { class: `message ${role}` },
    element("div", { class: "who" }, role === "user" ? "You" : at("chat-model").value),
    element("div", { class: "text" }, text));
  at("chat-messages").querySelector(".welcome")?.remove();
  at("chat-messages").append(node);
  return node;
}

const atEnd = (list) => list.scrollHeight - list.scrollTop - list.clientHeight < 80;

async function send(text) {
  if (!text || running) return;
  at("chat-input").value = "";
  grow();
  history.push({ role: "user", content: text });
  bubble("user", text);
  const node = bubble("assistant", "");
  node.classList.add("pending");
  const list = at("chat-messages");
  list.scrollTop = list.scrollHeight;
  running = new AbortController();
  at("chat-send").textContent = "Stop";
  const turn = history;
  const result = await receive(node, list).catch((error) => ({ error }));
  running = null;
  at("chat-send").textContent = "Send";
  node.classList.remove("pending");
  endThinking(node, result);
  node.append(element("div", { class: "facts" }, facts(result)));
  if (result.text) turn.push({ role: "assistant", content: result.text });
  if (atEnd(list)) list.scrollTop = list.scrollHeight;
}

function request() {
  const system = at("chat-system").value.trim();
  const seed = at("chat-seed").value.trim();
  return {
    model: at("chat-model").value,
    messages: [...(system ? [{ role: "system", content: system }] : []), ...history],
    temperature: Number(at("chat-temperature").value),
    top_p: Number(at("chat-top-p").value),
    max_completion_tokens: Number(at("chat-max-tokens").value),
    ...(seed ? { seed: Number(seed) } : {}),
    ...(at("chat-effort").value ? { reasoning_effort: at("chat-effort").value } : {}),
    stream: true,
    stream_options: { include_usage: true },
  };
}

async function receive(node, list) {
  const result = { text: "", begin: performance.now() };
  const output = node.querySelector(".text");
  try {
    for await (const frame of events("/v1/chat/completions", { value: request(), signal: running.signal })) {
      if (frame.data === "[DONE]") break;
      const chunk = JSON.parse(frame.data);
      if (chunk.error) throw new Error(chunk.error.message);
      result.model = chunk.model;
      result.espalier = chunk.espalier;
      if (chunk.usage) result.usage = chunk.usage;
      const choice = chunk.choices[0];
      if (choice?.finish_reason) result.reason = choice.finish_reason;
      const piece = choice?.delta?.content;
      const thought = choice?.delta?.reasoning_content;
      if (piece || thought) {
        const follow = atEnd(list);
        result.first ??= performance.now();
        result.last = performance.now();
        if (thought) think(node, thought);
        if (piece) {
          endThinking(node, result);
          result.text += piece;
          output.append(piece);
        }
        if (follow) list.scrollTop = list.scrollHeight;
      }
    }
  } catch (error) {
    if (error.name !== "AbortError") result.error = error;
    else result.reason = "stopped";
  }
  return result;
}

/** Adds to the thoughts, which are open until the answer begins. */
function think(node, text) {
  let thoughts = node.querySelector(".thoughts");
  if (!thoughts) {
    thoughts = element("details", { class: "thoughts thinking", open: "" },
      element("summary", {}, "Thinking"), element("div", { class: "thought" }));
    node.querySelector(".text").before(thoughts);
  }
  thoughts.querySelector(".thought").append(text);
}

/** Closes the thoughts, once. */
function endThinking(node, { first, last }) {
  const thoughts = node.querySelector(".thoughts.thinking");
  if (!thoughts) return;
  thoughts.classList.remove("thinking");
  thoughts.open = false;
  thoughts.querySelector("summary").textContent = `Thought for ${((last - first) / 1000).toFixed(1)} s`;
}

function facts({ model, espalier, usage, reason, error, begin, first, last }) {
  const chips = [];
  if (model) chips.push(chip(model, "strong"), chip(`generation ${espalier.generation}`));
  if (usage && first && last > first && usage.completion_tokens > 1) {
    chips.push(chip(`${(((usage.completion_tokens - 1) * 1000) / (last - first)).toFixed(1)} tok/s`));
  }
  if (first) chips.push(chip(`first token ${((first - begin) / 1000).toFixed(2)} s`));
  if (usage) chips.push(chip(`${usage.prompt_tokens} + ${usage.completion_tokens} tokens`));
  if (reason === "length") chips.push(chip("cut at the token limit", "warn"));
  if (reason === "stopped") chips.push(chip("stopped", "warn"));
  if (error) chips.push(chip(error.message, "bad"));
  return chips;
}
