// What is painted on the frames of a video: loaded and kept for each frame, with the mask that was carried along.

import * as api from "./api.js";
import { el, note, tool } from "./dom.js";
import { Frames } from "./player.js";
import { Painter, tint } from "./painter.js";

export const COLOUR = "#ff2d6f";

export class Marks {
  // `work`: project, player, stage, and change(), which is called when something was painted.
  constructor(work) {
    this.work = work;
    const { stage } = work;
    this.painter = new Painter(stage.paint, stage.ring);
    this.painter.colour = COLOUR;
    this.painter.setSize(Math.max(8, stage.paint.width / 24));
    this.painter.addEventListener("begin", () => this.#begin());
    this.painter.addEventListener("stroke", () => this.#stroke());
    this.frame = null; // whose paint the canvas shows
    this.pending = null; // a frame whose paint is not kept yet
    this.visible = true;
    this.saves = 0; // at work
    this.fresh();
    this.tools = this.#tools();
  }

  get has() { return this.work.project.marks.includes(this.frame); }

  // Masks have changed: what was loaded of them is out of date.
  fresh() {
    this.masks?.close();
    const { id, version } = this.work.project;
    this.masks = new Frames((n) => api.maskUrl(id, n, version),
      { ready: (n) => this.visible && Boolean(this.work.project.masks) && !this.work.project.marks.includes(n) && this.pending !== n });
    this.layer = { canvas: this.work.stage.mask, frames: this.masks, tint: (context, picture) => tint(context, picture, COLOUR) };
  }

  // Shows what is painted on the player's frame. Paint that is not kept yet is kept first.
  async show({ again = false } = {}) {
    const n = this.work.player.frame;
    if (n === this.frame && !again) return;
    if (this.painter.drawing !== false) return;
    await this.save();
    if (n !== this.work.player.frame) return; // gone on meanwhile
    const changed = n !== this.frame;
    this.frame = n;
    if (changed) this.painter.load(null);
    if (!this.has) {
      if (again && !changed) this.painter.load(null);
      return;
    }
    try {
      const response = await fetch(api.markUrl(this.work.project.id, n, this.work.project.version));
      if (!response.ok) return;
      const picture = await createImageBitmap(await response.blob());
      if (this.frame !== n || this.pending === n || this.painter.drawing !== false) return;
      const copy = new OffscreenCanvas(this.work.stage.paint.width, this.work.stage.paint.height);
      tint(copy.getContext("2d"), picture, COLOUR);
      if (!this.painter.shows(copy)) this.painter.load(copy); // undo stays where nothing is new
    } catch { /* the next visit of the frame asks again */ }
  }

  // A correction starts from the mask that was carried here.
  #begin() {
    const { player, stage } = this.work;
    player.pause();
    this.frame = player.frame;
    if (!this.has && this.pending !== this.frame && this.visible && this.layer.shown === this.frame) {
      this.painter.context.drawImage(stage.mask, 0, 0);
    }
    this.pending = this.frame;
    player.refresh();
  }

  #stroke() {
    this.pending = this.frame = this.work.player.frame;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.save(), 350);
  }

  // Keeps the paint of the frame it was painted on.
  async save() {
    clearTimeout(this.timer);
    const n = this.pending;
    if (n === null || n === undefined || this.painter.drawing !== false) return this.saving;
    this.pending = null;
    const { project } = this.work;
    const useless = this.painter.empty && !project.masks;
    const body = useless ? null : this.painter.mask();
    const has = project.marks.includes(n);
    if (useless) project.marks = project.marks.filter((one) => one !== n);
    else if (!has) project.marks = [...project.marks, n].sort((a, b) => a - b);
    this.work.change();
    this.saves += 1;
    this.saving = (async () => {
      try {
        if (!useless) this.work.take(await api.putMark(project.id, n, await body));
        else if (has) this.work.take(await api.removeMark(project.id, n));
      } catch (error) {
        note(`What you painted on frame ${n} is not kept: ${error.message}`, "error");
      } finally {
        this.saves -= 1;
      }
    })();
    return this.saving;
  }

  async remove(n) {
    if (this.pending === n) { clearTimeout(this.timer); this.pending = null; }
    const { project } = this.work;
    project.marks = project.marks.filter((one) => one !== n);
    this.work.take(await api.removeMark(project.id, n));
    this.masks.forget(n);
    await this.show({ again: true });
    this.work.player.refresh();
  }

  // The frame is marked as one where the object is not.
  async nothing() {
    this.#begin();
    this.painter.context.clearRect(0, 0, this.painter.canvas.width, this.painter.canvas.height);
    this.pending = null;
    const n = this.frame;
    const blob = await this.painter.mask();
    this.work.take(await api.putMark(this.work.project.id, n, blob));
  }

  setTool(name) {
    this.painter.tool = name;
    for (const [key, button] of Object.entries(this.buttons)) button.setAttribute("aria-pressed", String(key === name));
    this.work.stage.one.dataset.tool = name;
  }

  setVisible(visible) {
    this.visible = visible;
    this.eye.setAttribute("aria-pressed", String(visible));
    this.work.stage.mask.hidden = this.work.stage.paint.hidden = !visible;
    this.work.player.refresh();
  }

  #tools() {
    const choose = (name, label, key) => tool(name, label, () => this.setTool(name), { key });
    this.buttons = { brush: choose("brush", "Brush", "B"), eraser: choose("eraser", "Eraser", "E"),
      rectangle: choose("rectangle", "Rectangle", "R") };
    if (this.work.state.clicks?.available) {
      this.buttons.point = tool("point", "Click on the object (Shift: not this)", () => this.setTool("point"), { key: "C" });
    }
    const size = el("input", { type: "range", min: 2, max: Math.round(this.work.stage.paint.width / 4), value: this.painter.size,
      "aria-label": "Size of the brush ([ and ])", title: "Size of the brush ([ and ])",
      oninput: () => this.painter.setSize(Number(size.value)) });
    this.painter.addEventListener("size", () => { size.value = this.painter.size; });
    this.eye = tool("eye", "Show the mask", () => this.setVisible(!this.visible), { key: "M" });
    this.eye.setAttribute("aria-pressed", "true");
    const node = el("div", { class: "tools", role: "toolbar", "aria-label": "Paint the object" }, Object.values(this.buttons), size,
      tool("undo", "Undo", () => this.painter.undo(), { key: "Ctrl Z" }), tool("redo", "Redo", () => this.painter.redo(), { key: "Ctrl Shift Z" }),
      tool("trash", "Clear this frame", () => this.painter.clear()), this.eye);
    queueMicrotask(() => this.setTool("brush"));
    return node;
  }
}
