"use strict";

// Which nodes and edges a drawing of a module has: its layers, or modules folded to one node, and what
// stands directly before and after it.
Page.folding = (() => {
  const { model, rows } = Page;
  const MOST_UNFOLDED = 36; // layers of a module that are drawn without folding
  const LONGEST_RUN = 11; // operations of one module in a row; longer runs are one node

  // Edges between layers, once for a build: {from, to, tensor}; -1 is outside of the network.
  let cached = null;
  function edges(build) {
    if (cached?.build === build) return cached.found;
    const { layers, tensors } = build;
    const producer = tensors.producer;
    const found = [];
    for (let at = 0; at < layers.name.length; at++) {
      for (const tensor of new Set(layers.inputs[at])) {
        if (tensor >= 0) found.push({ from: producer[tensor], to: at, tensor });
      }
    }
    for (const tensor of build.outputs) found.push({ from: producer[tensor], to: -1, tensor });
    cached = { build, found };
    return found;
  }

  function isConstant(build, layer) {
    return layer >= 0 && model.value(build.layers.type, layer) === "CONSTANT";
  }

  // Modules of `focus` that are drawn open: chosen ones, or all where they are few.
  function unfolded(build, modules, focus, chosen) {
    const end = modules[focus].end;
    const inside = layersOf(build, focus, end);
    if (inside <= MOST_UNFOLDED) {
      const runs = build.layers.name.map((_, at) => runKey(modules, at));
      return new Set([...modules.slice(focus, end).map((row) => row.module), ...runs]);
    }
    return new Set([focus, ...chosen]);
  }

  function layersOf(build, start, end) {
    let found = 0;
    build.layers.module.forEach((module, at) => {
      if (module >= start && module < end && !isConstant(build, at)) found++;
    });
    return found;
  }

  // For each layer the first of the run of operations of the same module that it is in, and the run's length.
  function runsOf(build) {
    const runs = [];
    build.layers.module.forEach((module, at) => {
      const before = runs[at - 1];
      const run = before && before.module === module ? before : { module, first: at, layers: 0 };
      if (!isConstant(build, at)) run.layers += 1;
      runs.push(run);
    });
    return runs;
  }
  const runKey = (modules, first) => modules.length + first; // in the state, beside numbers of modules

  // The node that stands for a layer: "l7" itself, "r5" the run from layer 5 on, "m3" a folded module.
  // `focus` holds what is inside.
  function standsFor(build, modules, open, focus, layer, run) {
    const short = run.layers <= LONGEST_RUN || open.has(runKey(modules, run.first));
    let node = short ? `l${layer}` : `r${run.first}`;
    for (let at = build.layers.module[layer]; at >= 0; at = modules[at].parent) {
      const outside = !(at <= focus && focus < modules[at].end);
      if (at === focus) return { node, inside: true };
      if (!open.has(at) && (outside || at > focus)) node = `m${at}`;
    }
    return { node, inside: focus === 0 };
  }

  function graphOf(focus, chosen) {
    const { build, modules } = rows.network();
    const open = unfolded(build, modules, focus, chosen);
    const nodes = new Map();
    const joined = new Map();
    const cache = new Map();
    const runs = runsOf(build);
    const find = (layer) => {
      if (!cache.has(layer)) cache.set(layer, standsFor(build, modules, open, focus, layer, runs[layer]));
      return cache.get(layer);
    };
    build.layers.module.forEach((module, at) => {
      if (module >= focus && module < modules[focus].end && !isConstant(build, at)) {
        nodes.set(find(at).node, { inside: true });
      }
    });
    for (const { from, to, tensor } of edges(build)) {
      if (isConstant(build, from) || isConstant(build, to)) continue;
      const a = from < 0 ? { node: `t${tensor}`, inside: false } : find(from);
      const b = to < 0 ? { node: `o${tensor}`, inside: false } : find(to);
      if (a.node === b.node || !(a.inside || b.inside)) continue;
      if (model.value(build.tensors.role, tensor) === "constant") continue;
      for (const end of [a, b]) if (!nodes.has(end.node)) nodes.set(end.node, { inside: end.inside });
      const key = `${a.node} ${b.node}`;
      const edge = joined.get(key) || { from: a.node, to: b.node, tensors: new Set() };
      edge.tensors.add(tensor);
      joined.set(key, edge);
    }
    for (const [id, node] of nodes) if (id[0] === "r") node.run = runs[Number(id.slice(1))];
    return { nodes, edges: [...joined.values()] };
  }

  return { graphOf, runKey };
})();
