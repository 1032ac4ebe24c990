// A box above a long list (`data-filter` says of what): rows of its table, or what is folded in it, are left out where they lack one of its words. Without JavaScript, and on paper,
// everything stands.
"use strict";
(() => {
  const plain = (text) => ` ${text.toLowerCase().normalize("NFKD").replace(/\p{M}/gu, "").replace(/[^\p{L}\p{N}]+/gu, " ")}`;

  function setUp(figure, number) {
    const inTable = !figure.querySelector("details"), name = figure.dataset.filter;
    const text = (line) => [...line.querySelectorAll("th, td")].map((cell) => cell.textContent).join(" ");
    const all = [...figure.querySelectorAll(inTable ? "tbody tr:not(.arq-group)" : "details")], words = new Map(all.map((line) => [line, [plain(line.querySelector("summary, th").textContent), plain(text(line))]]));
    const holds = ([head, rest], word) => head.includes(word) || rest.includes(` ${word}`);     // anywhere in a name, else where a word begins
    const form = Object.assign(document.createElement("form"), { className: "arq-controls" });
    const box = document.createElement("div"), said = document.createElement("output");
    const label = Object.assign(document.createElement("label"), { htmlFor: `arq-filter-${number}`, textContent: `Show only ${name} with these words` });
    const input = Object.assign(document.createElement("input"), { type: "search", id: label.htmlFor, autocomplete: "off" });
    form.setAttribute("role", "search");
    form.setAttribute("aria-label", `Filter the ${name}`);
    said.setAttribute("aria-live", "polite");
    box.append(label, input);
    form.append(box, said);
    form.addEventListener("submit", (event) => event.preventDefault());
    figure.before(form);

    function show() {
      const wanted = plain(input.value).split(" ").filter(Boolean);
      for (const line of all) line.classList.toggle("arq-filtered", !wanted.every((word) => holds(words.get(line), word)));
      let heading = null;                                                  // stays where a row below it does
      for (const row of inTable ? figure.querySelectorAll("tbody tr") : []) {
        if (row.classList.contains("arq-group")) (heading = row).classList.add("arq-filtered");
        else if (!row.classList.contains("arq-filtered")) heading?.classList.remove("arq-filtered");
      }
      const shown = all.filter((line) => !line.classList.contains("arq-filtered")).length;
      said.textContent = `${shown} of ${all.length} ${name} shown.`;
    }
    input.addEventListener("input", show);
    input.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !input.value) return;
      input.value = "";
      show();
    });
    // what an address names is shown, whatever is typed
    addEventListener("hashchange", () => {
      const line = document.getElementById(decodeURIComponent(location.hash.slice(1)));
      if (!line || !figure.contains(line) || !line.closest(".arq-filtered")) return;
      input.value = "";
      show();
      line.scrollIntoView();
    });
    show();
  }

  const start = () => document.querySelectorAll("figure[data-filter]").forEach(setUp);
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
