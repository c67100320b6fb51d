"use strict";

// The roofline of the chosen GPU with a point for each kernel or module.
Page.roofline = (() => {
  const { el, svg } = Page.dom;
  const { rows, state, columns } = Page;
  const { time, significant, count, fixed } = Page.format;

  // Operations a second: measured where the document has times, otherwise at the bound.
  const seconds = (row) => row.time ?? row.bound;
  function list() {
    const { modules, kernels } = rows.network();
    const depth = state.values.flat;
    const all = depth ? modules.filter((row) => row.depth === Number(depth)) : kernels;
    return all.filter((row) => row.macs > 0 && seconds(row) && row.intensity > 0);
  }

  function point(row) {
    const speed = (2 * row.macs) / seconds(row);
    const dim = row.isModule ? row.visible.length === 0 : !row.passes;
    return {
      x: row.intensity, y: speed, value: row, tint: columns.tint(row.precision), symbol: row.precision, dim,
      size: 30 + 2000 * (row.share || 0), selected: rows.keyOf(row) === state.values.selected,
      label: `${Page.dom.shortened(row.path, 80)}: ${fixed(row.intensity, 1)} FLOP/B, ${count(speed, "FLOP/s")}, bound ${time(row.bound)}` +
        (row.time === null ? "" : `, measured ${time(row.time)}`),
    };
  }

  function axes() {
    const all = list();
    const gpu = rows.gpu();
    const top = gpu ? Math.max(...Object.values(gpu.flops)) : 1e12;
    const ridge = gpu ? top / gpu.bandwidth : 100;
    return {
      x: {
        label: "intensity, FLOP per byte moved", log: true, format: (v) => significant(v),
        values: [...all.map((row) => row.intensity), ridge * 1.6],
      },
      y: {
        label: "FLOP/s", log: true, format: (v) => count(v, "", 3).replace(" ", ""),
        values: [...all.map((row) => (2 * row.macs) / seconds(row)), top],
      },
    };
  }

  function ceilings(layer, sx, sy, box) {
    const gpu = rows.gpu();
    if (!gpu) return;
    const [x0, x1] = sx.domain();
    const y0 = sy.domain()[0];
    const byRate = new Map();
    for (const [key, flops] of Object.entries(gpu.flops)) {
      byRate.set(flops, [...(byRate.get(flops) || []), key]);
    }
    const top = Math.max(...byRate.keys());
    const start = Math.max(x0, y0 / gpu.bandwidth);
    layer.append(line(sx, sy, start, start * gpu.bandwidth, top / gpu.bandwidth, top, "roof"));
    for (const [flops, keys] of byRate) {
      const ridge = flops / gpu.bandwidth;
      if (ridge > x1 || flops < y0) continue;
      layer.append(line(sx, sy, Math.max(ridge, x0), flops, x1, flops, `roof tint-${columns.tint(keys[0])}`),
        svg("text", { x: box.right - 4, y: sy(flops) - 5, "text-anchor": "end", class: `rooftext tint-${columns.tint(keys[0])}` },
          `${keys.join(", ")} ${count(flops, "", 3)}`));
    }
    const middle = Math.sqrt(start * (top / gpu.bandwidth));
    const slope = Math.atan2(sy(middle * gpu.bandwidth) - sy(2 * middle * gpu.bandwidth), sx(2 * middle) - sx(middle));
    layer.append(svg("text", {
      class: "rooftext", "text-anchor": "middle",
      transform: `translate(${sx(middle)},${sy(middle * gpu.bandwidth) - 6}) rotate(${(-180 * slope) / Math.PI})`,
    }, `${count(gpu.bandwidth, "B/s", 3)}`));
  }

  const line = (sx, sy, xa, ya, xb, yb, name) =>
    svg("line", { x1: sx(xa), y1: sy(ya), x2: sx(xb), y2: sy(yb), class: name });

  function brushed(points) {
    if (points === null) return state.brush(null);
    const found = points.flatMap(({ value }) => (value.isModule ? value.below : [value]));
    state.brush(new Set(found.map((kernel) => kernel.kernel)));
  }

  function create() {
    const deepest = Math.max(...rows.network().modules.map((row) => row.depth));
    const depth = el("select", { "aria-label": "Points of the roofline", on: { change: () => state.set({ flat: depth.value }) } });
    Page.dom.options(depth, [["", "a point a layer"],
      ...Array.from({ length: deepest }, (_, at) => [String(at + 1), `modules, depth ${at + 1}`])], state.values.flat);
    return Page.scatter({
      title: "Roofline", file: "roofline", tools: [depth], axes, under: ceilings, onBrush: brushed,
      points: () => list().map(point).sort((a, b) => a.x - b.x), onSelect: (mark) => rows.select(mark.value),
      note: () => {
        const measured = list().some((row) => row.time !== null);
        return measured
          ? "Height: measured speed. The distance to the roof is the gap. Area: share of the bound. Drag to filter everything."
          : "Without a profile each point lies on its roof: the chart tells what limits it. Area: share of the bound. Drag to filter everything.";
      },
    });
  }

  return create;
})();
