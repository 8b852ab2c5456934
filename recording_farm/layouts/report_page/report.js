
for (const slider of document.querySelectorAll(".slider")) {
  const over = slider.querySelector(".over");
  const range = slider.querySelector("input");
  const show = () => { over.style.clipPath = `inset(0 ${100 - range.value}% 0 0)`; };
  range.addEventListener("input", show);
  show(); // a browser may remember where it was
}
