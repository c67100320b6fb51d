"use strict";

// The frame of the page: title, choices, totals, filter, and the tabs with their views.
Page.shell = (() => {
  const { el, byId, name, options } = Page.dom;
  const { rows, state, model } = Page;
  const { time, bytes, count, fixed, plural, UNKNOWN } = Page.format;
  const data = model.document;

  function header() {
    document.title = Page.dom.shortened(data.title, 160);
    byId("title").replaceChildren(name(data.title, 160));
    const { provenance, kind } = rows.build();
    const facts = [
      kind === "graph" ? "saved network" : "model", `batch ${provenance.batch ?? UNKNOWN}`,
      ...Object.entries(provenance.shapes || {}).map(([key, shape]) => `${key} ${shape.join("×")}`),
    ];
    byId("facts").replaceChildren(name(facts.join(" · "), 300));
    byId("foot").textContent =
      `Made by trtnet ${data.made_by?.trtnet ?? ""}. Bounds are computed here as trtnet cost computes them; no engine was run for them.`;
  }

  function banners() {
    const { provenance, notes } = rows.build();
    const texts = [];
    if (provenance.random_banner) texts.push(["warning", provenance.random_banner]);
    for (const note of notes || []) texts.push(["info", note]);
    const rates = rows.unknownRates();
    if (rates) texts.push(["warning", rates]);
    byId("banners").replaceChildren(...texts.map(([kind, text]) =>
      el("p", { class: `banner ${kind}`, role: kind === "warning" ? "status" : null }, name(text, 2000))));
  }

  function tiles() {
    const whole = rows.total(rows.network().kernels);
    const { variant } = rows.network();
    const batch = rows.build().provenance.batch;
    const list = [
      ["bound", time(whole.bound), whole.bound && batch ? `${count(batch / whole.bound)} images/s at most` : "",
        whole.bound],
      ["arithmetic", count(whole.macs, "MAC"), `${fixed(whole.intensity, 1)} FLOP/B`, whole.macs],
      ["moved", bytes(whole.read + whole.written), `${bytes(whole.read)} read`, whole.read + whole.written],
      ["weights read", count(whole.parameters), `${plural(variant.layers, "layer")}`, whole.parameters],
      ["kernels", String(whole.count), `${plural(variant.casts, "cast")}, ${variant.qdq} Q/DQ`, whole.count],
    ];
    const memory = rows.build().memory;
    if (memory?.peak) list.push(["peak of activations", bytes(memory.peak.bytes), `weights ${bytes(memory.weights)}`, memory.peak.bytes]);
    byId("tiles").replaceChildren(...list.map(([term, text, more, value]) =>
      el("div", { class: "tile", data: { tile: term, value: String(value) } },
        el("dt", {}, term), el("dd", {}, text), el("dd", { class: "more" }, more))));
  }

  function chooseEstimate() {
    const { variants } = rows.build();
    options(byId("gpu"), data.gpus.map((gpu) => [gpu.key, gpu.name]), rows.gpu()?.key ?? "");
    byId("gpu").addEventListener("change", (event) => state.set({ gpu: event.target.value }));
    options(byId("precision"), variants.map((variant) => [variant.key, variant.label]),
      variants[rows.variantNumber()].key);
    byId("precision").addEventListener("change", (event) => state.set({ precision: event.target.value }));
    byId("rate").addEventListener("change", (event) => state.set({ rate: event.target.value }));
    byId("theme").addEventListener("change", (event) => state.set({ theme: event.target.value }));
  }

  // What may change with the choices: the rates that the GPU states.
  function syncChoices() {
    const rates = Object.keys(rows.gpu()?.flops || {});
    options(byId("rate"), [["", "their own"], ...rates.map((rate) => [rate, rate])], state.values.rate);
    byId("gpu").value = rows.gpu()?.key ?? "";
    byId("precision").value = rows.build().variants[rows.variantNumber()].key;
    byId("theme").value = state.values.theme;
    if (state.values.theme) document.documentElement.dataset.theme = state.values.theme;
    else delete document.documentElement.dataset.theme;
  }

  function filters() {
    const query = byId("query");
    query.addEventListener("input", () => state.set({ query: query.value }));
    byId("type").addEventListener("change", (event) => state.set({ type: event.target.value }));
    byId("own").addEventListener("change", (event) => state.set({ own: event.target.value }));
    byId("clear").addEventListener("click", () => {
      state.set({ query: "", type: "", own: "" });
      state.brush(null);
    });
  }

  function syncFilters() {
    const { kernels } = rows.network();
    const unique = (values) => [...new Set(values)].sort();
    const lists = [["type", kernels.map((row) => row.type)], ["own", kernels.map((row) => row.precision || "none")]];
    for (const [id, values] of lists) {
      options(byId(id), [["", "all"], ...unique(values).map((text) => [text, text.toLowerCase()])], state.values[id]);
    }
    const query = byId("query");
    if (query.value !== state.values.query) query.value = state.values.query;
    const problem = rows.problem();
    query.toggleAttribute("aria-invalid", Boolean(problem));
    if (problem) query.setAttribute("aria-invalid", "true");
    const brushed = state.brushed() ? " A brush in a chart is part of the filter." : "";
    byId("query-note").textContent = problem ||
      (rows.filtered() ? `${plural(rows.shown().length, "kernel")} of ${kernels.length} shown.${brushed}` : "");
    byId("query-note").classList.toggle("problem", Boolean(problem));
    byId("clear").disabled = !rows.filtered() && !state.values.query;
  }

  // `views`: [{key, label, filtered, create(panel)}]; a view is made when it is first opened.
  function tabs(views) {
    const holder = el("div", { class: "panels" });
    const panels = new Map();
    const buttons = views.map((view) => el("button", {
      type: "button", role: "tab", id: `tab-${view.key}`, "aria-controls": `panel-${view.key}`,
      on: { click: () => state.set({ view: view.key }) },
    }, view.label));
    byId("tabs").append(...buttons);
    for (const view of views) {
      const panel = el("section", {
        class: "panel", role: "tabpanel", id: `panel-${view.key}`, "aria-labelledby": `tab-${view.key}`, hidden: true,
      });
      panels.set(view.key, panel);
      holder.append(panel);
    }
    byId("tabs").addEventListener("keydown", (event) => onTabKey(event, buttons));
    const show = () => {
      const chosen = panels.has(state.values.view) ? state.values.view : views[0].key;
      views.forEach((view, at) => {
        const own = view.key === chosen;
        buttons[at].setAttribute("aria-selected", String(own));
        buttons[at].tabIndex = own ? 0 : -1;
        panels.get(view.key).hidden = !own;
        if (own) {
          byId("filter").hidden = !view.filtered;
          reveal(buttons[at]);
        }
        if (own && !view.made) {
          view.made = true;
          view.create(panels.get(view.key));
        }
      });
    };
    state.listen((changed) => changed.has("view") && show());
    const aside = el("aside", { class: "details", "aria-label": "Selected row", hidden: true });
    byId("views").append(el("div", { class: "columns" }, holder, aside));
    Page.details.create(aside);
    show();
  }

  // Not scrollIntoView: it would also move the place from which the Tab key goes on.
  function reveal(button) {
    const strip = byId("tabs");
    const left = button.offsetLeft - strip.offsetLeft;
    if (left < strip.scrollLeft) strip.scrollLeft = left;
    else if (left + button.offsetWidth > strip.scrollLeft + strip.clientWidth) {
      strip.scrollLeft = left + button.offsetWidth - strip.clientWidth;
    }
  }

  function onTabKey(event, buttons) {
    const at = buttons.indexOf(document.activeElement);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (to === undefined || at < 0) return;
    const next = buttons[(to + buttons.length) % buttons.length];
    next.focus();
    next.click();
    event.preventDefault();
  }

  function create(views) {
    header();
    chooseEstimate();
    filters();
    const sync = () => { syncChoices(); syncFilters(); banners(); tiles(); };
    sync();
    state.listen((changed) => {
      const own = ["gpu", "rate", "precision", "theme", "query", "type", "own", "brush"];
      if (own.some((key) => changed.has(key))) sync();
    });
    tabs(views);
  }

  return { create };
})();
