// Painting on a canvas above a picture: a mask in one colour, or colours for a keyframe. Undo and redo, pens and touch.

const STEPS = 30; // of undo; each is a copy of the canvas
const BYTES = 256 * 2 ** 20; // of these copies

// Dispatches "begin" before the picture changes, which a listener can prevent, "stroke" when it has changed (not while
// it is drawn), "size" when the brush has.
export class Painter extends EventTarget {
  // `canvas`: with the picture's pixels, shown at any size; `ring`: an element that shows the brush's size.
  constructor(canvas, ring) {
    super();
    Object.assign(this, { canvas, ring, context: canvas.getContext("2d"), tool: "brush", size: 40, colour: "#ff2d6f",
      enabled: true, undone: [], done: [], drawing: false });
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", (event) => this.#up(event));
    canvas.addEventListener("pointercancel", (event) => this.#up(event));
    canvas.addEventListener("pointerleave", () => { ring.hidden = true; });
  }

  resize(width, height) {
    this.canvas.width = width;
    this.canvas.height = height;
    this.forget();
  }

  setSize(size) {
    this.size = Math.max(2, Math.min(this.canvas.width / 2, Math.round(size)));
    if (this.last && !this.ring.hidden) this.#showRing(this.last);
    this.dispatchEvent(new Event("size"));
  }

  // Shows `picture` (or nothing), which is where undo ends.
  load(picture) {
    this.#replace(picture);
    this.forget();
  }

  forget() {
    this.done = [];
    this.undone = [];
  }

  undo() {
    if (!this.done.length || this.drawing !== false) return;
    this.undone.push(this.#copy());
    this.#replace(this.done.pop());
    this.dispatchEvent(new Event("stroke"));
  }

  redo() {
    if (!this.undone.length || this.drawing !== false) return;
    this.done.push(this.#copy());
    this.#replace(this.undone.pop());
    this.dispatchEvent(new Event("stroke"));
  }

  // Returns whether it did.
  clear() {
    if (this.drawing !== false || !this.#begin()) return false;
    this.#remember();
    this.#replace(null);
    this.dispatchEvent(new Event("stroke"));
    return true;
  }

  #begin() {
    return this.dispatchEvent(new Event("begin", { cancelable: true }));
  }

  // The painted area in white on black, as a PNG.
  async mask() {
    const { width, height } = this.canvas;
    const copy = new OffscreenCanvas(width, height);
    const context = copy.getContext("2d");
    context.drawImage(this.canvas, 0, 0);
    context.globalCompositeOperation = "source-in";
    context.fillStyle = "#fff";
    context.fillRect(0, 0, width, height);
    context.globalCompositeOperation = "destination-over";
    context.fillStyle = "#000";
    context.fillRect(0, 0, width, height);
    return copy.convertToBlob({ type: "image/png" });
  }

  get empty() { return !pixels(this.canvas).some(Boolean); }

  // Whether `picture`, of the canvas's size, is the mask of what is painted, whose edges are soft and become hard there.
  shows(picture) {
    const other = pixels(picture);
    return pixels(this.canvas).every((one, k) => one >>> 24 > 127 === other[k] >>> 24 > 127);
  }

  #copy() {
    const copy = new OffscreenCanvas(this.canvas.width, this.canvas.height);
    copy.getContext("2d").drawImage(this.canvas, 0, 0);
    return copy;
  }

  #remember() {
    this.done.push(this.#copy());
    const { width, height } = this.canvas;
    while (this.done.length > Math.max(1, Math.min(STEPS, BYTES / (4 * width * height)))) this.done.shift();
    this.undone = [];
  }

  #replace(picture) {
    this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    if (picture) this.context.drawImage(picture, 0, 0, this.canvas.width, this.canvas.height);
  }

  // Where an event is, in pixels of the picture.
  at(event) {
    const box = this.canvas.getBoundingClientRect();
    return { x: (event.clientX - box.left) * this.canvas.width / box.width,
      y: (event.clientY - box.top) * this.canvas.height / box.height };
  }

  #down(event) {
    if (!this.enabled || event.button !== 0 || this.drawing !== false) return;
    event.preventDefault();
    const point = this.at(event);
    if (this.tool === "picker" || this.tool === "point") {
      this.dispatchEvent(new CustomEvent("pick", { detail: { ...point, away: event.altKey || event.shiftKey } }));
      return;
    }
    if (!this.#begin()) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.#remember();
    Object.assign(this, { drawing: event.pointerId, start: point, last: point });
    this.#line(point, point);
  }

  #move(event) {
    if (this.enabled) this.#showRing(this.at(event));
    if (this.drawing !== event.pointerId || this.drawing === false) return;
    const events = event.getCoalescedEvents?.() ?? []; // all positions between two pictures of the screen
    for (const one of events.length ? events : [event]) {
      const point = this.at(one);
      this.#line(this.last, point);
      this.last = point;
    }
  }

  #up(event) {
    if (this.drawing === false || this.drawing !== event.pointerId) return;
    this.drawing = false;
    this.dispatchEvent(new Event("stroke"));
  }

  #line(from, to) {
    const { context } = this;
    context.globalCompositeOperation = this.tool === "eraser" ? "destination-out" : "source-over";
    context.fillStyle = context.strokeStyle = this.colour;
    if (this.tool === "rectangle") {
      this.#replace(this.done.at(-1));
      context.fillRect(Math.min(this.start.x, to.x), Math.min(this.start.y, to.y),
        Math.abs(to.x - this.start.x), Math.abs(to.y - this.start.y));
    } else {
      context.lineWidth = this.size;
      context.lineCap = context.lineJoin = "round";
      context.beginPath();
      context.moveTo(from.x, from.y);
      context.lineTo(to.x, to.y + (from.x === to.x && from.y === to.y ? 0.01 : 0)); // a point is drawn as well
      context.stroke();
    }
    context.globalCompositeOperation = "source-over";
  }

  #showRing(point) {
    this.last = this.drawing === false ? point : this.last;
    const scale = this.canvas.clientWidth / this.canvas.width; // the ring is zoomed along with the canvas
    const round = this.tool === "brush" || this.tool === "eraser";
    this.ring.hidden = !round;
    this.ring.style.width = this.ring.style.height = `${this.size * scale}px`;
    this.ring.style.transform =
      `translate(${(point.x - this.size / 2) * scale}px, ${(point.y - this.size / 2) * scale}px)`;
  }
}

// A canvas in memory rather than on the graphics card, which pixels are slow to come back from.
function readable(width, height) {
  return new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
}

function pixels(canvas) {
  const context = readable(canvas.width, canvas.height);
  context.drawImage(canvas, 0, 0);
  return new Uint32Array(context.getImageData(0, 0, canvas.width, canvas.height).data.buffer);
}

// Turns a mask (white on black) into `colour` on nothing, drawn to `context` in its size.
export function tint(context, mask, colour) {
  const { width, height } = context.canvas;
  const copy = readable(width, height);
  copy.drawImage(mask, 0, 0, width, height);
  const image = copy.getImageData(0, 0, width, height);
  const values = new Uint32Array(image.data.buffer);
  const [red, green, blue] = [1, 3, 5].map((k) => parseInt(colour.slice(k, k + 2), 16));
  const painted = (255 << 24) | (blue << 16) | (green << 8) | red; // little-endian: alpha, blue, green, red
  for (let k = 0; k < values.length; k++) values[k] = (values[k] & 0xff) > 127 ? painted : 0;
  context.putImageData(image, 0, 0);
}
