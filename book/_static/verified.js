// The mark of an equation opens under a mouse and under the keyboard's focus; a click keeps it open. Without this script, a click
// opens and closes it.
for (const mark of document.querySelectorAll("details.verified")) {
  const summary = mark.querySelector("summary");
  let kept = false;

  function close() {
    kept = false;
    mark.open = false;
  }

  function leave() {
    if (!kept && !mark.matches(":hover, :focus-within")) close();
  }

  mark.addEventListener("pointerenter", (event) => {
    if (event.pointerType === "mouse") mark.open = true;
  });
  mark.addEventListener("pointerleave", () => setTimeout(leave, 200));
  summary.addEventListener("focus", () => {
    if (summary.matches(":focus-visible")) mark.open = true;
  });
  mark.addEventListener("focusout", () => setTimeout(leave));
  summary.addEventListener("click", (event) => {
    event.preventDefault();
    kept = !kept;
    mark.open = kept;
  });
  document.addEventListener("pointerdown", (event) => {
    if (!mark.contains(event.target)) close();
  });
  mark.addEventListener("keydown", (event) => {
    if (event.key === "Escape") close();
  });
}
