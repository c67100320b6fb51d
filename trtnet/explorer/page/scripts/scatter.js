"use strict";

// Points over two axes, with a brush. Options as of Page.plot, and:
// axes() -> {x, y} of {label, log, values (to cover), format}; points() -> [{x, y, size, tint, symbol, label, value,
// selected, dim}] in visiting order; under(layer, sx, sy, box) draws behind the points; onBrush(points or null).
Page.scatter = (() => {
  const { svg } = Page.dom;
  const SYMBOLS = {
    fp32: d3.symbolSquare, tf32: d3.symbolTriangle, fp16: d3.symbolCircle, bf16: d3.symbolCross, int8: d3.symbolDiamond,
    fp8: d3.symbolStar, fp4: d3.symbolWye,
  };

  function scale(axis, range) {
    const known = axis.values.filter((value) => Number.isFinite(value) && (!axis.log || value > 0));
    let [low, high] = known.length ? d3.extent(known) : axis.log ? [1, 10] : [0, 1];
    if (axis.log) return d3.scaleLog([low / 1.5, high * 1.5], range);
    if (low === high) [low, high] = [low - 1, high + 1];
    const spare = 0.06 * (high - low);
    return d3.scaleLinear([axis.zero ? Math.min(0, low) : low - spare, high + spare], range).nice();
  }

  function drawAxes(root, axes, sx, sy, box) {
    // Of a logarithmic axis: powers of ten, and 2 and 5 times them where there are few.
    const ticks = (made, axis, most) => {
      if (!axis.log) return made.ticks(most);
      const few = Math.log10(made.domain()[1] / made.domain()[0]) < 2;
      const first = (value) => Math.round(value / 10 ** Math.floor(Math.log10(value) + 1e-9));
      return made.ticks(40).filter((value) => (few ? [1, 2, 5] : [1]).includes(first(value)));
    };
    const place = (name, transform) => {
      const node = svg("g", { class: `axis ${name}`, transform, "aria-hidden": true });
      root.append(node);
      return d3.select(node);
    };
    place("x", `translate(0,${box.bottom})`).call(
      d3.axisBottom(sx).tickValues(ticks(sx, axes.x, Math.max(3, box.width / 90))).tickFormat(axes.x.format).tickSize(-box.height).tickPadding(8));
    place("y", `translate(${box.left},0)`).call(
      d3.axisLeft(sy).tickValues(ticks(sy, axes.y, 6)).tickFormat(axes.y.format).tickSize(-box.width).tickPadding(8));
    root.append(
      svg("text", { class: "axislabel", x: box.right, y: box.bottom + 38, "text-anchor": "end", "aria-hidden": true }, axes.x.label),
      svg("text", { class: "axislabel", x: 4, y: 14, "aria-hidden": true }, axes.y.label));
  }

  function draw(options, root, width, height) {
    const box = { left: 62, top: 26, right: width - 14, bottom: height - 46 };
    Object.assign(box, { width: box.right - box.left, height: box.bottom - box.top });
    const axes = options.axes();
    const [sx, sy] = [scale(axes.x, [box.left, box.right]), scale(axes.y, [box.bottom, box.top])];
    drawAxes(root, axes, sx, sy, box);
    const under = svg("g", { "aria-hidden": true });
    root.append(under);
    options.under?.(under, sx, sy, box);
    const points = options.points();
    if (options.onBrush) drawBrush(options, root, points, sx, sy, box);
    const marks = points.map((point) => {
      const path = d3.symbol(SYMBOLS[point.symbol] || d3.symbolCircle, point.size || 60)();
      const node = svg("path", {
        d: path, transform: `translate(${sx(point.x)},${sy(point.y)})`,
        class: `point tint-${point.tint}${point.dim ? " dim" : ""}${point.selected ? " selected" : ""}`,
      });
      return { node, label: point.label, value: point.value, selected: point.selected };
    });
    root.append(svg("g", {}, marks.map((mark) => mark.node)));
    return marks;
  }

  function drawBrush(options, root, points, sx, sy, box) {
    const layer = svg("g", { class: "brush", "aria-hidden": true });
    root.append(layer);
    const brush = d3.brush().extent([[box.left, box.top], [box.right, box.bottom]]).on("end", (event) => {
      if (!event.sourceEvent) return;
      if (!event.selection) return options.onBrush(null);
      const [[x0, y0], [x1, y1]] = event.selection;
      const inside = points.filter((point) => {
        const [x, y] = [sx(point.x), sy(point.y)];
        return x0 <= x && x <= x1 && y0 <= y && y <= y1;
      });
      options.onBrush(inside);
    });
    d3.select(layer).call(brush);
  }

  return (options) => {
    const plot = Page.plot({
      height: (width) => Math.round(Math.max(280, Math.min(440, width * 0.62))), ...options,
      draw: (root, width, height) => draw(options, root, width, height),
    });
    return plot;
  };
})();
