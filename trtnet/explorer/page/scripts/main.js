"use strict";

Page.shell.create([
  { key: "modules", label: "Modules", create: Page.tree.create },
  { key: "charts", label: "Charts", create: Page.charts.create },
  { key: "graph", label: "Graph", create: Page.graph.create },
  { key: "precision", label: "Precision", create: Page.precision.create },
  { key: "memory", label: "Memory", create: Page.memory.create },
  { key: "engine", label: "Engine", create: Page.engine.create },
  { key: "comparison", label: "Comparison", create: Page.comparison.create },
  { key: "provenance", label: "Provenance", create: Page.provenance.create },
]);
document.documentElement.dataset.ready = "yes";
