// Nothing of a page is cut: a formula that is wider than its box is set smaller, on a phone or beside a list, a table of a notebook
// breaks its words into lines and is then set a little smaller, and a box that scrolls sideways says at which of its ends there is more (`data-more`, drawn by book.css).
(() => {
  const SMALLEST_FIGURE = 0.7;                               // of its own size, on a phone: its letters are then 8 pixels
  const SMALLEST = 0.5;                                      // of the size of the text
  const SMALLEST_TABLE = 0.8;                                // of its own size: its letters are then 10 pixels
  const LOOK_EVERY = 100;                                    // milliseconds, until the equations are typeset
  const SCROLLS = "div.math, .arq-scroll, div.cell_output .text_html, pre, .pst-scrollable-table-container, .arq-wide";
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
    for (const formula of document.querySelectorAll("span.math > mjx-container")) {
      formula.dataset.size ??= formula.style.fontSize;
      formula.style.fontSize = formula.dataset.size;
      const room = formula.closest("p, li, dd, td, th, figcaption, div")?.clientWidth ?? 0;
      const width = formula.querySelector("mjx-math")?.getBoundingClientRect().width ?? 0;
      if (room && width > room) formula.style.fontSize = `calc(${formula.dataset.size || "100%"} * ${Math.max(SMALLEST, (room - 2) / width)})`;
    }
    for (const table of document.querySelectorAll("div.cell_output table.dataframe")) {
      const room = table.parentElement.clientWidth, least = () => table.getBoundingClientRect().width;
      table.classList.remove("arq-tight");
      table.style.removeProperty("--arq-share");
      if (!room || least() <= room) continue;
      table.classList.add("arq-tight");
      // lines between the cells keep their width: once more
      for (let share = 1, i = 0; i < 3 && least() > room && share > SMALLEST_TABLE; i++) {
        share = Math.max(SMALLEST_TABLE, share * (room - 1) / least());
        table.style.setProperty("--arq-share", share);
      }
    }
    for (const image of document.querySelectorAll(".arq-wide > img")) {
      const least = Math.round(SMALLEST_FIGURE * image.naturalWidth);
      image.style.minWidth = innerWidth <= 720 && least > image.closest(".arq-wide").clientWidth ? `${least}px` : "";
    }
    for (const box of document.querySelectorAll(SCROLLS)) {
      more(box);
      if (box.dataset.watched) continue;
      box.dataset.watched = "";
      box.addEventListener("scroll", () => more(box), { passive: true });
    }
    document.documentElement.dataset.fitted = "";
  }
  function more(box) {
    const left = box.scrollLeft > 1, right = box.scrollLeft + box.clientWidth < box.scrollWidth - 1;
    const ends = [left && "left", right && "right"].filter(Boolean).join(" ");
    if (!ends) delete box.dataset.more;
    else if (box.dataset.more !== ends) box.dataset.more = ends;
    // the keyboard scrolls what it can reach
    if (ends && !box.hasAttribute("tabindex")) box.tabIndex = 0;
  }
  let waiting = 0;
  const later = () => { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(fit); };
  function begin() {
    const boxes = [...document.querySelectorAll("div.math")];
    if (!boxes.every((box) => box.querySelector("mjx-container"))) return setTimeout(begin, LOOK_EVERY);
    fit();
    addEventListener("resize", later);
    addEventListener("load", later);                         // figures have their sizes
    for (const details of document.querySelectorAll("details")) details.addEventListener("toggle", later);
    addEventListener("click", (event) => event.target.closest(".admonition.toggle") && later());    // an unfolded solution
  }
  document.addEventListener("DOMContentLoaded", begin);
})();
