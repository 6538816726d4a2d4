// A figure that moves in a page: its controls choose one of the frames that were drawn when the page was made.
// No kernel, no network. Needs nothing but the elements that page.py writes.
(() => {
  function start(figure) {
    const form = figure.querySelector("form"), frame = figure.querySelector(".frame"), state = figure.querySelector(".state");
    const [packed, labels] = [...figure.querySelectorAll('script[type="application/json"]')].map((data) => JSON.parse(data.textContent));
    const controls = [...form.children];

    // A control's place among its values, and how to put it there. (A checkbox and a choice are lists of two and more.)
    const input = (control) => control.querySelector("input, select");
    const get = (control) => {
      const field = input(control);
      if (field.type === "checkbox") return Number(field.checked);
      if (field.type === "radio") return Number(control.querySelector(":checked").value);
      return field.tagName === "SELECT" ? field.selectedIndex : Number(field.value);
    };

    function show() {
      const places = controls.map(get);
      const number = places.reduce((sum, place, i) => sum * labels[i].length + place, 0);
      frame.innerHTML = packed.frames[number].map((element) => packed.elements[element]).join("");
      controls.forEach((control, i) => {
        const output = control.querySelector("output");
        if (!output) return;
        output.textContent = labels[i][places[i]];
        input(control).setAttribute("aria-valuetext", output.textContent);
      });
      if (packed.labels) state.textContent = packed.labels[number];
      figure.dataset.state = places.join(" ");
    }

    function move(slider, place) {
      slider.value = place;
      show();
    }

    form.addEventListener("input", show);
    form.addEventListener("submit", (event) => event.preventDefault());

    // A phrase of the page sets controls to their places.
    figure.addEventListener("set", ({ detail }) => {
      for (const [name, place] of Object.entries(detail)) {
        const control = controls.find((control) => control.matches(`[name="${name}"], :has([name="${name}"])`));
        const field = input(control);
        if (field.type === "checkbox") field.checked = Boolean(place);
        else if (field.type === "radio") control.querySelectorAll("input")[place].checked = true;
        else if (field.tagName === "SELECT") field.selectedIndex = place;
        else field.value = place;
      }
      show();
    });

    // An animation: play to the end and stop; from the end, begin anew.
    for (const control of controls.filter((control) => control.dataset.interval)) {
      const slider = input(control), play = control.querySelector(".play");
      let timer = null;
      const at = () => Number(slider.value), last = Number(slider.max);
      const stop = () => {
        clearInterval(timer);
        timer = null;
        play.setAttribute("aria-label", "Play");
      };
      const step = () => {
        move(slider, at() + 1);
        if (at() === last) stop();
      };
      play.addEventListener("click", () => {
        if (timer) return stop();
        if (at() === last) move(slider, 0);
        timer = setInterval(step, Number(control.dataset.interval));
        play.setAttribute("aria-label", "Pause");
      });
      control.querySelector(".back").addEventListener("click", () => { stop(); move(slider, at() - 1); });
      control.querySelector(".forward").addEventListener("click", () => { stop(); move(slider, at() + 1); });
      slider.addEventListener("pointerdown", stop);
      slider.addEventListener("keydown", stop);
    }

    // A point dragged over the axes sets two sliders, each to the value nearest to it.
    const field = figure.querySelector(".field");
    if (field) {
      const { names, edges, values } = JSON.parse(field.dataset.drag);
      const sliders = names.map((name) => form.elements[name]);
      const nearest = (list, to) => list.reduce((best, value, i) => (Math.abs(value - to) < Math.abs(list[best] - to) ? i : best), 0);
      const follow = (event) => {
        const box = field.getBoundingClientRect();
        const along = edges[0] + (edges[1] - edges[0]) * (event.clientX - box.left) / box.width;
        const up = edges[2] + (edges[3] - edges[2]) * (box.bottom - event.clientY) / box.height;
        sliders[0].value = nearest(values[0], along);
        move(sliders[1], nearest(values[1], up));
      };
      field.addEventListener("pointerdown", (event) => {
        if (event.button !== 0) return;
        field.setPointerCapture(event.pointerId);
        follow(event);
      });
      field.addEventListener("pointermove", (event) => field.hasPointerCapture(event.pointerId) && follow(event));
    }

    form.reset(); // a browser that comes back to the page would keep the controls, and not the frame
    show();
  }

  for (const figure of document.querySelectorAll(".explorable:not([data-live])")) {
    figure.dataset.live = "";
    start(figure);
  }
})();
