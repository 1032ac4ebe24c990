/* Sorts and filters the tables of results. Without it they stand whole, in the paper's order; on paper they always do (tables.css). */
"use strict";
(() => {
  const FILTERS = { group: ["Group", "all groups"], fidelity: ["Data", "any data"], profile: ["Profile", "any profile"], verdict: ["Verdict", "any verdict"] };
  const NUMBERS = { paper: "the paper's number", ours: "our number", difference: "the difference Δ" };

  function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  /** A labelled choice among [value, text]. */
  function choice(id, title, options, changed) {
    const select = make("select", { id }, ...options.map(([value, text]) => make("option", { value, textContent: text })));
    select.addEventListener("change", changed);
    return [make("div", {}, make("label", { htmlFor: id, textContent: title }), select), select];
  }

  function setUp(figure) {
    const table = figure.querySelector("table"), heads = [...table.tHead.rows[0].cells], name = figure.querySelector("figcaption").textContent;
    const bodies = [...table.tBodies], blocks = bodies.filter((body) => body.dataset.dataset !== undefined);
    const order = { column: null, down: true }, chosen = {};
    const own = (row) => row.classList.contains("arq-ours");

    const offered = {
      group: () => blocks.map((block) => block.dataset.group),
      fidelity: () => blocks.flatMap((block) => [...block.rows].map((row) => row.dataset.fidelity)),
      profile: () => blocks.flatMap((block) => [...block.rows].map((row) => row.dataset.profile)),
      verdict: () => blocks.flatMap((block) => [...block.rows].flatMap((row) => (row.dataset.verdict || "").split("|"))),
    };
    const form = make("form", { className: "arq-controls" });
    form.setAttribute("aria-label", `Sort and filter: ${name}`);
    form.addEventListener("submit", (event) => event.preventDefault());
    for (const [key, [title, all]] of Object.entries(FILTERS)) {
      const values = [...new Set(offered[key]().filter(Boolean))];
      if (!values.length || (key === "group" && values.length < 2)) continue;
      const [control, select] = choice(`${figure.id}-${key}`, title, [["", all], ...values.map((value) => [value, value])], show);
      chosen[key] = select;
      form.append(control);
    }
    const lines = { paper: "tr.arq-paper td[data-mean]", ours: "tr.arq-ours td[data-mean]", difference: "td[data-difference]" };
    const numbers = Object.entries(NUMBERS).filter(([key]) => table.querySelector(lines[key]));
    const NOT_RUN = "not run", bare = (row) => row.dataset.verdict === NOT_RUN;
    const [more, all] = choice(`${figure.id}-all`, "Cells not run", [["", "hidden"], ["shown", "shown"]], show);
    if (table.querySelector("td.arq-not-run")) form.append(more);
    const [control, by] = choice(`${figure.id}-by`, "Columns sort by", numbers, show);
    const reset = make("button", { type: "button", textContent: "No filters, in the first order" });
    const said = make("output");
    said.setAttribute("aria-live", "polite");
    reset.addEventListener("click", () => {
      Object.values(chosen).forEach((select) => { select.value = ""; });
      all.value = "";
      order.column = null;
      show();
    });
    form.append(control, reset, said);
    figure.querySelector(".arq-scroll").before(form);

    heads.forEach((head, column) => {
      const button = make("button", { type: "button" }, ...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const first = column > 0;                                          // numbers begin with the highest, names with A
        if (order.column !== column) Object.assign(order, { column, down: first });
        else if (order.down === first) order.down = !first;
        else order.column = null;
        show();
      });
    });

    const value = (key) => chosen[key]?.value || "";
    const hides = () => !all.value && value("verdict") !== NOT_RUN;
    const fits = (row) => !(hides() && bare(row)) && ["fidelity", "profile", "verdict"].every((key) => !value(key) || (row.dataset[key] || "").split("|").includes(value(key)));

    /** The number of a block that its column is sorted by: of the paper's line, or of our first line that is shown and has one. */
    function sortKey(block) {
      if (order.column === 0) return block.dataset.dataset;
      const rows = [...block.rows].filter((row) => own(row) === (by.value !== "paper") && !row.classList.contains("arq-out"));
      const cells = rows.filter((row) => row.cells.length === heads.length).map((row) => row.cells[order.column].dataset[by.value === "difference" ? "difference" : "mean"]);
      const found = cells.find((x) => x !== undefined);
      return found === undefined ? null : Number(found);
    }

    function compare(a, b) {
      if (a.key === null || b.key === null) return (a.key === null) - (b.key === null) || a.place - b.place;     // what has no number comes last
      const sign = order.down ? -1 : 1;
      return sign * (typeof a.key === "string" ? a.key.localeCompare(b.key, "en") : a.key - b.key) || a.place - b.place;
    }

    function filter() {
      figure.toggleAttribute("data-hides", hides());
      const narrowed = ["fidelity", "profile", "verdict"].some(value);
      for (const block of blocks) {
        const ours = [...block.rows].filter(own);
        ours.forEach((row) => row.classList.toggle("arq-out", !fits(row)));
        const whole = ours.length === block.rows.length;                   // no line of the paper's
        const shown = (!value("group") || block.dataset.group === value("group")) && (!(narrowed || whole) || ours.some(fits));
        block.classList.toggle("arq-out", !shown);
      }
      bodies.forEach((body, i) => {
        if (blocks.includes(body)) return;
        let next = i + 1;
        while (next < bodies.length && blocks.includes(bodies[next]) && bodies[next].classList.contains("arq-out")) next += 1;
        body.classList.toggle("arq-out", order.column !== null || !blocks.includes(bodies[next]));
      });
    }

    function show() {
      filter();
      heads.forEach((head, column) => {
        if (column === order.column) head.setAttribute("aria-sort", order.down ? "descending" : "ascending");
        else head.removeAttribute("aria-sort");
      });
      figure.toggleAttribute("data-sorted", order.column !== null);
      const sorted = blocks.map((block, place) => ({ block, place, key: order.column === null ? "" : sortKey(block) }));
      if (order.column === null) table.append(...bodies);
      else table.append(...bodies.filter((body) => !blocks.includes(body)), ...sorted.sort(compare).map((one) => one.block));
      const there = blocks.filter((block) => !block.classList.contains("arq-out"));
      const ours = there.flatMap((block) => [...block.rows]).filter((row) => own(row) && !row.classList.contains("arq-out") && row.dataset.profile && row.dataset.verdict !== "smoke test");
      const how = order.column === null ? "" : `, sorted by ${heads[order.column].textContent}${order.column ? ` (${NUMBERS[by.value]})` : ""}, ${
        order.column ? (order.down ? "highest first" : "lowest first") : (order.down ? "from Z to A" : "from A to Z")}`;
      said.textContent = `${there.length} of ${blocks.length} rows of the table shown, ${ours.length} ${ours.length === 1 ? "line" : "lines"} of ours with numbers${how}.`;
    }
    show();
    figure.dataset.ready = "";
    figure.addEventListener("arq-wanted", () => reset.click());
  }

  /** Unfold and unfilter what an address names, before going there. */
  function arrive() {
    const line = document.getElementById(decodeURIComponent(location.hash.slice(1))), folded = line?.closest("details.arq-folded");
    if (!folded) return;
    folded.open = true;
    if (!line.offsetHeight) line.closest("figure").dispatchEvent(new Event("arq-wanted"));
    line.scrollIntoView();
  }

  function start() {
    document.querySelectorAll("figure.arq-results").forEach(setUp);
    addEventListener("hashchange", arrive);
    // a second click on the same square changes no address
    addEventListener("click", (event) => event.target.closest?.('a[href^="#line-"]') && setTimeout(arrive));
    arrive();
  }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
