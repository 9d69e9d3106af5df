// The choice of a method: what it does, how long it takes here, or why it cannot run; and its settings.

import * as api from "./api.js";
import { duration, el } from "./dom.js";
import * as jobs from "./jobs.js";

export class MethodForm {
  constructor(work) {
    this.work = work;
    this.methods = work.state.methods.filter((one) => one.kinds.includes(work.project.kind));
    const last = jobs.ofProject(work.project.id).find((job) => job.kind === "run")?.method;
    const able = this.methods.filter((one) => one.available);
    this.chosen = (able.find((one) => one.name === last) ?? able[0] ?? this.methods[0])?.name;
    this.fields = new Map(); // by method: {option: input}
    this.cards = new Map();
    this.options = el("div", { class: "settings" });
    this.settings = el("details", { class: "more" }, el("summary", {}, "Settings"), this.options);
    this.node = el("fieldset", { class: "methods" }, el("legend", {}, "Method"), this.methods.map((one) => this.#card(one)), this.settings);
    this.#show();
    this.estimate();
  }

  get possible() { return Boolean(this.methods.find((one) => one.name === this.chosen)?.available); }

  label(name) { return this.work.state.methods.find((one) => one.name === name)?.label ?? name; }

  // What POST runs takes.
  values() {
    const options = {};
    for (const [name, input] of Object.entries(this.fields.get(this.chosen) ?? {})) {
      if (input.value !== "") options[name] = input.type === "number" ? Number(input.value) : input.value;
    }
    return { method: this.chosen, options };
  }

  update() {
    if (this.asked !== this.work.project.version) this.estimate();
  }

  // Asks the server how long each method would take. An estimate that does not arrive is no reason to stop.
  async estimate() {
    this.asked = this.work.project.version;
    const { method, options } = this.values();
    try {
      const estimates = await api.estimates(this.work.project.id, { method, ...options });
      for (const [name, { seconds, how }] of Object.entries(estimates)) {
        const card = this.cards.get(name);
        if (!card) continue;
        card.time.textContent = seconds ? `about ${duration(seconds)}` : "time unknown";
        card.time.title = how ?? "";
        card.how.textContent = how ?? "";
      }
    } catch { /* the times stay as they were */ }
  }

  #card(one) {
    const time = el("span", { class: "method-time faint" });
    const how = el("span", { class: "method-how faint" });
    const description = el("span", {}, one.description);
    const input = el("input", { type: "radio", name: "method", value: one.name, checked: one.name === this.chosen, disabled: !one.available,
      onchange: () => { this.chosen = one.name; this.#show(); this.estimate(); } });
    this.cards.set(one.name, { time, how, description });
    return el("label", { class: "method", "data-off": String(!one.available), title: one.description }, input, el("span", { class: "method-text" },
      el("span", { class: "method-line" }, el("strong", {}, one.label), time), description, how,
      one.available ? null : el("span", { class: "why-not" }, one.why_not)));
  }

  #show() {
    const one = this.methods.find((method) => method.name === this.chosen);
    if (one && !this.fields.has(one.name)) {
      this.fields.set(one.name, Object.fromEntries((one.options ?? []).map((option) => [option.name, this.#field(option)])));
    }
    const fields = this.fields.get(this.chosen) ?? {};
    this.options.replaceChildren(...(one?.options ?? []).map((option) =>
      el("p", {}, el("label", { for: `option-${option.name}` }, option.label), fields[option.name])));
    this.settings.hidden = !one?.options?.length;
    for (const [name, card] of this.cards) card.how.hidden = card.description.hidden = name !== this.chosen;
  }

  #field(option) {
    const id = `option-${option.name}`;
    const onchange = () => this.estimate();
    if (option.kind === "choice") {
      return el("select", { id, onchange }, option.choices.map((choice) => el("option", { value: choice, selected: choice === option.default }, String(choice))));
    }
    return el("input", { id, type: "number", class: "number", min: option.min ?? undefined, max: option.max ?? undefined,
      step: option.step ?? "any", value: option.default ?? "", placeholder: "auto", onchange });
  }
}
