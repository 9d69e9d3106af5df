// Before and after: the result alone, a slider, side by side, and a slice through time at a picked column.

import * as api from "./api.js";
import { el, segmented } from "./dom.js";

export const VIEWS = [["mark", "Paint", "Paint the object and see its mask"], ["result", "Result", "The video without the object"],
  ["slider", "Slider", "Before and after, divided by a slider"], ["side", "Side by side", "Before and after beside each other"],
  ["slice", "Slice", "One column of all frames, beside each other: flicker shows as stripes"]];

export class Compare {
  // `changed(view)`: another view was chosen.
  constructor({ stage, player, project, views = VIEWS, changed = () => {} }) {
    Object.assign(this, { stage, player, project, changed, view: "mark", share: 0.5, column: Math.round(project.width / 2), views });
    this.buttons = segmented("View", views, "mark", (view) => this.set(view));
    stage.divider.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -0.02, ArrowRight: 0.02 }[event.key];
      if (!step) return;
      event.stopPropagation();
      event.preventDefault();
      this.divide(this.share + step);
    });
    const drag = (event) => {
      if (event.type === "pointerdown" && (event.button !== 0 || !["slider", "slice"].includes(this.view))) return;
      if (event.type === "pointermove" && this.dragging !== event.pointerId) return;
      event.preventDefault();
      this.dragging = event.pointerId;
      const box = stage.one.getBoundingClientRect();
      const x = Math.max(0, Math.min(1, (event.clientX - box.left) / box.width));
      if (event.type === "pointerdown") stage.one.setPointerCapture(event.pointerId);
      if (this.view === "slider") this.divide(x);
      else this.pick(Math.min(project.width - 1, Math.floor(x * project.width)), event.type === "pointerdown");
    };
    stage.one.addEventListener("pointerdown", drag);
    stage.one.addEventListener("pointermove", drag);
    stage.one.addEventListener("pointerup", () => {
      if (this.dragging !== undefined && this.view === "slice") this.slices();
      this.dragging = undefined;
    });
    player.addEventListener("frame", () => this.#cursor());
  }

  // The job whose result is compared, or null.
  setJob(job) {
    const ready = job ? `${job.state} ${JSON.stringify(job.frames_ready)}` : "";
    if (this.job?.id === job?.id && this.ready === ready) return;
    const another = this.job?.id !== job?.id;
    Object.assign(this, { job, ready });
    // A slice is made anew for each tenth of the video that is finished, not for each frame.
    const count = (job?.frames_ready ?? []).reduce((sum, [first, stop]) => sum + stop - first, 0);
    const stamp = `${job?.id} ${job?.state} ${Math.floor(10 * count / this.project.count)}`;
    if (this.view === "slice" && (another || stamp !== this.stamp)) this.slices();
    this.stamp = stamp;
  }

  set(view) {
    if (!this.views.some(([key]) => key === view)) return;
    this.view = view;
    this.buttons.set(view);
    const { stage } = this;
    stage.node.dataset.view = view;
    stage.two.hidden = view !== "side";
    stage.below.hidden = view !== "slice";
    stage.divider.hidden = view !== "slider";
    stage.column.hidden = view !== "slice";
    (view === "side" ? stage.beside : stage.one).insertBefore(stage.after, view === "side" ? null : stage.mask);
    stage.after.hidden = view === "mark";
    stage.ring.hidden = true;
    this.divide(this.share);
    stage.fit();
    if (view === "slice") this.pick(this.column, true);
    this.changed(view);
  }

  next() {
    const names = this.views.map(([key]) => key);
    this.set(names[(names.indexOf(this.view) + 1) % names.length]);
  }

  divide(share) {
    this.share = Math.max(0, Math.min(1, share));
    const { divider, after } = this.stage;
    divider.style.left = `${100 * this.share}%`;
    divider.setAttribute("aria-valuenow", String(Math.round(100 * this.share)));
    after.style.clipPath = this.view === "slider" ? `inset(0 0 0 ${100 * this.share}%)` : "";
  }

  pick(column, load) {
    this.column = column;
    this.stage.column.style.left = `${100 * (column + 0.5) / this.project.width}%`;
    if (load) this.slices();
  }

  slices() {
    const { job, project } = this;
    const stamp = job ? `${job.id}-${job.version}` : undefined;
    const slice = (side, caption) => {
      const cursor = el("span", { class: "cursor" });
      const seek = (event) => {
        const box = event.currentTarget.getBoundingClientRect();
        this.player.seek(Math.floor((event.clientX - box.left) / box.width * project.count));
      };
      return el("figure", {}, el("figcaption", {}, `${caption}, column ${this.column}`),
        el("div", { class: "slice", onclick: seek },
          el("img", { src: api.sliceUrl(job.id, this.column, side, stamp), alt: `Column ${this.column} of all frames, ${side}` }), cursor));
    };
    this.stage.below.replaceChildren(...(job
      ? [slice("before", "Before"), slice("after", "After")]
      : [el("p", { class: "faint" }, "A slice shows once a result is there.")]),
    el("p", { class: "faint" }, "Time goes from left to right. Click on the picture for another column, here for another frame."));
    this.#cursor();
  }

  #cursor() {
    for (const cursor of this.stage.below.querySelectorAll(".cursor")) {
      cursor.style.left = `${100 * (this.player.frame + 0.5) / this.project.count}%`;
    }
  }
}
