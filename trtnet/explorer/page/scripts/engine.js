"use strict";

// View 6: the layers of an engine, or of a profile, attributed to modules.
Page.engine = (() => {
  const { el, name } = Page.dom;
  const { rows, state, model, columns } = Page;
  const { time, fixed, percent, plural, UNKNOWN } = Page.format;
  const engine = () => rows.build().engine;

  function rowsOf() {
    const { layers, total_s: total } = engine();
    return layers.name.map((text, at) => ({
      at, text, type: model.value(layers.type, at), precision: model.value(layers.precision, at), tactic: model.value(layers.tactic, at),
      time: model.value(layers.time_s, at), members: layers.members[at] || [], shares: layers.shares[at] || [],
      estimated: layers.estimated[at], opaque: layers.opaque[at], total,
    }));
  }

  function homes(row) {
    const { modules } = rows.network();
    return row.shares.map(([module, share]) => `${modules[module]?.path || "whole network"} ${percent(share, 0)}`).join(", ");
  }

  const COLUMNS = [
    { key: "name", label: "engine layer", width: 220, grow: 2, title: (row) => row.text, cell: (row) => name(row.text) },
    { key: "time", label: "time", unit: "µs", width: 86, number: true, cell: (row) => fixed(row.time === null ? null : 1e6 * row.time, 2) },
    { key: "share", label: "share", unit: "%", width: 74, number: true, cell: (row) => fixed(row.time === null || !row.total ? null : (100 * row.time) / row.total, 1) },
    { key: "precision", label: "precision", width: 84, cell: (row) => columns.chip(row.precision) },
    { key: "type", label: "type", width: 120, grow: 0.6, cell: (row) => name(row.type || UNKNOWN, 60) },
    { key: "members", label: "layers in it", width: 96, number: true, cell: (row) => String(row.members.length) },
    { key: "modules", label: "modules and their shares", width: 240, grow: 2, title: homes, cell: (row) =>
      el("span", { class: row.estimated ? "estimated" : "" }, name((row.estimated ? "estimated: " : "") + homes(row), 300)) },
    { key: "tactic", label: "tactic", width: 140, grow: 0.8, title: (row) => row.tactic || "", cell: (row) => name(row.tactic || UNKNOWN, 100) },
  ];

  // Time by module: what the engine says, and what is split by modelled cost.
  function byModule() {
    const { modules } = rows.network();
    const sums = new Map();
    for (const row of rowsOf()) {
      if (row.time === null) continue;
      if (!row.shares.length) sums.set(-1, { seconds: (sums.get(-1)?.seconds || 0) + row.time, estimated: false });
      for (const [module, share] of row.shares) {
        const sum = sums.get(module) || { seconds: 0, estimated: false };
        sum.seconds += share * row.time;
        sum.estimated ||= row.estimated;
        sums.set(module, sum);
      }
    }
    return [...sums].sort((a, b) => b[1].seconds - a[1].seconds).slice(0, 30).map(([module, sum]) => {
      const row = modules[module] || { path: "no module's", isModule: true };
      return {
        name: row.path || row.name, start: 0, end: sum.seconds, text: `${fixed(1e6 * sum.seconds, 2)} µs`, value: row, tint: "fp16", hatched: sum.estimated,
        selected: rows.keyOf(row) === state.values.selected,
        label: `${Page.dom.shortened(row.path || row.name, 80)}: ${time(sum.seconds)}${sum.estimated ? ", estimated in part" : ""}`,
      };
    });
  }

  function create(panel) {
    const found = engine();
    if (!found) {
      panel.append(el("p", { class: "lead" }, "No engine's layers and no profile are in this page: give the engine's layer information or a profile to trtnet explore to see them."));
      return;
    }
    const estimated = rowsOf().filter((row) => row.estimated).length;
    panel.append(
      found.unproved ? el("p", { class: "banner warning" }, "Unproved: this format is read as NVIDIA's documentation describes it; no such file of a real engine was seen in the making of this program.") : "",
      el("p", { class: "lead" }, name(`${found.format}, ${found.source}. ${plural(found.layers.name.length, "layer")}` +
        `${found.total_s === null || found.total_s === undefined ? "" : `, ${time(found.total_s)} in all`}. ${plural(estimated, "layer")} split by modelled cost (hatched).`, 800)));
    const bars = byModule().length ? Page.bars({
      title: "Time by module", file: "engine", note: "The largest 30. Hatched: at least one layer in it was split by modelled cost.",
      rows: byModule, onSelect: (mark) => mark.value.module !== undefined && rows.select(mark.value),
    }) : null;
    const grid = Page.grid({
      label: "Layers of the engine", tree: false, columns: () => COLUMNS,
      rows: () => rowsOf().map((row) => ({ id: `e${row.at}`, row, level: 1, open: null, kind: row.opaque ? "opaque" : "" })),
      onSelect: (item) => { const home = item.row.shares[0]; if (home) rows.select(rows.network().modules[home[0]]); },
    });
    panel.append(bars ? bars.element : "", grid.element);
    Page.printing(panel, () => ({ columns: COLUMNS, entries: grid.entries() }));
    grid.refresh();
    state.listen((changed) => {
      if (panel.hidden) return;
      if (["selected", "view", "precision"].some((key) => changed.has(key))) { bars?.refresh(); grid.refresh(); }
    });
  }

  return { create };
})();
