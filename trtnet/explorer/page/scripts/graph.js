"use strict";

// View 3: the selected module as a graph, with its neighbours.
Page.graph = (() => {
  const { el, svg, button, shortened } = Page.dom;
  const { rows, state, model, columns, folding } = Page;
  const MOST_NODES = 260; // more are neither readable nor laid out in a second
  const CONVERSIONS = new Set(["CAST", "QUANTIZE", "DEQUANTIZE"]);
  const SHORT = {
    float32: "fp32", float16: "fp16", bfloat16: "bf16", float8_e4m3fn: "fp8", fp8: "fp8", int8: "int8", float4_e2m1: "fp4",
  };
  const letters = (text, most) => shortened(text, most);
  let parts = null;

  const chosen = () => (state.values.fold ? state.values.fold.split(".").map(Number) : []);
  const focus = () => {
    const row = rows.selected();
    return row ? rows.moduleOf(row).module : 0;
  };
  const dtypeOf = (build, tensor) => {
    const name = model.value(build.tensors.dtype, tensor) || "";
    return SHORT[name] || name;
  };

  function describe(node, run) {
    const { build, modules, kernels } = rows.network();
    const at = Number(node.slice(1));
    if (run) {
      const home = modules[run.module];
      return { kind: "folded", row: home, title: `${run.layers} operations`, more: `from ${build.layers.op[at]} on, of ${home.path || "the network"}`, tint: "other", opens: folding.runKey(modules, at) };
    }
    if (node[0] === "t" || node[0] === "o") {
      return { kind: "end", title: build.tensors.name[at], more: `${node[0] === "t" ? "input" : "output"}, ${Page.details.shape(build, at)}`, tint: columns.tint(dtypeOf(build, at)) };
    }
    if (node[0] === "m") {
      const row = modules[at];
      return { kind: "folded", row, title: row.path, more: `${row.type}, ${row.below.length ? Page.format.plural(row.below.length, "kernel") : "no kernel of its own"}`, tint: columns.tint(row.precision), opens: at };
    }
    const type = model.value(build.layers.type, at) || "";
    const home = modules[build.layers.module[at]];
    const name = build.layers.name[at];
    const row = kernels.find((kernel) => kernel.path === name) || home;
    const dtype = build.layers.outputs[at].length ? dtypeOf(build, build.layers.outputs[at][0]) : "";
    return { kind: CONVERSIONS.has(type) ? "cast" : "layer", row, title: name, more: `${type.toLowerCase()} → ${dtype}`, tint: columns.tint(dtype) };
  }

  function layout(found) {
    const graph = new dagre.graphlib.Graph();
    graph.setGraph({ rankdir: "TB", nodesep: 22, ranksep: 46, marginx: 14, marginy: 14 });
    graph.setDefaultEdgeLabel(() => ({}));
    for (const [id, node] of found.nodes) {
      node.about = describe(id, node.run);
      const widest = Math.max(node.about.title.length, node.about.more.length * 0.92);
      graph.setNode(id, { width: Math.min(250, 28 + 7.3 * Math.min(widest, 30)), height: 44 });
    }
    for (const edge of found.edges) graph.setEdge(edge.from, edge.to, {});
    dagre.layout(graph);
    return graph;
  }

  function edgeText(edge) {
    const { build } = rows.network();
    const [first, ...others] = edge.tensors;
    const text = `${(build.tensors.shape[first] || []).join("×")} ${dtypeOf(build, first)}`;
    return others.length ? `${text} +${others.length}` : text;
  }

  function drawEdge(graph, edge) {
    const { build } = rows.network();
    const { points } = graph.edge(edge.from, edge.to);
    const tint = columns.tint(dtypeOf(build, [...edge.tensors][0]));
    const path = d3.line((p) => p.x, (p) => p.y, ).curve(d3.curveBasis)(points);
    const middle = points[Math.floor(points.length / 2)];
    return svg("g", { class: `edge tint-${tint}` },
      svg("path", { d: path, "marker-end": "url(#arrow)" }),
      svg("text", { x: middle.x + 5, y: middle.y + 4 }, edgeText(edge)));
  }

  function drawNode(graph, id, node) {
    const { x, y, width, height } = graph.node(id);
    const { about } = node;
    const most = Math.floor((width - 16) / 7);
    const title = about.title.length > most ? `…${about.title.slice(1 - most)}` : about.title;
    const selected = about.row && rows.keyOf(about.row) === state.values.selected && !["end", "folded"].includes(about.kind);
    return svg("g", {
      class: `node ${about.kind} tint-${about.tint}${node.inside ? "" : " outside"}${selected ? " selected" : ""}`,
      transform: `translate(${x - width / 2},${y - height / 2})`,
    },
    svg("rect", { width, height, rx: about.kind === "end" ? 22 : 6 }),
    about.kind === "folded" ? svg("rect", { x: 3, y: 3, width: width - 6, height: height - 6, rx: 4, class: "inner" }) : null,
    svg("text", { x: width / 2, y: 19, "text-anchor": "middle", class: "nodetitle" }, letters(title, most)),
    svg("text", { x: width / 2, y: 35, "text-anchor": "middle", class: "nodemore" }, letters(about.more, most + 2)));
  }

  function draw(root, width, height) {
    const found = folding.graphOf(focus(), chosen());
    parts.problem.textContent = found.nodes.size > MOST_NODES
      ? `${found.nodes.size} nodes are too many for one drawing: select a smaller module, or fold some.` : "";
    if (found.nodes.size > MOST_NODES) return [];
    const graph = layout(found);
    const canvas = svg("g", {});
    root.append(svg("defs", {}, svg("marker", {
      id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 6, markerHeight: 6, orient: "auto",
    }, svg("path", { d: "M0 0 8 4 0 8z", class: "arrowhead" }))), canvas);
    canvas.append(svg("g", { "aria-hidden": true }, found.edges.map((edge) => drawEdge(graph, edge))));
    const marks = [...found.nodes].map(([id, node]) => {
      const made = drawNode(graph, id, node);
      return {
        id, node: made, value: node.about, y: graph.node(id).y, x: graph.node(id).x,
        selected: made.classList.contains("selected"),
        label: `${shortened(node.about.title, 100)}: ${node.about.more}${node.inside ? "" : ", outside of the module"}`,
      };
    }).sort((a, b) => a.y - b.y || a.x - b.x);
    canvas.append(svg("g", {}, marks.map((mark) => mark.node)));
    zooming(root, canvas, graph.graph(), width, height);
    return marks;
  }

  function zooming(root, canvas, size, width, height) {
    const zoom = d3.zoom().scaleExtent([0.1, 3]).on("zoom", (event) => canvas.setAttribute("transform", event.transform));
    zoom.filter((event) => (event.type === "wheel" ? event.ctrlKey || event.metaKey : !event.button));
    const drawn = d3.select(root).call(zoom).on("dblclick.zoom", null);
    const whole = Math.min(1.1, width / size.width, height / size.height);
    // A tall graph starts at its top in a size that can be read.
    const scale = Math.max(whole, Math.min(0.8, width / size.width));
    const start = d3.zoomIdentity.translate((width - scale * size.width) / 2, 0).scale(scale);
    drawn.call(zoom.transform, start);
    parts.zoom = (factor) => drawn.call(zoom.scaleBy, factor);
    parts.pan = (dx, dy) => drawn.call(zoom.translateBy, dx, dy);
    parts.show = ({ x, y }) => { // moves a node that keys reach into the window
      const [left, top] = d3.zoomTransform(root).apply([x, y]);
      if (left < 60 || left > width - 60 || top < 30 || top > height - 30) drawn.call(zoom.translateTo, x, y);
    };
    parts.fit = () => drawn.call(zoom.transform,
      d3.zoomIdentity.translate((width - whole * size.width) / 2, (height - whole * size.height) / 2).scale(whole));
  }

  function onSelect(mark) {
    const { kind, row } = mark.value;
    if (kind === "end" || !row) return;
    if (kind === "folded") return toggle(mark.value.opens);
    rows.select(row);
  }

  function toggle(key) {
    const open = new Set(chosen());
    if (!open.delete(key)) open.add(key);
    state.set({ fold: [...open].join(".") });
  }

  function trail() {
    const { modules } = rows.network();
    const list = [];
    for (let at = focus(); at >= 0; at = modules[at].parent) list.unshift(modules[at]);
    parts.trail.replaceChildren(...list.map((row, at) => el("li", {},
      at === list.length - 1 ? el("span", { "aria-current": "location" }, Page.dom.name(row.name, 60))
        : button(shortened(row.name, 60), () => rows.select(row), { class: "link" }))));
    parts.children.replaceChildren();
    const inner = list[list.length - 1].children.filter((row) => row.isModule);
    Page.dom.options(parts.children, [["", inner.length ? "go into…" : "no modules inside"], ...inner.map((row) => [row.path, row.name])], "");
    parts.children.disabled = !inner.length;
  }

  function create(panel) {
    parts = { trail: el("ol", { class: "trail", "aria-label": "Module drawn" }), problem: el("p", { class: "note", role: "status" }) };
    parts.children = el("select", { "aria-label": "Go into a module", on: { change: () => state.set({ selected: `m:${parts.children.value}` }) } });
    const plot = Page.plot({
      title: "Graph", file: "graph", wide: true,
      note: "Colour: the type of what a layer gives. Dashed: a cast or Q/DQ. Double frame: a folded module, which a click opens. Faint: outside. Drag to move, Ctrl and the wheel to zoom.",
      height: (width) => (width < 500 ? 520 : 640), draw, onSelect, onActive: (mark) => parts.show?.(mark),
      tools: [
        button("−", () => parts.zoom?.(0.8), { "aria-label": "Smaller" }), button("+", () => parts.zoom?.(1.25), { "aria-label": "Larger" }),
        button("↑", () => parts.pan?.(0, 120), { "aria-label": "Move up" }), button("↓", () => parts.pan?.(0, -120), { "aria-label": "Move down" }),
        button("Fit", () => parts.fit?.()), button("Fold all", () => state.set({ fold: "" })),
      ],
    });
    panel.append(el("div", { class: "tools" }, parts.trail, parts.children), parts.problem, plot.element);
    const refresh = () => { trail(); plot.refresh(); };
    refresh();
    state.listen((changed) => {
      if (panel.hidden) return;
      if (["selected", "fold", "view", "precision"].some((key) => changed.has(key))) refresh();
    });
  }

  return { create };
})();
