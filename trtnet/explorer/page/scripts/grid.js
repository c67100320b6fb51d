"use strict";

// A table or tree of any length of which only the visible rows are in the page.
//
// Page.grid({label, tree, columns, rows, onOpen, onSelect, onSort, onKey}) where `columns` are
// {key, label, unit, width, grow, number, cell(row) -> text or node, title(row)} and `rows()` returns a list of
// {id, row, level, open: true|false|null, position, size}.
Page.grid = (() => {
  const { el } = Page.dom;
  const HEIGHT = 30; // pixels of a row: page.css has the same
  const SPARE = 8; // rows outside of the window, above and below
  let made = 0;

  function create(options) {
    const prefix = `grid${++made}`;
    const grid = { options, prefix, entries: [], active: 0, drawn: new Map(), sort: "" };
    grid.head = el("div", { role: "row", class: "row head", "aria-rowindex": 1 });
    grid.body = el("div", { role: "rowgroup", class: "body" });
    grid.element = el("div", {
      class: "grid", role: options.tree ? "treegrid" : "grid", tabindex: 0, "aria-label": options.label,
      "aria-colcount": options.columns().length,
    }, el("div", { role: "rowgroup", class: "sticky" }, grid.head), grid.body);
    let waiting = false;
    grid.element.addEventListener("scroll", () => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => { waiting = false; draw(grid); });
    }, { passive: true });
    grid.element.addEventListener("keydown", (event) => onKey(grid, event));
    grid.body.addEventListener("click", (event) => onClick(grid, event));
    new ResizeObserver(() => draw(grid)).observe(grid.element);
    return {
      element: grid.element, refresh: () => refresh(grid), reveal: (id) => reveal(grid, id),
      setSort: (sort) => { grid.sort = sort; }, entries: () => grid.entries,
    };
  }

  function refresh(grid) {
    const active = grid.entries[grid.active]?.id;
    grid.entries = grid.options.rows();
    const kept = grid.entries.findIndex((entry) => entry.id === active);
    grid.active = kept >= 0 ? kept : Math.max(0, Math.min(grid.active, grid.entries.length - 1));
    grid.columns = grid.options.columns();
    grid.element.setAttribute("aria-rowcount", grid.entries.length + 1);
    grid.element.setAttribute("aria-colcount", grid.columns.length);
    const widths = grid.columns.map((c) => (c.grow ? `minmax(${c.width}px, ${c.grow}fr)` : `${c.width}px`));
    grid.element.style.setProperty("--columns", widths.join(" "));
    grid.least = Page.model.sum(grid.columns.map((c) => c.width));
    grid.element.style.setProperty("--least", `${grid.least}px`);
    grid.body.style.height = `${grid.entries.length * HEIGHT}px`;
    drawHead(grid);
    grid.body.replaceChildren();
    grid.drawn.clear();
    draw(grid);
  }

  function drawHead(grid) {
    const focused = document.activeElement?.dataset?.sort;
    grid.head.replaceChildren(...grid.columns.map((column) => {
      const [key, direction] = grid.sort.split(" ");
      const sorted = key === column.key ? (direction === "up" ? "ascending" : "descending") : "none";
      const text = [column.label, column.unit && el("span", { class: "unit" }, ` ${column.unit}`)];
      return el("div", {
        role: "columnheader", class: column.number ? "cell number" : "cell", title: column.help,
        "aria-sort": grid.options.onSort ? sorted : null,
      }, grid.options.onSort
        ? el("button", {
          type: "button", tabindex: -1, data: { sort: column.key },
          on: { click: () => grid.options.onSort(nextSort(grid.sort, column)) },
        }, text, el("span", { class: "arrow", "aria-hidden": true }, { ascending: " ▲", descending: " ▼", none: "" }[sorted]))
        : text);
    }));
    if (focused) grid.head.querySelector(`[data-sort="${CSS.escape(focused)}"]`)?.focus();
  }

  // Numbers start with the largest, names with the first; a third click gives the original order.
  function nextSort(sort, column) {
    const order = column.number ? ["down", "up"] : ["up", "down"];
    const [key, direction] = sort.split(" ");
    if (key !== column.key) return `${column.key} ${order[0]}`;
    return direction === order[0] ? `${column.key} ${order[1]}` : "";
  }

  function draw(grid) {
    if (!grid.columns) return;
    const height = grid.element.clientHeight || 600;
    grid.element.classList.toggle("wider", grid.least > grid.element.clientWidth);
    const first = Math.max(0, Math.floor(grid.element.scrollTop / HEIGHT) - SPARE);
    const last = Math.min(grid.entries.length, first + Math.ceil(height / HEIGHT) + 2 * SPARE);
    const free = [];
    for (const [at, node] of grid.drawn) {
      if (at >= first && at < last) continue;
      free.push(node);
      grid.drawn.delete(at);
    }
    for (let at = first; at < last; at++) {
      if (grid.drawn.has(at)) continue;
      const node = free.pop() || emptyRow(grid);
      fillRow(grid, node, at);
      grid.drawn.set(at, node);
    }
    for (const node of free) node.remove();
    mark(grid);
  }

  // Rows that leave the window are used again: making elements takes longer than filling them.
  function emptyRow(grid) {
    const cells = grid.columns.map((column, index) => el("div", {
      role: index === 0 ? "rowheader" : "gridcell", class: column.number ? "cell number" : "cell",
    }, index === 0 ? [el("span", { class: "twist", "aria-hidden": true }, ""), el("span", {}, "")] : ""));
    const node = el("div", { role: "row" }, cells);
    grid.body.append(node);
    return node;
  }

  function fillRow(grid, node, at) {
    const entry = grid.entries[at];
    const attributes = {
      "aria-rowindex": at + 2, "aria-level": grid.options.tree ? entry.level : null, "aria-expanded": entry.open,
      "aria-posinset": entry.position, "aria-setsize": entry.size,
      "aria-selected": Boolean(grid.options.isSelected?.(entry)),
    };
    for (const [key, value] of Object.entries(attributes)) {
      if (value === null || value === undefined) node.removeAttribute(key);
      else node.setAttribute(key, String(value));
    }
    node.className = `row ${entry.kind || ""}`;
    node.id = `${grid.prefix}-${at}`;
    node.dataset.at = at;
    node.style.transform = `translateY(${at * HEIGHT}px)`;
    grid.columns.forEach((column, index) => fillCell(column, node.children[index], entry, index));
  }

  function fillCell(column, cell, entry, index) {
    const content = column.cell(entry.row, entry);
    if (column.title) cell.title = Page.dom.shortened(column.title(entry.row), 300);
    let place = cell;
    if (index === 0) {
      cell.style.setProperty("--level", Math.min(entry.level ?? 1, 12) - 1);
      cell.firstChild.textContent = entry.open === true ? "▾" : entry.open === false ? "▸" : "";
      place = cell.lastChild;
    }
    if (content instanceof Node) place.replaceChildren(content);
    else if (place.firstChild?.nodeType === Node.TEXT_NODE) place.firstChild.data = String(content);
    else place.textContent = String(content);
  }

  // The active row is the one that keys act on; it is named by aria-activedescendant while drawn.
  function mark(grid) {
    for (const [at, node] of grid.drawn) node.classList.toggle("active", at === grid.active);
    if (grid.drawn.has(grid.active)) {
      grid.element.setAttribute("aria-activedescendant", `${grid.prefix}-${grid.active}`);
    } else grid.element.removeAttribute("aria-activedescendant");
  }

  function activate(grid, at) {
    grid.active = Math.max(0, Math.min(at, grid.entries.length - 1));
    const top = grid.active * HEIGHT;
    const view = grid.element.clientHeight - grid.head.offsetHeight;
    if (top < grid.element.scrollTop) grid.element.scrollTop = top;
    else if (top + HEIGHT > grid.element.scrollTop + view) grid.element.scrollTop = top + HEIGHT - view;
    draw(grid);
  }

  function reveal(grid, id) {
    const at = grid.entries.findIndex((entry) => entry.id === id);
    if (at >= 0) activate(grid, at);
  }

  function onKey(grid, event) {
    if (event.target !== grid.element || event.ctrlKey || event.metaKey || event.altKey) return;
    const entry = grid.entries[grid.active];
    const pageful = Math.max(1, Math.floor(grid.element.clientHeight / HEIGHT) - 2);
    const moves = {
      ArrowDown: 1, ArrowUp: -1, PageDown: pageful, PageUp: -pageful, Home: -Infinity, End: Infinity,
    };
    if (event.key in moves) activate(grid, grid.active + moves[event.key]);
    else if (!entry) return;
    else if (event.key === "Enter") grid.options.onSelect?.(entry);
    else if (event.key === "ArrowRight" && entry.open === false) grid.options.onOpen(entry, true);
    else if (event.key === "ArrowRight" && entry.open === true) activate(grid, grid.active + 1);
    else if (event.key === "ArrowLeft" && entry.open === true) grid.options.onOpen(entry, false);
    else if (event.key === "ArrowLeft" && entry.level > 1) toParent(grid, entry);
    else if (!grid.options.onKey?.(event.key, entry)) return;
    event.preventDefault();
  }

  function toParent(grid, entry) {
    for (let at = grid.active - 1; at >= 0; at--) {
      if (grid.entries[at].level < entry.level) return activate(grid, at);
    }
  }

  function onClick(grid, event) {
    const row = event.target.closest("[data-at]");
    if (!row || event.target.closest("input, button, a")) return;
    const entry = grid.entries[Number(row.dataset.at)];
    grid.active = Number(row.dataset.at);
    if (event.target.closest(".twist") && typeof entry.open === "boolean") {
      grid.options.onOpen(entry, !entry.open);
    } else grid.options.onSelect?.(entry);
    mark(grid);
  }

  return create;
})();
