"use strict";

// View 5: the bytes of activations that live while each kernel runs.
Page.memory = (() => {
  const { el, svg, name } = Page.dom;
  const { rows, state, model } = Page;
  const { bytes, percent } = Page.format;
  const MOST_MARKS = 1500; // of longer networks every n-th kernel has a mark
  let step = null;

  const memory = () => rows.build().memory;
  const kernelName = (at) => model.value(rows.build().variants[0].kernels.layer, at) ?? `kernel ${at}`;

  function draw(root, width, height) {
    const { live, peak } = memory();
    const box = { left: 70, right: width - 12, top: 24, bottom: height - 40 };
    const sx = d3.scaleLinear([0, Math.max(1, live.length)], [box.left, box.right]);
    const sy = d3.scaleLinear([0, (d3.max(live) || 1) * 1.06], [box.bottom, box.top]).nice();
    const axis = (made, transform) => {
      const node = svg("g", { class: "axis", transform, "aria-hidden": true });
      root.append(node);
      d3.select(node).call(made);
    };
    axis(d3.axisLeft(sy).ticks(5).tickFormat((v) => bytes(v, 3)).tickSize(box.left - box.right).tickPadding(8), `translate(${box.left},0)`);
    axis(d3.axisBottom(sx).ticks(Math.max(3, width / 110)).tickSize(4), `translate(0,${box.bottom})`);
    root.append(svg("text", { class: "axislabel", x: box.right, y: box.bottom + 34, "text-anchor": "end", "aria-hidden": true }, "kernel, in the order of the run"));
    const steps = live.flatMap((value, at) => [[at, value], [at + 1, value]]);
    root.append(svg("path", { class: "live", d: d3.area((p) => sx(p[0]), sy(0), (p) => sy(p[1]))(steps) || "" }));
    const every = Math.ceil(live.length / MOST_MARKS);
    const marks = [];
    live.forEach((value, at) => {
      if (at % every && at !== peak.step) return;
      const node = svg("rect", {
        class: `moment${at === peak.step ? " peak" : ""}${at === shownStep() ? " selected" : ""}`,
        x: sx(at), y: box.top, width: Math.max(1, sx(at + 1) - sx(at)), height: box.bottom - box.top,
      });
      marks.push({ node, value: at, selected: at === shownStep(), label: `${Page.dom.shortened(kernelName(at), 80)}: ${bytes(value)} live${at === peak.step ? ", the peak" : ""}` });
    });
    root.append(svg("g", {}, marks.map((mark) => mark.node)));
    root.append(svg("text", { class: "peaktext", x: Math.min(sx(peak.step), box.right - 120), y: box.top - 8, "aria-hidden": true }, `peak ${bytes(peak.bytes)}`));
    return marks;
  }

  const shownStep = () => step ?? memory().peak.step;

  // What lives at a step, the largest first.
  function living(at) {
    const { tensors } = memory();
    const found = [];
    for (let row = 0; row < tensors.bytes.length; row++) {
      if (tensors.first[row] <= at && at <= tensors.last[row]) found.push(row);
    }
    return found.sort((a, b) => tensors.bytes[b] - tensors.bytes[a]);
  }

  function table() {
    const { build, modules } = rows.network();
    const { tensors, live } = memory();
    const at = shownStep();
    const list = living(at);
    return Page.dom.table(`Live while ${Page.dom.shortened(kernelName(at), 100)} runs: ${bytes(live[at])}`,
      ["tensor", "shape and type", "written by", { text: "size", number: true }, { text: "share", number: true }],
      list.slice(0, 40).map((row) => {
        const tensor = tensors.tensor[row];
        const home = tensors.module[row] < 0 ? null : modules[tensors.module[row]];
        return [name(build.tensors.name[tensor], 80), Page.details.shape(build, tensor),
          home ? Page.dom.button(Page.dom.shortened(home.path || home.name, 60), () => rows.select(home), { class: "link" }) : "the caller",
          bytes(tensors.bytes[row]), percent(tensors.bytes[row] / live[at])];
      }));
  }

  function create(panel) {
    if (!memory()) {
      panel.append(el("p", { class: "lead" }, "The document tells nothing of memory."));
      return;
    }
    const holder = el("div", {});
    const plot = Page.plot({
      title: "Activations that live during the run", file: "memory", wide: true,
      note: () => memory().note || "", height: (width) => (width < 500 ? 260 : 320), draw,
      onSelect: (mark) => { step = mark.value; refresh(); selectKernel(); },
    });
    function selectKernel() {
      const row = rows.network().kernels.find((kernel) => kernel.path === kernelName(step));
      if (row) rows.select(row);
    }
    function refresh() {
      plot.refresh();
      holder.replaceChildren(table());
    }
    panel.append(el("p", { class: "lead" }, name(memory().peak.text || "", 600)), plot.element, holder);
    refresh();
    state.listen((changed) => changed.has("view") && !panel.hidden && plot.refresh());
  }

  return { create };
})();
