// Reading requests and writing responses. A handle that was made from another one is given back before it, by `using` or
// `Symbol.dispose`.

import { Fields, OutgoingBody, OutgoingResponse, ResponseOutparam } from "wasi:http/types@0.2.12";

// What one write takes at most, by the rules of wasi:io.
const CHUNK = 4096;

/** The whole body, which the host has limited and received before the call. */
export function readBody(request) {
  using body = request.consume();
  using stream = body.stream();
  const bytes = [];
  for (;;) {
    try {
      bytes.push(...stream.blockingRead(65536n));
    } catch (error) {
      if (error?.payload?.tag !== "closed") throw error;
      return new Uint8Array(bytes);
    }
  }
}

/** A response of plain text whose head is under way. */
export class Writer {
  constructor(out, status) {
    const type = new TextEncoder().encode("text/plain; charset=utf-8");
    const response = new OutgoingResponse(Fields.fromList([["content-type", type]]));
    response.setStatusCode(status);
    this.body = response.body();
    ResponseOutparam.set(out, { tag: "ok", val: response });
    this.stream = this.body.write();
  }

  /** Writes, and waits until it is on its way to the client. */
  write(text) {
    const bytes = new TextEncoder().encode(text);
    for (let start = 0; start < bytes.length; start += CHUNK) {
      this.stream.blockingWriteAndFlush(bytes.subarray(start, start + CHUNK));
    }
  }

  /** Ends the body. A writer that is left without leaves the response visibly cut. */
  finish() {
    this.stream[Symbol.dispose]();
    OutgoingBody.finish(this.body, undefined);
    this.body = undefined;
  }

  [Symbol.dispose]() {
    if (this.body === undefined) return;
    this.stream[Symbol.dispose]();
    this.body[Symbol.dispose]();
  }
}
