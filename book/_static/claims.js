// A sentence that says what a run showed opens its evidence: by a click or a tap on it, or by the sign that the Tab key reaches.
// Without this script the sign alone does, in the middle of the screen.
for (const sentence of document.querySelectorAll(".claim")) {
  const sign = sentence.nextElementSibling, box = sign?.nextElementSibling;
  if (!box?.matches(".claim-evidence")) continue;
  let wasOpen = false; // when it was pressed: a press anywhere else closes the box before the click arrives

  sentence.addEventListener("pointerdown", () => { wasOpen = box.matches(":popover-open"); });
  sentence.addEventListener("click", (event) => {
    if (wasOpen || !getSelection().isCollapsed || event.target.closest("a, button, summary")) return;
    sign.focus({ preventScroll: true });
    box.showPopover();
  });
  box.addEventListener("beforetoggle", (event) => {
    sentence.classList.toggle("open", event.newState === "open");
  });
  box.addEventListener("toggle", (event) => {
    if (event.newState !== "open") return;
    const place = sentence.getBoundingClientRect(), gap = 6;
    const left = Math.min(place.left, innerWidth - box.offsetWidth - 12);
    const below = place.bottom + gap, above = place.top - gap - box.offsetHeight;
    const top = below + box.offsetHeight < innerHeight || above < 0 ? below : above;
    Object.assign(box.style, { left: `${Math.max(12, left) + scrollX}px`, top: `${top + scrollY}px` });
  });
}
