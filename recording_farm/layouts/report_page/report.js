
for (const slider of document.querySelectorAll(".slider")) {
  const over = slider.querySelector(".over");
  const range = slider.querySelector("input");
  const show = () => { over.style.clipPath = `inset(0 ${100 - range.value}% 0 0)`; };
  range.addEventListener("input", show);
  show(); // a browser may remember where it was
}

const buttons = [...document.querySelectorAll(".filter button")];
for (const button of buttons) {
  button.addEventListener("click", () => {
    const { outcome } = button.dataset;
    buttons.forEach((each) => each.setAttribute("aria-pressed", String(each === button)));
    for (const state of document.querySelectorAll(".state")) {
      state.hidden = outcome !== "" && !state.classList.contains(outcome);
    }
  });
}
