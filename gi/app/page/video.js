// The workspace of a video: picture, tools, transport and steps, and what the keys do.

import * as api from "./api.js";
import { el, note, typing } from "./dom.js";
import { Compare } from "./compare.js";
import * as jobs from "./jobs.js";
import { Keyframes } from "./keyframes.js";
import { Marks } from "./marks.js";
import { Frames, Player } from "./player.js";
import { Stage } from "./stage.js";
import { facts } from "./start.js";
import { Steps } from "./steps.js";
import { Transport } from "./transport.js";

export async function videoScreen(screen, id) {
  const project = await api.project(id);
  const workspace = new Workspace(screen, project);
  screen.title(project.name, true);
  return { node: workspace.node, wide: true, leave: () => workspace.leave(), shown: () => workspace.begin() };
}

class Workspace {
  constructor(screen, project) {
    Object.assign(this, { screen, project, state: screen.state, closed: false });
    window.dispatchEvent(new CustomEvent("gi-projects", { detail: [project] }));
    this.stage = new Stage(project);
    this.player = new Player(project.count, project.fps || 25);
    this.before = new Frames((n) => api.frameUrl(project.id, n), { sharp: (n) => this.stage.sharp((side) => api.frameUrl(project.id, n, side)) });
    this.stage.zoomed = () => this.player.rest();
    this.marks = new Marks(this);
    this.compare = new Compare({ stage: this.stage, player: this.player, project, changed: () => this.#view() });
    this.transport = new Transport(this.player);
    this.job = this.#chosenJob();
    this.keyframes = new Keyframes(this);
    this.steps = new Steps(this, this.keyframes);
    this.lost = el("p", { class: "lost", role: "status", hidden: true }, "The connection to the server is lost. It is tried again…");
    this.problem = el("p", { class: "lost", role: "alert", hidden: true });
    const remarks = project.remarks?.length ? el("p", { class: "remarks faint" }, project.remarks.join(" ")) : null;
    this.node = el("div", { class: "workspace" },
      el("section", { class: "desk", "aria-label": "Video" }, el("h1", { class: "hidden" }, project.name),
        el("div", { class: "desk-bar" }, this.marks.tools, this.keyframes.tools, this.hint = el("span", { class: "faint hint" }),
          this.compare.buttons),
        this.stage.node, this.transport.node, this.lost, this.problem,
        el("p", { class: "facts faint" }, `${facts(project)} · ${project.fps ? `${Number(project.fps.toFixed(3))} frames a second` : ""}${project.has_sound ? " · with sound" : ""}`), remarks),
      this.steps.node);
    // A button keeps the focus after a click, and Space would press it again; who came by Tab wants that, others do not.
    this.node.addEventListener("click", (event) => event.detail && event.target.closest("button, summary")?.blur());
    this.player.addEventListener("frame", () => { this.marks.show(); this.steps.showPoints(); this.#remember(); });
    this.keys = (event) => this.#key(event);
    document.addEventListener("keydown", this.keys);
    this.deaf = jobs.listen((change) => this.#hear(change));
  }

  // After the screen is in the page: as the address says.
  begin() {
    const { values } = this.screen;
    this.player.seek(Number(values.get("frame")) || 0);
    this.showJob(values.get("job"));
    this.compare.set(values.get("view") ?? "mark");
    this.update();
  }

  leave() {
    this.marks.leave();
    this.closed = true;
    this.player.pause();
    this.deaf();
    clearTimeout(this.remembering);
    document.removeEventListener("keydown", this.keys);
    for (const frames of [this.before, this.after]) frames?.close();
    this.stage.close();
  }

  // The server's newest word on the project. `masks`: they are others now.
  take(project, { masks = false } = {}) {
    if (!project || this.closed || project.id !== this.project.id || project.version < this.project.version) return;
    const known = this.project;
    this.project = this.marks.expect(project);
    const others = project.version > known.version && !this.marks.unsent.size; // painted in another tab, perhaps
    for (const n of known.marks) if (!project.marks.includes(n)) this.marks.masks.forget(n); // another one is there again
    if (masks || known.masks?.source !== project.masks?.source || (known.masks?.stale && project.masks && !project.masks.stale)) {
      this.marks.fresh();
      this.#layers();
    }
    if (others) this.marks.show({ again: true });
    this.change();
  }

  change() {
    this.update();
    this.player.refresh();
  }

  #chosenJob(id) {
    const own = jobs.ofProject(this.project.id).filter((job) => job.kind === "run");
    return own.find((job) => job.id === id) ?? own.find((job) => job.state === "done" || job.frames_ready?.length) ?? own[0] ?? null;
  }

  // The run whose frames are "after".
  showJob(id) {
    const job = this.#chosenJob(id);
    if (job?.id !== this.job?.id || !this.after) {
      this.job = job;
      this.after?.close();
      this.after = job ? new Frames((n) => api.filledUrl(job.id, n), { ready: (n) => this.#ready(n),
        sharp: (n) => (jobs.get(job.id)?.state === "done" ? this.stage.sharp((side) => api.filledUrl(job.id, n, undefined, side)) : "") }) : null;
      this.#layers();
    }
    this.compare.setJob(job);
    this.#remember();
  }

  #ready(n) {
    const job = jobs.get(this.job?.id) ?? this.job;
    return job?.state === "done" || Boolean(job?.frames_ready?.some(([first, stop]) => first <= n && n < stop));
  }

  #layers() {
    const { stage } = this;
    const layers = this.keyframes.painting ? [] : [{ canvas: stage.before, frames: this.before }]; // or it shows the keyframe
    if (this.compare.view === "mark") layers.push(this.marks.layer);
    else if (this.after) layers.push({ canvas: stage.after, frames: this.after, drawn: () => this.#labels() });
    for (const [canvas, used] of [[stage.mask, this.compare.view === "mark"], [stage.after, this.after]]) {
      if (!used) canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
    }
    this.player.show(layers);
    this.#labels();
  }

  #view() {
    const painting = this.compare.view === "mark";
    if (!painting) this.keyframes.leave();
    this.marks.painter.enabled = painting && !this.keyframes.painting;
    this.stage.paint.hidden = !painting || !this.marks.visible;
    this.stage.mask.hidden = !painting || !this.marks.visible;
    this.marks.tools.hidden = !painting || this.keyframes.painting;
    this.hint.textContent = painting ? "" : !this.job ? "No result yet: mark the object, follow it, remove it." : "";
    this.#layers();
    this.#remember();
  }

  #labels() {
    const { view } = this.compare;
    const after = !this.job ? "" : this.#ready(this.player.frame) ? "After" : "Not computed yet";
    this.stage.label({ slider: "Before", side: "Before", slice: after }[view] ?? "", { slider: after, side: after, result: after }[view] ?? "");
    this.stage.two.dataset.caption = after;
  }

  // While a keyframe is painted, nothing else is.
  editing(on) {
    this.marks.painter.enabled = !on;
    this.keyframes.tools.hidden = !on;
    this.marks.tools.hidden = this.compare.buttons.hidden = on;
    this.stage.mask.hidden = this.stage.paint.hidden = on || !this.marks.visible;
    this.transport.node.inert = on;
    this.steps.node.inert = on;
    if (on) this.#layers();
    else this.#view();
  }

  update() {
    const job = jobs.get(this.job?.id) ?? this.job;
    const { project } = this;
    const ready = job?.kind === "run" ? (job.state === "done" ? [[0, project.count]] : job.frames_ready ?? []) : [];
    this.transport.show({ marks: project.marks, keyframes: project.keyframes.map(({ n }) => n), ready,
      proxies: project.proxies?.done ?? project.count });
    this.problem.textContent = project.proxies?.problem ?? "";
    this.problem.hidden = !project.proxies?.problem;
    this.steps.update();
  }

  #hear({ job, project, removed, lost, all }) {
    if (all) this.#reload();
    this.lost.hidden = !lost;
    if (removed === this.project.id) {
      note(`${this.project.name} was deleted in another tab.`, "error");
      this.screen.go("#/");
    }
    if (project) this.take(project);
    if (job && job.project !== this.project.id) return;
    if (!this.job || job?.id === this.job.id) this.showJob(this.job?.id);
    if (job?.kind === "run" && job.id === this.job?.id) {
      this.compare.setJob(job);
      this.#labels();
      this.player.refresh();
    }
    if (["propagate", "clicks"].includes(job?.kind) && job.state === "done") this.#masksMade(job);
    this.update();
  }

  // The connection is back, or the server: nobody told what happened meanwhile.
  async #reload() {
    await this.marks.save();
    const project = await api.project(this.project.id).catch(() => null);
    this.take(project, { masks: project?.version > this.project.version });
  }

