// Goes on with a text: `GET /` lists the variants that the host serves, and `POST /` with a text as its body is answered with
// what the first variant that takes requests writes, as it comes. Reading and writing is in messages.js.

import { Session, variants } from "espalier:endpoint/inference@{{wit-version}}";
import { Writer, readBody } from "./messages.js";

// The most tokens of an answer.
const MAX_TOKENS = 64;

// By the case of the refusal.
const STATUS = { "unknown-model": 404, invalid: 400, busy: 503, failed: 500 };

export const about = {
  describe() {
    return { name: "{{name}}", version: "0.1.0", summary: "{{summary}}" };
  },
};

export const incomingHandler = {
  // Called for each request, in an instance of its own.
  handle(request, out) {
    const method = request.method().tag;
    if (method === "get") return respond(out, 200, variants().map((variant) => `${address(variant)}\n`).join(""));
    if (method !== "post") return respond(out, 405, "expected GET or POST\n");
    let text;
    try {
      text = new TextDecoder("utf-8", { fatal: true }).decode(readBody(request));
    } catch {
      return respond(out, 400, "the body is no UTF-8\n");
    }
    const variant = variants().find((variant) => variant.accepts);
    if (variant === undefined) return respond(out, 503, "no variant takes requests\n");
    let session;
    try {
      const prompt = { tag: "text", val: text };
      session = Session.begin({ model: address(variant), prompt, maxTokens: MAX_TOKENS, temperature: 0 });
    } catch (error) {
      const refusal = error?.payload;
      if (refusal === undefined) throw error;
      return respond(out, STATUS[refusal.tag], `${refusal.val}\n`);
    }
    tell(session, out);
  },
};

function address(variant) {
  return `${variant.model}@${variant.name}`;
}

function respond(out, status, text) {
  using writer = new Writer(out, status);
  writer.write(text);
  writer.finish();
}

/** Writes the answer as it comes. Ends without `finish`, which looks cut, where the host failed. */
function tell(session, out) {
  using held = session;
  using writer = new Writer(out, 200);
  for (;;) {
    const step = held.next();
    if (step === undefined) {
      using ready = held.subscribe();
      ready.block();
    } else if (step.tag === "text") {
      writer.write(step.val);
    } else if (step.tag === "finished") {
      return writer.finish();
    } else if (step.tag === "failed") {
      return;
    }
  }
}
