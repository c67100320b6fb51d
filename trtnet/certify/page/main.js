"use strict";

(() => {
  const { el, byId, name, table, options } = Page.dom;
  const format = Page.format;
  const documented = JSON.parse(byId("document").textContent);
  const data = documented.certificate;
  const about = data.environment;
  const states = Object.keys(documented.states);
  const precisions = documented.precisions.filter((precision) =>
    data.cases.some((entry) => entry.precision === precision));
  const version = about.backend_version ? ` ${about.backend_version}` : "";
  let chosenType = "";

  function head() {
    document.title = `Certificate: ${documented.place}`;
    byId("title").append(name(documented.place));
    byId("facts").textContent =
      `${about.backend}${version}, trtnet ${about.trtnet}, ${data.made}, ${format.plural(data.cases.length, "case")} ` +
      `of set ${data.set_version} in ${format.time(data.seconds, 3)}`;
    const partial = data.only.length || data.precisions.length;
    byId("banners").append(...[
      about.not_executed ? `Nothing was executed: ${about.not_executed}. Engines were built only.` : null,
      partial ? `A part of the set: ${[...data.only, ...data.precisions].join(", ")}.` : null,
    ].filter(Boolean).map((text) => el("p", { class: "banner warning" }, text)));
    const counts = states.map((state) => [state, data.cases.filter((entry) => entry.state === state).length]);
    byId("tiles").append(...counts.map(([state, count]) =>
      el("div", { class: "tile" }, el("dt", {}, state),
        el("dd", { class: count ? Page.matrix.cssOf(state) : "faint" }, String(count)),
        el("dd", { class: "more" }, documented.states[state]))));
    byId("foot").textContent =
      `SHA-256 of the content: ${data.sha256}. It shows accidental change and proves no author.`;
  }

  function matrix() {
    byId("matrix-lead").textContent =
      "A type differs where a layer of it computes the first tensor that is beyond its limit. What failed or was " +
      "refused counts for the types that went well in no other case of the precision, or else for all of the case. " +
      "A cell shows its cases below.";
    byId("matrix").append(
      el("p", { class: "legend" }, states.map((state) => el("span", {}, Page.matrix.sign(state), state))),
      Page.matrix.create(data, precisions, (type, precision) => {
        chosenType = type;
        byId("query").value = "";
        byId("precision").value = precision;
        byId("state").value = "";
        filter();
        byId("cases-title").focus();
      }));
  }

  function times() {
    const timed = data.cases.filter((entry) => entry.timing);
    byId("models").hidden = !timed.length;
    byId("models-lead").textContent =
      `Median of one execution on ${documented.place}, without copies, with the 95 % confidence interval of the median.`;
    const interval = ({ low_ms: low, high_ms: high }) =>
      low === null ? format.UNKNOWN : `${format.significant(low, 4)} to ${format.significant(high, 4)}`;
    byId("times").append(table("Times",
      ["model", "precision", "input", { text: "median, ms", number: true }, { text: "interval, ms", number: true },
        { text: "executions", number: true }],
      timed.map((entry) => [
        name(entry.name), entry.precision,
        Object.values(entry.timing.shapes).map((shape) => shape.join("×")).join(", "),
        format.significant(entry.timing.median_ms, 4), interval(entry.timing), String(entry.timing.queries),
      ])));
  }

  function machine() {
    const memory = about.gpu_memory === null ? null : format.bytes(about.gpu_memory, 3);
    const rows = [
      ["GPU", about.gpu && `${about.gpu}, compute capability ${about.compute_capability}, ${memory}`],
      ["driver", about.driver && `${about.driver}, CUDA ${about.driver_cuda}`],
      ["backend", `${about.backend}${version} on ${about.device}`],
      ["processor", `${about.cpu || "unknown"}, ${format.plural(about.processors, "processor")}`],
      ["system", about.system],
      ["Python", about.python],
      ["trtnet", `${about.trtnet}${about.commit ? `, commit ${about.commit}` : ""}`],
      ["CUDA of PyTorch", about.torch_cuda],
      ...Object.entries(about.packages),
    ];
    byId("machine").append(table("Hardware and packages", ["what", "version"],
      rows.map(([key, value]) => [key, value || "none"])));
  }

  const entries = data.cases.map((entry) => ({
    entry, node: Page.cases.create(entry),
    text: [entry.name, entry.about, entry.reason, ...entry.types].join("\n").toLowerCase(),
  }));

  function filter() {
    const query = byId("query").value.trim().toLowerCase();
    const precision = byId("precision").value;
    const state = byId("state").value;
    let shown = 0;
    for (const { entry, node, text } of entries) {
      node.hidden = !(text.includes(query) && (!precision || entry.precision === precision) &&
        (!state || entry.state === state) && (!chosenType || entry.types.includes(chosenType)));
      shown += node.hidden ? 0 : 1;
    }
    byId("query-note").textContent =
      `${shown} of ${format.plural(entries.length, "case")}${chosenType ? ` with ${chosenType}` : ""}`;
  }

  function controls() {
    options(byId("precision"), [["", "all"], ...precisions.map((precision) => [precision, precision])], "");
    options(byId("state"), [["", "all"], ...states.map((state) => [state, state])], "");
    byId("theme").addEventListener("change", (event) => {
      if (event.target.value) document.documentElement.dataset.theme = event.target.value;
      else delete document.documentElement.dataset.theme;
    });
    for (const id of ["query", "precision", "state"]) byId(id).addEventListener("input", filter);
    byId("clear").addEventListener("click", () => {
      chosenType = "";
      for (const id of ["query", "precision", "state"]) byId(id).value = "";
      filter();
    });
    byId("cases").append(...entries.map(({ node }) => node));
  }

  head();
  matrix();
  times();
  machine();
  controls();
  filter();
  document.documentElement.dataset.ready = "yes";
})();