  // Also in tabs that did not start it.
  async #masksMade(job) {
    if (this.made === job.id) return;
    this.made = job.id;
    const project = await api.project(this.project.id).catch(() => null);
    this.take(project, { masks: true });
    if (job.kind === "clicks") this.marks.show({ again: true });
  }

  #remember() {
    clearTimeout(this.remembering);
    this.remembering = setTimeout(() => this.screen.remember({
      frame: this.player.frame || null, view: this.compare.view === "mark" ? null : this.compare.view, job: this.job?.id }), 250);
  }

  #key(event) {
    if (typing(event) || event.altKey) return;
    const { player, marks, keyframes } = this;
    const painter = keyframes.painting ? keyframes.painter : marks.painter;
    if (painter.drawing !== false) return; // a stroke belongs to its frame
    const paints = painter.enabled;
    const act = (doing) => { event.preventDefault(); doing(); };
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (event.ctrlKey || event.metaKey) {
      if (paints && (key === "y" || (key === "z" && event.shiftKey))) act(() => painter.redo());
      else if (paints && key === "z") act(() => painter.undo());
      return;
    }
    const tools = { b: "brush", e: "eraser", r: "rectangle", ...(keyframes.painting ? { i: "picker" } : marks.buttons.point ? { c: "point" } : {}) };
    if (paints && tools[key]) act(() => (keyframes.painting ? keyframes : marks).setTool(tools[key]));
    else if (paints && key === "[") act(() => painter.setSize(painter.size / 1.25));
    else if (paints && key === "]") act(() => painter.setSize(painter.size * 1.25 + 1));
    else if (key === "Escape" && keyframes.painting) act(() => keyframes.leave());
    else if (keyframes.painting) return;
    else if (key === " " && !event.target.closest("button, summary, a")) act(() => player.toggle());
    else if (key === "ArrowLeft") act(() => player.step(event.shiftKey ? -10 : -1));
    else if (key === "ArrowRight") act(() => player.step(event.shiftKey ? 10 : 1));
    else if (key === "Home") act(() => player.step(-player.frame));
    else if (key === "End") act(() => player.step(player.count));
    else if (key === "0") act(() => this.stage.zoomTo({ scale: 1 }));
    else if (key === "m") act(() => marks.setVisible(!marks.visible));
    else if (key === "v") act(() => this.compare.next());
  }
}
