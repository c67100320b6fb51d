"use strict";

// What all charts share: a figure with a title, a drawing that follows its width, marks that keys
// and pointers reach, a tip, and the drawing as an SVG file.
//
// Page.plot({title, note, height(width), draw(svg, width, height) -> marks, onSelect(mark), onActive(mark), file}) where a mark is
// {node, label, value}; marks are in the order in which arrow keys visit them.
Page.plot = (() => {
  const { el, svg, button, download } = Page.dom;
  let made = 0;

  function create(options) {
    const plot = { options, prefix: `plot${++made}`, marks: [], active: -1, width: 0 };
    plot.svg = svg("svg", { tabindex: 0, role: "listbox", "aria-label": `${options.title}. Arrow keys move between the marks, Enter selects.` });
    plot.tip = el("div", { class: "tip", hidden: true });
    plot.note = el("p", { class: "note" });
    plot.box = el("div", { class: "drawing" }, plot.svg, plot.tip);
    plot.element = el("figure", { class: `card ${options.wide ? "wide" : ""}` },
      el("figcaption", { class: "panelhead" }, el("h2", {}, options.title),
        options.tools || [], button("SVG", () => save(plot), { "aria-label": `${options.title} as an SVG file` })),
      plot.note, plot.box, options.after || []);
    plot.svg.addEventListener("keydown", (event) => onKey(plot, event));
    plot.svg.addEventListener("focus", () => plot.active >= 0 && activate(plot, plot.active));
    plot.svg.addEventListener("blur", () => { plot.tip.hidden = true; });
    new ResizeObserver(() => {
      const width = plot.box.clientWidth;
      if (width && width !== plot.width) refresh(plot);
    }).observe(plot.box);
    return { element: plot.element, refresh: () => refresh(plot), svg: plot.svg };
  }

  function refresh(plot) {
    const width = plot.box.clientWidth;
    plot.note.textContent = typeof plot.options.note === "function" ? plot.options.note() : plot.options.note;
    if (!width) return;
    plot.width = width;
    const height = plot.options.height(width);
    plot.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    plot.svg.setAttribute("width", width);
    plot.svg.setAttribute("height", height);
    plot.svg.replaceChildren();
    plot.marks = plot.options.draw(plot.svg, width, height);
    plot.active = plot.marks.length ? Math.max(0, plot.marks.findIndex((mark) => mark.selected)) : -1;
    plot.svg.removeAttribute("aria-activedescendant");
    plot.marks.forEach((mark, at) => {
      mark.node.setAttribute("id", `${plot.prefix}-${at}`);
      mark.node.setAttribute("role", "option");
      mark.node.setAttribute("aria-label", mark.label);
      mark.node.setAttribute("aria-selected", String(Boolean(mark.selected)));
      mark.node.addEventListener("pointerenter", () => tell(plot, mark));
      mark.node.addEventListener("pointerleave", () => { plot.tip.hidden = true; });
      mark.node.addEventListener("click", () => plot.options.onSelect(mark));
    });
    // A listbox needs options; a drawing without any is a picture.
    plot.svg.setAttribute("role", plot.marks.length ? "listbox" : "img");
    plot.svg.setAttribute("tabindex", plot.marks.length ? "0" : "-1");
  }

  function tell(plot, mark) {
    plot.tip.textContent = mark.label;
    plot.tip.hidden = false;
    const [box, own] = [plot.box.getBoundingClientRect(), mark.node.getBoundingClientRect()];
    const left = own.left + own.width / 2 - box.left;
    const half = plot.tip.offsetWidth / 2;
    plot.tip.style.left = `${Math.max(half, Math.min(left, box.width - half))}px`;
    const above = own.top - box.top - plot.tip.offsetHeight - 6;
    plot.tip.style.top = `${above >= 0 ? above : own.bottom - box.top + 6}px`;
  }

  function activate(plot, at) {
    plot.marks[plot.active]?.node.classList.remove("active");
    plot.active = Math.max(0, Math.min(at, plot.marks.length - 1));
    const mark = plot.marks[plot.active];
    mark.node.classList.add("active");
    plot.svg.setAttribute("aria-activedescendant", `${plot.prefix}-${plot.active}`);
    plot.options.onActive?.(mark);
    tell(plot, mark);
  }

  function onKey(plot, event) {
    if (!plot.marks.length) return;
    const moves = {
      ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -Infinity, End: Infinity,
    };
    if (event.key in moves) activate(plot, plot.active + moves[event.key]);
    else if (event.key === "Enter" && plot.marks[plot.active]) plot.options.onSelect(plot.marks[plot.active]);
    else if (event.key === "Escape") plot.tip.hidden = true;
    else return;
    event.preventDefault();
  }

  const STYLES = ["fill", "stroke", "stroke-width", "stroke-dasharray", "opacity", "font-size", "font-family",
    "font-weight", "text-anchor"];
  // The drawing with its colours inside, since a file has no style sheet.
  function save(plot) {
    const copy = plot.svg.cloneNode(true);
    const [from, to] = [plot.svg.querySelectorAll("*"), copy.querySelectorAll("*")];
    from.forEach((node, at) => {
      const style = getComputedStyle(node);
      for (const key of STYLES) {
        const value = style.getPropertyValue(key);
        if (value) to[at].setAttribute(key, value);
      }
    });
    for (const key of ["tabindex", "role", "aria-activedescendant"]) copy.removeAttribute(key);
    copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
    const ground = svg("rect", {
      width: "100%", height: "100%", fill: getComputedStyle(plot.element).backgroundColor,
    });
    copy.prepend(ground);
    download(`${plot.options.file}.svg`, "image/svg+xml", new XMLSerializer().serializeToString(copy));
  }

  return create;
})();
