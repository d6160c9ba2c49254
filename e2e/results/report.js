"use strict";
(() => {
  const filter = document.getElementById("filter");
  const search = document.getElementById("search");
  const shown = document.getElementById("shown");
  const cells = [...document.querySelectorAll("details.cell")];
  const marks = new Map();
  for (const m of document.querySelectorAll("[data-cell]")) {
    const id = m.dataset.cell;
    marks.has(id) ? marks.get(id).push(m) : marks.set(id, [m]);
  }
  const statusOf = (c) => c.classList[1];
  const texts = new Map(); // made when first searched
  const text = (c) => {
    if (!texts.has(c)) texts.set(c, c.textContent.toLowerCase());
    return texts.get(c);
  };
  const boxes = [...filter.querySelectorAll("input[type=checkbox]")];

  // Every word has to be somewhere in the cell.
  function apply() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const on = new Set(boxes.filter((b) => b.checked).map((b) => b.value));
    let count = 0;
    for (const c of cells) {
      const show = on.has(statusOf(c)) && words.every((w) => text(c).includes(w));
      if (show) count++;
      c.hidden = !show;
      for (const m of marks.get(c.id) || []) {
        if (m.tagName === "LI") m.hidden = !show;
        else m.classList.toggle("off", !show);
      }
    }
    const all = words.length === 0 && on.size === boxes.length;
    for (const g of document.querySelectorAll("details.cells")) {
      const some = g.querySelector("details.cell:not([hidden])") !== null;
      g.closest("section").hidden = !some;
      if (!all && count <= 50) g.open = some;
    }
    shown.textContent = all ? `${cells.length} cells` : `${count} of ${cells.length} cells`;
  }

  // The filter is in the address, so that what one sees can be sent to another.
  function note() {
    const p = new URLSearchParams();
    if (search.value) p.set("q", search.value);
    if (boxes.some((b) => !b.checked)) p.set("s", boxes.filter((b) => b.checked).map((b) => b.value).join(","));
    const s = p.toString();
    history.replaceState(null, "", s ? "#/" + s : location.pathname + location.search);
  }
  function follow() {
    const hash = location.hash;
    if (hash.startsWith("#/")) {
      const p = new URLSearchParams(hash.slice(2));
      search.value = p.get("q") || "";
      const s = p.get("s");
      for (const b of boxes) b.checked = s === null || s.split(",").includes(b.value);
      apply();
      return;
    }
    const c = hash.length > 1 ? document.getElementById(hash.slice(1)) : null;
    if (!c || !c.classList.contains("cell")) return;
    c.hidden = false;
    for (let d = c; d; d = d.parentElement) if (d.tagName === "DETAILS") d.open = true;
    c.scrollIntoView();
  }
  search.addEventListener("input", () => { apply(); note(); });
  filter.addEventListener("change", () => { apply(); note(); });
  window.addEventListener("hashchange", follow);

  if (navigator.clipboard) {
    for (const p of document.querySelectorAll("pre.command")) {
      const b = document.createElement("button");
      b.type = "button";
      b.className = "copy";
      b.textContent = "Copy";
      b.addEventListener("click", async () => {
        try {
          await navigator.clipboard.writeText(p.textContent);
          b.textContent = "Copied";
        } catch {
          b.textContent = "Not allowed";
        }
      });
      p.before(b);
    }
  }
  filter.hidden = false;
  apply();
  follow();
})();
