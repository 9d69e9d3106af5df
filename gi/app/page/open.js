// Bringing files in: a button, drag and drop, files of the working folder.

import * as api from "./api.js";
import { attempt, el, icon, note } from "./dom.js";

export const VIDEOS = "video/*,.mkv,.mov,.mp4,.webm,.avi,.ts,.m4v";
export const PICTURES = "image/png,image/jpeg,image/webp,image/bmp,image/tiff";

export function size(bytes) {
  if (bytes >= 2 ** 30) return `${(bytes / 2 ** 30).toFixed(1)} GB`;
  return bytes >= 2 ** 20 ? `${(bytes / 2 ** 20).toFixed(1)} MB` : `${Math.ceil(bytes / 1024)} KB`;
}

// Sends files one after the other, the further ones into the first one's folder. Resolves to the upload, or undefined
// after an error, which is shown, or when it was stopped. `limit`: bytes the server takes.
export async function send(files, { limit, status } = {}) {
  const stop = new AbortController();
  const bar = el("progress", { max: 1, value: 0, "aria-label": "Sent" });
  const text = el("span", {});
  const box = el("div", { class: "sending" }, text, bar,
    el("button", { type: "button", onclick: () => stop.abort() }, "Stop"));
  status?.replaceChildren(box);
  const result = await attempt(async () => {
    let upload = null; // as the server sees it with all files so far
    for (const [k, file] of files.entries()) {
      if (limit && file.size > limit) {
        throw new Error(`${file.name} has ${size(file.size)}; this server takes up to ${size(limit)} (gi app --max-upload).`);
      }
      text.textContent = files.length > 1 ? `Sending ${k + 1} of ${files.length}: ${file.name}` : `Sending ${file.name}`;
      const progress = (share) => { bar.value = share; if (share === 1) text.textContent = `Reading ${file.name}…`; };
      upload = await api.upload(file, { progress, signal: stop.signal, into: upload?.upload });
    }
    return upload;
  });
  status?.replaceChildren();
  return result;
}

// A button that opens the system's file dialog. `take(files)` gets an array.
export function fileButton(label, accept, take, { multiple = false, className = "" } = {}) {
  const input = el("input", { type: "file", accept, multiple, hidden: true, "aria-label": label,
    onchange: () => { const files = [...input.files]; input.value = ""; if (files.length) take(files); } });
  return el("span", { class: "file" }, el("button", { type: "button", class: className, onclick: () => input.click() }, label), input);
}

// Lets files be dropped on `node`.
export function dropZone(node, take) {
  let depth = 0; // dragenter and dragleave come for children, too
  const light = (change) => { depth = Math.max(0, depth + change); node.classList.toggle("dropping", depth > 0); };
  node.addEventListener("dragenter", (event) => { event.preventDefault(); light(1); });
  node.addEventListener("dragleave", () => light(-1));
  node.addEventListener("dragover", (event) => event.preventDefault());
  node.addEventListener("drop", (event) => {
    event.preventDefault();
    light(-depth);
    const files = [...event.dataTransfer.files];
    if (files.length) take(files);
    else note("Only files can be dropped here.", "error");
  });
  return node;
}

// The working folder's files, to open without sending them. `pick(entry)`; `kinds` of entries that can be picked.
export function browser(pick, kinds) {
  const box = el("div", { class: "browser" });
  const load = async (folder) => {
    const listing = await attempt(() => api.files(folder));
    if (!listing) return;
    const entries = listing.entries.filter((entry) => entry.kind === "folder" || kinds.includes(entry.kind));
    const up = listing.parent !== null && listing.parent !== undefined;
    box.replaceChildren(
      el("p", { class: "faint" }, listing.folder ? `In ${listing.folder}` : "In the working folder"),
      el("ul", {}, up && row("Up", "", () => load(listing.parent), "back"),
        entries.flatMap((entry) => entry.kind === "folder"
          ? [row(`${entry.name}/`, entry.images ? `${entry.images} pictures` : "", () => load(entry.path), "rectangle",
            entry.images && kinds.includes("frames")
              ? el("button", { type: "button", onclick: () => pick(entry) }, "Use its pictures") : null)]
          : [row(entry.name, size(entry.bytes), () => pick(entry), "play")])),
      entries.length ? "" : el("p", { class: "faint" }, "No videos or pictures lie here."));
  };
  load("");
  return box;
}

function row(name, detail, onclick, picture, extra = null) {
  return el("li", {}, el("button", { type: "button", class: "quiet row", onclick }, icon(picture), el("span", {}, name),
    el("span", { class: "faint" }, detail)), extra);
}
