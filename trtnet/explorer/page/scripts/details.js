"use strict";

// All that is known of the selected module or kernel, beside each view.
Page.details = (() => {
  const { el, name, button } = Page.dom;
  const { rows, state, model } = Page;
  const { time, bytes, count, fixed, percent } = Page.format;

  const shape = (build, tensor) =>
    `${(build.tensors.shape[tensor] || []).join("×") || "scalar"} ${model.value(build.tensors.dtype, tensor) || ""}`;

  function facts(row) {
    const list = [
      ["path", name(row.path || "(the network itself)", 12000)],
      [row.isModule ? "class" : "layer type", name(row.type || "not known")],
      ["products", Page.columns.chip(row.precision)],
      ["bound", `${time(row.bound)} (${percent(row.share)} of the network)`],
      ["of that", `products ${time(row.compute)}, memory ${time(row.memory)}`],
      ["limited by", row.limit],
      ["MACs", count(row.macs, "MAC")],
      ["weights", row.parameters.toLocaleString("en-US")],
      ["read, written", `${bytes(row.read)}, ${bytes(row.written)}`],
      ["intensity", `${fixed(row.intensity, 1)} FLOP/B`],
    ];
    if (row.time !== null) {
      list.push(["measured", `${time(row.time)}${row.least === null ? "" : `, at least ${time(row.least)}`}, ${fixed(row.gap, 2)} × the bound${row.estimated ? ", split by modelled cost" : ""}`]);
    }
    if (row.error2 !== null) list.push(["SQNR alone", `${fixed(Page.measured.decibels(row.error2), 2)} dB`]);
    if (row.marginal !== null) list.push(["marginal error²", row.marginal.toExponential(2)]);
    if (row.saved !== null) list.push(["saves alone", time(row.saved)]);
    return list.filter(([, text]) => text !== null && text !== undefined);
  }

  function moduleFacts(row, build) {
    const list = [["kernels", String(row.count)]];
    if (row.alone) list.push(["lowered alone", `${fixed(row.alone.sqnr, 2)} dB, saves ${time(row.alone.saved)}`]);
    if (row.casts !== null) list.push(["casts, Q/DQ", String(row.casts)]);
    if (row.policy) list.push(["policy", Page.columns.chip(row.policy)]);
    if (row.reason) list.push(["because", name(row.reason)]);
    const entry = build.precision?.entries?.[row.entry];
    if (entry) list.push(["policy line", name(`${entry.line}: ${entry.key || entry.where} = ${entry.value}`)]);
    return list;
  }

  function kernelFacts(row, build) {
    const at = build.layers.name.indexOf(row.path);
    const list = [];
    if (row.fused.length) list.push(["fused into it", row.fused.map((text) => el("div", {}, name(text)))]);
    if (at < 0) return list;
    const tensors = (ids) => ids.filter((id) => id >= 0).map((id) =>
      el("div", {}, name(build.tensors.name[id], 80), ` ${shape(build, id)}`));
    list.push(["inputs", tensors(build.layers.inputs[at])], ["outputs", tensors(build.layers.outputs[at])]);
    const attributes = model.value(build.layers.attributes, at) || {};
    for (const [key, value] of Object.entries(attributes)) {
      list.push([key, name(typeof value === "string" ? value : JSON.stringify(value), 300)]);
    }
    return list;
  }

  function draw(panel) {
    const row = rows.selected();
    panel.hidden = !row;
    if (!row) return panel.replaceChildren();
    const build = rows.build();
    const own = row.isModule ? moduleFacts(row, build) : kernelFacts(row, build);
    panel.replaceChildren(
      el("div", { class: "panelhead" },
        el("h2", {}, name(row.name, 120)),
        button("×", () => rows.select(null), { class: "close", "aria-label": "Close the details" })),
      el("dl", {}, [...facts(row), ...own].map(([term, text]) => [el("dt", {}, term), el("dd", {}, text)])),
      el("p", {}, state.values.view === "graph" ? "" : button("Show in the graph", () => state.set({ view: "graph" })))
    );
  }

  function create(panel) {
    draw(panel);
    state.listen((changed) => {
      const own = ["selected", "gpu", "rate", "precision", "view", "query", "type", "own", "brush"];
      if (own.some((key) => changed.has(key))) draw(panel);
    });
  }

  return { create, shape };
})();
