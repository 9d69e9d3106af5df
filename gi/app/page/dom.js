// Elements without HTML strings: what comes from file names and servers becomes text, never markup.

const SVG = "http://www.w3.org/2000/svg";

// An element. `props`: properties, or attributes where the element has no such property; `onclick` and the like are
// listeners. `children`: elements, strings; null and false are left out.
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === null) continue;
    if (key === "class") node.className = value;
    else if (typeof value === "function") node.addEventListener(key.slice(2), value);
    else if (key in node && key !== "list" && key !== "form") node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

const ICONS = {
  play: "M7 4.5v15l12-7.5z", pause: "M7 5h4v14H7zM13.5 5h4v14h-4z",
  back: "M15 5v14l-9-7zM5 5h2v14H5z", forward: "M9 5v14l9-7zM17 5h2v14h-2z",
  brush: "M20.5 3.5c-3 1-8 5.5-10 8.5l2.5 2.5c3-2 6.5-7.5 7.5-11zM9.5 13.5c-2.5 0-3.5 2-3.5 3.5 0 1.5-1 2-2.5 2.5 2.5 1.5 7.5 1.5 8.5-3.5z",
  eraser: "M14.5 4l6 6-8 8.5H9L4 13.5zM4 20h16v1.5H4z",
  rectangle: "M4 6h16v12H4zM6 8v8h12V8z", picker: "M17 3l4 4-3.5 3.5 1 1-1.5 1.5-1.2-1.200L8 19.5 4 21l-.8-.8L4.5 16 12.3 8.2 11 7l1.5-1.5 1 1z",
  undo: "M8 5L3.5 9.5 8 14v-3.200h5.5a3.7 3.7 0 010 7.400H8V20h5.5a5.5 5.5 0 000-11H8z",
  redo: "M16 5l4.5 4.5L16 14v-3.200h-5.5a3.7 3.7 0 000 7.400H16V20h-5.5a5.5 5.5 0 010-11H16z",
  trash: "M9 3h6l1 2h4v2H4V5h4zM6 8.5h12L17 21H7z", download: "M11 3h2v9l3.5-3.5L18 10l-6 6-6-6 1.5-1.5L11 12zM4 18h16v2.5H4z",
  check: "M9.5 16.5L5 12l-1.7 1.7 6.2 6.200L21 8.400l-1.7-1.700z", close: "M6 4.5L12 10.5l6-6L19.5 6l-6 6 6 6-1.5 1.5-6-6-6 6L4.5 18l6-6-6-6z",
  eye: "M12 5C6.5 5 3 9.5 2 12c1 2.5 4.5 7 10 7s9-4.5 10-7c-1-2.5-4.5-7-10-7zm0 3.5a3.5 3.5 0 110 7 3.5 3.5 0 010-7z",
  point: "M5 3l14 8.5-6 1.5-3 6z",
};

// A picture of 18 pixels that only decorates; the control beside it carries the name.
export function icon(name) {
  return svg("svg", { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true" },
    svg("path", { d: ICONS[name], fill: "currentColor", "fill-rule": "evenodd" }));
}

// A button with a picture alone, its name for screen readers and as a hint. `key`: the key that does the same.
export function tool(name, label, onclick, { key = "", ...props } = {}) {
  const title = key ? `${label} (${key})` : label;
  return el("button", { type: "button", class: "tool", title, "aria-label": title, onclick, ...props }, icon(name));
}

// A line that goes away by itself; errors stay until they are closed. None is shown twice at a time.
export function note(text, kind = "info") {
  const notes = document.getElementById("notes");
  if ([...notes.children].some((line) => line.textContent === text)) return;
  const line = el("div", { class: `note ${kind}`, role: kind === "error" ? "alert" : undefined }, el("span", {}, text),
    tool("close", "Close this message", () => line.remove()));
  notes.append(line);
  if (kind !== "error") setTimeout(() => line.remove(), 6000);
}

// Runs `work`, showing its error as a note. Resolves to undefined after an error.
export async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    if (error.name === "AbortError") return undefined;
    note(error.message, "error");
    return undefined;
  }
}

// A function that does `work`, and nothing while that is at it: for buttons that somebody clicks twice.
export function once(work) {
  let busy = false;
  return async () => {
    if (busy) return;
    busy = true;
    try { await work(); } finally { busy = false; }
  };
}

// A dialog with `content`; resolves when it is closed, to the value of the button that closed it.
export function dialog(title, content, buttons = [["close", "Close"]]) {
  return new Promise((resolve) => {
    const box = el("dialog", { "aria-label": title, onclose: () => { resolve(box.returnValue); box.remove(); } },
      el("form", { method: "dialog" }, el("h2", {}, title), content, el("p", { class: "buttons" },
        buttons.map(([value, label, kind]) => el("button", { value, class: kind ?? "" }, label)))));
    document.body.append(box);
    box.showModal();
  });
}

// One of several choices, as buttons side by side. `options`: [value, label, hint]; `pick(value)`.
export function segmented(label, options, value, pick) {
  const buttons = options.map(([key, text, hint]) => el("button", {
    type: "button", role: "radio", "aria-checked": String(key === value), title: hint ?? "",
    onclick: () => { set(key); pick(key); } }, text));
  const set = (key) => options.forEach(([one], k) => buttons[k].setAttribute("aria-checked", String(one === key)));
  const group = el("div", { class: "segmented", role: "radiogroup", "aria-label": label }, buttons);
  group.set = set;
  return group;
}

export function plural(count, word) {
  return `${count} ${word}${count === 1 ? "" : "s"}`;
}

// 95 -> "1 min 35 s"; null -> "".
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "";
  if (seconds < 1) return "under a second";
  if (seconds < 100) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

// Whether a key is meant for a field or a dialog rather than for the screen.
export function typing(event) {
  return Boolean(event.target.closest?.("input:not([type=range], [type=radio], [type=color], [type=checkbox]), textarea, select, dialog"));
}
