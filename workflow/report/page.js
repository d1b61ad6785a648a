"use strict";
// The contents stand beside the page on a wide screen, and are folded on a narrow one.
document.querySelector("nav details").open = matchMedia("(min-width: 64rem)").matches;

// An image is embedded once: where it is shown again, and where it can be downloaded, it is copied from there.
for (const copy of document.querySelectorAll("[data-image]")) {
  copy[copy.tagName === "IMG" ? "src" : "href"] = document.getElementById(copy.dataset.image).src;
}

for (const button of document.querySelectorAll("button.copy")) {
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.previousElementSibling.textContent);
    button.textContent = "Copied";
  });
}

// A table that is wider than its place says so.
const watcher = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    target.classList.toggle("overflows", target.scrollWidth > target.clientWidth + 1);
  }
});
document.querySelectorAll(".table").forEach((region) => watcher.observe(region));

// Rows are sorted as numbers where every cell of the column begins with one, otherwise as text.
const NUMBER = /^[-−]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?/i;

function compareBy(place, rows, sign) {
  const text = (row) => row.cells[place].textContent.trim();
  const filled = rows.map(text).filter(Boolean);
  const numbers = filled.length > 0 && filled.every((cell) => NUMBER.test(cell));
  const value = (row) => parseFloat(text(row).replace("−", "-"));
  return (a, b) => {
    if (!text(a) || !text(b)) return !text(a) - !text(b);
    return sign * (numbers ? value(a) - value(b) : text(a).localeCompare(text(b)));
  };
}

for (const heading of document.querySelectorAll("th.sortable")) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...heading.childNodes);
  heading.append(button);
  button.addEventListener("click", () => {
    const ascending = heading.ariaSort !== "ascending";
    const body = heading.closest("table").tBodies[0];
    for (const other of heading.parentNode.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    body.append(...[...body.rows].sort(compareBy(heading.cellIndex, [...body.rows], ascending ? 1 : -1)));
  });
}

// Paper cannot be unfolded: what is folded is printed, but for provenance and config.
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:has(.table):not([open])")];
  folded.forEach((part) => { part.open = true; });
});
addEventListener("afterprint", () => folded.forEach((part) => { part.open = false; }));
