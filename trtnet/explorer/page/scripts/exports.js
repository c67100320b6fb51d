"use strict";

// The rows in view as CSV, JSON and LaTeX, with full precision and units in the names of columns.
Page.exports = (() => {
  const raw = (column, row) => {
    const value = column.raw(row);
    return value === undefined || value === "" ? null : value;
  };

  function csv(columns, rows) {
    const head = ["row", ...columns.map((column) => column.field)];
    const lines = rows.map((row) => [row.isModule ? "module" : "kernel", ...columns.map((c) => raw(c, row))]);
    return [head, ...lines].map((line) => line.map(csvCell).join(",")).join("\r\n") + "\r\n";
  }

  // A text that a spreadsheet would take for a formula gets an apostrophe before it.
  function csvCell(value) {
    if (value === null) return "";
    if (typeof value === "number") return String(value);
    const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }

  function json(columns, rows) {
    return JSON.stringify(rows.map((row) => Object.fromEntries([
      ["row", row.isModule ? "module" : "kernel"], ...columns.map((c) => [c.field, raw(c, row)]),
    ])), null, 1) + "\n";
  }

  const ESCAPES = {
    "\\": "\\textbackslash{}", "{": "\\{", "}": "\\}", "$": "\\$", "&": "\\&", "#": "\\#", "%": "\\%",
    "_": "\\_", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "–": "--", "µ": "\\textmu{}", "×": "$\\times$",
  };
  const tex = (text) => text.replace(/[\\{}$&#%_~^–µ×]/g, (char) => ESCAPES[char]).replace(/[\r\n]+/g, " ");

  // Numbers as the table shows them: LaTeX is for reading.
  function latex(columns, rows) {
    const head = columns.map((c) => tex(c.unit ? `${c.label} (${c.unit})` : c.label)).join(" & ");
    const lines = rows.map((row) => columns.map((column) => {
      const cell = column.key === "name" ? row.path || row.name : column.cell(row, {});
      return tex(cell instanceof Node ? cell.textContent : String(cell));
    }).join(" & ") + " \\\\");
    const align = columns.map((column) => (column.number ? "r" : "l")).join("");
    return [`\\begin{tabular}{${align}}`, "\\hline", `${head} \\\\`, "\\hline", ...lines, "\\hline",
      "\\end{tabular}", ""].join("\n");
  }

  return { csv, json, latex };
})();
