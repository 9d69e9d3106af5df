// The stage: canvases on top of each other that show one frame, fitted to the room there is, and a second picture
// beside them where two are compared.

import { el } from "./dom.js";

export class Stage {
  constructor({ width, height, proxy }) {
    this.ratio = width / height;
    const layer = (name, label) => el("canvas", { class: name, width: proxy.width, height: proxy.height,
      ...(label ? { role: "img", "aria-label": label } : { "aria-hidden": "true" }) });
    this.before = layer("before", "The frame");
    this.after = layer("after", "The frame without the object");
    this.mask = layer("mask");
    this.paint = layer("paint", "Where you paint");
    this.colour = layer("colour", "Where you paint a keyframe");
    this.colour.hidden = true;
    this.ring = el("div", { class: "ring", hidden: true });
    this.divider = el("div", { class: "divider", hidden: true, role: "slider", tabindex: "0", "aria-label": "Before and after",
      "aria-valuemin": "0", "aria-valuemax": "100" });
    this.column = el("div", { class: "column", hidden: true });
    this.tags = [el("span", { class: "tag left" }), el("span", { class: "tag right" })];
    this.one = el("div", { class: "picture" }, this.before, this.after, this.mask, this.paint, this.colour, this.ring,
      this.column, this.divider, this.tags);
    this.two = el("div", { class: "picture", hidden: true });
    this.pictures = el("div", { class: "pictures" }, this.one, this.two);
    this.below = el("div", { class: "below", hidden: true });
    this.node = el("div", { class: "stage" }, this.pictures, this.below);
    this.watcher = new ResizeObserver(() => this.fit());
    this.watcher.observe(this.pictures);
  }

  // Two pictures beside each other, or one above the other where that makes them clearly larger.
  fit() {
    const { clientWidth: width, clientHeight: height } = this.pictures;
    const gap = 8;
    const size = (w, h) => Math.min(w, h * this.ratio);
    const beside = size((width - gap) / 2, height);
    const stacked = size(width, (height - gap) / 2);
    const double = !this.two.hidden;
    const above = stacked > 1.15 * beside;
    this.pictures.classList.toggle("stacked", double && above);
    const wide = Math.max(40, Math.floor(!double ? size(width, height) : above ? stacked : beside));
    for (const picture of [this.one, this.two]) {
      picture.style.width = `${wide}px`;
      picture.style.height = `${Math.round(wide / this.ratio)}px`;
    }
  }

  // `left`, `right`: words in the corners; "" hides them.
  label(left = "", right = "") {
    [left, right].forEach((text, k) => {
      this.tags[k].textContent = text;
      this.tags[k].hidden = !text;
    });
  }

  close() {
    this.watcher.disconnect();
  }
}
