"use strict";

// Numbers as text. Unknown values (null) are shown as an en dash; the document keeps full precision.
Page.format = (() => {
  const UNKNOWN = "–";
  const known = (value) => typeof value === "number" && Number.isFinite(value);

  // Making a formatter takes longer than a row of a table may take: each is made once.
  const formatters = new Map();
  function formatter(options) {
    const key = JSON.stringify(options);
    if (!formatters.has(key)) formatters.set(key, new Intl.NumberFormat("en-US", options));
    return formatters.get(key);
  }
  const FIXED = [0, 1, 2, 3].map((digits) =>
    formatter({ minimumFractionDigits: digits, maximumFractionDigits: digits }));

  const fixed = (value, digits) => (known(value) ? FIXED[digits].format(value) : UNKNOWN);

  function significant(value, digits = 3) {
    if (!known(value)) return UNKNOWN;
    if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e7)) {
      return value.toExponential(digits - 1);
    }
    return formatter({ maximumSignificantDigits: digits }).format(value);
  }

  function scaled(value, units, digits) {
    if (!known(value)) return UNKNOWN;
    const [factor, unit] = units.find(([size]) => Math.abs(value) >= size) || units[units.length - 1];
    return `${significant(value / factor, digits)} ${unit}`;
  }

  const TIMES = [[1, "s"], [1e-3, "ms"], [1e-6, "µs"], [1e-9, "ns"]];
  const BYTES = [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"], [1, "B"]];
  const COUNTS = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""]];

  const time = (seconds, digits = 4) => scaled(seconds, TIMES, digits);
  const bytes = (count, digits = 4) => scaled(count, BYTES, digits);
  const count = (number, unit = "", digits = 4) => {
    const text = scaled(number, COUNTS, digits);
    return text === UNKNOWN ? text : (text + unit).trim();
  };
  const percent = (share, digits = 1) =>
    known(share) ? `${fixed(100 * share, digits)} %` : UNKNOWN;
  const plural = (number, one, many = `${one}s`) =>
    `${number.toLocaleString("en-US")} ${number === 1 ? one : many}`;

  return { UNKNOWN, known, fixed, significant, time, bytes, count, percent, plural };
})();
