"use strict";
// Tables sort by a click on a header; marks in figures show their title at once, on touch too.

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.querySelectorAll("th:not([colspan])")];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => compare(key(a, column), key(b, column), down));
      table.tBodies[0].append(...rows);
    });
  });
}

function key(row, column) {
  const cell = row.cells[column];
  const value = cell.dataset.value;
  return value === undefined ? cell.textContent.trim() : value === "" ? null : Number(value);
}

// Cells without a number stay at the end in either direction.
function compare(a, b, down) {
  if (a === null || b === null) return (a === null) - (b === null);
  const order = typeof a === "number" ? a - b : a.localeCompare(b);
  return down ? -order : order;
}

const tip = document.createElement("div");
tip.id = "tip";
tip.hidden = true;
document.body.append(tip);

// A native tooltip would show beside ours.
for (const title of document.querySelectorAll("svg .mark > title")) {
  title.parentNode.dataset.tip = title.textContent;
  title.remove();
}

function show(event) {
  const mark = event.target.closest("[data-tip]");
  tip.hidden = !mark;
  if (!mark) return;
  tip.textContent = mark.dataset.tip;
  const { width, height } = tip.getBoundingClientRect();
  const left = Math.min(Math.max(event.clientX - width / 2, 12), innerWidth - width - 12);
  const above = event.clientY - height - 14;
  tip.style.left = left + "px";
  tip.style.top = (above < 8 ? event.clientY + 18 : above) + "px";
}

document.addEventListener("pointermove", show);
document.addEventListener("pointerdown", show);
document.addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
