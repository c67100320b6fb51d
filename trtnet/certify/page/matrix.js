"use strict";

// Layer types by precision, each cell with the state of the cases that have the type.
Page.matrix = (() => {
  const { el } = Page.dom;
  const SIGNS = { passed: "✓", differs: "≠", failed: "!", refused: "✕", built: "□", "not run": "–" };
  const WENT_WELL = ["passed", "built"];
  const EVERYWHERE = ["CAST", "CONSTANT"]; // beside the layers that a case is about

  const cssOf = (state) => `state state-${state.replace(" ", "-")}`;
  const sign = (state) => el("span", { class: cssOf(state), "aria-hidden": "true" }, SIGNS[state]);

  const firstDifference = (entry) => entry.tensors.find((tensor) => !tensor.passed);

  // The types that may be at fault for what became of a case: that of the first tensor to differ, since
  // what comes after has wrong inputs; otherwise those that went well in no other case of the precision.
  function blamed(entry, data) {
    if (WENT_WELL.includes(entry.state) || entry.state === "not run") return [];
    const first = firstDifference(entry);
    if (first && first.type) return [first.type];
    const well = new Set(data.cases
      .filter((other) => other.precision === entry.precision && WENT_WELL.includes(other.state))
      .flatMap((other) => other.types));
    const suspect = entry.types.filter((type) => !well.has(type));
    return suspect.length ? suspect : entry.types.filter((type) => !EVERYWHERE.includes(type));
  }

  const WORST_FIRST = ["differs", "failed", "refused", "passed", "built", "not run"];

  // `cases` have the type; `faults` maps each case to its blamed types.
  function stateOf(type, cases, faults) {
    const states = cases
      .filter((entry) => WENT_WELL.includes(entry.state) || entry.state === "not run" || faults.get(entry).includes(type))
      .map((entry) => entry.state);
    return WORST_FIRST.find((state) => states.includes(state)) || cases[0].state;
  }

  // `choose(type, precision)` is called for a cell.
  function create(data, precisions, choose) {
    const faults = new Map(data.cases.map((entry) => [entry, blamed(entry, data)]));
    const types = [...new Set(data.cases.flatMap((entry) => entry.types))].sort();
    const row = (type) =>
      el("tr", {}, el("th", { scope: "row" }, Page.dom.name(type)),
        precisions.map((precision) => {
          const found = data.cases.filter((entry) => entry.precision === precision && entry.types.includes(type));
          if (!found.length) return el("td", {});
          const state = stateOf(type, found, faults);
          const label = `${type} in ${precision}: ${state}, ${Page.format.plural(found.length, "case")}`;
          return el("td", {}, el("button", {
            type: "button", class: cssOf(state), "aria-label": label, title: label,
            on: { click: () => choose(type, precision) },
          }, SIGNS[state]));
        }));
    const left = Object.entries(data.uncovered).map(([type, reason]) =>
      el("tr", {}, el("th", { scope: "row" }, Page.dom.name(type)),
        el("td", { class: "reason", colspan: precisions.length }, `no case: ${reason}`)));
    return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Matrix of states" },
      el("table", { class: "matrix" },
        el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "layer type"),
          precisions.map((precision) => el("th", { scope: "col" }, precision)))),
        el("tbody", {}, types.map(row), left)));
  }

  return { create, cssOf, sign, firstDifference };
})();
