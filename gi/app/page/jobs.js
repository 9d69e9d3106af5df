// The queue, as all tabs see it: the server tells about every change, and what it missed to tell is asked for again.

import * as api from "./api.js";
import { attempt, dialog, duration, el, icon, plural } from "./dom.js";

const jobs = new Map();
const listeners = new Set();
let stream = null;

const KINDS = { run: "Removing", propagate: "Following the object", keyframe: "Filling a frame", clicks: "Finding the object",
  measure: "Measuring this machine" };
const ACTIVE = ["waiting", "running", "cancelling"];
export const active = (job) => Boolean(job) && ACTIVE.includes(job.state);

export const all = () => [...jobs.values()].sort((a, b) => b.created - a.created);
export const get = (id) => jobs.get(id);
export const ofProject = (id) => all().filter((job) => job.project === id);

// `hear({job} | {project} | {removed} | {})` is called with each change; returns a function that ends that.
export function listen(hear) {
  listeners.add(hear);
  return () => listeners.delete(hear);
}

function tell(change) {
  for (const hear of [...listeners]) hear(change);
}

export function keep(job) {
  if (!job?.id || (jobs.get(job.id)?.version ?? -1) > job.version) return job;
  jobs.set(job.id, job);
  tell({ job });
  return job;
}

// Listens from now on; resolves when the queue is known for the first time. Throws what the server refuses.
export async function connect() {
  if (stream) return;
  const list = await api.jobs();
  for (const job of list) jobs.set(job.id, job);
  follow();
}

function follow() {
  if (stream) return;
  stream = new EventSource("/api/events");
  stream.addEventListener("open", reload);
  stream.addEventListener("job", (event) => keep(JSON.parse(event.data)));
  stream.addEventListener("job-removed", (event) => { jobs.delete(JSON.parse(event.data).id); tell({}); });
  stream.addEventListener("project", (event) => tell({ project: JSON.parse(event.data) }));
  stream.addEventListener("project-removed", (event) => tell({ removed: JSON.parse(event.data).id }));
  stream.addEventListener("error", () => {
    tell({ lost: true });
    if (stream.readyState === EventSource.CLOSED) { // refused, as while the server restarts: EventSource has given up
      stream = null;
      setTimeout(follow, 2000);
    }
  });
}

async function reload() {
  try {
    const list = await api.jobs();
    jobs.clear();
    for (const job of list) jobs.set(job.id, job);
    tell({ all: true });
  } catch { /* the stream opens again and asks again */ }
}

export function title(job) {
  return KINDS[job.kind] ?? job.kind;
}

// Where a job stands, in words.
export function describe(job) {
  const { state, done, total, what: activity, position } = job;
  const left = job.seconds_left ? `, about ${duration(job.seconds_left)} left` : "";
  if (state === "waiting") {
    const first = all().find((other) => ["running", "cancelling"].includes(other.state));
    return position > 0 || !first ? `Waiting: ${plural(position + 1, "job")} before this one` : `Waiting for “${title(first)}”`;
  }
  if (state === "cancelling") return "Stopping…";
  if (state === "failed") return job.error ?? "Failed";
  if (state === "cancelled") return done ? `Stopped at ${done} of ${total}. What is finished is kept.` : "Stopped.";
  if (state === "done") return job.seconds ? `Done in ${duration(job.seconds)}` : "Done";
  if (!total) return activity ? `${capital(activity)}…` : "Starting…";
  if (activity === "fitting") return `Learning, ${Math.round(100 * done / total)} %${left}`; // counted in seconds or steps
  return `${done} of ${total} ${activity ?? ""}${left}`;
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

// A card that shows a job and follows it. `again(job)`: what "Try again" does, where resuming makes no sense.
export class JobCard {
  constructor({ title: heading } = {}) {
    this.heading = heading;
    this.text = el("span", { class: "job-text" });
    this.share = el("progress", { max: 1, "aria-label": "Progress" });
    this.stop = el("button", { type: "button", onclick: () => this.#act(api.cancel) }, "Stop");
    this.resume = el("button", { type: "button", onclick: () => this.#act(api.resume) }, "Resume");
    this.log = el("button", { type: "button", class: "quiet", onclick: () => showDetails(this.job) }, "Details");
    this.name = el("strong", {});
    this.node = el("div", { class: "job", hidden: true }, el("div", { class: "job-line" }, this.name, this.text),
      this.share, el("div", { class: "buttons" }, this.stop, this.resume, this.log));
  }

  set(job) {
    this.job = job;
    this.node.hidden = !job;
    if (!job) return;
    this.node.dataset.state = job.state;
    this.name.textContent = this.heading ? this.heading(job) : title(job);
    this.text.textContent = describe(job);
    this.share.hidden = !(["running", "cancelling"].includes(job.state) || (job.state === "cancelled" && job.total));
    if (job.total) this.share.value = job.done / job.total;
    else this.share.removeAttribute("value");
    this.stop.hidden = !["waiting", "running"].includes(job.state);
    this.resume.hidden = !["cancelled", "failed"].includes(job.state);
    this.resume.textContent = job.state === "failed" ? "Try again" : "Resume";
  }

  async #act(request) {
    keep(await attempt(() => request(this.job.id)));
  }
}

// The command line of a job and the last lines it wrote.
async function showDetails(job) {
  const full = (await attempt(() => api.job(job.id))) ?? job;
  await dialog(title(full), el("div", { class: "details" }, el("p", {}, describe(full)),
    full.command ? el("p", {}, "The same on the command line:") : null,
    full.command ? el("pre", {}, full.command) : null,
    full.log ? el("p", {}, "Its last lines:") : null,
    full.log ? el("pre", {}, Array.isArray(full.log) ? full.log.join("\n") : full.log) : null));
}

// The button in the bar: how many jobs are at work or wait, and on click all of them.
export function queueButton(names) {
  const count = el("span", {});
  const list = el("ul", { class: "queue", id: "queue", hidden: true });
  const button = el("button", { type: "button", class: "quiet", "aria-expanded": "false", "aria-controls": "queue",
    onclick: () => open(list.hidden) }, icon("eye"), count);
  const cards = new Map();
  const open = (visible) => {
    list.hidden = !visible;
    button.setAttribute("aria-expanded", String(visible));
    if (visible) draw();
  };
  const draw = () => {
    const running = all().filter(active);
    count.textContent = running.length ? `${plural(running.length, "job")} at work` : "No jobs";
    button.dataset.busy = String(running.length > 0);
    if (list.hidden) return;
    const shown = all().slice(0, 12);
    if (!shown.length) list.replaceChildren(el("li", { class: "faint" }, "Nothing is at work, and nothing waits."));
    else list.replaceChildren(...shown.map((job) => {
      if (!cards.has(job.id)) {
        cards.set(job.id, new JobCard({ title: (one) => [title(one), names(one.project)].filter(Boolean).join(" · ") }));
      }
      cards.get(job.id).set(job);
      return el("li", {}, cards.get(job.id).node);
    }));
  };
  document.addEventListener("pointerdown", (event) => {
    if (!list.hidden && !list.contains(event.target) && !button.contains(event.target)) open(false);
  });
  window.addEventListener("hashchange", () => open(false));
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") open(false); });
  listen(draw);
  draw();
  return el("div", { class: "queue-box" }, button, list);
}

// Waits for a job's end; resolves to it. Its card tells of errors.
export function finished(id) {
  return new Promise((resolve) => {
    const look = () => {
      const job = get(id);
      if (!job || active(job)) return;
      end();
      resolve(job);
    };
    const end = listen(look);
    look();
  });
}
