"use strict";

// View 8: where every figure comes from.
Page.provenance = (() => {
  const { el, name, table } = Page.dom;
  const { model } = Page;
  const data = model.document;
  const text = (value) => (value === null || value === undefined ? "not known"
    : typeof value === "object" ? JSON.stringify(value) : String(value));

  // A nested object as "a.b" and its text.
  function flat(object, prefix = "") {
    return Object.entries(object || {}).flatMap(([key, value]) =>
      value && typeof value === "object" && !Array.isArray(value) ? flat(value, `${prefix}${key}.`)
        : [[name(prefix + key, 100), name(Array.isArray(value) && !value.length ? "none" : text(value), 2000)]]);
  }

  function ofBuild(build) {
    const { random_banner: banner, ...provenance } = build.provenance;
    return el("section", {}, el("h2", {}, name(build.name, 200)),
      banner ? el("p", { class: "banner warning" }, name(banner, 1000)) : "",
      table(`Where the figures of ${Page.dom.shortened(build.name, 60)} come from`, ["what", "value"], flat(provenance)),
      Object.keys(build.study?.about || {}).length ? table("What errors and savings were measured on", ["what", "value"], flat(build.study.about)) : "");
  }

  function gpus() {
    return table("GPUs: peak rates (TFLOP/s or TOP/s) and bandwidth (GB/s), with their sources",
      ["GPU", { text: "bandwidth", number: true }, "rates", "source"],
      data.gpus.map((gpu) => [name(gpu.name, 100), Page.format.fixed(gpu.bandwidth / 1e9, 0),
        Object.entries(gpu.flops).map(([key, flops]) => `${key} ${Page.format.significant(flops / 1e12, 4)}`).join(", "),
        name(gpu.source, 400)]));
  }

  function lint(build) {
    const found = build.lint;
    if (!model.length(found)) return el("p", {}, "The lint rules found nothing.");
    const layer = (at) => (found.layer[at] < 0 ? "the network" : build.layers.name[found.layer[at]]);
    return table("What the lint rules found", ["code", "layer", "message"],
      found.code.slice(0, 200).map((_, at) => [name(model.value(found.code, at), 60), name(layer(at), 120), name(model.value(found.message, at), 600)]));
  }

  function create(panel) {
    panel.append(
      data.command ? el("div", {}, el("p", {}, "This page is made again by"), el("pre", { tabindex: 0, "aria-label": "Command" }, data.command)) : "",
      table("Made by", ["what", "value"], flat(data.made_by)), ...data.builds.map(ofBuild), gpus(), lint(data.builds[0]));
  }

  return { create };
})();
