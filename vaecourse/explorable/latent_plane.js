// A latent plane in a page: the point is dragged, and the decoder, its weights in the page, draws the image at the point.
// No kernel, no network. Needs nothing but the elements that latent_plane.py writes.
(() => {
  const minus = (value) => value.toFixed(2).replace("-", "\u2212");

  function float16(bits) {
    const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
    return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction);
  }

  function parameters(base64) {
    const bytes = atob(base64);
    return Float32Array.from({ length: bytes.length / 2 }, (_, i) =>
      float16(bytes.charCodeAt(2 * i) | (bytes.charCodeAt(2 * i + 1) << 8)));
  }

  // Tanh layers, then a sigmoid: z -> the probability of each pixel. Parameters: weight (out x in) and bias, layer by layer.
  function decoder(widths, theta) {
    return (z) => {
      let h = z, at = 0;
      for (let layer = 1; layer < widths.length; layer++) {
        const fanIn = widths[layer - 1], fanOut = widths[layer], bias = at + fanIn * fanOut;
        const out = new Float32Array(fanOut);
        for (let o = 0; o < fanOut; o++) {
          let sum = theta[bias + o];
          for (let i = 0; i < fanIn; i++) sum += theta[at++] * h[i];
          out[o] = layer < widths.length - 1 ? Math.tanh(sum) : 1 / (1 + Math.exp(-sum));
        }
        at = bias + fanOut;
        h = out;
      }
      return h;
    };
  }

  function start(figure) {
    const part = (name) => figure.querySelector("." + name);
    const plane = figure.querySelector("svg"), field = part("field"), canvas = figure.querySelector("canvas");
    const context = canvas.getContext("2d"), image = context.createImageData(canvas.width, canvas.height);
    const side = field.width.baseVal.value, left = field.x.baseVal.value, top = field.y.baseVal.value;
    const reach = Number(figure.dataset.reach);
    const decode = decoder(figure.dataset.widths.split(" ").map(Number), parameters(figure.dataset.weights));
    let z = figure.dataset.z.split(" ").map(Number);

    function move(to) {
      z = to.map((value) => Math.min(reach, Math.max(-reach, value)));
      figure.dataset.z = z.join(" ");
      const x = left + side * (z[0] / reach + 1) / 2, y = top + side * (1 - z[1] / reach) / 2;
      part("point").setAttribute("transform", `translate(${x} ${y})`);
      part("guides").setAttribute("d", `M${left} ${y}H${x}V${top + side}`);
      figure.querySelector("output").textContent = `z = (${minus(z[0])}, ${minus(z[1])})`;
      decode(z).forEach((p, i) => image.data.fill(Math.round(255 * p), 4 * i, 4 * i + 3).fill(255, 4 * i + 3, 4 * i + 4));
      context.putImageData(image, 0, 0);
    }

    function follow(event) {
      const box = field.getBoundingClientRect();
      move([
        reach * (2 * (event.clientX - box.left) / box.width - 1),
        reach * (1 - 2 * (event.clientY - box.top) / box.height),
      ]);
    }

    plane.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      plane.setPointerCapture(event.pointerId);
      plane.focus({ preventScroll: true });
      follow(event);
    });
    plane.addEventListener("pointermove", (event) => plane.hasPointerCapture(event.pointerId) && follow(event));

    const directions = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] };
    plane.addEventListener("keydown", (event) => {
      const direction = directions[event.key];
      if (!direction || event.ctrlKey || event.altKey || event.metaKey) return;
      const step = event.shiftKey ? 0.5 : 0.1;
      event.preventDefault();
      move(z.map((value, i) => Math.round(100 * (value + step * direction[i])) / 100));
    });

    figure.decode = decode;
    move(z);
  }

  for (const figure of document.querySelectorAll(".latent-plane:not([data-live])")) {
    figure.dataset.live = "";
    start(figure);
  }
})();
