// Photos: a picture, what should go, any number of other views of the same place, before and after.

import * as api from "./api.js";
import { attempt, duration, el, icon, note, once, plural, tool, typing } from "./dom.js";
import { Compare, VIEWS } from "./compare.js";
import * as jobs from "./jobs.js";
import { Marks } from "./marks.js";
import { MethodForm } from "./methods.js";
import { dropZone, fileButton, send, PICTURES } from "./open.js";
import { Frames, Player } from "./player.js";
import { Stage } from "./stage.js";
import { facts, recentList } from "./start.js";

export async function photosScreen({ state, go, title }) {
  title("Photos");
  const status = el("div", { class: "status", role: "status" });
  const take = async ([file]) => {
    const upload = await send([file], { limit: state.limits?.upload_bytes, status });
    const project = upload && await attempt(() => api.open({ upload: upload.upload }));
    if (project) go(`#/${project.kind}/${project.id}`);
  };
  const recent = recentList((project) => project.kind === "photo", "No photos yet.");
  const node = el("div", { class: "start" },
    dropZone(el("section", { class: "drop card" }, el("h1", {}, "Take something out of a photo"),
      el("p", {}, "Paint over it. Other photos of the same place show what was behind it; without them it is made up."),
      el("p", { class: "buttons center" }, fileButton("Open a photo", PICTURES, take, { className: "primary big" })),
      el("p", { class: "faint" }, "Or drop one here."), status), take),
    recent.node);
  return { node, leave: recent.leave };
}

export async function photoScreen(screen, id) {
  const work = new PhotoWorkspace(screen, await api.project(id));
  screen.title(work.project.name, true);
  return { node: work.node, wide: true, leave: () => work.leave(), shown: () => work.begin() };
}

