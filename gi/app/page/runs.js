// Training runs of a folder: curves, grids of pictures and reports, as they lie there as files.

import * as api from "./api.js";
import { attempt, el, plural, svg } from "./dom.js";

export async function runsScreen({ parts, title, go, values, remember }) {
  title("Runs");
  const { folder, runs } = await api.runs();
  const name = parts.slice(1).join("/");
  const known = runs.find((run) => run.name === name);
  const list = el("nav", { class: "run-list", "aria-label": "Runs" }, el("h1", {}, "Training runs"),
    el("p", { class: "faint" }, folder ? `In ${folder}` : ""),
    runs.length ? el("ul", {}, runs.map((run) => el("li", {}, el("a", { href: `#/runs/${encodeURIComponent(run.name)}`,
      "aria-current": run === known ? "page" : undefined }, el("strong", {}, run.name),
    el("span", { class: "faint" }, line(run)))))) : null);
  if (!runs.length) {
    return { node: el("div", { class: "empty" }, el("h1", {}, "No training runs"), el("p", {},
      folder ? `${folder} has none yet. gi train writes them there.` : "Start the page with gi app --runs FOLDER, the folder that gi train writes to."),
    el("button", { type: "button", onclick: () => window.dispatchEvent(new Event("hashchange")) }, "Look again")) };
  }
  if (!known && name) return { node: el("div", { class: "runs" }, list, el("p", { class: "empty" }, `${name}: no such run.`)) };
  if (!known) {
    go(`#/runs/${encodeURIComponent(runs[0].name)}`);
    return { node: list };
  }
  return { node: el("div", { class: "runs" }, list, page(known, values, remember)) };
}

function line(run) {
  const steps = run.steps === null || run.steps === undefined ? "" : `${run.steps.toLocaleString()} steps · `;
  return `${steps}${run.running ? "running" : new Date(run.modified * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "short" })}`;
}

function page(run, values, remember) {
  const images = run.images.slice().reverse();
  const big = el("img", { class: "grid-image", alt: "" });
  const caption = el("figcaption", { class: "faint" });
  const choose = el("input", { type: "range", min: 0, max: Math.max(0, images.length - 1), value: images.length - 1, "aria-label": "Which of the pictures",
    oninput: () => show(images.length - 1 - Number(choose.value)) });
  const show = (k) => {
    big.src = api.runFileUrl(run.name, images[k]);
    caption.textContent = images[k];
  };
  if (images.length) show(0);
  const tags = run.curves;
  const first = [...tags.filter((tag) => /^(train|val)\b/.test(tag)), ...tags].slice(0, 4);
  const shown = new Set((values.get("curves")?.split(",") ?? first).filter((tag) => tags.includes(tag)));
  const plots = el("div", { class: "plots" });
  const draw = () => {
    plots.replaceChildren(...[...shown].map((tag) => plot(run.name, tag)));
    remember({ curves: [...shown].join(",") });
  };
  const groups = new Map(); // by what is before the last slash
  for (const tag of tags) {
    const cut = tag.lastIndexOf("/");
    const group = tag.slice(0, Math.max(cut, 0));
    groups.set(group, [...(groups.get(group) ?? []), [tag, tag.slice(cut + 1)]]);
  }
  const tick = (tag) => (event) => {
    if (event.target.checked) shown.add(tag);
    else shown.delete(tag);
    draw();
  };
  const picks = el("div", { class: "tags" }, [...groups].map(([group, entries]) => el("fieldset", {}, el("legend", {}, group || "run"),
    entries.map(([tag, short]) => el("label", {}, el("input", { type: "checkbox", checked: shown.has(tag), onchange: tick(tag) }), ` ${short}`)))));
  draw();
  return el("section", { class: "run" }, el("h2", {}, run.name), el("p", { class: "faint" }, line(run)),
    run.has_report ? el("p", {}, el("a", { class: "button", href: api.reportUrl(run.name), target: "_blank", rel: "noopener" }, "Open the report"))
      : el("p", { class: "faint" }, "No report yet: gi test and gi evaluate write one."),
    tags.length ? picks : el("p", { class: "faint" }, "No curves yet."), plots,
    images.length ? el("figure", {}, el("h3", {}, plural(images.length, "picture")), images.length > 1 ? choose : null,
      el("a", { href: big.src, target: "_blank", rel: "noopener", onclick: (event) => { event.currentTarget.href = big.src; } }, big), caption)
      : el("p", { class: "faint" }, "No pictures yet."));
}

