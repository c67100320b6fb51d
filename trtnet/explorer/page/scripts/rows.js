"use strict";

// The network as the reader sees it now: on the chosen GPU, filtered, summed over modules.
Page.rows = (() => {
  const { model, state, query, measured } = Page;
  const { document: data } = model;
  let network = null;
  let shown = []; // the kernels that pass the filter and the brush
  let problem = "";
  let operations = []; // what was measured, see measured.js

  // Numbers that a filter may compare, in the units of the table's columns.
  const NUMBERS = {
    gap: (row) => row.gap, bound: (row) => micro(row.bound), measured: (row) => micro(row.time),
    share: (row) => (row.share === null ? null : 100 * row.share), intensity: (row) => row.intensity,
    mmac: (row) => row.macs / 1e6, weights: (row) => row.parameters, mb: (row) => (row.read + row.written) / 1e6,
    compute: (row) => micro(row.compute), memory: (row) => micro(row.memory), casts: (row) => row.casts,
    sqnr: (row) => measured.decibels(row.error2), saved: (row) => micro(row.saved),
  };
  const micro = (seconds) => (seconds === null || seconds === undefined ? null : 1e6 * seconds);

  const build = () => data.builds[0];
  const gpu = () => model.gpuOf(state.values.gpu || data.start?.gpu);
  function variantNumber() {
    const at = build().variants.findIndex((variant) => variant.key === state.values.precision);
    return at >= 0 ? at : data.start?.variant ?? 0;
  }

  function load() {
    network = model.network(build(), variantNumber());
    attachMeasured();
    estimate();
  }

  // Only of the build as it was asked for.
  function attachMeasured() {
    const own = network.variant === build().variants[0];
    operations = own ? measured.operations(build()) : [];
    const known = own ? measured.alone(build()) : new Map();
    for (const module of network.modules) module.alone = known.get(module.module) || null;
    const byKernel = d3.group(operations, (row) => row.kernel);
    for (const kernel of network.kernels) {
      Object.assign(kernel, measured.total(byKernel.get(kernel.kernel) || []));
    }
  }

  function estimate() {
    for (const kernel of network.kernels) {
      const found = model.bound(kernel, gpu(), state.values.rate);
      Object.assign(kernel, found || { compute: null, memory: null, bound: null, limit: null });
      const moved = kernel.read + kernel.written;
      kernel.intensity = moved ? (2 * kernel.macs) / moved : 0;
      kernel.gap = measured.gap(kernel);
    }
    const whole = total(network.kernels);
    for (const kernel of network.kernels) {
      kernel.share = kernel.bound !== null && whole.bound ? kernel.bound / whole.bound : null;
    }
    filter();
  }

  function filter() {
    const made = query.parse(state.values.query, NUMBERS);
    problem = made.error;
    const { type, own } = state.values;
    const brushed = state.brushed();
    shown = network.kernels.filter(
      (kernel) =>
        (!type || kernel.type === type) && (!own || (kernel.precision || "none") === own) &&
        (!brushed || brushed.has(kernel.kernel)) && made.test(kernel)
    );
    const visible = new Set(shown);
    const whole = total(network.kernels);
    const passing = shown.length === network.kernels.length
      ? operations : operations.filter((row) => visible.has(network.kernels[row.kernel]));
    for (const module of network.modules) {
      module.visible = shown.length === network.kernels.length
        ? module.below : module.below.filter((kernel) => visible.has(kernel));
      Object.assign(module, total(module.visible));
      module.share = module.bound !== null && whole.bound ? module.bound / whole.bound : null;
      attachSums(module, measured.within(passing, module.module, module.end));
    }
    for (const kernel of network.kernels) kernel.passes = visible.has(kernel);
  }

  // A module without a kernel may have measured operations, which run inside of others' kernels.
  function attachSums(module, found) {
    Object.assign(module, measured.total(found));
    module.gap = measured.gap(module);
  }

  // Sums over kernels; a bound is known where that of each kernel is.
  function total(kernels) {
    const known = (key) => kernels.every((kernel) => kernel[key] !== null);
    const macs = model.sum(kernels.map((kernel) => kernel.macs));
    const read = model.sum(kernels.map((kernel) => kernel.read));
    const written = model.sum(kernels.map((kernel) => kernel.written));
    const bound = gpu() && known("bound") ? model.fsum(kernels.map((kernel) => kernel.bound)) : null;
    const compute = bound === null ? null : model.fsum(kernels.map((kernel) => kernel.compute));
    const memory = bound === null ? null : model.fsum(kernels.map((kernel) => kernel.memory));
    return {
      macs, read, written, bound, compute, memory, count: kernels.length,
      parameters: model.sum(kernels.map((kernel) => kernel.parameters)),
      intensity: read + written ? (2 * macs) / (read + written) : 0,
      limit: bound === null || !kernels.length ? null : limitOf(kernels),
      precision: precisionOf(kernels),
    };
  }

  const limitOf = (kernels) => {
    const found = new Set(kernels.map((kernel) => kernel.limit));
    return found.size === 1 ? [...found][0] : "both";
  };
  const precisionOf = (kernels) => {
    const found = new Set(kernels.map((kernel) => kernel.precision).filter((own) => own !== null));
    return found.size === 0 ? null : found.size === 1 ? [...found][0] : "mixed";
  };

  // Rates that this GPU lacks, in words; "" where every bound is known.
  function unknownRates() {
    if (!gpu()) return "The document names no GPU: bounds are not known.";
    const missing = network.kernels.filter((kernel) => kernel.bound === null);
    if (!missing.length) return "";
    const names = [...new Set(missing.map((kernel) => state.values.rate || kernel.precision))];
    return `No ${names.join(", ")} ceiling is known for ${gpu().name}, so ` +
      `${Page.format.plural(missing.length, "kernel")} and the total have no bound.`;
  }

  function selected() {
    const text = state.values.selected;
    if (text.startsWith("m:")) return network.modules.find((row) => row.path === text.slice(2)) || null;
    if (text.startsWith("k:")) return network.kernels.find((row) => row.path === text.slice(2)) || null;
    return null;
  }
  const keyOf = (row) => `${row.isModule ? "m" : "k"}:${row.path}`;
  const select = (row) => state.set({ selected: row ? keyOf(row) : "" });
  const moduleOf = (row) => (row.isModule ? row : network.modules[row.parent]);

  state.listen((changed) => {
    if (changed.has("precision")) load();
    else if (changed.has("gpu") || changed.has("rate")) estimate();
    else if (["query", "type", "own", "brush"].some((key) => changed.has(key))) filter();
  });
  load();

  return {
    NUMBERS, build, measured: () => measured.total(operations), gpu, total, unknownRates, selected, select, keyOf, moduleOf,
    network: () => network, shown: () => shown, problem: () => problem, variantNumber,
    filtered: () => shown.length < network.kernels.length,
  };
})();
