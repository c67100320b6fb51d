"use strict";

// What every script of the page hangs its names on.
const Page = {};

// Elements. Text enters the page here only, as text nodes: nothing is ever parsed as HTML.
Page.dom = (() => {
  const SVG = "http://www.w3.org/2000/svg";

  // `properties`: `class`, `on` ({event: handler}), `data` ({name: value}), `value`, `hidden`, and attributes.
  function fill(node, properties, children) {
    for (const [key, value] of Object.entries(properties || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (key === "on") {
        for (const [event, handler] of Object.entries(value)) node.addEventListener(event, handler);
      } else if (key === "data") Object.assign(node.dataset, value);
      else if (key === "value") node.value = value;
      else node.setAttribute(key, value === true && !key.startsWith("aria-") ? "" : String(value));
    }
    for (const child of children.flat(Infinity)) {
      if (child === null || child === undefined || child === false) continue;
      node.append(child instanceof Node ? child : document.createTextNode(String(child)));
    }
    return node;
  }

  const el = (tag, properties, ...children) =>
    fill(document.createElement(tag), properties, children);
  const svg = (tag, properties, ...children) =>
    fill(document.createElementNS(SVG, tag), properties, children);
  const byId = (id) => document.getElementById(id);

  // A name out of the document: its direction stays its own, and a long one is cut on screen only.
  const name = (text, most = 400) => el("bdi", { class: "name" }, shortened(text, most));

  function shortened(text, most = 200) {
    const plain = String(text);
    return plain.length <= most ? plain : `${plain.slice(0, most - 1)}…`;
  }

  function options(select, entries, chosen) {
    select.replaceChildren(
      ...entries.map(([value, label]) => {
        const made = el("option", { value }, shortened(label, 60));
        made.value = value;
        return made;
      })
    );
    select.value = chosen;
  }

  function download(file, type, text) {
    const url = URL.createObjectURL(new Blob([text], { type }));
    const link = el("a", { href: url, download: file });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  }

  const button = (label, handler, properties) =>
    el("button", { type: "button", ...properties, on: { click: handler } }, label);

  // `head`: texts or {text, number: true}; `rows`: lists of texts or nodes.
  function table(caption, head, rows) {
    const numeric = head.map((cell) => Boolean(cell.number));
    const cells = (row, tag) =>
      row.map((cell, at) =>
        el(at === 0 && tag === "td" ? "th" : tag,
          { class: numeric[at] ? "number" : null, scope: tag === "th" ? "col" : at === 0 ? "row" : null },
          cell instanceof Node || typeof cell !== "object" ? cell : cell.text));
    return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
      el("table", { class: head.length > 3 ? "plain broad" : "plain" },
        el("caption", {}, caption),
        el("thead", {}, el("tr", {}, cells(head, "th"))),
        el("tbody", {}, rows.map((row) => el("tr", {}, cells(row, "td"))))));
  }

  return { el, svg, byId, name, shortened, options, download, button, table };
})();
