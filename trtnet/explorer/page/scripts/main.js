"use strict";

Page.shell.create([
  { key: "modules", label: "Modules", create: Page.tree.create },
]);
document.documentElement.dataset.ready = "yes";
