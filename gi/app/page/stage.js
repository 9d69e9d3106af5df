// The stage: canvases on top of each other that show one frame, fitted to the room there is and zoomed into, and a
// second picture beside them where two are compared.

import { el } from "./dom.js";

export class Stage {
  constructor({ width, height, proxy }) {
    this.project = { width, height, proxy };
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
    this.one = el("div", { class: "layers" }, this.before, this.after, this.mask, this.paint, this.colour, this.ring,
      this.column, this.divider);
    this.beside = el("div", { class: "layers" });
    this.two = el("div", { class: "picture", hidden: true }, this.beside);
    this.frames = [el("div", { class: "picture" }, this.one, this.tags), this.two];
    this.pictures = el("div", { class: "pictures" }, this.frames);
    this.zoom = { scale: 1, x: 0, y: 0 }; // of all layers; x and y in pixels of the screen
    this.pictures.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    this.pictures.addEventListener("pointerdown", (event) => this.#pan(event));
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
    for (const picture of this.frames) {
      picture.style.width = `${wide}px`;
      picture.style.height = `${Math.round(wide / this.ratio)}px`;
    }
    this.zoomTo(this.zoom);
  }

  // The wheel zooms around the pointer.
  #wheel(event) {
    event.preventDefault();
    const box = (event.target.closest(".picture") ?? this.frames[0]).getBoundingClientRect();
    const { scale, x, y } = this.zoom;
    const next = Math.max(1, Math.min(12, scale * Math.exp(-event.deltaY / 400)));
    const [px, py] = [event.clientX - box.left, event.clientY - box.top];
    this.zoomTo({ scale: next, x: px - (px - x) * next / scale, y: py - (py - y) * next / scale });
  }

  // The middle button moves what is zoomed.
  #pan(event) {
    if (event.button !== 1 || this.zoom.scale === 1) return;
    event.preventDefault();
    const start = { ...this.zoom };
    const move = (next) => this.zoomTo({ scale: start.scale, x: start.x + next.clientX - event.clientX, y: start.y + next.clientY - event.clientY });
    const end = () => { removeEventListener("pointermove", move); removeEventListener("pointerup", end); };
    addEventListener("pointermove", move);
    addEventListener("pointerup", end);
  }

  // `scale` from 1 on; the picture always fills its frame.
  zoomTo({ scale, x = 0, y = 0 }) {
    const { clientWidth: width, clientHeight: height } = this.frames[0];
    const within = (at, length) => Math.min(0, Math.max(length * (1 - scale), at));
    this.zoom = { scale, x: within(x, width), y: within(y, height) };
    for (const layers of [this.one, this.beside]) {
      layers.style.transform = `translate(${this.zoom.x}px, ${this.zoom.y}px) scale(${scale})`;
      layers.style.setProperty("--zoom", String(scale)); // what shall not grow along
    }
    this.zoomed?.();
  }

  // The address `url(side)` of a picture with the pixels that the screen has for it; "" if a proxy has them.
  sharp(url) {
    const { width, height, proxy } = this.project;
    const shown = this.frames[0].clientWidth * this.zoom.scale * devicePixelRatio;
    if (width <= proxy.width || shown < 1.1 * proxy.width) return "";
    return url(Math.min(8192, Math.max(width, height) / (shown <= width / 2 ? 2 : 1)) | 0); // the server makes none larger
  }

  // Shows clicks [x, y, label] in pixels of the source, label 0 for "not this".
  dots(points) {
    this.one.querySelectorAll(".point").forEach((dot) => dot.remove());
    for (const [x, y, label] of points) {
      const dot = el("i", { class: `point ${label ? "yes" : "no"}` });
      dot.style.left = `${100 * x / this.project.width}%`;
      dot.style.top = `${100 * y / this.project.height}%`;
      this.one.append(dot);
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
