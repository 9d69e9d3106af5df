// Shows frames of a video by number: a bounded cache of decoded pictures, and a clock.

const BYTES = 192 * 2 ** 20; // of decoded pictures, for each kind of frames
const REQUESTS = 5; // at a time; browsers allow six to a server

// Frames of one kind (before, after), fetched in the order in which they are needed.
export class Frames {
  // `url(n)`: where frame n is; `ready(n)`: whether it makes sense to ask for it; `arrived(n)` is called for each.
  // `sharp(n)`: where the same is in more pixels, "" where it is not.
  constructor(url, { ready = () => true, arrived = () => {}, sharp = () => "" } = {}) {
    Object.assign(this, { url, ready, arrived, sharp, cache: new Map(), bytes: 0, active: new Set(), queue: [], failed: new Map() });
  }

  get(n) {
    const bitmap = this.cache.get(n);
    if (bitmap) { // the last ones used are at the end of the map
      this.cache.delete(n);
      this.cache.set(n, bitmap);
    }
    return bitmap;
  }

  // Says which frames are needed, the most urgent first; replaces what was needed before.
  request(numbers) {
    if (this.closed) return;
    this.queue = numbers.filter((n) => !this.cache.has(n) && this.ready(n) && !((this.failed.get(n) ?? 0) > Date.now()));
    this.#pump();
  }

  forget(n) {
    this.cache.get(n)?.close();
    this.cache.delete(n);
    this.failed.delete(n);
  }

  close() {
    this.closed = true;
    this.queue = [];
    for (const n of [...this.cache.keys()]) this.forget(n);
  }

  #pump() {
    while (this.active.size < REQUESTS && this.queue.length) {
      const n = this.queue.shift();
      if (!this.active.has(n) && !this.cache.has(n)) this.#load(n);
    }
  }

  async #load(n) {
    this.active.add(n);
    try {
      const response = await fetch(this.url(n));
      if (!response.ok) throw new Error(response.statusText);
      const bitmap = await createImageBitmap(await response.blob());
      if (this.closed) bitmap.close();
      else this.#keep(n, bitmap);
    } catch {
      this.failed.set(n, Date.now() + 700); // not made yet, or a lost connection: asked for again later
      if (!this.closed) setTimeout(() => this.arrived(n), 750);
    }
    this.active.delete(n);
    this.#pump();
  }

  #keep(n, bitmap) {
    this.cache.set(n, bitmap);
    this.size = bitmap.width * bitmap.height * 4;
    while (this.cache.size * this.size > BYTES) this.forget(this.cache.keys().next().value);
    this.arrived(n);
  }
}

// The number of the frame, a clock, and canvases to draw on. Dispatches "frame" when another one is shown, "state"
// when it starts or stops.
export class Player extends EventTarget {
  constructor(count, fps) {
    super();
    Object.assign(this, { count, fps, frame: 0, playing: false, layers: [], ahead: 1 });
  }

  // `layers`: [{canvas, frames}]; all are drawn at each frame.
  show(layers) {
    this.layers = layers;
    for (const layer of layers) layer.frames.arrived = (n) => this.#arrived(layer, n);
    this.seek(this.frame);
  }

  seek(n) {
    const next = Math.max(0, Math.min(this.count - 1, Math.round(n)));
    this.ahead = next < this.frame ? -1 : 1;
    this.frame = next;
    this.rest();
    this.#request();
    this.#draw();
    this.dispatchEvent(new Event("frame"));
  }

  step(by) {
    this.pause();
    this.seek(this.frame + by);
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  pause() {
    if (!this.playing) return;
    this.playing = false;
    this.rest();
    this.dispatchEvent(new Event("state"));
  }

  play() {
    if (this.playing || this.count < 2) return;
    this.playing = true;
    this.dispatchEvent(new Event("state"));
    let due = performance.now();
    const tick = (now) => {
      if (!this.playing) return;
      const interval = 1000 / this.fps;
      if (now >= due) {
        let next = this.frame + 1 + Math.floor((now - due) / interval); // frames the screen is too slow for are left out
        next = next >= this.count ? 0 : next;
        if (this.#complete(next)) {
          due = Math.max(due + interval, now - interval);
          this.seek(next);
        } else { // wait for it: nothing is skipped because a frame is late
          due = now;
          this.#request(this.frame + 1);
        }
      }
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  }

  // A while after the last change, a frame that stands is shown in more pixels, if there are.
  rest() {
    clearTimeout(this.resting);
    if (this.playing) return;
    this.resting = setTimeout(() => this.layers.forEach((layer) => this.#sharpen(layer, this.frame)), 350);
  }

  async #sharpen(layer, n) {
    const url = layer.frames.sharp(n);
    if (!url || !layer.frames.ready(n) || layer.sharp === url) return;
    try {
      const response = await fetch(url);
      if (!response.ok) return;
      const bitmap = await createImageBitmap(await response.blob());
      if (this.frame === n && !this.playing && this.layers.includes(layer)) {
        Object.assign(layer.canvas, { width: bitmap.width, height: bitmap.height });
        layer.canvas.getContext("2d").drawImage(bitmap, 0, 0);
        Object.assign(layer, { shown: n, sharp: url });
      }
      bitmap.close();
    } catch { /* the small one does */ }
  }

  refresh() {
    this.#request();
    this.#draw();
  }

  #complete(n) {
    return this.layers.every(({ frames }) => !frames.ready(n) || frames.cache.has(n));
  }

  #request(first = this.frame) {
    const numbers = [first];
    for (let k = 1; k <= Math.min(24, this.count - 1); k++) {
      numbers.push((first + k * this.ahead + this.count) % this.count);
    }
    numbers.push(Math.min(this.count - 1, Math.max(0, first - this.ahead)));
    for (const { frames } of this.layers) frames.request(numbers);
  }

  #arrived(layer, n) {
    if (!this.layers.includes(layer)) return;
    if (n === this.frame) {
      if (!layer.frames.cache.has(n)) layer.frames.request([n]);
      this.#draw();
    } else if (!this.playing && layer.frames.cache.has(n) && layer.shown !== this.frame
               && Math.abs(n - this.frame) < Math.abs((layer.shown ?? Infinity) - this.frame)) {
      this.#paint(layer, n); // while one scrubs: the nearest there is
    }
  }

  #draw() {
    for (const layer of this.layers) {
      if (!layer.frames.ready(this.frame)) this.#clear(layer); // also one that was kept: a mask that a mark replaces
      else if (layer.frames.cache.has(this.frame)) this.#paint(layer, this.frame);
    }
  }

  #clear(layer) {
    layer.canvas.getContext("2d").clearRect(0, 0, layer.canvas.width, layer.canvas.height);
    Object.assign(layer, { shown: undefined, sharp: "" });
    layer.drawn?.(undefined);
  }

  #paint(layer, n) {
    const { canvas, frames } = layer;
    if (layer.sharp && layer.shown === n) return;
    const context = canvas.getContext("2d");
    if (layer.sharp) Object.assign(canvas, { width: frames.get(n).width, height: frames.get(n).height });
    layer.sharp = "";
    if (layer.tint) layer.tint(context, frames.get(n));
    else context.drawImage(frames.get(n), 0, 0, canvas.width, canvas.height);
    layer.shown = n;
    layer.drawn?.(n);
  }
}
