"use strict";

// The filter: words, /regular expressions/, type:conv, precision:fp16 and comparisons such as gap>2.
// All terms must hold.
Page.query = (() => {
  const TERM = /\/(?:\\.|[^/\\])+\/i?|"[^"]*"|\S+/g;
  const COMPARISON = /^([a-z_]+)(>=|<=|>|<|=)(-?\d+(?:\.\d+)?(?:e-?\d+)?)$/i;
  const TESTS = {
    ">": (a, b) => a > b, ">=": (a, b) => a >= b, "<": (a, b) => a < b, "<=": (a, b) => a <= b,
    "=": (a, b) => a === b,
  };

  // `numbers`: {name: row => number or null}. Returns {test, error}.
  function parse(text, numbers) {
    const tests = [];
    for (const term of text.match(TERM) || []) {
      const made = parseTerm(term, numbers);
      if (made.error) return { test: () => true, error: made.error };
      tests.push(made.test);
    }
    return { test: (row) => tests.every((test) => test(row)), error: "" };
  }

  function parseTerm(term, numbers) {
    if (term.length > 1 && term.startsWith("/")) {
      try {
        const pattern = new RegExp(term.replace(/^\/|\/i?$/g, ""), term.endsWith("i") ? "i" : "");
        return { test: (row) => pattern.test(row.text) };
      } catch (error) {
        return { error: `${term} is no regular expression` };
      }
    }
    const comparison = COMPARISON.exec(term);
    if (comparison) {
      const [, name, sign, number] = comparison;
      const value = numbers[name.toLowerCase()];
      if (!value) {
        return { error: `unknown number ${name}; known are ${Object.keys(numbers).join(", ")}` };
      }
      const [test, limit] = [TESTS[sign], Number(number)];
      return {
        test: (row) => {
          const found = value(row);
          return found !== null && found !== undefined && test(found, limit);
        },
      };
    }
    const [, key, wanted] = /^(type|precision):(.+)$/i.exec(term) || [];
    if (key) {
      const lower = wanted.toLowerCase();
      const field = key.toLowerCase() === "type" ? (row) => row.type : (row) => row.precision || "none";
      return { test: (row) => field(row).toLowerCase().includes(lower) };
    }
    const plain = term.replace(/^"|"$/g, "").toLowerCase();
    return { test: (row) => row.lower.includes(plain) };
  }

  return { parse };
})();
