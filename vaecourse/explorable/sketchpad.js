// A sheet to draw on in a page: the encoder, its weights in the page, finds the drawing's code, and the decoder draws it again.
// No kernel, no network. Needs nothing but the elements that sketchpad.py writes.
const PEN = 0.093; // of the sheet's longer side: scaled as the drawing is, as thick as the strokes of MNIST's digits
const SCRIBBLE = Array.from({ length: 121 }, (_, i) => {
  const t = (2 * Math.PI * i) / 120;
  return [0.5 + 0.34 * Math.sin(3 * t), 0.5 + 0.34 * Math.sin(4 * t + 0.6)];
});

function start(figure) {
  const part = (name) => figure.querySelector(name);
  const sheet = part(".drawn"), pen = part(".pen"), shown = part(".given"), decoded = part(".decoded"), field = part(".field");
  const context = sheet.getContext("2d", { willReadFrequently: true });
  const { width, height } = sheet, shape = [shown.height, shown.width], pixels = shown.width * shown.height;
  const reach = Number(figure.dataset.reach), fine = Number(figure.dataset.fine), look = JSON.parse(figure.dataset.look);
  const side = field.width.baseVal.value, left = field.x.baseVal.value, top = field.y.baseVal.value;
  const decode = network(figure, "decoder"), encoder = network(figure, "encoder");
  const logSigma = figure.dataset.logSigma ? JSON.parse(figure.dataset.logSigma) : null;
  const images = halves(figure.dataset.examples), thumbnails = [...figure.querySelectorAll(".example")];
  let at = [0.5, 0.5], down = false; // the pen that keys move, as shares of the sheet

  // The mean of the code and its standard deviation; null where the encoder gives a code alone.
  function encode(x) {
    const out = Array.from(encoder(x)), logs = logSigma ?? (out.length === 4 ? out.slice(2) : null);
    return { mean: out.slice(0, 2), sigma: logs ? logs.map(Math.exp) : null };
  }

  function ink() {
    const { data } = context.getImageData(0, 0, width, height);
    return Float32Array.from({ length: width * height }, (_, i) => data[4 * i] / 255);
  }

  function show(x) {
    const { mean, sigma } = encode(x), again = decode(mean);
    paint(shown, x);
    paint(decoded, again);
    const [z1, z2] = onPlane(mean, reach), outside = z1 !== mean[0] || z2 !== mean[1];
    const place = ([a, b]) => [left + side * (a / reach + 1) / 2, top + side * (1 - b / reach) / 2];
    part(".point").setAttribute("transform", `translate(${place([z1, z2]).join(" ")})`);
    figure.querySelectorAll(".posterior").forEach((ellipse, i) => {
      const [cx, cy] = place(mean), [rx, ry] = (sigma ?? [0, 0]).map((value) => ((i + 1) * side * value) / (2 * reach));
      for (const [name, value] of Object.entries({ cx, cy, rx, ry })) ellipse.setAttribute(name, value);
    });
    const error = x.reduce((sum, value, i) => sum + (value - again[i]) ** 2, 0);
    const spread = sigma ? `, σ = ${written(sigma)}` : "";
    part("output").textContent = `z = ${written(mean)}${spread}${outside ? ", outside the plane" : ""}. ` +
      `Squared error ${error.toFixed(1)}; 95 % of the data stay below ${figure.dataset.usual}.`;
    Object.assign(figure.dataset, { z: mean.join(" "), sigma: (sigma ?? []).join(" ") });
    tell();
    figure.given = () => Array.from(x);
  }

  // What a reader can change: where the pen is, and the code.
  function tell() {
    figure.dataset.state = [...at, down ? "down" : "up", figure.dataset.z].join(" ");
  }

  const drawn = () => imageOf(ink(), shape, fine, look);

  // A stroke through places on the sheet; through one place it is a dot.
  function stroke(places) {
    const pen = PEN * Math.max(width, height), [first, ...rest] = places.map((place) => [place[0] * width, place[1] * height]);
    Object.assign(context, { lineCap: "round", lineJoin: "round", lineWidth: pen, strokeStyle: "white", fillStyle: "white" });
    context.beginPath();
    if (!rest.length) {
      context.arc(...first, pen / 2, 0, 2 * Math.PI);
      context.fill();
      return;
    }
    context.moveTo(...first);
    for (const place of rest) context.lineTo(...place);
    context.stroke();
  }

  function clear() {
    context.fillStyle = "black";
    context.fillRect(0, 0, width, height);
  }

  const example = (number) => images.subarray(number * pixels, (number + 1) * pixels);
  function begin(number) {
    clear();
    if (number < thumbnails.length - 1) {
      context.imageSmoothingEnabled = false;
      context.drawImage(thumbnails[number].firstChild, 0, 0, width, height);
      show(example(number)); // as it is
    } else {
      stroke(SCRIBBLE);
      show(drawn());
    }
  }

  const below = (event) => {
    const box = sheet.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  let last = null;
  sheet.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    sheet.setPointerCapture(event.pointerId);
    sheet.focus({ preventScroll: true });
    last = below(event);
    stroke([last]);
    show(drawn());
  });
  sheet.addEventListener("pointermove", (event) => {
    if (!last || !sheet.hasPointerCapture(event.pointerId)) return;
    const places = [...(event.getCoalescedEvents?.() ?? []), event].map(below);
    stroke([last, ...places]);
    last = places.at(-1);
    show(drawn());
  });
  for (const end of ["pointerup", "pointercancel"]) sheet.addEventListener(end, () => { last = null; });

  function movePen() {
    Object.assign(pen.style, { left: `${100 * at[0]}%`, top: `${100 * at[1]}%` });
    pen.classList.toggle("down", down);
    tell();
  }
  sheet.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const arrow = ARROWS[event.key];
    if (!arrow && ![" ", "Delete", "Backspace"].includes(event.key)) return;
    event.preventDefault();
    if (event.key === " ") {
      down = !down;
      if (down) stroke([at]);
    } else if (arrow) {
      const from = at, by = event.shiftKey ? 0.1 : 0.03;
      at = [at[0] + by * arrow[0], at[1] - by * arrow[1]].map((share) => Math.min(1, Math.max(0, share)));
      if (down) stroke([from, at]);
    } else {
      clear();
    }
    movePen();
    if (down || !arrow) show(drawn());
  });

  part(".clear").addEventListener("click", () => { clear(); show(drawn()); });
  thumbnails.forEach((button, number) => button.addEventListener("click", () => begin(number)));

  thumbnails.slice(0, -1).forEach((button, number) => paint(button.firstChild, example(number)));
  clear();
  stroke(SCRIBBLE);
  paint(thumbnails.at(-1).firstChild, drawn());
  Object.assign(figure, { ink, encode, decode });
  movePen();
  begin(0);
}

for (const figure of document.querySelectorAll(".sketchpad:not([data-live])")) {
  figure.dataset.live = "";
  start(figure);
}
