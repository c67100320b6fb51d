"use strict";

// What the reader chose. It is kept in the fragment of the page's address, so that a copied
// address shows the same view.
Page.state = (() => {
  const DEFAULTS = {
    view: "modules", gpu: "", precision: "", query: "", type: "", own: "", sort: "", layout: "tree",
    depth: "", open: "", shut: "", selected: "", theme: "", rate: "", flat: "", fold: "", low: "",
  };
  const LONGEST = 4000; // characters of one value: longer ones stay out of the address
  const values = { ...DEFAULTS };
  const listeners = [];
  let brushed = null; // a set of row numbers, or null; too large for an address

  function read() {
    const given = new URLSearchParams(location.hash.slice(1));
    for (const key of Object.keys(DEFAULTS)) values[key] = given.get(key) ?? DEFAULTS[key];
  }

  function write() {
    const kept = new URLSearchParams();
    for (const [key, value] of Object.entries(values)) {
      if (value !== DEFAULTS[key] && value.length <= LONGEST) kept.set(key, value);
    }
    const text = kept.toString();
    history.replaceState(null, "", text ? `#${text}` : "#");
  }

  function tell(changed) {
    for (const listener of listeners) listener(changed);
  }

  // Changes values and tells the listeners which keys differ.
  function set(changes) {
    const changed = new Set();
    for (const [key, value] of Object.entries(changes)) {
      if (!(key in DEFAULTS)) throw new Error(`unknown state ${key}`);
      if (values[key] !== String(value)) {
        values[key] = String(value);
        changed.add(key);
      }
    }
    if (!changed.size) return;
    write();
    tell(changed);
  }

  function brush(rows) {
    if (brushed === null && rows === null) return;
    brushed = rows;
    tell(new Set(["brush"]));
  }

  addEventListener("hashchange", () => {
    const before = { ...values };
    read();
    const changed = new Set(Object.keys(values).filter((key) => values[key] !== before[key]));
    if (changed.size) tell(changed);
  });

  read();
  return {
    values, set, brush, brushed: () => brushed, listen: (listener) => listeners.push(listener),
  };
})();
