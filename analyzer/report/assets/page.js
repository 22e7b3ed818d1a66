(() => {
  "use strict";
  const root = document.documentElement;
  const KEY = "analyzer-theme";
  try {
    const kept = localStorage.getItem(KEY);
    if (kept === "light" || kept === "dark") root.dataset.theme = kept;
  } catch { /* storage may be forbidden for local files */ }

  const all = (selector, from = document) => [...from.querySelectorAll(selector)];

  function toggleTheme() {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    try { localStorage.setItem(KEY, root.dataset.theme); } catch { /* as above */ }
  }

  function toggleDetails() {
    const button = document.querySelector("[data-action=expand]");
    const open = button.getAttribute("aria-pressed") !== "true";
    all("details:not(.name)").forEach((item) => { item.open = open; });
    button.setAttribute("aria-pressed", String(open));
    button.textContent = open ? "Fold all" : "Expand all";
  }

  function sectionInView() {
    const parts = all("section.part");
    return [parts, parts.findLastIndex((part) => part.getBoundingClientRect().top < 80)];
  }

  function moveSection(step) {
    const [parts, here] = sectionInView();
    const next = parts[Math.min(Math.max(here + step, 0), parts.length - 1)];
    next.querySelector("h2").focus({ preventScroll: true });
    next.scrollIntoView();
  }

  function findInTable() {
    const [parts, here] = sectionInView();
    const bars = parts.slice(Math.max(here, 0)).flatMap((part) => all(".filters", part));
    const bar = bars.find((item) => !item.closest("details:not([open])")) ?? bars[0];
    if (!bar) return;
    for (let fold = bar.closest("details:not([open])"); fold; fold = fold.parentElement.closest("details:not([open])")) fold.open = true;
    bar.querySelector("[data-filter=text]").focus();
  }

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("dialog")) return;
    if (event.target.closest("input, select, textarea")) {
      const bar = event.key === "Escape" && event.target.closest(".filters");
      if (!bar) return;
      event.preventDefault(); // else the browser empties the field
      document.getElementById(bar.dataset.for).parentElement.focus({ preventScroll: true });
      return;
    }
    const action = { j: () => moveSection(1), k: () => moveSection(-1), t: toggleTheme, e: toggleDetails, "/": findInTable,
      "?": () => document.getElementById("keys").showModal() }[event.key];
    if (action) { event.preventDefault(); action(); }
  }

  const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
  const ABSENT = new Set(["", "n/a", "\u2013"]);

  // what a cell is sorted by; null where nothing is known
  function keyOf(cell, numeric) {
    const text = cell.textContent.trim();
    if (!numeric) return ABSENT.has(text) ? null : text;
    if (cell.dataset.value !== undefined) return Number(cell.dataset.value.replace("inf", "Infinity"));
    const plain = text.replace(/[\u2248\s\u202f\u00a0]/g, "").replace("\u2212", "-");
    const value = parseFloat(plain);
    return Number.isNaN(value) ? null : value;
  }

  const compare = (a, b) => (typeof a === "string" ? collator.compare(a, b) : a < b ? -1 : a > b ? 1 : 0);

  // the first column of numbers tells how the rows came, if it rises or falls all the way
  function markOrder(body, heads) {
    const column = heads.findIndex((head) => head.classList.contains("num"));
    if (column < 0) return;
    const keys = [...body.rows].map((row) => keyOf(row.cells[column], true));
    const steps = keys.slice(1).map((key, i) => (key === null || keys[i] === null ? NaN : key - keys[i]));
    for (const [sign, word] of [[-1, "descending"], [1, "ascending"]]) {
      if (steps.some((step) => step) && steps.every((step) => step * sign >= 0)) heads[column].setAttribute("aria-sort", word);
    }
  }

  function setUpTable(bar) {
    const table = document.getElementById(bar.dataset.for);
    const body = table.tBodies[0];
    const limit = Number(bar.dataset.open) || Infinity;
    const fold = bar.querySelector("[data-action=fold]");
    const output = bar.querySelector("output");
    const heads = all("thead tr:last-child th", table);
    const inputs = Object.fromEntries(all("[data-filter]", bar).map((input) => [input.dataset.filter, input]));
    const words = heads.flatMap((head, column) => (head.classList.contains("num") ? [] : [column]));
    const label = (row) => words.map((column) => row.cells[column].textContent).join("\n").toLowerCase();
    for (const name of ["kind", "run"]) {
      if (!inputs[name]) continue;
      for (const value of new Set([...body.rows].map((row) => row.dataset[name] ?? ""))) if (value) inputs[name].add(new Option(value, value));
    }

    function show() {
      const everything = fold?.getAttribute("aria-pressed") === "true";
      const text = inputs.text.value.trim().toLowerCase();
      let found = 0, shown = 0;
      for (const row of body.rows) {
        const fits = (!text || label(row).includes(text)) && ["kind", "run"].every((name) => !inputs[name]?.value || row.dataset[name] === inputs[name].value);
        found += fits;
        row.hidden = !fits || (!everything && found > limit);
        shown += !row.hidden;
      }
      if (table.tFoot) table.tFoot.hidden = found < body.rows.length; // a sum of rows that are not there would mislead
      if (fold) {
        fold.hidden = found <= limit;
        fold.textContent = everything ? `Show ${limit}` : `Show all ${found}`;
      }
      bar.toggleAttribute("data-partial", shown < body.rows.length);
      const rows = body.rows.length;
      output.textContent = !found ? `No row matches; 0 of ${rows} rows`
        : shown < found && found < rows ? `${shown} of ${found} matching, ${rows} in all` : `${shown} of ${rows} rows`;
    }

    function sortBy(column, head) {
      const numeric = head.classList.contains("num");
      const down = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") !== "descending" : numeric;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows].map((row) => [keyOf(row.cells[column], numeric), row]);
      rows.sort(([a], [b]) => {
        if (a === null || b === null) return (a === null) - (b === null); // what is not available stays last
        return compare(a, b) * (down ? -1 : 1);
      });
      body.append(...rows.map(([, row]) => row));
      show();
    }

    if (table.classList.contains("sortable")) {
      heads.forEach((head, column) => {
        const name = head.querySelector(".head");
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = name.textContent;
        name.replaceChildren(button);
        button.addEventListener("click", () => sortBy(column, head));
      });
      markOrder(body, heads);
    }
    Object.values(inputs).forEach((input) => input.addEventListener("input", show));
    fold?.addEventListener("click", () => { fold.setAttribute("aria-pressed", String(fold.getAttribute("aria-pressed") !== "true")); show(); });
    bar.hidden = false;
    show();
  }

  document.addEventListener("DOMContentLoaded", () => {
    all(".tools").forEach((item) => { item.hidden = false; });
    const actions = { theme: toggleTheme, expand: toggleDetails, help: () => document.getElementById("keys").showModal() };
    for (const [name, action] of Object.entries(actions)) {
      all(`[data-action=${name}]`).forEach((button) => button.addEventListener("click", action));
    }
    document.addEventListener("keydown", onKey);
    all(".filters").forEach(setUpTable);
    all("[data-tree]").forEach((button) => {
      button.parentElement.hidden = false;
      button.addEventListener("click", () => all("details", document.getElementById(button.dataset.tree)).forEach((item) => { item.open = "open" in button.dataset; }));
    });
    let closed = [];
    addEventListener("beforeprint", () => {
      closed = all("details:not(.name):not([open])");
      closed.forEach((item) => { item.open = true; });
    });
    addEventListener("afterprint", () => closed.forEach((item) => { item.open = false; }));
  });
})();
