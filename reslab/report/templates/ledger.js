// The ledger's filters: a verdict's button shows or hides its claims, the field those that have its words.

(() => {
  const field = document.getElementById("find-claims"), shown = document.getElementById("claims-shown");
  if (!field) return;
  const buttons = [...document.querySelectorAll(".tally [data-show]")];
  const rows = [...document.querySelectorAll("#ledger tr[data-show]")];
  const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));

  function filter() {
    const off = new Set(buttons.filter((button) => button.getAttribute("aria-pressed") !== "true").map((button) => button.dataset.show));
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) row.hidden = off.has(row.dataset.show) || !words.every((word) => texts.get(row).includes(word));
    for (const body of document.querySelectorAll(".ledger tbody")) body.hidden = !body.querySelector(".row:not([hidden])");
    const claims = rows.filter((row) => row.classList.contains("row"));
    shown.textContent = `${claims.filter((row) => !row.hidden).length} / ${claims.length}`;
  }

  for (const button of buttons) {
    button.addEventListener("click", () => {
      button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
      filter();
    });
  }
  field.addEventListener("input", filter);
  filter();
})();
