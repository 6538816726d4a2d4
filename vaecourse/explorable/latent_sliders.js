// Latents by sliders in a page: the decoder, its weights in the page, draws the image of the code that the sliders make.
// No kernel, no network. Needs nothing but the elements that latent_sliders.py writes.
function start(figure) {
  const part = (name) => figure.querySelector(name);
  const sliders = [...figure.querySelectorAll("input")], outputs = [...figure.querySelectorAll("output")];
  const codes = JSON.parse(figure.dataset.codes), decode = network(figure, "decoder");
  let number = 0;

  function show() {
    const z = sliders.map((slider) => Number(slider.value));
    figure.dataset.z = z.join(" ");
    outputs.forEach((output, i) => { output.textContent = twoDecimals(z[i]); });
    paint(part("canvas"), decode(z));
  }

  function begin() {
    sliders.forEach((slider, i) => { slider.value = codes[number][i]; });
    show();
  }

  part("form").addEventListener("input", show);
  part("form").addEventListener("submit", (event) => event.preventDefault());
  part(".back").addEventListener("click", () => {
    begin();
    part(".said").textContent = codes.length > 1 ? `Code ${number + 1} of ${codes.length}` : "";
  });
  part(".next")?.addEventListener("click", () => {
    number = (number + 1) % codes.length;
    begin();
    part(".said").textContent = `Code ${number + 1} of ${codes.length}`;
  });

  figure.decode = decode;
  begin();
}

for (const figure of document.querySelectorAll(".latent-sliders:not([data-live])")) {
  figure.dataset.live = "";
  start(figure);
}
