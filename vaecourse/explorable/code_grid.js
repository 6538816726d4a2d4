// A grid of words in a page: a place is chosen, its word changed, and the image decoded, the codebook and the decoder in the page.
// No kernel, no network. Needs nothing but the elements that code_grid.py writes.
function start(figure) {
  const part = (name) => figure.querySelector(name);
  const board = part(".board"), book = part(".book"), options = [...book.children], names = [...board.querySelectorAll("text")];
  const [rows, columns] = figure.dataset.grid.split(" ").map(Number), places = rows * columns;
  const codes = JSON.parse(figure.dataset.codes), changed = Number(figure.dataset.changed), decoder = network(figure, "decoder");
  const vectors = halves(figure.dataset.vectors), dim = vectors.length / options.length;
  const decoded = part(".decoded"), change = part(".change"), unit = Number(part(".chosen").getAttribute("width"));
  const tall = decoded.height / rows, wide = decoded.width / columns;
  let number = 0, words, place = Math.floor(places / 2), before, job = 0;

  // The decoder is given a grid of so many channels: the words' vectors, coordinate by coordinate.
  function decode(words) {
    return decoder(Float32Array.from({ length: dim * places }, (_, i) => vectors[words[i % places] * dim + Math.floor(i / places)]));
  }

  function show() {
    const given = codes[number], values = decode(words), from = { row: Math.floor(place / columns), column: place % columns };
    paint(decoded, values);
    const differences = values.map((value, i) => value - before[i]);
    paintChange(change, differences);
    names.forEach((name, i) => {
      name.textContent = words[i];
      name.classList.toggle("other", words[i] !== given[i]);
    });
    part(".touched").innerHTML = words.map((word, i) => word === given[i] ? "" :
      `<rect x="${unit * (i % columns)}" y="${unit * Math.floor(i / columns)}" width="${unit}" height="${unit}"/>`).join("");
    part(".chosen").setAttribute("x", unit * from.column);
    part(".chosen").setAttribute("y", unit * from.row);
    for (const here of figure.querySelectorAll(".here")) {
      Object.assign(here.style, { left: `${(100 * from.column) / columns}%`, top: `${(100 * from.row) / rows}%` });
    }
    options.forEach((option, k) => option.setAttribute("aria-selected", k === words[place]));
    book.setAttribute("aria-activedescendant", options[words[place]].id);
    const many = differences.filter((difference) => Math.abs(difference) > changed).length;
    const was = words[place] === given[place] ? "" : ` (was ${given[place]})`;
    part("output").textContent =
      `Row ${from.row + 1}, column ${from.column + 1}: word ${words[place]}${was}. Pixels changed so far: ${many} of ${values.length}.`;
    Object.assign(figure.dataset, { words: words.join(" "), place, state: [place, ...words].join(" ") });
  }

  // What each word would draw at the chosen place, and around it; word by word while nothing else is to be done.
  function preview() {
    const own = ++job, row = Math.floor(place / columns), column = place % columns;
    delete figure.dataset.previewed;
    (function next(k) {
      if (own !== job) return;
      const until = performance.now() + 10;
      for (; k < options.length && performance.now() < until; k++) {
        paint(options[k].firstChild, patch(decode(words.map((word, i) => (i === place ? k : word))), row - 1, column - 1));
      }
      if (k < options.length) setTimeout(next, 0, k);
      else figure.dataset.previewed = place;
    })(0);
  }

  // Three by three places of an image; what lies outside of it is black.
  function patch(values, row, column) {
    return Float32Array.from({ length: 9 * tall * wide }, (_, i) => {
      const y = row * tall + Math.floor(i / (3 * wide)), x = column * wide + (i % (3 * wide));
      return x < 0 || y < 0 || x >= decoded.width || y >= decoded.height ? 0 : values[y * decoded.width + x];
    });
  }

  function begin() {
    words = [...codes[number]];
    before = decode(words);
    show();
    preview();
  }

  function choose(to) {
    place = to;
    show();
    preview();
    const option = options[words[place]];
    book.scrollTop = option.offsetTop - book.clientHeight / 2;
  }

  function put(word) {
    words[place] = (word + options.length) % options.length;
    show();
    const { offsetTop: top, offsetHeight: height } = options[words[place]];
    if (top < book.scrollTop || top + height > book.scrollTop + book.clientHeight) book.scrollTop = top - book.clientHeight / 2;
  }

  // A place below a pointer, on the words or on the image.
  function below(element, event) {
    const box = element.getBoundingClientRect();
    const at = (part, whole, count) => Math.min(count - 1, Math.max(0, Math.floor((count * part) / whole)));
    return at(event.clientY - box.top, box.height, rows) * columns + at(event.clientX - box.left, box.width, columns);
  }
  for (const element of [board, decoded, change]) element.addEventListener("click", (event) => choose(below(element, event)));
  board.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const step = { "+": 1, "=": 1, "-": -1 }[event.key];
    if (step) {
      event.preventDefault();
      put(words[place] + step);
    }
    const [across, up] = ARROWS[event.key] ?? [0, 0];
    if (!across && !up) return;
    event.preventDefault();
    const row = Math.floor(place / columns) - up, column = (place % columns) + across;
    if (row >= 0 && row < rows && column >= 0 && column < columns) choose(row * columns + column);
  });

  // How many words stand side by side on the screen.
  const perLine = () => options.filter((option) => option.offsetTop === options[0].offsetTop).length;
  book.addEventListener("click", (event) => {
    const word = options.indexOf(event.target.closest("[role=option]"));
    if (word >= 0) put(word);
  });
  book.addEventListener("keydown", (event) => {
    const [across, up] = ARROWS[event.key] ?? [0, 0];
    if ((!across && !up) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    const to = words[place] + across - up * perLine();
    if (to >= 0 && to < options.length) put(to);
  });

  part(".undo").addEventListener("click", () => put(codes[number][place]));
  part(".reset").addEventListener("click", begin);
  part(".next")?.addEventListener("click", () => {
    number = (number + 1) % codes.length;
    begin();
  });

  options.forEach((option, k) => { option.id = `${figure.dataset.unique}-${k}`; });
  figure.decode = decode;
  begin();
}

// What is brighter in one color, what is darker in another, the more the stronger; nothing where nothing has changed.
function paintChange(canvas, differences) {
  const context = canvas.getContext("2d"), image = context.createImageData(canvas.width, canvas.height);
  differences.forEach((difference, i) => {
    image.data.set(difference > 0 ? [0, 158, 115] : [213, 94, 0], 4 * i);
    image.data[4 * i + 3] = Math.round(255 * Math.min(1, Math.abs(difference) ** 0.5));
  });
  context.putImageData(image, 0, 0);
}

document.querySelectorAll(".code-grid:not([data-live])").forEach((figure, i) => {
  figure.dataset.live = "";
  figure.dataset.unique = `words-${document.querySelectorAll(".code-grid[data-live]").length}-${i}`;
  start(figure);
});
