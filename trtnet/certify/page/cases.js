"use strict";

// The list of cases; what is inside of one is made when it is opened.
Page.cases = (() => {
  const { el, name, table } = Page.dom;
  const { cssOf, firstDifference } = Page.matrix;
  const format = Page.format;

  function said(entry) {
    if (entry.reason) return entry.reason;
    const worst = entry.tensors.reduce((most, tensor) => Math.max(most, tensor.rel_l2 || 0), 0);
    const count = format.plural(entry.tensors.length, "tensor");
    return `${count}, largest relative L2 ${format.significant(worst)}`;
  }

  function tensors(entry) {
    const variants = new Set(entry.tensors.map((tensor) => tensor.variant));
    return [...variants].map((variant) => {
      const rows = entry.tensors.filter((tensor) => tensor.variant === variant);
      const title = variants.size < 2 ? "Tensors" : variant === "modules"
        ? "Output of each module" : "Outputs of the model as it is deployed";
      return table(title,
        ["tensor", "layer type", "layer", "shape", { text: "largest difference", number: true }, "error", "limit"],
        rows.map((tensor) => [
          el("span", { class: tensor.passed ? "" : "problem" }, name(tensor.tensor)),
          tensor.type || format.UNKNOWN, name(tensor.layer || format.UNKNOWN), tensor.shape.join("×") || "scalar",
          format.significant(tensor.max_abs),
          el("span", { class: tensor.passed ? "" : "problem" }, tensor.error), tensor.limit,
        ]));
    });
  }

  function content(entry) {
    const first = firstDifference(entry);
    const facts = [
      entry.types.length ? `layer types: ${entry.types.join(", ")}` : null,
      entry.runtime ? `executed by ${entry.runtime}` : null,
      entry.engine_bytes ? `engine of ${format.bytes(entry.engine_bytes)}` : null,
      entry.build_s ? `built in ${format.time(entry.build_s, 3)}` : null,
    ].filter(Boolean);
    return el("div", { class: "content" },
      el("p", { class: "faint" }, entry.about),
      entry.reason ? el("pre", {}, entry.reason) : null,
      first ? el("p", { class: "problem" }, "First tensor beyond its limit: ", name(first.tensor)) : null,
      tensors(entry),
      facts.length ? el("p", { class: "note" }, `${facts.join("; ")}.`) : null);
  }

  function create(entry) {
    const made = el("details", { class: "case" },
      el("summary", {},
        el("span", { class: "title" }, name(entry.name)),
        el("span", { class: "faint" }, entry.precision),
        el("span", { class: cssOf(entry.state) }, entry.state),
        el("span", { class: "said" }, Page.dom.shortened(said(entry), 240)),
        el("span", { class: "seconds faint number" }, `${format.fixed(entry.seconds, 2)} s`)));
    made.addEventListener("toggle", () => {
      if (made.open && made.childElementCount === 1) made.append(content(entry));
    });
    return made;
  }

  return { create };
})();
