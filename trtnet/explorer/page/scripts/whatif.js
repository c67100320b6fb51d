"use strict";

// What a choice of lowered modules gives: measured where a trial of the search made it, otherwise predicted; and
// the policy that makes it.
Page.whatif = (() => {
  const { model, rows, state } = Page;
  const precision = () => rows.build().precision;
  const candidates = () => new Set(precision()?.sensitivities?.module || []);

  // The lowered modules: those of the address, or of the best trial, or none.
  function lowered() {
    const { low } = state.values;
    const known = candidates();
    if (low === "none") return new Set();
    if (low) return new Set(low.split(".").map(Number).filter((row) => known.has(row)));
    const { trials, best } = precision() || {};
    return new Set(trials && Number.isInteger(best) ? trials.changed[best] : []);
  }

  const set = (modules) => state.set({ low: [...modules].sort((a, b) => a - b).join(".") || "none" });

  function outcome(modules) {
    const { trials, sensitivities } = precision();
    const same = (changed) => changed.length === modules.size && changed.every((row) => modules.has(row));
    const trial = trials ? trials.changed.findIndex(same) : -1;
    if (trial >= 0) {
      return { trial, rel: model.value(trials.rel_l2, trial), sqnr: model.value(trials.sqnr_db, trial), seconds: model.value(trials.seconds, trial), saved: null };
    }
    const at = sensitivities.module.map((row, index) => [row, index]).filter(([row]) => modules.has(row)).map(([, index]) => index);
    const errors = at.map((index) => model.value(sensitivities.rel_l2, index));
    const savings = at.map((index) => model.value(sensitivities.saved_s, index));
    const rel = errors.includes(null) ? null : Math.sqrt(model.fsum(errors.map((error) => error * error)));
    const saved = savings.includes(null) ? null : model.fsum(savings);
    const none = trials ? trials.changed.findIndex((changed) => !changed.length) : -1;
    const start = none >= 0 ? model.value(trials.seconds, none) : null;
    return {
      trial: -1, rel, sqnr: rel === null || rel === 0 ? null : -20 * Math.log10(rel), saved,
      seconds: start === null || saved === null ? null : start - saved,
    };
  }

  // A path as a pattern that matches itself alone.
  const escaped = (path) => path.replace(/[*?[]/g, (sign) => `[${sign}]`);
  // A basic string of TOML: JSON's, which escapes all but DEL.
  const quoted = (text) => JSON.stringify(text).replaceAll("\x7f", "\\u007f");

  function policy(modules) {
    const { to, base, rest, sensitivities } = precision();
    const { modules: all } = rows.network();
    const kept = sensitivities.module.filter((row) => !modules.has(row))
      .map((row) => `${quoted(escaped(all[row].module_path))} = ${quoted(rest)}`);
    return `compute = ${quoted(to)}\nio = "fp32"\nbase = ${quoted(base)}\n\n[keep]\n${kept.map((line) => `${line}\n`).join("")}`;
  }

  return { candidates, lowered, set, outcome, policy };
})();
