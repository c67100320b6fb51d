"use strict";

Page.shell.create([
  { key: "modules", label: "Modules", filtered: true, create: Page.tree.create },
  { key: "charts", label: "Charts", filtered: true, create: Page.charts.create },
  { key: "graph", label: "Graph", create: Page.graph.create },
  { key: "precision", label: "Precision", filtered: true, create: Page.precision.create },
  { key: "memory", label: "Memory", create: Page.memory.create },
  { key: "engine", label: "Engine", create: Page.engine.create },
  { key: "comparison", label: "Comparison", create: Page.comparison.create },
  { key: "provenance", label: "Provenance", create: Page.provenance.create },
]);
document.documentElement.dataset.ready = "yes";
