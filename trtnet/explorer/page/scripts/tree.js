"use strict";

// View 1: the module tree, or a flat list of kernels, with totals.
Page.tree = (() => {
  const { el, button, download } = Page.dom;
  const { rows, state, columns } = Page;
  let grid = null;
  let total = null;

  const numbers = (text) => new Set(text ? text.split(".").map(Number) : []);
  const depthOf = (value) => (value === "all" ? Infinity : Number(value || startDepth()));
  // As deep as stays readable without scrolling for long.
  function startDepth() {
    const { modules } = rows.network();
    let depth = 1;
    while (depth < 9 && modules.filter((row) => row.depth <= depth + 1).length <= 40) depth++;
    return depth >= 9 ? 1 : depth;
  }

  function isOpen(row, open, shut, depth) {
    if (open.has(row.module)) return true;
    if (shut.has(row.module)) return false;
    return row.depth < depth;
  }

  function sorted(list) {
    const [key, direction] = state.values.sort.split(" ");
    const column = columns.ALL.find((one) => one.key === key);
    if (!column) return list;
    const sign = direction === "up" ? 1 : -1;
    const value = key === "name" ? (row) => row.name : column.raw;
    return [...list].sort((a, b) => {
      const [x, y] = [value(a) ?? null, value(b) ?? null];
      if (x === null || y === null) return (x === null) - (y === null); // unknown values come last
      return sign * (typeof x === "number" ? x - y : String(x).localeCompare(String(y)));
    });
  }

  function entries() {
    if (state.values.layout === "flat") {
      const list = sorted(rows.shown());
      return list.map((row, at) => entry(row, 1, null, at + 1, list.length, true));
    }
    const [open, shut] = [numbers(state.values.open), numbers(state.values.shut)];
    const depth = depthOf(state.values.depth);
    const found = [];
    const stack = [[rows.network().modules[0], 1, 1, 1]];
    while (stack.length) {
      const [row, level, position, size] = stack.pop();
      const children = row.isModule ? sorted(row.children.filter(isShown)) : [];
      const opened = row.isModule && children.length ? isOpen(row, open, shut, depth) : null;
      found.push(entry(row, level, opened, position, size, false));
      if (!opened) continue;
      for (let at = children.length - 1; at >= 0; at--) {
        stack.push([children[at], level + 1, at + 1, children.length]);
      }
    }
    return found;
  }

  const isShown = (row) =>
    row.isModule ? row.visible.length > 0 || !rows.filtered() : row.passes;
  const entry = (row, level, open, position, size, full) =>
    ({ id: row.id, row, level, open, position, size, full, kind: row.isModule ? "module" : "kernel" });

  function setOpen(item, open) {
    const [opened, shut] = [numbers(state.values.open), numbers(state.values.shut)];
    const { module } = item.row;
    opened.delete(module);
    shut.delete(module);
    (open ? opened : shut).add(module);
    state.set({ open: [...opened].join("."), shut: [...shut].join(".") });
  }

  // Opens what hides the selected row, then scrolls to it.
  function reveal() {
    const row = rows.selected();
    if (!row) return;
    if (state.values.layout !== "flat") {
      const [opened, shut] = [numbers(state.values.open), numbers(state.values.shut)];
      for (let at = row.parent; at >= 0; at = rows.network().modules[at].parent) {
        shut.delete(at);
        if (!isOpen(rows.network().modules[at], opened, shut, depthOf(state.values.depth))) opened.add(at);
      }
      state.set({ open: [...opened].join("."), shut: [...shut].join(".") });
    }
    grid.reveal(row.id);
  }

  function exported(kind) {
    const [format, type, extension] = {
      CSV: [Page.exports.csv, "text/csv", "csv"], JSON: [Page.exports.json, "application/json", "json"],
      LaTeX: [Page.exports.latex, "text/x-tex", "tex"],
    }[kind];
    const text = format(columns.present(), grid.entries().map((item) => item.row));
    download(`modules.${extension}`, `${type};charset=utf-8`, text);
  }

  function toolbar() {
    const depth = el("select", { id: "depth", on: { change: () => state.set({ depth: depth.value, open: "", shut: "" }) } });
    const deepest = Math.max(...rows.network().modules.map((row) => row.depth)) + 1;
    const levels = Array.from({ length: deepest }, (_, at) => [String(at + 1), String(at + 1)]);
    Page.dom.options(depth, [["", `${startDepth()} (fits)`], ...levels, ["all", "all"]], state.values.depth);
    const layout = el("select", { id: "layout", on: { change: () => state.set({ layout: layout.value }) } });
    Page.dom.options(layout, [["tree", "tree of modules"], ["flat", "list of layers"]], state.values.layout);
    return el("div", { class: "tools" },
      el("label", {}, "Rows ", layout), el("label", {}, "Open to depth ", depth),
      el("span", { class: "push" }),
      el("span", { class: "label" }, "Rows in view as"),
      ["CSV", "JSON", "LaTeX"].map((kind) => button(kind, () => exported(kind), { data: { export: kind } })));
  }

  function create(panel) {
    grid = Page.grid({
      label: "Modules and layers", tree: true, columns: columns.present, rows: entries, onOpen: setOpen,
      onSelect: (item) => rows.select(item.row),
      isSelected: (item) => rows.keyOf(item.row) === state.values.selected,
      onSort: (sort) => state.set({ sort }),
      onKey: (key, item) => key === "*" && (openSiblings(item), true),
    });
    total = el("p", { class: "totals", role: "status" });
    panel.append(toolbar(), grid.element, total);
    Page.printing(panel, () => ({ columns: columns.present(), entries: grid.entries() }));
    update();
    state.listen((changed) => {
      const own = ["sort", "layout", "depth", "open", "shut", "query", "type", "own", "gpu", "rate",
        "precision", "brush", "selected", "view"];
      if (panel.hidden || !own.some((key) => changed.has(key))) return;
      update();
      if (changed.has("selected") || changed.has("view")) reveal();
    });
    reveal();
  }

  function openSiblings(item) {
    const opened = numbers(state.values.open);
    const parent = rows.network().modules[item.row.parent];
    for (const row of parent ? parent.children : [item.row]) if (row.isModule) opened.add(row.module);
    state.set({ open: [...opened].join(".") });
  }

  function update() {
    grid.setSort(state.values.sort);
    grid.refresh();
    const sum = rows.total(rows.shown());
    const root = rows.network().modules[0];
    const { time, bytes, count, plural } = Page.format;
    const all = rows.network().kernels.length;
    total.textContent = `${rows.filtered() ? `${sum.count} of ${plural(all, "kernel")}` : plural(all, "kernel")}: ` +
      `${count(sum.macs, "MAC")}, ${count(sum.parameters)} weights, ${bytes(sum.read + sum.written)} moved, ` +
      `bound ${time(sum.bound)} on ${rows.gpu()?.name ?? "no GPU"} in ${rows.network().variant.label}` +
      `${root.time === null ? "" : `, measured ${time(root.time)}`}.`;
  }

  return { create };
})();
