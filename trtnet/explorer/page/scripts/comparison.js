"use strict";

// View 7: two builds, aligned by module path.
Page.comparison = (() => {
  const { el, name } = Page.dom;
  const { model, state } = Page;
  const { time, fixed, bytes, count, plural, UNKNOWN } = Page.format;
  const data = model.document;
  const found = () => data.comparison;
  let whole = false; // also the equal ones
  let sides = [];

  function load() {
    sides = data.builds.slice(0, 2).map((build) => {
      const network = model.network(build, 0);
      const gpu = Page.rows.gpu();
      for (const module of network.modules) {
        const bounds = module.below.map((kernel) => model.bound(kernel, gpu, state.values.rate));
        module.bound = bounds.includes(null) ? null : model.fsum(bounds.map((one) => one.bound));
        module.moved = model.sum(module.below.map((kernel) => kernel.read + kernel.written));
        module.macs = model.sum(module.below.map((kernel) => kernel.macs));
      }
      return network;
    });
  }

  function list() {
    const { modules } = found();
    return modules.path.map((path, at) => ({
      at, path, status: modules.status[at], differences: modules.differences[at] || [],
      a: sides[0].modules[modules.a[at]] || null, b: sides[1].modules[modules.b[at]] || null,
    })).filter((row) => whole || row.status !== "equal");
  }

  const change = (row, key) => (row.a && row.b && row.a[key] !== null && row.b[key] !== null ? row.b[key] - row.a[key] : null);
  function signed(value, digits) {
    const text = fixed(value === null ? null : Math.abs(value), digits);
    if (value === null || !/[1-9]/.test(text)) return text;
    return `${value > 0 ? "+" : "−"}${text}`;
  }
  const microOf = (row) => (row && row.bound !== null ? 1e6 * row.bound : null);

  const COLUMNS = [
    { key: "name", label: "module", width: 200, grow: 2, title: (row) => row.path, cell: (row) => name(row.path || "whole network") },
    { key: "status", label: "status", width: 90, cell: (row) => el("span", { class: `status ${row.status.replace(" ", "-")}` }, row.status) },
    { key: "a", label: "bound a", unit: "µs", width: 96, number: true, cell: (row) => fixed(microOf(row.a), 2) },
    { key: "b", label: "bound b", unit: "µs", width: 96, number: true, cell: (row) => fixed(microOf(row.b), 2) },
    { key: "delta", label: "change", unit: "µs", width: 96, number: true, cell: (row) => { const d = change(row, "bound"); return signed(d === null ? null : 1e6 * d, 2); } },
    { key: "moved", label: "moved", unit: "MB", width: 96, number: true, cell: (row) => { const d = change(row, "moved"); return signed(d === null ? null : d / 1e6, 3); } },
    { key: "macs", label: "MACs", unit: "M", width: 92, number: true, cell: (row) => { const d = change(row, "macs"); return signed(d === null ? null : d / 1e6, 1); } },
    { key: "count", label: "own differences", width: 124, number: true, cell: (row) => String(row.differences.length) },
  ];

  function differencesOf(row) {
    const all = found().differences;
    const shown = row ? row.differences : Array.from({ length: model.length(all) }, (_, at) => at);
    const title = row ? `Differences in ${Page.dom.shortened(row.path || "the network itself", 80)}` : "All differences";
    if (!shown.length) return el("p", { class: "note" }, row ? "The module's own layers are equal; select one below it." : "No layer differs.");
    const cell = (at, key) => name(model.value(all[key], at) ?? UNKNOWN, 200);
    return el("div", {}, Page.dom.table(title, ["layer", "what", "a", "b"],
      shown.slice(0, row ? 100 : 12).map((at) => [cell(at, "layer"), cell(at, "what"), cell(at, "a"), cell(at, "b")])),
    el("p", { class: "note" }, leftOut(shown.length, row)));
  }

  function leftOut(count, row) {
    const left = count - (row ? 100 : 12);
    if (left <= 0) return "";
    return row ? `and ${left} more, in the JSON` : `and ${left} more: select a module to see its own`;
  }

  function totals() {
    const [a, b] = sides.map((side) => side.modules[0]);
    const rows = [
      ["bound", time(a.bound), time(b.bound)], ["moved", bytes(a.moved), bytes(b.moved)],
      ["arithmetic", count(found().macs[0], "MAC"), count(found().macs[1], "MAC")],
      ["weights", found().parameters[0].toLocaleString("en-US"), found().parameters[1].toLocaleString("en-US")],
      ...found().layers.filter(([, x, y]) => x !== y).map(([type, x, y]) => [name(`layers ${type}`, 60), String(x), String(y)]),
      ...found().casts.map(([kind, x, y]) => [name(kind, 60), String(x), String(y)]),
    ];
    const title = `a: ${Page.dom.shortened(data.builds[0].name, 60)}, b: ${Page.dom.shortened(data.builds[1].name, 60)}`;
    return Page.dom.table(title, ["of the network", { text: "a", number: true }, { text: "b", number: true }], rows);
  }

  function create(panel) {
    if (!found() || data.builds.length < 2) {
      panel.append(el("p", { class: "lead" }, "This page shows one network: give trtnet explore a second one to compare them."));
      return;
    }
    load();
    const below = el("div", { role: "status" });
    const tops = el("div", {});
    const all = el("input", { type: "checkbox", on: { change: () => { whole = all.checked; grid.refresh(); } } });
    let chosen = null;
    const grid = Page.grid({
      label: "Modules of both networks", tree: false, columns: () => COLUMNS,
      rows: () => list().map((row) => ({ id: `c${row.at}`, row, level: 1, open: null })),
      isSelected: (item) => item.row.at === chosen?.at,
      onSelect: (item) => { chosen = item.row; grid.refresh(); below.replaceChildren(differencesOf(chosen)); },
    });
    const equal = found().modules.status.filter((status) => status === "equal").length;
    panel.append(
      el("p", { class: "lead" }, name(found().equal, 400), "."), tops,
      el("div", { class: "tools" }, el("label", {}, all, `show also the ${plural(equal, "module")} proved equal`)), grid.element, below);
    Page.printing(panel, () => ({ columns: COLUMNS, entries: grid.entries() }));
    const refresh = () => { tops.replaceChildren(totals()); grid.refresh(); };
    refresh();
    below.replaceChildren(differencesOf(null));
    state.listen((changed) => {
      if (!["gpu", "rate"].some((key) => changed.has(key))) return;
      load();
      refresh();
    });
  }

  return { create };
})();
