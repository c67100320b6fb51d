"use strict";

// The document as rows: modules and kernels of a build, their sums, and the roofline bound, which is
// computed here as `trtnet cost` computes it.
Page.model = (() => {
  const document_ = JSON.parse(Page.dom.byId("document").textContent);

  const isCategory = (column) => column && !Array.isArray(column) && Array.isArray(column.at);
  function value(column, row) {
    if (!column) return null;
    if (!isCategory(column)) return column[row] ?? null;
    return column.at[row] < 0 ? null : column.values[column.at[row]] ?? null;
  }
  function length(columns) {
    const first = columns && Object.values(columns)[0];
    return first ? (isCategory(first) ? first.at.length : first.length) : 0;
  }

  // The exact sum, rounded once: Python's math.fsum (Shewchuk, 1997).
  function fsum(numbers) {
    const partials = [];
    for (let x of numbers) {
      let kept = 0;
      for (let y of partials) {
        if (Math.abs(x) < Math.abs(y)) [x, y] = [y, x];
        const high = x + y;
        const low = y - (high - x);
        if (low) partials[kept++] = low;
        x = high;
      }
      partials.length = kept;
      partials.push(x);
    }
    return rounded(partials);
  }

  function rounded(partials) {
    let at = partials.length;
    if (!at) return 0;
    let high = partials[--at];
    let low = 0;
    while (at > 0) {
      const [x, y] = [high, partials[--at]];
      high = x + y;
      low = y - (high - x);
      if (low) break;
    }
    if (at > 0 && ((low < 0 && partials[at - 1] < 0) || (low > 0 && partials[at - 1] > 0))) {
      const twice = low * 2; // half-way cases round to even
      const x = high + twice;
      if (twice === x - high) high = x;
    }
    return high;
  }

  const sum = (numbers) => {
    let total = 0;
    for (const number of numbers) total += number;
    return total;
  };

  const gpuOf = (key) => document_.gpus.find((gpu) => gpu.key === key) || document_.gpus[0] || null;

  // Seconds of one kernel on a GPU; null where the GPU states no rate for its products.
  function bound(kernel, gpu, override) {
    if (!gpu) return null;
    const memory = (kernel.read + kernel.written) / gpu.bandwidth;
    let compute = 0;
    if (kernel.precision !== null) {
      const rate = gpu.flops[override || kernel.precision];
      if (!rate) return null;
      compute = (2 * kernel.macs) / rate;
    }
    return {
      compute, memory, bound: Math.max(compute, memory),
      limit: compute > memory ? "compute" : "memory",
    };
  }

  // Reads a build: `modules`, `kernels` (of one variant) and `children` of each module.
  function network(build, variant) {
    const modules = readModules(build);
    const given = build.variants[variant] || build.variants[0];
    const kernels = readKernels(given.kernels, modules);
    attachSums(modules, kernels);
    if (given === build.variants[0]) attachOwnLayers(build, modules, kernels);
    return { build, variant: given, modules, kernels };
  }

  function readModules(build) {
    const columns = build.modules;
    return Array.from({ length: length(columns) }, (_, at) => {
      const path = columns.path[at];
      return {
        id: `m${at}`, module: at, isModule: true, parent: columns.parent[at], depth: columns.depth[at],
        end: columns.end[at], path, module_path: columns.module[at], name: at ? columns.name[at] : "whole network",
        type: value(columns.class, at) || "", kind: value(columns.kind, at),
        policy: value(columns.precision, at), reason: value(columns.reason, at),
        entry: value(columns.entry, at) ?? -1, children: [], below: [], casts: null, order: at,
      };
    });
  }

  function readKernels(columns, modules) {
    return Array.from({ length: length(columns) }, (_, at) => {
      const layer = columns.layer[at];
      const home = modules[columns.module[at]];
      const fused = columns.fused ? columns.fused[at] : [];
      const kernel = {
        id: `k${at}`, kernel: at, isModule: false, parent: columns.module[at], depth: home.depth + 1,
        path: layer, name: layer.startsWith(`${home.path}/`) ? layer.slice(home.path.length + 1) : layer,
        type: value(columns.type, at) || "", precision: value(columns.precision, at),
        macs: columns.macs[at], parameters: columns.parameters[at], read: columns.read[at],
        written: columns.written[at], fused, children: [], casts: null,
        text: [layer, home.type, ...fused].join(" "),
      };
      kernel.lower = kernel.text.toLowerCase();
      return kernel;
    });
  }

  // `below` of a module: its kernels and those of its descendants, in the order in which they run.
  function attachSums(modules, kernels) {
    const firsts = new Array(modules.length).fill(Infinity);
    for (const kernel of kernels) {
      for (let at = kernel.parent; at >= 0; at = modules[at].parent) {
        modules[at].below.push(kernel);
        firsts[at] = Math.min(firsts[at], kernel.kernel);
      }
    }
    const last = new Array(modules.length).fill(0);
    for (const module of modules) {
      if (module.parent < 0) continue;
      const known = firsts[module.module];
      const place = known === Infinity ? last[module.parent] + 1e-3 : known;
      last[module.parent] = place;
      modules[module.parent].children.push([place, module]);
    }
    for (const kernel of kernels) modules[kernel.parent].children.push([kernel.kernel, kernel]);
    for (const module of modules) {
      module.children = module.children.sort((a, b) => a[0] - b[0]).map(([, child]) => child);
    }
  }

  const CONVERSIONS = new Set(["CAST", "QUANTIZE", "DEQUANTIZE"]);
  function attachOwnLayers(build, modules, kernels) {
    for (const module of modules) module.casts = 0;
    for (const kernel of kernels) kernel.casts = 0;
    const { layers } = build;
    for (let at = 0; at < length(layers); at++) {
      if (!CONVERSIONS.has(value(layers.type, at))) continue;
      const kernel = kernels[layers.kernel[at]];
      if (kernel) kernel.casts += 1;
      for (let m = layers.module[at]; m >= 0; m = modules[m].parent) modules[m].casts += 1;
    }
  }

  return { document: document_, value, length, fsum, sum, gpuOf, bound, network };
})();
