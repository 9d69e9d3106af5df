// The way through a video, beside the picture: mark, follow, keyframes, remove, take home.

import * as api from "./api.js";
import { attempt, duration, el, icon, note, once, plural, segmented } from "./dom.js";
import * as jobs from "./jobs.js";
import { fileButton, send, PICTURES, VIDEOS } from "./open.js";
import { MethodForm } from "./methods.js";

function step(number, title, ...content) {
  const summary = el("span", { class: "step-state faint" });
  const node = el("details", { class: "step", name: "steps" }, el("summary", {}, el("span", { class: "step-number", "aria-hidden": "true" }, String(number)),
    el("span", { class: "step-title" }, title), summary), el("div", { class: "step-body" }, content));
  return { node, say: (text, done) => { summary.textContent = text; node.dataset.done = String(Boolean(done)); } };
}

export class Steps {
  // `work`: the video's workspace.
  constructor(work, keyframes) {
    this.work = work;
    this.keyframes = keyframes;
    this.marks = this.#marks();
    this.follow = this.#follow();
    this.keys = step(3, "Keyframes (optional)", keyframes.node);
    this.remove = this.#remove();
    this.home = this.#home();
    this.all = [this.marks, this.follow, this.keys, this.remove, this.home];
    this.node = el("aside", { class: "steps", "aria-label": "Steps" }, this.all.map((one) => one.node));
    const { project } = work;
    const [run] = jobs.ofProject(project.id).filter((job) => job.kind === "run");
    this.open(run ? (run.state === "done" ? this.home : this.remove) : project.masks ? this.remove : this.marks);
    this.update();
  }

  open(one) {
    for (const other of this.all) other.node.open = other === one;
  }

  #marks() {
    this.list = el("ul", { class: "chips" });
    this.sending = el("div", {});
    const load = async (files) => {
      const upload = await send(files, { limit: this.work.state.limits?.upload_bytes, status: this.sending });
      if (!upload) return;
      this.sending.replaceChildren(el("p", { class: "loading" }, "Reading the masks…"));
      const project = await attempt(() => api.putMasks(this.work.project.id, { upload: upload.upload }));
      this.sending.replaceChildren();
      if (project) {
        this.work.take(project, { masks: true });
        this.open(this.remove);
      }
    };
    this.next = el("button", { type: "button", class: "primary", hidden: true, onclick: () => {
      this.open(this.follow);
      if (!this.work.project.masks) this.#propagate();
    } }, "Follow it through the video");
    return step(1, "Mark the object",
      el("p", {}, "Paint over what should go, generously, on one frame where it is seen well."), this.list, this.next,
      el("div", { class: "buttons" },
        el("button", { type: "button", title: "Says that the object is not on this frame",
          onclick: () => { this.work.compare.set("mark"); this.work.marks.nothing(); } }, "Not on this frame"),
        fileButton("Load masks", `${PICTURES},${VIDEOS}`, load, { multiple: true })),
      el("p", { class: "faint" }, "Masks: one picture for all frames, a video, or as many pictures as frames. Bright is what goes."),
      this.sending, this.#points());
  }

