// A latent plane in a page: the point is dragged, and the decoder, its weights in the page, draws the image at the point.
// No kernel, no network. Needs nothing but the elements that latent_plane.py writes.
function start(figure) {
  const part = (name) => figure.querySelector("." + name);
  const plane = figure.querySelector("svg"), field = part("field"), canvas = figure.querySelector("canvas");
  const side = field.width.baseVal.value, left = field.x.baseVal.value, top = field.y.baseVal.value;
  const reach = Number(figure.dataset.reach), decode = network(figure, "decoder");
  const shaded = figure.dataset.grid ? gridOf(figure, reach) : null;
  let z = figure.dataset.z.split(" ").map(Number);

  function move(to) {
    z = onPlane(to, reach);
    figure.dataset.z = z.join(" ");
    const x = left + side * (z[0] / reach + 1) / 2, y = top + side * (1 - z[1] / reach) / 2;
    part("point").setAttribute("transform", `translate(${x} ${y})`);
    part("guides").setAttribute("d", `M${left} ${y}H${x}V${top + side}`);
    const height = shaded ? `\n${figure.dataset.name} = ${twoDecimals(shaded.value(z))}` : "";
    figure.querySelector("output").textContent = `z = ${written(z)}${height}`;
    paint(canvas, decode(z));
  }

  plane.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    plane.setPointerCapture(event.pointerId);
    plane.focus({ preventScroll: true });
    move(pointed(field, reach, event));
  });
  plane.addEventListener("pointermove", (event) => {
    if (plane.hasPointerCapture(event.pointerId)) move(pointed(field, reach, event));
  });
  plane.addEventListener("keydown", (event) => {
    const to = stepped(z, event);
    if (to) move(to);
  });

  Object.assign(figure, { decode, shaded });
  move(z);
}

for (const figure of document.querySelectorAll(".latent-plane:not([data-live])")) {
  figure.dataset.live = "";
  start(figure);
}
