// The frame of the page: which screen the address asks for, the password, help. Everything after # is state.

import * as api from "./api.js";
import { dialog, el, typing } from "./dom.js";
import * as jobs from "./jobs.js";
import { photoScreen, photosScreen } from "./photos.js";
import { runsScreen } from "./runs.js";
import { startScreen } from "./start.js";
import { videoScreen } from "./video.js";

const main = document.getElementById("main");
const names = new Map(); // of projects, for the queue
let leave = null; // what the screen has to stop
let turn = 0;

const KEYS = [["Space", "play or stop"], ["← →", "one frame back or on; with Shift ten"], ["Home, End", "first or last frame"],
  ["B, E, R", "brush, eraser, rectangle; I takes a colour, for keyframes"], ["[ ]", "smaller or larger brush"], ["Ctrl Z, Ctrl Shift Z", "undo, redo"],
  ["Wheel, middle button, 0", "zoom in and out, move, the whole picture"], ["M", "show or hide the mask"], ["V", "the next view: paint, result, slider, side by side, slice through time"],
  ["?", "this help"]];

// The address: #/video/ID?frame=12 -> {parts: ["video", "ID"], values}.
function address() {
  const [place, query] = location.hash.replace(/^#\/?/, "").split("?");
  return { parts: place.split("/").filter(Boolean).map(decoded), values: new URLSearchParams(query ?? "") };
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch { // an address that somebody cut
    return part;
  }
}

// Replaces the values of the address without going anywhere, so that a reload comes back here.
function remember(values) {
  const { parts } = address();
  const query = new URLSearchParams(Object.entries(values).filter(([, value]) => value !== undefined && value !== null));
  history.replaceState(null, "", `#/${parts.map(encodeURIComponent).join("/")}${String(query) && "?" + query}`);
}

async function show() {
  const mine = ++turn;
  leave?.();
  leave = null;
  main.classList.remove("wide");
  main.replaceChildren(el("p", { class: "loading", role: "status" }, "Opening…"));
  const { parts, values } = address();
  markLink(parts[0]);
  document.getElementById("bar-title").textContent = "";
  try {
    const state = await api.state();
    await jobs.connect();
    const screen = { state, parts, values, remember, title, go: (hash) => { location.hash = hash; } };
    const made = await build(screen);
    if (mine !== turn) made.leave?.();
    else {
      leave = made.leave ?? null;
      main.classList.toggle("wide", Boolean(made.wide));
      main.replaceChildren(made.node);
      made.shown?.();
    }
  } catch (error) {
    if (mine === turn) main.replaceChildren(error.status === 401 ? loginForm() : failed(error));
  }
}

function build(screen) {
  const [kind, id] = screen.parts;
  if (kind === "video" && id) return videoScreen(screen, id);
  if (kind === "photo" && id) return photoScreen(screen, id);
  if (kind === "photos") return photosScreen(screen);
  if (kind === "runs") return runsScreen(screen);
  if (kind) throw new Error("There is no such page. Is a part of its address missing?");
  return startScreen(screen);
}

// `project`: whether the bar names it, too, as none of its links does.
function title(text, project = false) {
  document.getElementById("bar-title").textContent = project ? text : "";
  document.title = text ? `${text} · gi` : "gi";
}

function markLink(kind = "") {
  const now = { photo: "#/photos", photos: "#/photos", runs: "#/runs" }[kind] ?? "#/";
  for (const link of document.querySelectorAll("#bar nav a")) {
    if (link.getAttribute("href") === now) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function failed(error) {
  return el("div", { class: "empty", role: "alert" }, el("h1", {}, "This did not open"), el("p", {}, error.message),
    el("p", { class: "buttons" }, el("button", { type: "button", class: "primary", onclick: show }, "Try again"),
      el("a", { class: "button", href: "#/" }, "To the first page")));
}

function loginForm() {
  const word = el("input", { type: "password", id: "password", autocomplete: "current-password", required: true });
  const wrong = el("p", { class: "error", role: "alert" });
  const submit = async (event) => {
    event.preventDefault();
    try {
      await api.login(word.value);
      show();
    } catch (error) {
      wrong.textContent = error.message;
      word.select();
    }
  };
  return el("form", { class: "login card", onsubmit: submit }, el("h1", {}, "This machine is shared"),
    el("p", {}, "Whoever started gi app chose a password. Ask them for it."),
    el("label", { for: "password" }, "Password"), word, wrong,
    el("button", { class: "primary" }, "Log in"));
}

export function help() {
  return dialog("Keys", el("dl", { class: "keys" },
    KEYS.flatMap(([keys, action]) => [el("dt", {}, el("kbd", {}, keys)), el("dd", {}, action)])));
}

document.getElementById("bar-help").addEventListener("click", help);
document.addEventListener("keydown", (event) => {
  if (event.key === "?" && !typing(event)) help();
});
document.getElementById("bar-jobs").append(jobs.queueButton((id) => names.get(id)));
jobs.listen(({ project }) => project && names.set(project.id, project.name));
window.addEventListener("gi-projects", (event) => event.detail.forEach((project) => names.set(project.id, project.name)));
window.addEventListener("hashchange", () => {
  document.querySelectorAll("dialog").forEach((box) => box.close()); // they were about another screen, as were these
  document.getElementById("notes").replaceChildren();
  show();
});
window.addEventListener("gi-login", () => main.querySelector(".login") || main.replaceChildren(loginForm()));
show();
