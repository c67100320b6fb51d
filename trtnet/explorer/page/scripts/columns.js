"use strict";

// The columns of the module tree. `raw` is the value of exports, in the unit that `field` names.
Page.columns = (() => {
  const { el, name } = Page.dom;
  const { fixed, significant, UNKNOWN } = Page.format;
  const micro = (seconds) => (seconds === null ? null : 1e6 * seconds);

  const KNOWN_COLOURS = new Set(["fp32", "tf32", "fp16", "bf16", "fp8", "int8", "fp4", "mixed"]);
  const tint = (precision) => (KNOWN_COLOURS.has(precision) ? precision : "other");
  function chip(precision) {
    if (!precision) return el("span", { class: "faint" }, UNKNOWN);
    return el("span", { class: `chip tint-${tint(precision)}` }, precision);
  }

  const number = (key, label, unit, field, raw, digits, help, width = 84) => ({
    key, label, unit, field, raw, help, width, number: true,
    cell: (row) => (digits === null ? significant(raw(row)) : fixed(raw(row), digits)),
  });

  const ALL = [
    {
      key: "name", label: "module or layer", field: "path", width: 190, grow: 2.2,
      raw: (row) => row.path, title: (row) => row.path || row.name, cell: (row, entry) =>
        name(entry.full ? row.path || row.name : row.name),
    },
    {
      key: "type", label: "type", field: "type", width: 130, grow: 1, raw: (row) => row.type,
      title: (row) => row.type, cell: (row) => name(row.type, 60),
    },
    {
      key: "precision", label: "products", field: "precision", width: 76,
      help: "the precision of the multiplications; an en dash: none",
      raw: (row) => row.precision, cell: (row) => chip(row.precision),
    },
    number("macs", "MACs", "M", "macs", (row) => row.macs, null, "multiply-accumulates, millions", 92),
    number("parameters", "weights", "k", "parameters", (row) => row.parameters, null, "weight elements, thousands", 100),
    number("bytes", "moved", "MB", "bytes", (row) => row.read + row.written, null, "read from and written to memory", 104),
    number("intensity", "intensity", "FLOP/B", "intensity", (row) => row.intensity, 1, "two operations per MAC, by byte moved", 124),
    number("bound", "bound", "µs", "bound_s", (row) => row.bound, null, "roofline bound: no GPU can take less"),
    number("share", "share", "%", "bound_share", (row) => row.share, null, "of the bound of the whole network", 72),
    {
      key: "limit", label: "limit", field: "limit", width: 82, raw: (row) => row.limit,
      cell: (row) => row.limit || UNKNOWN,
    },
    number("time", "measured", "µs", "time_s", (row) => row.time, null, "median of a profile", 96),
    number("gap", "gap", "×", "gap", (row) => row.gap, 2, "least measured time by bound; the median where no least is known", 64),
    number("casts", "casts, Q/DQ", "", "casts_and_qdq", (row) => row.casts, 0, "layers that only convert", 104),
    number("sqnr", "SQNR alone", "dB", "sqnr_alone_db", (row) => Page.measured.decibels(row.error2), 1, "of the output when this alone is lowered; of a module: its errors added in their squares, which predicts", 118),
    number("marginal", "marginal", "error²", "error2_marginal", (row) => row.marginal, null, "squared error that goes away when this alone is set back in the present mix", 130),
    number("saved", "saves", "µs", "saved_s", (row) => row.saved, null, "bound that lowering this alone saves", 76),
    number("benefit", "benefit", "µs by error²", "benefit", (row) => (row.error2 && row.saved !== null ? row.saved / row.error2 : null), null, "time saved by squared error added", 138),
  ];
  // Below a microsecond in all, two digits tell nothing of the parts.
  const small = () => Page.rows.network().modules[0].bound < 1e-6;
  const SHOWN = { // how a cell of the table scales the raw value
    macs: (row) => fixed(row.macs / 1e6, 1), parameters: (row) => fixed(row.parameters / 1e3, 1),
    bytes: (row) => fixed((row.read + row.written) / 1e6, 3), bound: (row) => fixed(micro(row.bound), small() ? 3 : 2),
    share: (row) => fixed(row.share === null ? null : 100 * row.share, 1), time: (row) => fixed(micro(row.time), 2),
    saved: (row) => fixed(micro(row.saved), 3),
    benefit: (row) => (row.error2 && row.saved !== null ? significant(micro(row.saved) / row.error2) : UNKNOWN),
  };
  // A module without a kernel of its own runs inside of others': its bound is theirs. What was measured is its own.
  const MEASURED = ["time", "casts", "sqnr", "marginal", "saved", "benefit"];
  for (const column of ALL.filter((one) => one.number)) {
    const cell = SHOWN[column.key] || column.cell;
    column.cell = MEASURED.includes(column.key) ? cell : (row) => (row.isModule && !row.count ? UNKNOWN : cell(row));
  }

  // Columns that no row of the document fills are left out.
  const OPTIONAL = [...MEASURED, "gap"];
  function present() {
    const { modules, kernels } = Page.rows.network();
    const filled = (column) =>
      modules.some((row) => column.raw(row) !== null) || kernels.some((row) => column.raw(row) !== null);
    return ALL.filter((column) => !OPTIONAL.includes(column.key) || filled(column));
  }

  return { ALL, present, chip, tint };
})();
