// A phrase that sets a figure: each control goes to its place, the figure is drawn, and comes into view.
for (const phrase of document.querySelectorAll("button.sets")) {
  phrase.addEventListener("click", () => {
    const figure = document.getElementById(phrase.dataset.figure);
    figure.dispatchEvent(new CustomEvent("set", { detail: JSON.parse(phrase.dataset.state) }));
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    figure.scrollIntoView({ block: "nearest", behavior: calm ? "auto" : "smooth" });
  });
}