  // Clicks on the object, for those who have SAM 2.
  #points() {
    this.points = []; // all on frame this.pointFrame
    this.pointText = el("p", { class: "faint" });
    const ask = async (carry) => {
      const { project } = this.work;
      const job = jobs.keep(await attempt(() => api.clicks(project.id, this.pointFrame, this.points, carry)));
      if (job) this.points = [];
      this.update();
    };
    this.pointBox = el("div", { hidden: true }, this.pointText, el("div", { class: "buttons" },
      el("button", { type: "button", onclick: once(() => ask(false)) }, "Mask of this frame"),
      el("button", { type: "button", onclick: once(() => ask(true)) }, "Masks of all frames"),
      el("button", { type: "button", class: "quiet", onclick: () => { this.points = []; this.update(); } }, "Forget the clicks")));
    this.work.marks.painter.addEventListener("pick", ({ detail }) => {
      const { project, stage, player } = this.work;
      if (this.pointFrame !== player.frame) Object.assign(this, { pointFrame: player.frame, points: [] });
      const pixel = (at, shown, length) => Math.max(0, Math.min(length - 1, Math.floor(at * length / shown)));
      this.points.push([pixel(detail.x, stage.paint.width, project.width), pixel(detail.y, stage.paint.height, project.height),
        detail.away ? 0 : 1]);
      this.update();
    });
    return this.pointBox;
  }

  showPoints() {
    this.work.stage.dots(this.pointFrame === this.work.player.frame ? this.points : []);
  }

  #follow() {
    const methods = this.work.state.propagate ?? [];
    this.method = methods[0]?.name ?? "flow";
    this.minutes = el("input", { type: "number", step: "any", class: "number", id: "follow-minutes" });
    const minutes = methods.flatMap((one) => one.options ?? []).find((option) => option.name === "minutes");
    if (minutes) Object.assign(this.minutes, { min: minutes.min, max: minutes.max, value: minutes.default });
    this.minutesBox = el("p", { hidden: true }, el("label", { for: "follow-minutes" }, "Minutes it may take "), this.minutes);
    this.methodText = el("p", { class: "faint" });
    this.choice = segmented("How to follow", methods.map((one) => [one.name, one.label, one.description]), this.method,
      (name) => { this.method = name; this.update(); });
    this.followButton = el("button", { type: "button", class: "primary", onclick: () => this.#propagate() }, "Follow the object");
    this.goOn = el("button", { type: "button", class: "primary", onclick: () => this.open(this.remove) }, "Go on: remove it");
    this.discard = el("button", { type: "button", class: "quiet", onclick: async () =>
      this.work.take(await attempt(() => api.removeMasks(this.work.project.id)), { masks: true }) }, "Discard the masks");
    this.followCard = new jobs.JobCard();
    this.check = el("p", { class: "hint" });
    return step(2, "Follow it", el("p", {}, "The mask is carried from the frames you painted to all others."),
      methods.length > 1 ? this.choice : null, this.methodText, this.minutesBox,
      el("div", { class: "buttons" }, this.goOn, this.followButton, this.discard),
      this.followCard.node, this.check);
  }

  #propagate = once(async () => {
    const { work } = this;
    if (!await work.marks.save()) return;
    const options = this.method === "flow" ? {} : { minutes: Number(this.minutes.value) };
    const job = jobs.keep(await attempt(() => api.propagate(work.project.id, this.method, options)));
    if (!job) return;
    this.update(); // the workspace takes the masks when they are made
  });

  #remove() {
    this.form = new MethodForm(this.work);
    this.runButton = el("button", { type: "button", class: "primary", onclick: once(() => this.#run()) }, "Remove the object");
    this.runCard = new jobs.JobCard({ title: (job) => `${jobs.title(job)}: ${this.form.label(job.method)}` });
    this.why = el("p", { class: "hint" });
    this.runBox = el("div", {}, this.form.node, this.why, el("div", { class: "buttons" }, this.runButton));
    return step(4, "Remove it", this.runCard.node, this.runBox);
  }

  async #run() {
    const { work } = this;
    if (!await work.marks.save()) return;
    const job = jobs.keep(await attempt(() => api.run(work.project.id, this.form.values())));
    if (!job) return;
    work.showJob(job.id);
    work.compare.set("result");
    this.update();
  }

  #home() {
    this.picker = el("select", { id: "result", onchange: () => { this.work.showJob(this.picker.value); this.update(); } });
    this.download = el("a", { class: "button primary", download: "" }, icon("download"), " Download the video");
    this.homeText = el("p", {});
    this.homeBox = el("div", {}, el("p", {}, el("label", { for: "result" }, "Result "), this.picker), this.homeText,
      el("div", { class: "buttons" }, this.download));
    this.homeEmpty = el("p", { class: "faint" }, "Here you will compare before and after, and download the video.");
    return step(5, "Compare and download", this.homeBox, this.homeEmpty);
  }

  // Everything as the project and its jobs are now.
  update() {
    const { project, player, marks } = this.work;
    const { masks } = project;
    const own = jobs.ofProject(project.id);
    this.list.replaceChildren(...project.marks.map((n) => el("li", { class: "chip" },
      el("button", { type: "button", class: "link", onclick: () => { player.seek(n); this.work.compare.set("mark"); } }, `Frame ${n}`),
      el("button", { type: "button", class: "tool small", "aria-label": `Delete the mark of frame ${n}`, onclick: () => marks.remove(n) }, icon("close")))));
    this.marks.say(project.marks.length ? `${plural(project.marks.length, "frame")} painted`
      : project.masks?.source === "uploaded" ? "masks loaded" : project.masks?.source === "example" ? "comes marked" : "", project.marks.length || project.masks);
    this.next.hidden = !project.marks.length || (project.masks && !project.masks.stale);
    this.pointBox.hidden = !this.points.length;
    this.pointText.textContent = `${plural(this.points.length, "click")} on frame ${this.pointFrame}. Shift and click: not this.`;
    this.showPoints();

    const method = this.work.state.propagate?.find((one) => one.name === this.method);
    this.methodText.textContent = method?.description ?? "";
    this.minutesBox.hidden = this.method === "flow";
    const following = own.find((job) => job.kind === "propagate" || job.kind === "clicks");
    this.followCard.set(following?.state === "done" ? null : following);
    this.followButton.disabled = !project.marks.length || jobs.active(following);
    this.followButton.textContent = project.masks ? "Follow again" : "Follow the object";
    this.discard.hidden = !masks || jobs.active(following);
    this.goOn.hidden = !masks || masks.stale || jobs.active(following);
    this.followButton.classList.toggle("primary", this.goOn.hidden);
    this.check.textContent = jobs.active(following) ? "" : !masks ? (project.marks.length ? "" : "First paint it on a frame (step 1).")
      : masks.stale ? "You painted since. Follow again, so that the other frames learn of it."
        : "Play it and look at the mask. Where it is wrong, paint there and follow again: each frame you correct counts.";
    this.follow.say(jobs.active(following) ? "working…" : masks ? (masks.stale ? "painted since" : "mask on all frames") : "", masks && !masks.stale);

    this.keyframes.update();
    this.keys.say(project.keyframes.length ? plural(project.keyframes.length, "keyframe") : "", project.keyframes.length);

    const running = own.find((job) => job.kind === "run" && job.state !== "done");
    const last = own.find((job) => job.kind === "run");
    if (last?.state === "done" && this.awaited === last.id) { // also if another tab began it
      note("Done. Look at it, compare, and download it.");
      this.open(this.home);
      this.work.showJob(last.id);
    }
    this.awaited = jobs.active(last) ? last.id : undefined;
    this.runCard.set(running === last ? running : null);
    this.why.textContent = masks ? (masks.stale ? "The masks are older than what you painted last: follow the object again (step 2), or go on with these." : "")
      : "First paint the object (step 1) and follow it (step 2).";
    this.runBox.hidden = jobs.active(running);
    this.runButton.disabled = !masks || !this.form.possible;
    this.form.update();
    this.remove.say(jobs.active(running) ? "working…" : last?.state === "done" ? "done" : "", last?.state === "done");

    const results = own.filter((job) => job.kind === "run" && job.state === "done");
    this.homeBox.hidden = !results.length;
    this.homeEmpty.hidden = results.length > 0;
    const shown = results.find((job) => job.id === this.work.job?.id) ?? results[0];
    this.picker.replaceChildren(...results.map((job) => el("option", { value: job.id, selected: job === shown },
      `${this.form.label(job.method)}, ${new Date(1000 * (job.finished ?? job.created)).toLocaleTimeString([], { timeStyle: "short" })}`)));
    this.home.say(results.length ? plural(results.length, "result") : "", results.length);
    if (shown) {
      this.download.href = api.downloadUrl(shown.id);
      const kept = project.has_sound ? "size, rate and sound" : "size and rate";
      this.homeText.textContent = `Computed in ${duration(shown.seconds)}. The download has the ${kept} of your video.`;
    }
  }
}
