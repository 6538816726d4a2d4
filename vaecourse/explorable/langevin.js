// Langevin dynamics in a page: chains walk over a density, z <- z - (h/2) grad U(z) + sqrt(h) e, U = -log p.
// No kernel, no network. Needs nothing but the elements that langevin.py writes.
const SEED = 1, FAR = 1e6; // the same walk at each visit; beyond so many times the plane's reach, a chain has exploded
const short = (value) =>
  Math.abs(value) < 1000 ? twoDecimals(Math.round(100 * value) / 100 + 0) : value.toExponential(0).replace("-", "\u2212");

// Whole numbers, 32 random bits each: Doty-Humphrey's sfc32.
function bits(seed) {
  let a = 0, b = seed, c = 0, count = 1;
  const next = () => {
    const out = (a + b + count++) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + out) | 0;
    return out >>> 0;
  };
  for (let i = 0; i < 12; i++) next();
  return next;
}

// Pairs of independent draws from N(0, 1), by Box and Muller.
function normals(seed) {
  const next = bits(seed), uniform = () => (next() + 0.5) / 2 ** 32;
  return () => {
    const radius = Math.sqrt(-2 * Math.log(uniform())), angle = 2 * Math.PI * uniform();
    return [radius * Math.cos(angle), radius * Math.sin(angle)];
  };
}

function move(target, z, h, e) {
  const g = target.gradient(z);
  return z.map((value, i) => value - (h / 2) * g[i] + Math.sqrt(h) * e[i]);
}

function start(figure) {
  const part = (name) => figure.querySelector(name);
  const { step, chains: count, steps: first, reach } = JSON.parse(figure.dataset.settings), target = targetOf(figure, reach);
  const plane = part("svg"), field = part(".field"), play = part(".play"), slider = part("input"), caption = part("caption");
  const units = plane.querySelector("svg").viewBox.baseVal.width;
  const cells = [...part("tbody").rows].map((row) => row.cells[1]);
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  let origin, chains, normal, steps, exploded, playing = null;

  const size = () => step * 2 ** Number(slider.value);
  const across = (z) => Math.round(units * (1 + z / reach) / 2);

  // Means, variances, and what else the target counts.
  function findings() {
    const coordinates = [0, 1].map((i) => chains.map((z) => z[i]));
    const mean = (values) => values.reduce((sum, value) => sum + value, 0) / count;
    const means = coordinates.map(mean);
    const variances = coordinates.map((values, i) => mean(values.map((value) => (value - means[i]) ** 2)));
    return [...[...means, ...variances].map(short), ...target.shares(chains)];
  }

  function show() {
    part(".dots").setAttribute("d", chains.map(([z1, z2]) => `M${across(z1)} ${across(-z2)}h0`).join(""));
    findings().forEach((value, i) => { cells[i].textContent = value; });
    caption.textContent = exploded
      ? `Exploded at step ${steps}: the chains are far outside. Choose a smaller h and start again.`
      : `${steps} ${steps === 1 ? "step" : "steps"} from ${written(origin)}`;
    if (playing === null) tell();
  }

  // What a screen reader says, when the chains stand still.
  function tell() {
    const rows = [...part("tbody").rows].map(({ cells: [name, chains, density] }) =>
      `${name.textContent}: ${chains.textContent}, of the density ${density.textContent}`);
    part(".said").textContent = [caption.textContent, ...(steps && !exploded ? rows : [])].join("; ");
  }

  function begin(at) {
    origin = onPlane(at, reach);
    figure.dataset.z = origin.join(" ");
    part(".start").setAttribute("cx", across(origin[0]));
    part(".start").setAttribute("cy", across(-origin[1]));
    chains = Array(count).fill(origin);
    [normal, steps, exploded] = [normals(SEED), 0, false];
  }

  function walk(more) {
    for (; more > 0 && !exploded; more--, steps++) {
      chains = chains.map((z) => move(target, z, size(), normal()));
      exploded = !chains.flat().every((value) => Math.abs(value) < FAR * reach);
    }
  }

  function pause() {
    cancelAnimationFrame(playing);
    playing = null;
    play.textContent = "Play";
    tell();
  }

  function frame() {
    walk(1);
    show();
    if (exploded || still.matches) pause();
    else playing = requestAnimationFrame(frame);
  }

  play.addEventListener("click", () => {
    if (playing !== null) return pause();
    playing = requestAnimationFrame(frame);
    play.textContent = "Pause";
  });
  for (const button of figure.querySelectorAll("[data-steps]")) {
    button.addEventListener("click", () => {
      pause();
      walk(Number(button.dataset.steps));
      show();
    });
  }
  part(".again").addEventListener("click", () => { pause(); begin(origin); show(); });

  function resize() {
    part(".size span").textContent = Number(size().toPrecision(3));
    slider.setAttribute("aria-valuetext", part(".size span").textContent);
  }
  slider.addEventListener("input", resize);
  part("form").addEventListener("submit", (event) => event.preventDefault());

  plane.addEventListener("click", (event) => {
    begin(pointed(field, reach, event));
    show();
  });
  plane.addEventListener("keydown", (event) => {
    const to = stepped(origin, event);
    if (!to) return;
    begin(to);
    show();
  });

  Object.assign(figure, { normals, move: (z, h, e) => move(target, z, h, e), chains: () => chains });
  part("form").reset(); // a browser that comes back to the page would keep the step size, and not the chains
  resize();
  begin(figure.dataset.z.split(" ").map(Number));
  walk(first);
  show();
}

for (const figure of document.querySelectorAll(".langevin:not([data-live])")) {
  figure.dataset.live = "";
  start(figure);
}
