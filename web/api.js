// Talks to the server that this page came from, and to nobody else.

const TOKEN_KEY = "espalier-admin-token";

/** An error answer of the server, with its sentence. */
export class ApiError extends Error {
  constructor(status, body) {
    super(body?.error?.message ?? `the server answered ${status}`);
    this.status = status;
    this.code = body?.error?.code;
  }
}

function headers(path, extra = {}) {
  const token = path.startsWith("/admin") ? sessionStorage.getItem(TOKEN_KEY) : null;
  return token ? { ...extra, authorization: `Bearer ${token}` } : extra;
}

async function askForToken() {
  const dialog = document.getElementById("token-dialog");
  if (!dialog.open) dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  sessionStorage.setItem(TOKEN_KEY, document.getElementById("token-input").value.trim());
}

/** A request; asks for the admin token once if the listener wants one. */
async function send(path, options = {}) {
  for (let attempt = 0; ; attempt += 1) {
    const response = await fetch(path, { ...options, headers: headers(path, options.headers) });
    if (response.status !== 401 || attempt > 1) return response;
    await askForToken();
  }
}

async function answer(response) {
  const body = await response.json().catch(() => null);
  if (!response.ok) throw new ApiError(response.status, body);
  return body;
}

export const get = async (path) => answer(await send(path));
export const remove = async (path) => answer(await send(path, { method: "DELETE" }));
export const post = async (path, value) =>
  answer(await send(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(value) }));
export const upload = async (path, file) =>
  answer(await send(path, { method: "POST", headers: { "content-type": "application/wasm" }, body: file }));

/** Saves the file of a GET under a name. */
export async function download(path, name) {
  const response = await send(path);
  if (!response.ok) throw new ApiError(response.status, await response.json().catch(() => null));
  const address = URL.createObjectURL(await response.blob());
  const link = Object.assign(document.createElement("a"), { href: address, download: name });
  link.click();
  URL.revokeObjectURL(address);
}

/** Server-sent events of a GET or POST, as {event, data}. Ends with the stream, or when the signal aborts. */
export async function* events(path, { value, signal } = {}) {
  const options = value === undefined
    ? { signal }
    : { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(value), signal };
  const response = await send(path, options);
  if (!response.ok) throw new ApiError(response.status, await response.json().catch(() => null));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { done, value: text } = await reader.read();
    if (done) return;
    buffer += text;
    let end;
    while ((end = buffer.indexOf("\n\n")) >= 0) {
      const frame = { event: "message", data: "", headers: response.headers };
      for (const line of buffer.slice(0, end).split("\n")) {
        if (line.startsWith("event: ")) frame.event = line.slice(7);
        if (line.startsWith("data: ")) frame.data += line.slice(6);
      }
      buffer = buffer.slice(end + 2);
      if (frame.data) yield frame;
    }
  }
}

/** Gives `seen` the events of all jobs until the signal aborts. After a break `refresh` fetches what was missed. */
export async function followJobs(signal, refresh, seen) {
  while (!signal.aborted) {
    try {
      for await (const { data } of events("/admin/v1/jobs/events", { signal })) await seen(JSON.parse(data));
    } catch (error) {
      if (signal.aborted) return;
    }
    await new Promise((resolve) => setTimeout(resolve, 2000));
    if (!signal.aborted) await refresh().catch(() => {});
  }
}
