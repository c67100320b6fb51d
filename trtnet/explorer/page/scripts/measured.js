"use strict";

// What was measured of operations, or modelled of their errors: it belongs to the build as asked for, whatever
// precision is chosen. Sums over a kernel or a module leave out what is not known.
Page.measured = (() => {
  const { model } = Page;
  const KEYS = { time: "time_s", least: "min_s", error2: "error2_alone", marginal: "error2_marginal", saved: "saved_s" };
  const NOTHING = { time: null, least: null, error2: null, marginal: null, saved: null };

  // Operations by module: {module, kernel (-1: none), time, error2, marginal, saved, estimated}.
  function operations(build) {
    const columns = build.study?.rows;
    if (!columns || !Object.values(KEYS).some((key) => columns[key])) return [];
    return Array.from({ length: model.length(columns) }, (_, at) => {
      const layer = model.value(columns.layer, at) ?? -1;
      const made = { module: columns.module[at], kernel: layer < 0 ? -1 : build.layers.kernel[layer], estimated: Boolean(model.value(columns.estimated, at)) };
      for (const [name, key] of Object.entries(KEYS)) made[name] = model.value(columns[key], at);
      return made;
    }).filter((row) => Object.keys(NOTHING).some((name) => row[name] !== null)).sort((a, b) => a.module - b.module);
  }

  function total(found) {
    const sums = { ...NOTHING, estimated: found.some((row) => row.estimated && row.time !== null) };
    for (const name of Object.keys(NOTHING)) {
      const known = found.map((row) => row[name]).filter((value) => value !== null);
      if (known.length) sums[name] = model.fsum(known);
    }
    if (found.some((row) => row.time !== null && row.least === null)) sums.least = null; // not that of all
    return sums;
  }

  // The operations of modules from `start` to before `end`, out of a list in the order of modules.
  function within(found, start, end) {
    const at = d3.bisector((row) => row.module);
    return found.slice(at.left(found, start), at.left(found, end));
  }

  // Modules that were lowered alone: {sqnr, rel, saved}, by the journal of a search or else by the study.
  function alone(build) {
    const found = new Map();
    for (const row of operations(build)) {
      if (row.error2 === null || found.has(row.module)) continue;
      found.set(row.module, { sqnr: decibels(row.error2), rel: Math.sqrt(row.error2), saved: row.saved });
    }
    const journal = build.precision?.sensitivities;
    for (let at = 0; at < model.length(journal); at++) {
      found.set(journal.module[at], {
        sqnr: model.value(journal.sqnr_db, at), rel: model.value(journal.rel_l2, at), saved: model.value(journal.saved_s, at),
      });
    }
    return found;
  }

  // As in a study: the least time, or else the median, over the bound.
  function gap(row) {
    const time = row.least ?? row.time;
    return time !== null && row.bound ? time / row.bound : null;
  }

  const decibels = (error2) => (error2 === null || error2 <= 0 ? null : -10 * Math.log10(error2));

  return { operations, total, within, alone, gap, decibels, NOTHING };
})();
