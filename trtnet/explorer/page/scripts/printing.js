"use strict";

// On paper a grid is a plain table: what is on screen is only the part in its window.
Page.printing = (() => {
  const { el } = Page.dom;
  const MOST = 400; // rows: about ten sheets

  return (panel, content) => {
    const holder = el("div", { class: "paper", "aria-hidden": true });
    panel.append(holder);
    addEventListener("beforeprint", () => {
      if (panel.hidden) return;
      const { columns, entries } = content();
      const cells = (item) => columns.map((column, at) => {
        const made = column.cell(item.row, item);
        const cell = el("td", { class: column.number ? "number" : null }, made instanceof Node ? made.textContent : made);
        if (at === 0) cell.style.paddingLeft = `${8 * Math.min(item.level ?? 1, 12)}px`;
        return cell;
      });
      holder.replaceChildren(
        el("table", { class: "plain" },
          el("thead", {}, el("tr", {}, columns.map((column) =>
            el("th", {}, column.unit ? `${column.label} (${column.unit})` : column.label)))),
          el("tbody", {}, entries.slice(0, MOST).map((item) => el("tr", {}, cells(item))))),
        entries.length > MOST
          ? el("p", {}, `${entries.length - MOST} more rows: export them as CSV.`) : ""
      );
    });
    addEventListener("afterprint", () => holder.replaceChildren());
  };
})();