// One curve: a figure with axes; the value under the pointer is written in its caption.
function plot(name, tag) {
  const value = el("span", { class: "faint" });
  const box = el("figure", { class: "plot card" }, el("figcaption", {}, el("strong", {}, tag), value), el("p", { class: "loading" }, "Reading…"));
  attempt(async () => {
    const { points } = await api.curve(name, tag);
    box.lastChild.replaceWith(points.length ? chart(points, value) : el("p", { class: "faint" }, "No values."));
  });
  return box;
}

const WIDTH = 480, HEIGHT = 200, LEFT = 52, RIGHT = 8, TOP = 8, BOTTOM = 22;

function chart(points, value) {
  const finite = points.filter(([, y]) => Number.isFinite(y));
  const span = (numbers) => { // evenly wide where all are equal
    const low = Math.min(...numbers), high = Math.max(...numbers);
    return low === high ? [low - 0.5, high + 0.5] : [low, high];
  };
  const short = (number) => Math.abs(number) >= 1e5 || (number && Math.abs(number) < 1e-3) ? number.toExponential(1) : String(Number(number.toPrecision(4)));
  if (finite.length === 1) return el("p", { class: "one-value" }, short(finite[0][1]), el("span", { class: "faint" }, ` at step ${finite[0][0]}`));
  if (!finite.length) return el("p", { class: "faint" }, "No finite values.");
  const [x0, x1] = span(finite.map(([x]) => x)), [y0, y1] = span(finite.map(([, y]) => y));
  const x = (step) => LEFT + (step - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT);
  const y = (one) => HEIGHT - BOTTOM - (one - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM);
  const dot = svg("circle", { r: 3.5, class: "dot", visibility: "hidden" });
  const at = (share) => [y0 + share * (y1 - y0), x0 + share * (x1 - x0)];
  const graph = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "chart", role: "img",
    "aria-label": `From ${short(finite[0][1])} at step ${finite[0][0]} to ${short(finite.at(-1)[1])} at step ${finite.at(-1)[0]}` },
  ...[0, 0.5, 1].flatMap((share) => [
    svg("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(at(share)[0]), y2: y(at(share)[0]) }),
    svg("text", { x: LEFT - 6, y: y(at(share)[0]) + 4, "text-anchor": "end" }, short(at(share)[0])),
    svg("text", { x: x(at(share)[1]), y: HEIGHT - 6, "text-anchor": ["start", "middle", "end"][2 * share] }, short(Math.round(at(share)[1])))]),
  svg("polyline", { class: "curve", points: finite.map(([step, one]) => `${x(step).toFixed(1)},${y(one).toFixed(1)}`).join(" ") }), dot);
  graph.addEventListener("pointermove", (event) => {
    const box = graph.getBoundingClientRect();
    const step = x0 + ((event.clientX - box.left) / box.width * WIDTH - LEFT) / (WIDTH - LEFT - RIGHT) * (x1 - x0);
    const near = finite.reduce((best, one) => (Math.abs(one[0] - step) < Math.abs(best[0] - step) ? one : best));
    value.textContent = ` ${short(near[1])} at step ${near[0]}`;
    for (const [key, one] of [["cx", x(near[0])], ["cy", y(near[1])], ["visibility", "visible"]]) dot.setAttribute(key, one);
  });
  return graph;
}
