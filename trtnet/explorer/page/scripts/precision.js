"use strict";

// View 4: which line of the policy decided each module, and what another choice would give.
Page.precision = (() => {
  const { el, name, button, download } = Page.dom;
  const { rows, state, model, columns, whatif } = Page;
  const { time, fixed, significant, UNKNOWN } = Page.format;
  const micro = (seconds) => (seconds === null ? null : 1e6 * seconds);
  let grid = null;
  let sort = "";

  const build = () => rows.build();
  function lineOf(row) {
    const entry = build().precision?.entries?.[row.entry];
    return entry ? `${entry.line}: ${entry.key || entry.where} = ${entry.value}` : "";
  }

  function gridColumns() {
    const list = [
      { key: "name", label: "module", width: 190, grow: 1.6, raw: (row) => row.path, title: (row) => row.path, cell: (row) => name(row.path || row.name) },
      { key: "type", label: "class", width: 120, grow: 0.7, raw: (row) => row.type, cell: (row) => name(row.type, 60) },
      { key: "policy", label: "precision", width: 84, raw: (row) => row.policy, cell: (row) => columns.chip(row.policy) },
      { key: "line", label: "policy line", width: 150, grow: 0.9, raw: lineOf, title: lineOf, cell: (row) => name(lineOf(row) || UNKNOWN, 120) },
      { key: "reason", label: "because", width: 190, grow: 1.6, raw: (row) => row.reason, title: (row) => row.reason || "", cell: (row) => name(row.reason || UNKNOWN, 200) },
    ];
    if (!whatif.candidates().size) return list;
    return [list[0], {
      key: "low", label: `in ${build().precision.to ?? "the lower"}`, width: 84, raw: (row) => (whatif.lowered().has(row.module) ? 1 : 0), cell: toggleOf,
    }, {
      key: "sqnr", label: "SQNR", unit: "dB", width: 84, number: true, raw: (row) => row.alone?.sqnr ?? null, cell: (row) => fixed(row.alone?.sqnr, 1),
    }, {
      key: "saved", label: "saves", unit: "µs", width: 84, number: true, raw: (row) => row.alone?.saved ?? null, cell: (row) => fixed(micro(row.alone?.saved ?? null), 3),
    }, ...list.slice(1)];
  }

  function toggleOf(row) {
    if (!whatif.candidates().has(row.module)) return el("span", { class: "faint" }, UNKNOWN);
    const box = el("input", {
      type: "checkbox", tabindex: -1, "aria-label": `${Page.dom.shortened(row.path, 80)} in ${build().precision.to ?? "the lower precision"}`,
      on: { change: () => flip(row.module) },
    });
    box.checked = whatif.lowered().has(row.module);
    return box;
  }

  function flip(module) {
    if (!whatif.candidates().has(module)) return;
    const chosen = whatif.lowered();
    if (!chosen.delete(module)) chosen.add(module);
    whatif.set(chosen);
  }

  function entries() {
    const own = (row) => row.module > 0 && (row.policy || row.reason || whatif.candidates().has(row.module));
    const list = rows.network().modules.filter((row) => own(row) && (!rows.filtered() || row.visible.length));
    const column = gridColumns().find((one) => one.key === sort.split(" ")[0]);
    if (column) {
      const sign = sort.endsWith("up") ? 1 : -1;
      const compare = (a, b) => (typeof a === "number" ? a - b : String(a).localeCompare(String(b)));
      list.sort((a, b) => {
        const [x, y] = [column.raw(a) ?? null, column.raw(b) ?? null];
        return x === null || y === null ? (x === null) - (y === null) : sign * compare(x, y);
      });
    }
    return list.map((row) => ({ id: row.id, row, level: 1, open: null }));
  }

  // ---- the what-if
  function panelOf() {
    const made = el("section", { class: "card", "aria-label": "What if" });
    const draw = () => {
      const chosen = whatif.lowered();
      const found = whatif.outcome(chosen);
      const { to, budget, measured_on: data, command, gpus = [] } = build().precision;
      const measured = found.trial >= 0;
      const policy = whatif.policy(chosen);
      made.replaceChildren(
        el("div", { class: "panelhead" }, el("h2", {}, `What if ${Page.format.plural(chosen.size, "module")} ran in ${to ?? "the lower precision"}`),
          button("None", () => whatif.set(new Set())), button("All", () => whatif.set(whatif.candidates()))),
        el("p", {}, el("strong", { class: measured ? "measured" : "predicted" }, measured ? `Measured (trial ${found.trial})` : "Prediction"),
          measured ? " by the search, for exactly this choice." : " from each module alone: errors are added in their squares. Only a measurement proves it."),
        el("dl", { class: "figures" },
          [["SQNR", `${fixed(found.sqnr, 1)} dB`], ["relative error", significant(found.rel)],
            found.seconds !== null ? ["least time", time(found.seconds)] : ["least time saved", time(found.saved)],
            budget ? ["budget", budget.text] : null, gpus.length ? ["times of", gpus.join(", ")] : null, data ? ["measured on", `${data.items ?? UNKNOWN} items, ${data.gpu ?? UNKNOWN}`] : null,
          ].filter(Boolean).map(([term, text]) => el("div", {}, el("dt", {}, term), el("dd", {}, name(text, 80))))),
        el("p", {}, button("Save policy.toml", () => download("policy.toml", "application/toml", policy), { data: { export: "policy" } }), " then run"),
        el("pre", { tabindex: 0, "aria-label": "Command" }, command),
        el("details", {}, el("summary", {}, "policy.toml of this choice"), el("pre", { tabindex: 0, "aria-label": "Policy", id: "whatif-policy" }, policy)));
    };
    return { element: made, refresh: draw };
  }

  function policyText() {
    const { policy, entries: lines } = build().precision;
    const used = new Map();
    for (const row of rows.network().modules) if (row.entry >= 0) used.set(row.entry, (used.get(row.entry) || 0) + 1);
    return el("section", { class: "card" }, el("h2", {}, "The policy"), el("p", { class: "note" }, name(policy.text, 600)),
      el("pre", { tabindex: 0, "aria-label": "Policy of this build" }, policy.toml),
      Page.dom.table("What its lines decided", ["line", "entry", "value", { text: "modules", number: true }],
        (lines || []).slice(0, 200).map((entry, at) => [String(entry.line), name(entry.key ? `${entry.where} ${entry.key}` : entry.where, 120), name(entry.value), String(used.get(at) || 0)])));
  }

  function create(panel) {
    if (!build().precision) {
      panel.append(el("p", { class: "lead" }, "This page is of a saved network, which holds no policy: types are its own."));
      return;
    }
    const what = whatif.candidates().size ? panelOf() : null;
    grid = Page.grid({
      label: "Modules and their precision", tree: false, columns: gridColumns, rows: entries,
      onSelect: (item) => rows.select(item.row), isSelected: (item) => rows.keyOf(item.row) === state.values.selected,
      onSort: (next) => { sort = next; refresh(); },
      onKey: (key, item) => key === " " && whatif.candidates().has(item.row.module) && (flip(item.row.module), true),
    });
    const lead = what ? "Tick modules, or press Space on a row, to try another mix."
      : "No search is in this page: explore a policy that a search found to try other mixes here.";
    panel.append(el("p", { class: "lead" }, lead), what ? what.element : "", grid.element, policyText());
    Page.printing(panel, () => ({ columns: gridColumns(), entries: grid.entries() }));
    function refresh() {
      grid.setSort(sort);
      grid.refresh();
      what?.refresh();
    }
    refresh();
    state.listen((changed) => {
      if (["selected", "low", "query", "type", "own", "brush", "precision", "gpu", "view"].some((key) => changed.has(key))) refresh();
    });
  }

  return { create };
})();
