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

  function moveSection(step) {
    const parts = all("section.part");
    const tops = parts.map((part) => part.getBoundingClientRect().top);
    const here = tops.findLastIndex((top) => top < 80);
    const next = parts[Math.min(Math.max(here + step, 0), parts.length - 1)];
    next.querySelector("h2").focus({ preventScroll: true });
    next.scrollIntoView();
  }

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, dialog")) return;
    const action = { j: () => moveSection(1), k: () => moveSection(-1), t: toggleTheme, e: toggleDetails,
      "?": () => document.getElementById("keys").showModal() }[event.key];
    if (action) { event.preventDefault(); action(); }
  }

  function setUpTable(bar) {
    const table = document.getElementById(bar.dataset.for);
    const body = table.tBodies[0];
    const limit = Number(bar.dataset.open);
    const fold = bar.querySelector("[data-action=fold]");
    const inputs = Object.fromEntries(all("[data-filter]", bar).map((input) => [input.dataset.filter, input]));
    const label = (row) => row.cells[0].textContent.toLowerCase();
    for (const name of ["kind", "run"]) {
      if (!inputs[name]) continue;
      for (const value of new Set([...body.rows].map((row) => row.dataset[name]))) inputs[name].add(new Option(value, value));
    }

    function show() {
      const everything = fold.getAttribute("aria-pressed") === "true";
      const text = inputs.text.value.toLowerCase();
      let found = 0, shown = 0;
      for (const row of body.rows) {
        const fits = (!text || label(row).includes(text)) && (!inputs.kind.value || row.dataset.kind === inputs.kind.value)
          && (!inputs.run?.value || row.dataset.run === inputs.run.value);
        found += fits;
        row.hidden = !fits || (!everything && found > limit);
        shown += !row.hidden;
      }
      fold.hidden = !everything && found <= limit;
      fold.textContent = everything ? `Show ${limit}` : `Show all ${found}`;
      bar.querySelector("output").textContent = `${shown} of ${body.rows.length} rows`;
    }

    function sortBy(column, head) {
      const down = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") !== "descending" : head.classList.contains("num");
      all("th[aria-sort]", table).forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => {
        const cell = row.cells[column];
        return head.classList.contains("num") ? (cell.dataset.value === undefined ? null : Number(cell.dataset.value === "inf" ? Infinity : cell.dataset.value))
          : cell.textContent.trim().toLowerCase();
      };
      const rows = [...body.rows].map((row) => [key(row), row]);
      rows.sort(([a], [b]) => {
        if (a === null || b === null) return (a === null) - (b === null); // what is not available stays last
        return (a < b ? -1 : a > b ? 1 : 0) * (down ? -1 : 1);
      });
      body.append(...rows.map(([, row]) => row));
      show();
    }

    all("thead tr:last-child th", table).forEach((head, column) => {
      const name = head.querySelector(".head");
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = name.textContent;
      name.replaceChildren(button);
      button.addEventListener("click", () => sortBy(column, head));
      if (name.textContent === "time") head.setAttribute("aria-sort", "descending");
    });
    Object.values(inputs).forEach((input) => input.addEventListener("input", show));
    fold.addEventListener("click", () => { fold.setAttribute("aria-pressed", String(fold.getAttribute("aria-pressed") !== "true")); show(); });
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
    let closed = [];
    addEventListener("beforeprint", () => {
      closed = all("details:not(.name):not([open])");
      closed.forEach((item) => { item.open = true; });
    });
    addEventListener("afterprint", () => closed.forEach((item) => { item.open = false; }));
  });
})();
