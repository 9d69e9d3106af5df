// Keyframes: frames that are filled by the photo inpainter, painted over here, or edited elsewhere and brought back.

import * as api from "./api.js";
import { attempt, el, icon, note, once, tool } from "./dom.js";
import * as jobs from "./jobs.js";
import { fileButton, PICTURES } from "./open.js";
import { Painter } from "./painter.js";

const WORDS = { filled: "filled", uploaded: "edited" };

export class Keyframes {
  // `work`: the video's workspace.
  constructor(work) {
    this.work = work;
    this.list = el("ul", { class: "thumbnails" });
    this.fillButton = el("button", { type: "button", onclick: once(() => this.#fill()) });
    this.card = new jobs.JobCard();
    this.node = el("div", {},
      el("p", {}, "Show how a frame shall look behind the object: the others follow it. Useful where no other frame shows what is there. What you change outside the mask stays on this one frame."),
      this.list,
      el("div", { class: "buttons" }, this.fillButton,
        el("button", { type: "button", onclick: () => this.paint(work.player.frame) }, "Paint over this frame"),
        fileButton("Bring an edited frame", PICTURES, ([file]) => this.#put(work.player.frame, file))),
      this.hint = el("p", { class: "faint" }), this.card.node);
    work.player.addEventListener("frame", () => this.#here());
    this.#editor();
    this.#here();
  }

  get painting() { return this.editing !== undefined; }

  #here() {
    const { player, project } = this.work;
    this.fillButton.textContent = `Fill frame ${player.frame}`;
    const { width, height } = project;
    this.hint.replaceChildren("Edited frames have to be ", `${width}×${height}. `,
      el("a", { href: api.exactUrl(project.id, player.frame), download: `${project.name}-${player.frame}.png` }, `Save frame ${player.frame} as PNG`));
  }

  update() {
    const { project, player } = this.work;
    this.list.replaceChildren(...project.keyframes.map(({ n, source }) => el("li", {},
      el("button", { type: "button", class: "thumbnail", onclick: () => player.seek(n), title: `Go to frame ${n}` },
        el("img", { src: api.keyframeUrl(project.id, n, project.version, 160), alt: `Keyframe ${n}` }),
        el("span", {}, `${n} · ${WORDS[source] ?? source}`)),
      tool("brush", `Paint over keyframe ${n}`, () => { player.seek(n); this.paint(n); }),
      tool("trash", `Delete keyframe ${n}`, () => this.#remove(n)))));
    const job = jobs.ofProject(project.id).find((one) => one.kind === "keyframe");
    this.card.set(job?.state === "done" ? null : job);
    this.fillButton.disabled = jobs.active(job) || !(project.masks || project.marks.includes(player.frame));
    this.fillButton.title = this.fillButton.disabled ? "Needs the mask of this frame, and no other fill at work" : "";
  }

  async #fill() {
    const { project, player, marks } = this.work;
    if (!await marks.save()) return;
    const n = player.frame;
    const job = jobs.keep(await attempt(() => api.fillKeyframe(project.id, n)));
    if (!job) return;
    this.update();
    jobs.finished(job.id).then((end) => { // the server tells about the keyframe itself
      if (end.state === "done" && !this.work.closed) note(`Frame ${n} is filled. Paint over it if something is not right.`);
    });
  }

  async #put(n, picture) {
    const project = await attempt(() => api.putKeyframe(this.work.project.id, n, picture));
    if (!project) return false;
    this.work.take(project);
    note(`Frame ${n} is a keyframe now: the next run follows it.`);
    return true;
  }

  async #remove(n) {
    this.work.take(await attempt(() => api.removeKeyframe(this.work.project.id, n)));
  }

  #editor() {
    const { stage } = this.work;
    this.painter = new Painter(stage.colour, stage.ring);
    this.painter.enabled = false;
    this.input = el("input", { type: "color", value: "#808080", "aria-label": "Colour", title: "Colour",
      oninput: () => { this.painter.colour = this.input.value; } });
    const choose = (name, label, key) => tool(name, label, () => this.setTool(name), { key });
    this.buttons = { brush: choose("brush", "Brush", "B"), eraser: choose("eraser", "Eraser: what was there before", "E"),
      rectangle: choose("rectangle", "Rectangle", "R"), picker: choose("picker", "Take a colour from the picture", "I") };
    const size = el("input", { type: "range", min: 2, max: 400, value: 40, "aria-label": "Size of the brush ([ and ])",
      title: "Size of the brush ([ and ])", oninput: () => this.painter.setSize(Number(size.value)) });
    this.painter.addEventListener("size", () => { size.value = this.painter.size; });
    this.painter.addEventListener("pick", ({ detail }) => this.#pick(detail));
    this.saveButton = el("button", { type: "button", class: "primary", onclick: () => this.#save() }, icon("check"), " Keep");
    this.tools = el("div", { class: "tools", role: "toolbar", "aria-label": "Paint a keyframe", hidden: true },
      Object.values(this.buttons), this.input, size, tool("undo", "Undo", () => this.painter.undo(), { key: "Ctrl Z" }),
      tool("redo", "Redo", () => this.painter.redo(), { key: "Ctrl Shift Z" }), this.saveButton,
      el("button", { type: "button", onclick: () => this.leave() }, "Cancel"));
  }

  setTool(name) {
    this.painter.tool = name;
    for (const [key, button] of Object.entries(this.buttons)) button.setAttribute("aria-pressed", String(key === name));
    this.work.stage.one.dataset.tool = name;
  }

  // Shows frame n (or its keyframe) at its own size, to paint on.
  async paint(n) {
    const { project, player, stage } = this.work;
    player.pause();
    const known = project.keyframes.some((one) => one.n === n);
    const picture = await attempt(async () => {
      const response = await fetch(known ? api.exactKeyframeUrl(project.id, n, project.version) : api.exactUrl(project.id, n));
      if (!response.ok) throw new Error(`Frame ${n} could not be read.`);
      return createImageBitmap(await response.blob());
    });
    if (!picture || player.frame !== n) return;
    this.work.compare.set("mark");
    this.plate = picture;
    this.editing = n;
    this.painter.resize(project.width, project.height);
    this.painter.setSize(project.width / 30);
    this.painter.enabled = true;
    this.work.editing(true);
    stage.colour.hidden = false;
    stage.before.getContext("2d").drawImage(picture, 0, 0, stage.before.width, stage.before.height);
    stage.label(`Keyframe ${n}`);
    this.setTool("brush");
  }

  leave() {
    if (!this.painting) return;
    this.editing = undefined;
    this.plate.close();
    this.painter.enabled = false;
    this.painter.resize(1, 1); // a canvas of a large picture takes much memory
    this.work.stage.colour.hidden = true;
    this.work.editing(false);
  }

  #whole() {
    const { width, height } = this.work.project;
    const whole = new OffscreenCanvas(width, height);
    const context = whole.getContext("2d");
    context.drawImage(this.plate, 0, 0, width, height);
    context.drawImage(this.work.stage.colour, 0, 0);
    return whole;
  }

  #pick({ x, y }) {
    const [red, green, blue] = this.#whole().getContext("2d").getImageData(Math.floor(x), Math.floor(y), 1, 1).data;
    this.input.value = this.painter.colour = "#" + [red, green, blue].map((value) => value.toString(16).padStart(2, "0")).join("");
    this.setTool("brush");
  }

  async #save() {
    const n = this.editing;
    this.saveButton.disabled = true;
    const picture = await this.#whole().convertToBlob({ type: "image/png" });
    const kept = await this.#put(n, picture);
    this.saveButton.disabled = false;
    if (kept) this.leave();
  }
}
