// A question of the page: what is answered is compared with the right value and with those of mistakes, all computed when the
// page was made, and the message of the one that it is near is shown.
for (const form of document.querySelectorAll("form.question")) {
  const { tolerance, answers, right } = JSON.parse(form.dataset.question);
  const messages = [...form.querySelectorAll(".message")], free = messages.at(-1);

  function say(key, text = "") {
    if (text) free.textContent = text;
    const wanted = messages.find((message) => message.dataset.key === key) ?? free;
    for (const message of messages) message.hidden = message !== wanted;
    form.dataset.answered = key === "right" ? "right" : "wrong";
  }

  const near = (value, to) => Math.abs(value - to) <= tolerance * Math.max(Math.abs(to), 1e-9);

  function check() {
    const text = form.elements.answer.value.trim().replace(/\u2212/g, "-").replace(",", ".");
    const value = text === "" ? NaN : Number(text);
    if (Number.isNaN(value)) {
      say("", "Write a number, as 0.25.");
      form.dataset.answered = "";
      return;
    }
    const keys = Object.keys(answers).filter((key) => near(value, answers[key]));
    const key = keys.includes("right") ? "right" : keys[0] ?? "else";
    say(key, "No, and it is none of the mistakes that this page knows. Compute it again, or look at the equation above.");
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (answers) check();
  });
  form.addEventListener("change", ({ target }) => {
    if (right === null) return;
    const place = Number(target.value);
    for (const [i, message] of messages.entries()) message.hidden = i !== place;
    form.dataset.answered = place === right - 1 ? "right" : "wrong";
  });
  form.reset();
}
