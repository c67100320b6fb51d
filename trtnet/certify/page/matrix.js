"use strict";

// Layer types by precision, each cell with the state of the cases that have the type.
Page.matrix = (() => {
  const { el } = Page.dom;
  const SIGNS = { passed: "✓", differs: "≠", failed: "!", refused: "✕", built: "□", "not run": "–" };
  const WORST = ["failed", "refused", "built", "not run"];

  const cssOf = (state) => `state state-${state.replace(" ", "-")}`;
  const sign = (state) => el("span", { class: cssOf(state), "aria-hidden": "true" }, SIGNS[state]);

  const firstDifference = (entry) => entry.tensors.find((tensor) => !tensor.passed);

  // A type differs where a tensor that a layer of it computes is the first to differ: what
  // comes after has wrong inputs.
  function stateOf(type, cases) {
    const differs = cases.some((entry) => entry.state === "differs" && (firstDifference(entry) || {}).type === type);
    if (differs) return "differs";
    if (cases.some((entry) => entry.state === "passed")) return "passed";
    return WORST.find((state) => cases.some((entry) => entry.state === state)) || "differs";
  }

  // `choose(type, precision)` is called for a cell.
  function create(data, precisions, choose) {
    const types = [...new Set(data.cases.flatMap((entry) => entry.types))].sort();
    const row = (type) =>
      el("tr", {}, el("th", { scope: "row" }, Page.dom.name(type)),
        precisions.map((precision) => {
          const found = data.cases.filter((entry) => entry.precision === precision && entry.types.includes(type));
          if (!found.length) return el("td", {});
          const state = stateOf(type, found);
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
