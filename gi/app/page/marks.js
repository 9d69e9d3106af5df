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
    this.painter.addEventListener("begin", (event) => this.#begin(event));
    this.painter.addEventListener("stroke", () => this.#stroke());
    this.frame = null; // whose paint the canvas shows
    this.settled = false; // whether it shows all that is kept of that frame
    this.turn = 0; // counts what may change the canvas: a mark that comes after the next is out of date
    this.pending = null; // a frame whose paint is to be kept
    this.unsent = new Map(); // of frames: a picture that the server is to keep, or null where the mark goes
    this.sending = Promise.resolve(true);
    this.visible = true;
    this.fresh();
    this.tools = this.#tools();
    this.unload = () => { this.save(); };
    window.addEventListener("pagehide", this.unload);
    document.addEventListener("visibilitychange", this.unload);
  }

  // The screen goes.
  leave() {
    this.save();
    window.removeEventListener("pagehide", this.unload);
    document.removeEventListener("visibilitychange", this.unload);
    this.masks.close();
  }

  get has() { return this.work.project.marks.includes(this.frame); }

  // Masks have changed: what was loaded of them is out of date.
  fresh() {
    this.masks?.close();
    const { work, unsent } = this;
    this.masks = new Frames((n) => api.maskUrl(work.project.id, n, work.project.version), { // another one with each version
      ready: (n) => Boolean(work.project.masks) && !work.project.marks.includes(n) && this.pending !== n && !unsent.has(n) });
    this.layer = { canvas: work.stage.mask, frames: this.masks, tint: (context, picture) => tint(context, picture, COLOUR) };
  }

  // Shows what is painted on the player's frame. Paint that is not kept yet is taken from the canvas first.
  async show({ again = false } = {}) {
    const n = this.work.player.frame;
    if (n === this.frame && !again) return;
    if (this.painter.drawing !== false) return;
    this.save();
    const changed = n !== this.frame;
    const turn = ++this.turn;
    this.frame = n;
    if (changed || (!this.has && !this.painter.empty)) this.painter.load(null); // redo stays where nothing is new
    this.settled = !this.has || (this.settled && !changed);
    if (!this.has) return;
    try {
      const picture = await createImageBitmap(await this.#kept(n));
      if (turn !== this.turn) return;
      const copy = new OffscreenCanvas(this.work.stage.paint.width, this.work.stage.paint.height);
      tint(copy.getContext("2d"), picture, COLOUR);
      if (!this.painter.shows(copy)) this.painter.load(copy); // and undo
      this.settled = true;
    } catch { /* the next visit of the frame, or stroke, asks again */ }
  }

  // The mark of a frame as a file.
  async #kept(n) {
    if (this.unsent.has(n)) return this.unsent.get(n);
    const response = await fetch(api.markUrl(this.work.project.id, n, this.work.project.version));
    if (!response.ok) throw new Error(response.statusText);
    return response.blob();
  }

  // A correction starts from the mask that was carried here, and waits until that, or the mark, is there: a stroke would
  // replace it.
  #begin(event) {
    const { player, stage } = this.work;
    player.pause();
    const n = player.frame;
    const carried = this.masks.ready(n);
    if (this.frame !== n || !this.settled || (carried && this.layer.shown !== n)) {
      event.preventDefault();
      note("The mask of this frame is still being loaded. Try again in a moment.");
      this.show({ again: true });
      return;
    }
    if (carried) this.painter.context.drawImage(stage.mask, 0, 0);
    this.turn += 1;
    this.pending = n;
    player.refresh();
  }

  #stroke() {
    this.turn += 1;
    this.pending = this.frame;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.save(), 350);
    this.show(); // another frame, if the player has gone on meanwhile
  }

  // Keeps the paint of the frame it was painted on. Resolves to whether the server has all that is to be kept.
  save() {
    clearTimeout(this.timer);
    const n = this.pending;
    if (n !== null && this.painter.drawing === false) {
      this.pending = null;
      const useless = this.painter.empty && !this.work.project.masks;
      if (!useless || this.has) this.#keep(n, useless ? null : this.painter.mask());
    }
    this.sending = this.sending.then(() => this.#send());
    return this.sending;
  }

  #keep(n, picture) {
    this.unsent.set(n, picture);
    this.expect(this.work.project);
    this.work.change();
  }

  // Gives a project, as the server told of it, the marks that it will have when all is sent.
  expect(project) {
    const marks = new Set(project.marks);
    for (const [n, picture] of this.unsent) {
      if (picture) marks.add(n);
      else marks.delete(n);
    }
    project.marks = [...marks].sort((a, b) => a - b);
    return project;
  }

  // One request after the other, so that none overtakes another. What did not arrive is sent again with the next.
  async #send() {
    const { id } = this.work.project;
    for (const [n, picture] of [...this.unsent]) {
      const forget = () => this.unsent.get(n) === picture && this.unsent.delete(n); // unless there is a newer one
      try {
        const project = await (picture ? api.putMark(id, n, await picture) : api.removeMark(id, n));
        this.masks.forget(n);
        this.work.take(project);
        forget();
      } catch (error) {
        const later = error.status === 0 || error.status >= 500; // no connection, or a full disk
        note(`What you painted on frame ${n} is not kept${later ? " yet" : ""}: ${error.message}`, "error");
        if (later) return false;
        forget();
        this.work.take(await api.project(id).catch(() => null)); // with the marks that it has
      }
    }
    this.work.player.refresh();
    return true;
  }

  async remove(n) {
    if (this.pending === n) this.pending = null;
    this.#keep(n, null);
    await this.save();
    await this.show({ again: true });
  }

  // The frame is marked as one where the object is not.
  async nothing() {
    if (!this.painter.clear()) return;
    this.pending = null;
    this.#keep(this.frame, this.painter.mask());
    await this.save();
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
