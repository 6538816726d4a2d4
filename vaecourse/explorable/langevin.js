// Langevin dynamics in a page: chains walk over a mixture of Gaussians, z <- z - (h/2) grad U(z) + sqrt(h) e, U = -log p.
// No kernel, no network. Needs nothing but the elements that langevin.py writes.
(() => {
  const SEED = 1, FAR = 1e6; // the same walk at each visit; beyond so many times the plane's reach, a chain has exploded
  const written = (value) =>
    (Math.abs(value) < 1000 ? (Math.round(100 * value) / 100 + 0).toFixed(2) : value.toExponential(0)).replace("-", "\u2212");
  const point = (z) => `(${z.map(written).join(", ")})`;

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

  // grad U: the modes' precisions times the way from their means, each mode by its share of the density at z.
  // A mode: the logarithm of its density's peak, weight included; its mean; its precision a b / b d.
  function gradient(modes, [z1, z2]) {
    const logs = modes.map(([peak, m1, m2, a, b, d]) => {
      const x = z1 - m1, y = z2 - m2;
      return peak - (a * x * x + 2 * b * x * y + d * y * y) / 2;
    });
    const highest = Math.max(...logs);
    let total = 0, g1 = 0, g2 = 0;
    modes.forEach(([, m1, m2, a, b, d], k) => {
      const share = Math.exp(logs[k] - highest), x = z1 - m1, y = z2 - m2;
      total += share;
      g1 += share * (a * x + b * y);
      g2 += share * (b * x + d * y);
    });
    return [g1 / total, g2 / total];
  }

  function move(modes, z, h, e) {
    const g = gradient(modes, z);
    return z.map((value, i) => value - (h / 2) * g[i] + Math.sqrt(h) * e[i]);
  }

  function start(figure) {
    const part = (name) => figure.querySelector(name);
    const { modes, shares, step, chains: count, steps: first, reach } = JSON.parse(figure.dataset.density);
    const plane = part("svg"), field = part(".field"), play = part(".play"), slider = part("input"), caption = part("caption");
    const units = plane.querySelector("svg").viewBox.baseVal.width;
    const cells = [...part("tbody").rows].map((row) => row.cells[1]);
    const still = matchMedia("(prefers-reduced-motion: reduce)");
    let origin, chains, normal, steps, exploded, playing = null;

    const size = () => step * 2 ** Number(slider.value);
    const across = (z) => Math.round(units * (1 + z / reach) / 2);

    // Means, variances, and for a mixture the share of the chains nearest to each mean, or how many means have a chain.
    function findings() {
      const coordinates = [0, 1].map((i) => chains.map((z) => z[i]));
      const mean = (values) => values.reduce((sum, value) => sum + value, 0) / count;
      const means = coordinates.map(mean);
      const variances = coordinates.map((values, i) => mean(values.map((value) => (value - means[i]) ** 2)));
      const found = [...means, ...variances].map(written);
      if (modes.length === 1) return found;
      const at = modes.map(() => 0);
      for (const [z1, z2] of chains) {
        const distances = modes.map(([, m1, m2]) => (z1 - m1) ** 2 + (z2 - m2) ** 2);
        at[distances.indexOf(Math.min(...distances))]++;
      }
      return [...found, ...(shares ? at.map((n) => `${Math.round(100 * n / count)} %`) : [at.filter(Boolean).length])];
    }

    function show() {
      part(".dots").setAttribute("d", chains.map(([z1, z2]) => `M${across(z1)} ${across(-z2)}h0`).join(""));
      findings().forEach((value, i) => { cells[i].textContent = value; });
      caption.textContent = exploded
        ? `Exploded at step ${steps}: the chains are far outside. Choose a smaller h and start again.`
        : `${steps} ${steps === 1 ? "step" : "steps"} from ${point(origin)}`;
      if (playing === null) tell();
    }

    // What a screen reader says, when the chains stand still.
    function tell() {
      const rows = [...part("tbody").rows].map(({ cells: [name, chains, density] }) =>
        `${name.textContent}: ${chains.textContent}, of the density ${density.textContent}`);
      part(".said").textContent = [caption.textContent, ...(steps && !exploded ? rows : [])].join("; ");
    }

    function begin(at) {
      origin = at.map((value) => Math.min(reach, Math.max(-reach, value)));
      figure.dataset.z = origin.join(" ");
      part(".start").setAttribute("cx", across(origin[0]));
      part(".start").setAttribute("cy", across(-origin[1]));
      chains = Array(count).fill(origin);
      [normal, steps, exploded] = [normals(SEED), 0, false];
    }

    function walk(more) {
      for (; more > 0 && !exploded; more--, steps++) {
        chains = chains.map((z) => move(modes, z, size(), normal()));
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
      const box = field.getBoundingClientRect();
      begin([
        reach * (2 * (event.clientX - box.left) / box.width - 1),
        reach * (1 - 2 * (event.clientY - box.top) / box.height),
      ]);
      show();
    });

    const directions = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] };
    plane.addEventListener("keydown", (event) => {
      const direction = directions[event.key];
      if (!direction || event.ctrlKey || event.altKey || event.metaKey) return;
      const by = event.shiftKey ? 0.5 : 0.1;
      event.preventDefault();
      begin(origin.map((value, i) => Math.round(100 * (value + by * direction[i])) / 100));
      show();
    });

    Object.assign(figure, { normals, move: (z, h, e) => move(modes, z, h, e), chains: () => chains });
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
})();
