"use strict";

Page.shell.create([
  { key: "modules", label: "Modules", create: Page.tree.create },
  { key: "charts", label: "Charts", create: Page.charts.create },
  { key: "graph", label: "Graph", create: Page.graph.create },
]);
document.documentElement.dataset.ready = "yes";
