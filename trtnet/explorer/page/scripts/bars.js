"use strict";

// Horizontal bars, one under the other: each may start where the last one ended.
// Page.bars({title, note, rows() -> [{name, start, end, text, tint, label, value, selected, hatched}], limit() -> number or null,
// limitText, onSelect(mark), file}).
Page.bars = (() => {
  const { svg, shortened } = Page.dom;
  const STEP = 24; // pixels of a row

  function draw(options, root, width) {
    const rows = options.rows();
    const limit = options.limit ? options.limit() : null;
    const left = Math.min(220, Math.round(width * 0.34));
    const right = width - 86;
    const most = Math.max(...rows.map((row) => row.end), limit ?? 0) || 1;
    const scale = d3.scaleLinear([0, most], [left, right]);
    root.append(hatching());
    const letters = Math.max(6, Math.floor(left / 7.4));
    const marks = rows.map((row, at) => {
      const y = at * STEP + 4;
      const bar = svg("rect", {
        x: scale(row.start), y, width: Math.max(1.5, scale(row.end) - scale(row.start)), height: STEP - 8, rx: 2,
        class: `bar tint-${row.tint}`,
      });
      const children = [
        svg("rect", { x: 0, y: y - 4, width, height: STEP, class: "hit" }),
        svg("text", { x: left - 8, y: y + 12, "text-anchor": "end", class: "barname" }, tail(row.name, letters)),
        bar,
        row.hatched ? svg("rect", { x: scale(row.start), y, width: Math.max(1.5, scale(row.end) - scale(row.start)), height: STEP - 8, class: "hatch" }) : null,
        svg("text", { x: width - 4, y: y + 12, "text-anchor": "end", class: "barvalue" }, row.text),
      ];
      const node = svg("g", { class: row.selected ? "barrow selected" : "barrow" }, children);
      return { node, label: row.label, value: row.value, selected: row.selected };
    });
    root.append(svg("g", {}, marks.map((mark) => mark.node)));
    if (limit !== null) {
      root.append(svg("line", { x1: scale(limit), x2: scale(limit), y1: 0, y2: rows.length * STEP, class: "limit" }));
    }
    return marks;
  }

  // Paths differ at their ends.
  const tail = (text, letters) => (text.length <= letters ? shortened(text) : `…${text.slice(1 - letters)}`);

  function hatching() {
    const pattern = svg("pattern", { id: "hatching", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
      svg("line", { x1: 0, y1: 0, x2: 0, y2: 6, class: "hatchline" }));
    return svg("defs", {}, pattern);
  }

  return (options) => Page.plot({
    ...options, height: () => options.rows().length * STEP + 8,
    draw: (root, width) => draw(options, root, width),
  });
})();
