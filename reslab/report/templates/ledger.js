// The ledger: a verdict's button shows or hides its claims, and a section without any.

for (const button of document.querySelectorAll(".tally [data-show]")) {
  button.addEventListener("click", () => {
    const shown = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(shown));
    for (const row of document.querySelectorAll(".ledger .row")) if (row.dataset.show === button.dataset.show) row.hidden = !shown;
    for (const body of document.querySelectorAll(".ledger tbody")) body.hidden = !body.querySelector(".row:not([hidden])");
  });
}