class PhotoWorkspace {
  constructor(screen, project) {
    this.store = `gi-views-${project.id}`; // of this tab: other views outlive a reload
    const others = JSON.parse(sessionStorage.getItem(this.store) ?? "[]");
    Object.assign(this, { screen, project, state: screen.state, others, job: null });
    window.dispatchEvent(new CustomEvent("gi-projects", { detail: [project] }));
    this.stage = new Stage(project);
    this.player = new Player(1, 1);
    this.before = new Frames((n) => api.frameUrl(project.id, n), { sharp: (n) => this.stage.sharp((side) => api.frameUrl(project.id, n, side)) });
    this.stage.zoomed = () => this.player.rest();
    this.marks = new Marks(this);
    this.compare = new Compare({ stage: this.stage, player: this.player, project, changed: () => this.#view(),
      views: VIEWS.filter(([view]) => view !== "slice") });
    this.form = new MethodForm(this);
    this.node = el("div", { class: "workspace" },
      el("section", { class: "desk", "aria-label": "Photo" }, el("h1", { class: "hidden" }, project.name),
        el("div", { class: "desk-bar" }, this.marks.tools, el("span", { class: "grow" }), this.compare.buttons), this.stage.node,
        el("p", { class: "facts faint" }, facts(project))),
      this.#panel());
    this.keys = (event) => this.#key(event);
    document.addEventListener("keydown", this.keys);
    this.deaf = jobs.listen((change) => this.#hear(change));
  }

  begin() {
    this.showJob(this.screen.values.get("job"));
    this.compare.set(this.screen.values.get("view") ?? "mark");
    this.marks.show({ again: true });
  }

  leave() {
    this.marks.leave();
    this.closed = true;
    this.deaf();
    document.removeEventListener("keydown", this.keys);
    for (const frames of [this.before, this.after]) frames?.close();
    this.stage.close();
  }

  take(project) {
    if (!project || this.closed || project.id !== this.project.id || project.version < this.project.version) return;
    const others = project.version > this.project.version && !this.marks.unsent.size;
    this.project = this.marks.expect(project);
    if (others) this.marks.show({ again: true });
    this.change();
  }

  change() {
    this.update();
    this.player.refresh();
  }

  #panel() {
    const section = (number, title, ...content) => el("section", { class: "step", "data-open": "true" },
      el("h2", {}, el("span", { class: "step-number", "aria-hidden": "true" }, String(number)), title),
      el("div", { class: "step-body" }, content));
    const sending = el("div", {});
    const add = async (files) => {
      for (const file of files) {
        const upload = await send([file], { limit: this.state.limits?.upload_bytes, status: sending });
        if (upload && upload.kind !== "image") note(`${upload.name} is no picture, so it cannot be another view.`, "error");
        else if (upload) this.others.push({ upload: upload.upload, name: upload.name, thumbnail: await thumbnail(file) });
        this.#keepViews();
      }
    };
    this.list = el("ul", { class: "thumbnails" });
    const views = section(2, "Other views, if you have some",
      el("p", {}, "Photos of the same place without the object, or from another side. As many as you like."), this.list,
      el("div", { class: "buttons" }, fileButton("Add photos", PICTURES, add, { multiple: true })), sending);
    dropZone(views, add);
    this.runButton = el("button", { type: "button", class: "primary", onclick: once(() => this.#run()) }, "Remove it");
    this.why = el("p", { class: "hint" });
    this.card = new jobs.JobCard();
    this.download = el("a", { class: "button primary", download: "" }, icon("download"), " Download the photo");
    this.home = el("div", {});
    const alone = this.form.methods.length === 1 && this.form.possible; // nothing to choose
    return el("aside", { class: "steps", "aria-label": "Steps" },
      section(1, "Paint over what should go", el("p", {}, "Generously, with its shadow.")), views,
      section(3, "Remove it", alone ? this.form.settings : this.form.node,
        this.why, el("div", { class: "buttons middle" }, this.runButton, alone ? this.form.cards.get(this.form.chosen).time : null), this.card.node),
      section(4, "Compare and download", this.home));
  }

  #keepViews() {
    sessionStorage.setItem(this.store, JSON.stringify(this.others));
    this.update();
  }

  async #run() {
    if (!await this.marks.save()) return;
    const body = { ...this.form.values(), others: this.others.map(({ upload }) => ({ upload })) };
    const job = jobs.keep(await attempt(() => api.run(this.project.id, body)));
    if (!job) return;
    this.update();
    jobs.finished(job.id).then((end) => {
      if (end.state !== "done" || this.closed) return;
      this.showJob(job.id);
      this.compare.set("slider");
    });
  }

  showJob(id) {
    const done = jobs.ofProject(this.project.id).filter((job) => job.kind === "run" && job.state === "done");
    const job = done.find((one) => one.id === id) ?? done[0] ?? null;
    if (job?.id !== this.job?.id) {
      this.after?.close();
      this.after = job && new Frames((n) => api.filledUrl(job.id, n), {
        sharp: (n) => this.stage.sharp((side) => api.filledUrl(job.id, n, undefined, side)) });
    }
    this.job = job;
    this.compare.setJob(job);
    this.#view();
    this.update();
  }

  #view() {
    const { stage, compare } = this;
    const painting = compare.view === "mark";
    this.marks.painter.enabled = painting;
    this.marks.tools.hidden = stage.paint.hidden = !painting;
    stage.mask.hidden = true;
    this.player.show([{ canvas: stage.before, frames: this.before },
      ...(this.after ? [{ canvas: stage.after, frames: this.after }] : [])]);
    const after = this.job ? "After" : "";
    stage.label(["slider", "side"].includes(compare.view) ? "Before" : "", painting ? "" : after);
    stage.two.dataset.caption = after;
    this.screen.remember({ view: painting ? null : compare.view, job: this.job?.id });
  }

  update() {
    const run = jobs.ofProject(this.project.id).find((job) => job.kind === "run");
    this.list.replaceChildren(...this.others.map((other, k) => el("li", {}, el("span", { class: "thumbnail" },
      other.thumbnail ? el("img", { src: other.thumbnail, alt: "" }) : null, el("span", {}, other.name)),
    tool("trash", `Leave out ${other.name}`, () => { this.others.splice(k, 1); this.#keepViews(); }))));
    const ready = this.project.marks.length > 0 || Boolean(this.project.masks);
    this.why.textContent = ready ? (this.others.length ? `Guided by ${plural(this.others.length, "other view")}.` : "") : "First paint over it.";
    this.runButton.disabled = !ready || jobs.active(run) || !this.form.possible;
    this.card.set(run?.state === "done" ? null : run);
    this.form.update();
    if (this.job) this.download.href = api.downloadUrl(this.job.id);
    this.home.replaceChildren(this.job ? el("div", {}, el("p", {}, `Computed in ${duration(this.job.seconds)}. What you did not paint over is unchanged.`),
      el("div", { class: "buttons" }, this.download)) : el("p", { class: "faint" }, "Nothing computed yet."));
  }

  #hear({ job, project, removed, all }) {
    if (all) this.#reload();
    if (removed === this.project.id) this.screen.go("#/photos");
    if (project) this.take(project);
    if (job && job.project !== this.project.id) return;
    if (job?.kind === "run" && job.state === "done" && !this.job) this.showJob(job.id);
    this.update();
  }

  // The connection is back, or the server: nobody told what happened meanwhile.
  async #reload() {
    await this.marks.save();
    this.take(await api.project(this.project.id).catch(() => null));
  }

  #key(event) {
    if (typing(event) || this.marks.painter.drawing !== false) return;
    const { painter } = this.marks;
    const key = event.key.toLowerCase();
    const tools = { b: "brush", e: "eraser", r: "rectangle" };
    if ((event.ctrlKey || event.metaKey) && (key === "y" || (key === "z" && event.shiftKey))) painter.redo();
    else if ((event.ctrlKey || event.metaKey) && key === "z") painter.undo();
    else if (event.ctrlKey || event.metaKey || event.altKey) return;
    else if (tools[key]) this.marks.setTool(tools[key]);
    else if (key === "[") painter.setSize(painter.size / 1.25);
    else if (key === "]") painter.setSize(painter.size * 1.25 + 1);
    else if (key === "0") this.stage.zoomTo({ scale: 1 });
    else if (key === "m") this.marks.setVisible(!this.marks.visible);
    else if (key === "v") this.compare.next();
    else return;
    event.preventDefault();
  }
}

// A small copy as an address of its own, which outlives a reload; null where the browser cannot read the picture.
async function thumbnail(file) {
  try {
    const picture = await createImageBitmap(file);
    const scale = 168 / Math.max(picture.width, picture.height);
    const small = el("canvas", { width: Math.max(1, scale * picture.width), height: Math.max(1, scale * picture.height) });
    small.getContext("2d").drawImage(picture, 0, 0, small.width, small.height);
    picture.close();
    return small.toDataURL("image/jpeg", 0.8);
  } catch {
    return null;
  }
}
