// An equation that is wider than its box is set smaller, so that nothing of it is cut: on a phone, or beside a list.
(() => {
  const SMALLEST = 0.5;                                      // of the size of the text
  const LOOK_EVERY = 100;                                    // milliseconds, until the equations are typeset
  function fit() {
    for (const equation of document.querySelectorAll('mjx-container[display="true"]')) {
      equation.dataset.size ??= equation.style.fontSize;     // MathJax's own
      equation.style.fontSize = equation.dataset.size;
      const box = equation.closest("div.math") ?? equation.parentElement;
      const width = Math.max(0, ...[...equation.querySelectorAll("mjx-math, mjx-mtable")].map((part) => part.scrollWidth));
      const room = box.clientWidth - (box.querySelector(".eqno")?.offsetWidth ?? 0) - 10;
      const own = parseFloat(equation.dataset.size) / 100 || 1;
      const share = Math.max(SMALLEST / own, room / width);
      if (room > 0 && share < 1) equation.style.fontSize = `calc(${equation.dataset.size || "100%"} * ${share})`;
    }
  }
  let waiting = 0;
  const later = () => { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(fit); };
  function begin() {
    const boxes = [...document.querySelectorAll("div.math")];
    if (!boxes.every((box) => box.querySelector("mjx-container"))) return setTimeout(begin, LOOK_EVERY);
    fit();
    addEventListener("resize", later);
    for (const details of document.querySelectorAll("details")) details.addEventListener("toggle", later);
    addEventListener("click", (event) => event.target.closest(".admonition.toggle") && later());    // an unfolded solution
  }
  document.addEventListener("DOMContentLoaded", begin);
})();
