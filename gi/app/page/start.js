// The first screen: open a video, go on with a recent one, or look at the example.

import * as api from "./api.js";
import { attempt, dialog, duration, el, note, plural, tool } from "./dom.js";
import * as jobs from "./jobs.js";
import { browser, dropZone, fileButton, send, PICTURES, VIDEOS } from "./open.js";

export async function startScreen({ state, go, title }) {
  title("");
  const status = el("div", { class: "status", role: "status" });
  const open = async (source, text = "Opening…") => {
    status.replaceChildren(el("p", { class: "loading" }, text));
    const project = await attempt(() => api.open(source));
    status.replaceChildren();
    if (project) go(`#/${project.kind}/${project.id}`);
  };
  const take = async (files) => {
    const upload = await send(files, { limit: state.limits?.upload_bytes, status });
    if (upload) await openSource(upload, { upload: upload.upload });
  };
  // Pictures have no rate of their own.
  const openSource = async ({ kind, name }, source) => {
    const fps = kind === "folder" ? await askRate() : undefined;
    if (fps !== null) await open({ ...source, fps }, `Reading ${name}…`);
  };
  const browse = () => {
    const list = browser((entry) => { list.closest("dialog").close(); openSource(entry, { path: entry.path }); }, ["video", "image", "frames"]);
    dialog("Files of the working folder", list, [["close", "Cancel"]]);
  };
  const example = state.example;
  const recent = recentList(() => true, "Nothing yet. What you open stays listed here.");
  const node = el("div", { class: "start" },
    dropZone(el("section", { class: "drop card" },
      el("h1", {}, "Make something vanish from a video"),
      el("p", {}, "Paint over it on one frame. It is followed through the video, and what was behind it comes back from the other frames."),
      el("p", { class: "buttons center" },
        fileButton("Open a video", `${VIDEOS},${PICTURES}`, take, { multiple: true, className: "primary big" }),
        example?.available ? el("button", { type: "button", class: "big", id: "example",
          onclick: () => open({ example: true }, "Making the example…") }, "Try the example") : null),
      el("p", { class: "faint" }, "Or drop a file here: a video, a photo, or the pictures of a video. ",
        el("button", { type: "button", class: "link", onclick: browse }, "Choose from the working folder")), status), take),
    recent.node,
    el("p", { class: "faint foot" }, `Everything stays on this machine, in ${state.folder}. Computed on ${state.device}. gi ${state.version}`));
  return { node, leave: recent.leave };
}

// How many pictures a second; null if one thought better of it.
async function askRate() {
  const rate = el("input", { type: "number", class: "number", id: "rate", value: 25, min: 1, max: 240, step: "any" });
  const answer = await dialog("These pictures become a video", el("p", {}, el("label", { for: "rate" }, "Pictures a second "), rate),
    [["cancel", "Cancel"], ["open", "Open", "primary"]]);
  return answer === "open" ? String(rate.value || 25) : null;
}

// Recent projects that `accepts(project)` lets through, kept up to date. `empty`: what stands there without any.
export function recentList(accepts, empty) {
  const node = el("section", { class: "recent", "aria-label": "Recent" }, el("p", { class: "loading" }, "Looking for recent work…"));
  const load = async () => {
    try {
      const list = await api.projects();
      window.dispatchEvent(new CustomEvent("gi-projects", { detail: list }));
      const shown = list.filter(accepts);
      node.replaceChildren(el("h2", {}, "Recent"), shown.length
        ? el("ul", { class: "cards" }, shown.map((project) => card(project, load)))
        : el("p", { class: "faint" }, empty));
    } catch (error) {
      node.replaceChildren(el("h2", {}, "Recent"), el("p", { class: "error", role: "alert" }, error.message));
    }
  };
  load();
  let soon = 0;
  const leave = jobs.listen(({ project, removed, job, all }) => {
    if (!(project || removed || all || (job && !jobs.active(job)))) return;
    clearTimeout(soon);
    soon = setTimeout(load, 400);
  });
  return { node, leave };
}

function card(project, reload) {
  const link = el("a", { href: `#/${project.kind}/${project.id}`, class: "project" },
    el("img", { src: api.frameUrl(project.id, 0, 320), alt: "", loading: "lazy" }),
    el("strong", {}, project.name), el("span", { class: "faint" }, facts(project)),
    el("span", { class: "badge", hidden: !badge(project) }, badge(project)));
  const remove = async () => {
    const answer = await dialog(`Delete ${project.name} here?`,
      el("p", {}, "Its masks, keyframes and results in this list are deleted. The file you opened it from is not touched."),
      [["keep", "Keep it"], ["delete", "Delete", "danger"]]);
    if (answer !== "delete") return;
    await attempt(() => api.removeProject(project.id));
    note(`${project.name} is deleted.`);
    reload();
  };
  return el("li", { class: "card" }, link, tool("trash", `Delete ${project.name}`, remove));
}

export function facts(project) {
  const length = project.kind === "photo" ? "photo" : `${plural(project.count, "frame")} · ${duration(project.seconds)}`;
  return `${project.width}×${project.height} · ${length}`;
}

function badge(project) {
  const own = jobs.ofProject(project.id);
  if (own.some(jobs.active)) return jobs.describe(own.find(jobs.active));
  const last = own.find((job) => job.kind === "run");
  return { done: "Result ready", failed: "Failed", cancelled: "Stopped" }[last?.state] ?? "";
}
