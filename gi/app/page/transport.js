// Under the picture: play, step, the bar to scrub, and what lies on which frame.

import { el, svg, tool } from "./dom.js";

const clock = (seconds) => `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(2).padStart(5, "0")}`;

export class Transport {
  constructor(player) {
    this.player = player;
    const last = player.count - 1;
    this.play = tool("play", "Play", () => player.toggle(), { key: "Space" });
    this.stop = tool("pause", "Stop", () => player.toggle(), { key: "Space", hidden: true });
    this.bar = el("input", { type: "range", min: 0, max: last, value: 0, class: "scrub", "aria-label": "Frame", onpointerup: () => this.bar.blur(),
      oninput: () => { player.pause(); player.seek(Number(this.bar.value)); } });
    this.number = el("input", { type: "number", min: 0, max: last, value: 0, class: "number", "aria-label": "Number of the frame",
      onchange: () => { player.pause(); player.seek(Number(this.number.value) || 0); } });
    this.time = el("span", { class: "time faint" });
    this.strip = svg("svg", { class: "strip", viewBox: `0 0 ${player.count} 10`, preserveAspectRatio: "none", "aria-hidden": "true" });
    this.legend = el("p", { class: "legend faint" });
    this.node = el("div", { class: "transport" },
      el("div", { class: "transport-line" }, this.play, this.stop,
        tool("back", "One frame back", () => player.step(-1), { key: "←" }),
        tool("forward", "One frame on", () => player.step(1), { key: "→" }),
        el("label", { class: "number-of" }, this.number, ` of ${last}`), this.time,
        el("div", { class: "scrub-box" }, this.bar, this.strip)),
      this.legend);
    player.addEventListener("frame", () => this.#frame());
    player.addEventListener("state", () => {
      this.play.hidden = player.playing;
      this.stop.hidden = !player.playing;
    });
    this.#frame();
  }

  #frame() {
    const { frame, fps } = this.player;
    this.bar.value = frame;
    if (document.activeElement !== this.number) this.number.value = frame;
    this.time.textContent = clock(frame / fps);
  }

  // What lies where: numbers of marked frames and of keyframes, ranges [first, stop] of finished frames, and the
  // range of frames that can be looked at already.
  show({ marks, keyframes, ready, proxies }) {
    const { count } = this.player;
    const wide = Math.max(1, count / 160);
    const at = (n, kind) => svg("rect", { class: kind, x: Math.max(0, n + 0.5 - wide / 2), y: 0, width: wide, height: 10 });
    this.strip.replaceChildren(
      ...ready.map(([first, stop]) => svg("rect", { class: "ready", x: first, y: 6, width: stop - first, height: 4 })),
      ...(proxies < count ? [svg("rect", { class: "missing", x: proxies, y: 0, width: count - proxies, height: 10 })] : []),
      ...marks.map((n) => at(n, "mark")), ...keyframes.map((n) => at(n, "key")));
    const words = [[marks.length, "mark", "painted"], [keyframes.length, "key", "keyframes"], [ready.length, "ready", "finished"],
      [proxies < count, "missing", `still being read (${Math.floor(100 * proxies / count)} %)`]];
    this.legend.replaceChildren(...words.filter(([any]) => any).map(([, kind, text]) =>
      el("span", {}, el("i", { class: `swatch ${kind}` }), text)));
  }
}
