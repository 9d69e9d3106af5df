// All requests to the server. Errors carry the server's one line; without an answer, a line that says so.

export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

const path = (...parts) => "/api/" + parts.map(encodeURIComponent).join("/");

async function request(method, url, body, { signal } = {}) {
  const raw = body instanceof Blob;
  let response;
  try {
    response = await fetch(url, {
      method, signal, body: body === undefined || raw ? body : JSON.stringify(body),
      headers: body === undefined || raw ? {} : { "Content-Type": "application/json" },
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server does not answer. Is gi app still running?", 0);
  }
  if (!response.ok) throw await failure(response);
  return response.headers.get("Content-Type")?.startsWith("application/json") ? response.json() : response;
}

async function failure(response) {
  let message = `The server answered ${response.status} ${response.statusText}`;
  try {
    message = (await response.json()).error ?? message;
  } catch { /* not JSON: the status has to do */ }
  if (response.status === 401) window.dispatchEvent(new Event("gi-login"));
  return new ApiError(message, response.status);
}

const get = (url, options) => request("GET", url, undefined, options);
const post = (url, body = {}) => request("POST", url, body);
const query = (values) => {
  const present = Object.entries(values).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return present.length ? "?" + new URLSearchParams(present) : "";
};

export const state = () => get("/api/state");
export const login = (password) => post("/api/login", { password });
export const files = (folder) => get("/api/files" + query({ folder }));

export const projects = () => get(path("projects"));
export const project = (id) => get(path("projects", id));
export const open = (source) => post(path("projects"), source);
export const removeProject = (id) => request("DELETE", path("projects", id));
export const frameUrl = (id, n, side) => path("projects", id, "frames", `${n}.jpg`) + query({ side });
export const exactUrl = (id, n) => path("projects", id, "frames", `${n}.png`);
export const markUrl = (id, n, version) => path("projects", id, "marks", `${n}.png`) + query({ v: version });
export const maskUrl = (id, n, version) => path("projects", id, "masks", `${n}.png`) + query({ v: version });
export const keyframeUrl = (id, n, version, side) => path("projects", id, "keyframes", `${n}.jpg`) + query({ side, v: version });
export const exactKeyframeUrl = (id, n, version) => path("projects", id, "keyframes", `${n}.png`) + query({ v: version });

export const putMark = (id, n, png) => request("PUT", path("projects", id, "marks", n), png);
export const removeMark = (id, n) => request("DELETE", path("projects", id, "marks", n));
export const putMasks = (id, source) => request("PUT", path("projects", id, "masks"), source);
export const removeMasks = (id) => request("DELETE", path("projects", id, "masks"));
export const putKeyframe = (id, n, picture) => request("PUT", path("projects", id, "keyframes", n), picture);
export const removeKeyframe = (id, n) => request("DELETE", path("projects", id, "keyframes", n));

export const estimates = (id, options) => get(path("projects", id, "estimates") + query(options));
export const propagate = (id, method, options) => post(path("projects", id, "propagate"), { method, options });
export const clicks = (id, frame, points, carry) => post(path("projects", id, "clicks"), { frame, points, carry });
export const fillKeyframe = (id, n) => post(path("projects", id, "keyframes", n, "fill"));
export const run = (id, body) => post(path("projects", id, "runs"), body);

export const jobs = () => get(path("jobs"));
export const job = (id) => get(path("jobs", id));
export const cancel = (id) => post(path("jobs", id, "cancel"));
export const resume = (id) => post(path("jobs", id, "resume"));
export const removeJob = (id) => request("DELETE", path("jobs", id));
export const filledUrl = (id, n, version, side) => path("jobs", id, "frames", `${n}.jpg`) + query({ side, v: version });
export const downloadUrl = (id) => path("jobs", id, "download");
export const sliceUrl = (id, column, side, version) => path("jobs", id, "xt.png") + query({ column, what: side, v: version });

export const runs = () => get(path("runs"));
export const curve = (name, tag) => get(path("runs", name, "curve") + query({ tag }));
export const runFileUrl = (name, file) => path("runs", name, "files", ...file.split("/"));
export const reportUrl = (name) => path("runs", name, "report");

// Sends a file as it is; `progress(share)` is called with 0 to 1. Resolves to the server's upload.
// Further files of one folder go `into` the first one's upload.
export function upload(file, { progress = () => {}, signal, into } = {}) {
  return new Promise((resolve, reject) => {
    const sender = new XMLHttpRequest();
    sender.open("POST", path("uploads") + query({ name: file.name, into }));
    sender.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded / event.total);
    sender.onload = () => {
      let answer = null;
      try { answer = JSON.parse(sender.responseText); } catch { /* judged by its status */ }
      if (sender.status < 300 && answer) resolve(answer);
      else reject(new ApiError(answer?.error ?? `${file.name} was not taken (${sender.status})`, sender.status));
    };
    sender.onerror = () => reject(new ApiError(
      `${file.name}: the connection ended while it was sent. It may be larger than the server takes.`, 0));
    sender.onabort = () => reject(new DOMException("stopped", "AbortError"));
    signal?.addEventListener("abort", () => sender.abort());
    sender.send(file);
  });
}
