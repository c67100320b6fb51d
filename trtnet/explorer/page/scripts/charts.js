"use strict";

// View 2: charts that select and filter the same rows as the tree.
Page.charts = (() => {
  const { el, name, button } = Page.dom;
  const { rows, state, model, columns } = Page;
  const { time, fixed, significant, plural, percent } = Page.format;
  const MOST_BARS = 40;
  const MOST_STAGES = 26;
  const MOST_BEFORE_JOINING = 400;

  const absent = (title, text) =>
    el("figure", { class: "card" }, el("figcaption", { class: "panelhead" }, el("h2", {}, title)), el("p", { class: "note" }, text));

  function legend() {
    const used = new Set(rows.network().kernels.map((row) => row.precision).filter(Boolean));
    return el("p", { class: "legend" }, [...used].map((key) => columns.chip(key)));
  }

  // ---- error of a module alone against what it saves
  function sensitivity() {
    const title = "Error against time saved";
    const list = () => rows.network().modules.filter((row) => row.alone && row.alone.sqnr !== null && row.alone.saved !== null);
    if (!list().length) return null;
    return Page.scatter({
      title, file: "sensitivity", note: "Each module lowered alone: the best candidates are at the top right. Drag to filter everything.",
      axes: () => ({
        x: { label: "bound saved, µs", zero: true, format: (v) => significant(v), values: list().map((row) => 1e6 * row.alone.saved) },
        y: { label: "SQNR, dB", format: (v) => significant(v), values: list().map((row) => row.alone.sqnr) },
      }),
      points: () => list().map((row) => ({
        x: 1e6 * row.alone.saved, y: row.alone.sqnr, value: row, tint: columns.tint(row.precision), symbol: row.precision, size: 60,
        dim: row.visible.length === 0, selected: rows.keyOf(row) === state.values.selected,
        label: `${Page.dom.shortened(row.path, 80)}: ${fixed(row.alone.sqnr, 1)} dB, saves ${time(row.alone.saved)}`,
      })).sort((a, b) => a.x - b.x),
      onSelect: (mark) => rows.select(mark.value),
      onBrush: (points) => state.brush(points && new Set(points.flatMap(({ value }) => value.below.map((k) => k.kernel)))),
    });
  }

  // ---- trials of a search
  function trials() {
    const found = rows.build().precision?.trials;
    if (!model.length(found)) return null;
    const at = Array.from({ length: model.length(found) }, (_, row) => row)
      .filter((row) => model.value(found.sqnr_db, row) !== null);
    const front = at.filter((row) => found.front[row]).sort((a, b) => found.seconds[a] - found.seconds[b]);
    const shown = el("div", { class: "trial", role: "status" }, el("p", { class: "note" }, "Select a trial to see what it changes."));
    let chosen = rows.build().precision.best ?? -1;
    const plot = Page.scatter({
      title: "Trials of the search", file: "trials", after: [shown],
      note: "Each point is a mix that was measured; the line joins those that no other beats in both.",
      axes: () => ({
        x: { label: "least time, µs", format: (v) => significant(v, 4), values: at.map((row) => 1e6 * found.seconds[row]) },
        y: { label: "SQNR, dB", format: (v) => significant(v), values: at.map((row) => found.sqnr_db[row]) },
      }),
      under: (layer, sx, sy) => {
        const path = d3.line((row) => sx(1e6 * found.seconds[row]), (row) => sy(found.sqnr_db[row]))(front);
        if (path) layer.append(Page.dom.svg("path", { d: path, class: "front" }));
      },
      points: () => at.map((row) => ({
        x: 1e6 * found.seconds[row], y: found.sqnr_db[row], value: row, tint: found.front[row] ? "fp16" : "other",
        symbol: found.front[row] ? "fp16" : "int8", size: 70, selected: row === chosen,
        label: `trial ${row}: ${plural(found.changed[row].length, "module")} changed, ${fixed(found.sqnr_db[row], 1)} dB, ${time(found.seconds[row])}`,
      })).sort((a, b) => a.x - b.x),
      onSelect: (mark) => { chosen = mark.value; plot.refresh(); tell(); },
    });
    function tell() {
      if (chosen < 0) return;
      const { modules } = rows.network();
      const changed = found.changed[chosen];
      shown.replaceChildren(
        el("h3", {}, `Trial ${chosen}: ${plural(changed.length, "module")} in ${rows.build().precision.to ?? "the lower precision"}`),
        el("ul", { class: "names", tabindex: 0, "aria-label": "changed modules" }, changed.slice(0, 60).map((row) =>
          el("li", {}, button(Page.dom.shortened(modules[row].path, 80), () => rows.select(modules[row]), { class: "link" })))),
        changed.length > 60 ? el("p", { class: "note" }, `and ${changed.length - 60} more`) : "",
        button("Start the what-if from it", () => state.set({ low: changed.join(".") || "none", view: "precision" })));
    }
    tell();
    return plot;
  }

  // ---- where the time of the bound goes
  function stages() {
    const { modules } = rows.network();
    const visit = (module) => module.children.flatMap((child) => (child.isModule && !child.count ? [] : [child]));
    let list = visit(modules[0]);
    for (;;) { // opens the largest module while the list stays short
      const open = list.filter((row) => row.isModule && row.children.length)
        .sort((a, b) => (b.bound || 0) - (a.bound || 0)).find((row) => list.length + visit(row).length - 1 <= MOST_STAGES);
      if (!open) break;
      list = list.flatMap((row) => (row === open ? visit(row) : [row]));
    }
    return joined(list.filter((row) => row.bound !== null && (row.isModule ? row.visible.length : row.passes)));
  }

  // Neighbours that take little become one bar where there are too many.
  function joined(list) {
    const chunk = Math.ceil(list.length / MOST_BEFORE_JOINING);
    const groups = d3.range(0, list.length, chunk || 1).map((at) => list.slice(at, at + chunk));
    const sums = groups.map((group) => model.sum(group.map((row) => row.bound)));
    while (groups.length > MOST_STAGES) {
      const at = d3.minIndex(groups.slice(1), (_, left) => sums[left] + sums[left + 1]);
      groups.splice(at, 2, [...groups[at], ...groups[at + 1]]);
      sums.splice(at, 2, sums[at] + sums[at + 1]);
    }
    return groups;
  }

  function stage(group, start) {
    const bound = model.fsum(group.map((row) => row.bound));
    const limits = new Set(group.map((row) => row.limit));
    const limit = limits.size === 1 ? group[0].limit : "both";
    const many = group.length > 1;
    const first = group[0].path || group[0].name;
    return {
      name: many ? `${first} and ${group.length - 1} more` : first, start, end: start + bound, text: `${fixed(1e6 * bound, 2)} µs`,
      value: group[0], tint: { compute: "fp16", memory: "int8" }[limit] || "mixed",
      selected: group.some((row) => rows.keyOf(row) === state.values.selected),
      label: `${Page.dom.shortened(first, 80)}${many ? ` to ${Page.dom.shortened(group.at(-1).path, 80)}` : ""}: ${time(bound)}, ` +
        `${percent(model.sum(group.map((row) => row.share)))}, limited by ${limit}`,
    };
  }

  function waterfall() {
    return Page.bars({
      title: "Where the bound goes", file: "waterfall",
      note: "From the first layer to the last; blue: limited by arithmetic, brown: by memory, violet: by both in turn.",
      rows: () => {
        let start = 0;
        return stages().map((group) => {
          const made = stage(group, start);
          start = made.end;
          return made;
        });
      },
      onSelect: (mark) => rows.select(mark.value),
    });
  }

  // ---- the error budget of the mix that a search found
  function errorBudget() {
    const { precision } = rows.build();
    const best = precision?.trials && precision.best !== null && precision.best !== undefined
      ? precision.trials.changed[precision.best] : null;
    const { modules } = rows.network();
    const list = (best || []).map((row) => modules[row]).filter((row) => row.alone && row.alone.rel !== null)
      .sort((a, b) => b.alone.rel - a.alone.rel);
    if (!list.length) return null;
    const limit = errorLimit(precision.budget);
    return Page.bars({
      title: "Error budget of the mix found", file: "error-budget",
      note: `Prediction: squared relative errors of the changed modules, added up, the largest ${Math.min(MOST_BARS, list.length)} of ${list.length}.` +
        (limit === null ? "" : " The line is the budget."),
      limit: () => limit,
      rows: () => {
        let start = 0;
        return list.slice(0, MOST_BARS).map((row) => {
          const made = {
            name: row.path, start, end: start + row.alone.rel ** 2, text: (row.alone.rel ** 2).toExponential(1), value: row, tint: "int8",
            selected: rows.keyOf(row) === state.values.selected,
            label: `${Page.dom.shortened(row.path, 80)}: squared error ${(row.alone.rel ** 2).toExponential(2)}, ${fixed(row.alone.sqnr, 1)} dB alone`,
          };
          start = made.end;
          return made;
        });
      },
      onSelect: (mark) => rows.select(mark.value),
    });
  }

  // Only these two budgets are limits of a squared error.
  function errorLimit(budget) {
    if (budget?.metric === "rel_l2") return budget.limit ** 2;
    if (budget?.metric === "sqnr_db" || budget?.metric === "sqnr") return 10 ** (-budget.limit / 10);
    return null;
  }

  function gaps() {
    const list = el("ol", { class: "gaps" });
    const note = el("p", { class: "note" });
    const draw = () => {
      const found = rows.build().gaps?.[rows.gpu()?.key];
      const { kernels, variant } = rows.network();
      const first = variant === rows.build().variants[0];
      note.textContent = !found ? "They are not known for this GPU."
        : first && !state.values.rate ? "What stands between this network and the arithmetic that it needs."
          : "Of the build as it was asked for, at its own rates.";
      list.replaceChildren(...(found || []).slice(0, 10).map((gap) => {
        const row = first ? kernels[gap.kernel] : null;
        return el("li", {}, row ? button(Page.dom.shortened(gap.text, 400), () => rows.select(row), { class: "link" }) : name(gap.text));
      }));
    };
    return {
      element: el("figure", { class: "card" }, el("figcaption", { class: "panelhead" }, el("h2", {}, "The ten largest gaps, in words")), note, list),
      refresh: draw,
    };
  }

  function create(panel) {
    const none = "There is no search in this page: explore a policy that a search found to see it.";
    const left = [Page.roofline(), gaps(), trials() || absent("Trials of the search", none)];
    const right = [waterfall(), sensitivity() || absent("Error against time saved", none), errorBudget()].filter(Boolean);
    const made = [...left, ...right];
    panel.append(legend(), el("div", { class: "cards" }, [left, right].map((column) =>
      el("div", { class: "cardcolumn" }, column.map((one) => one.element || one)))));
    const refresh = () => made.forEach((one) => one.refresh?.());
    refresh();
    const own = ["gpu", "rate", "precision", "query", "type", "own", "brush", "selected", "flat", "view", "theme"];
    state.listen((changed) => {
      if (panel.hidden && !changed.has("view")) return;
      if (own.some((key) => changed.has(key))) refresh();
    });
  }

  return { create };
})();
