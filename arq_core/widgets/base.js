// What every widget shares: the model (live traits or saved state), controls, plots, and the frame that says what is wrong.
// A widget adds view(data, state, frame): it draws with frame.panel and returns { finding, note } (sentences; note may be missing).
const VERSION = 1;
const NARROW = 560; // pixels below which panels stand under each other
const OWN = "arq-" + Math.random().toString(36).slice(2, 9); // ids of one widget are no other's: a clip path of another would cut its plots
let count = 0;

function make(tag, attributes, ...children) {
  const svg = ["svg", "g", "path", "line", "rect", "text", "circle", "image"].includes(tag);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [k, v] of Object.entries(attributes || {})) element.setAttribute(k, v);
  element.append(...children);
  return element;
}

// The same digits as base.fixed in Python.
function fixed(x, digits = 0) {
  if (!Number.isFinite(x)) return x > 0 ? "∞" : x < 0 ? "−∞" : "?";
  const text = x.toFixed(digits);
  return (Number(text) === 0 ? text.replace("-", "") : text).replace("-", "−");
}
const percent = (part, whole) => fixed((100 * part) / whole, 1) + "%";

// float32, int16 or int8 in base64 -> { shape, values }, row by row; row(i, j, ...) is a view of the innermost axes.
function unpacked(name, array) {
  const [kind, Numbers] = [["i1", Int8Array], ["i2", Int16Array], ["f4", Float32Array]].find(([one]) => one in array), wide = Numbers.BYTES_PER_ELEMENT;
  const bytes = Uint8Array.from(atob(array[kind]), (c) => c.charCodeAt(0));
  if (bytes.length % wide) throw new Error(`${name}: saw ${bytes.length} bytes, expected whole numbers of ${wide}; run the notebook again.`);
  const values = new Numbers(bytes.buffer);
  const size = array.shape.reduce((a, b) => a * b, 1);
  if (!size || values.length !== size) throw new Error(`${name}: saw ${values.length} values, expected ${size} (shape ${array.shape}) and at least one.`);
  const bad = values.findIndex((v) => !Number.isFinite(v));
  if (bad >= 0) throw new Error(`${name}: saw a value that is not finite at place ${bad}, expected finite numbers; run the notebook again.`);
  const row = (...at) => {
    const inner = array.shape.slice(at.length).reduce((a, b) => a * b, 1);
    const start = at.reduce((sum, i, axis) => sum * array.shape[axis] + i, 0) * inner;
    return values.subarray(start, start + inner);
  };
  return { shape: array.shape, values, row };
}

// A model says spec(), get(name), set(name, value) and calls back on every change: from the page, or from a kernel, to which tell(name, value) reports (in a page by an event).
function saved(figure) {
  const tell = (k, v) => figure.dispatchEvent(new CustomEvent("arq-" + k, { detail: v, bubbles: true }));
  const { spec, state } = JSON.parse(figure.querySelector(".arq-spec").textContent);
  let changed = () => {};
  return { spec: () => spec, get: (k) => state[k], set: (k, v) => { state[k] = v; changed(); }, tell, on: (f) => { changed = f; } };
}
function live(model) {
  const set = (k, v) => { model.set(k, v); model.save_changes(); };
  return {
    spec: () => model.get("spec"), get: (k) => model.get(k), set, tell: set,
    on: (f) => { model.on("change:spec", f); for (const c of model.get("spec").controls) model.on("change:" + c.name, f); },
  };
}

const decimals = (step) => (String(step).split(".")[1] || "").length;
const shown = (c, v) => (c.kind !== "slider" ? c.options[v] : c.names.length ? c.names[Math.round((v - c.low) / c.step)] : fixed(v, decimals(c.step)));

function problemOf(spec, model) {
  if (spec.version !== VERSION) return `It was saved by version ${spec.version} of these figures, and this script reads version ${VERSION}; run the notebook again.`;
  if (spec.problem) return spec.problem;
  for (const c of spec.controls) {
    const v = model.get(c.name), low = c.kind === "slider" ? c.low : 0, high = c.kind === "slider" ? c.high : c.options.length - 1;
    if (typeof v !== "number" || !(v >= low && v <= high)) return `${c.label}: saw ${v}, expected a number from ${low} to ${high}; move it back with its control.`;
  }
  return "";
}

// One labelled control; keys are handled here, since notebooks take arrow keys for themselves.
function control(c, model) {
  const id = `${OWN}-${++count}`;
  if (c.kind === "radio") {
    // a form, so that the buttons of another widget of the same name are another group
    const inputs = c.options.map((_, i) => make("input", { type: "radio", name: c.name, value: i }));
    const box = make("form", { class: "arq-control arq-radio", role: "radiogroup", "aria-label": c.label }, make("span", { class: "arq-label", "aria-hidden": "true" }, c.label), ...inputs.map((input, i) => make("label", {}, input, " ", c.options[i])));
    box.addEventListener("submit", (e) => e.preventDefault());
    box.addEventListener("keydown", (e) => e.stopPropagation());
    for (const input of inputs) input.addEventListener("change", () => model.set(c.name, Number(input.value)));
    return { box, show: () => inputs.forEach((input, i) => { input.checked = i === model.get(c.name); }) };
  }
  const label = make("label", { for: id }, c.label);
  const box = make("div", { class: "arq-control" }, label);
  if (c.kind === "choice") {
    const select = make("select", { id, name: c.name }, ...c.options.map((o, i) => make("option", { value: i }, o)));
    select.addEventListener("change", () => model.set(c.name, Number(select.value)));
    select.addEventListener("keydown", (e) => e.stopPropagation());
    box.append(select);
    return { box, show: () => { select.value = model.get(c.name); } };
  }
  const input = make("input", { id, name: c.name, type: "range", min: c.low, max: c.high, step: c.step, "data-lm-suppress-shortcuts": "true" });
  const output = make("output", { for: id });
  const snap = (v) => Number(Math.min(c.high, Math.max(c.low, c.low + Math.round((v - c.low) / c.step) * c.step)).toFixed(decimals(c.step)));
  const jumps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -Infinity, End: Infinity };
  input.addEventListener("input", () => model.set(c.name, snap(Number(input.value))));
  input.addEventListener("keydown", (e) => {
    if (!(e.key in jumps) || e.ctrlKey || e.metaKey || e.altKey) return;
    e.preventDefault();
    e.stopPropagation();
    const from = model.get(c.name), to = jumps[e.key];
    model.set(c.name, Number.isFinite(to) ? snap(from + to * c.step) : to < 0 ? c.low : c.high);
  });
  box.append(input, output);
  const show = () => {
    const text = shown(c, model.get(c.name)) + (c.unit ? " " + c.unit : "");
    input.value = model.get(c.name);
    input.setAttribute("aria-valuetext", text);
    output.textContent = text;
  };
  return { box, show, snap };
}

// Where the lines of an axis lie, and their numbers: of thousands, millions and so on, since more than five letters would reach the words beside them.
const UNITS = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];
function ticks([low, high], wanted) {
  const rough = (high - low) / wanted, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5].find((m) => m * power >= rough) || 10);
  const at = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) at.push(i * step);
  const top = Math.max(...at.map(Math.abs)), [unit, name] = UNITS.find(([one]) => top >= one) || [1, ""], digits = Math.max(0, -Math.floor(Math.log10(step / unit) + 1e-9));
  return at.map((v) => [v, name && !v ? "0" : fixed(v / unit, digits) + name]);
}

// Axes of one plot in pixels of the screen, so that letters keep their size. Classes give colours (base.css).
function panel(frame, { label, xlabel, ylabel, x, y, height = 220, share = 1, xticks = true, yticks = true, pick = null }) {
  const width = Math.max(200, Math.floor(frame.width < NARROW ? frame.width : frame.width * share - (share < 1 ? 8 : 0)));
  const box = { left: yticks ? 62 : 26, right: width - 10, top: 20, bottom: height - (xticks ? 40 : 24) };
  const X = (v) => box.left + ((v - x[0]) / (x[1] - x[0])) * (box.right - box.left);
  const Y = (v) => box.bottom + ((v - y[0]) / (y[1] - y[0])) * (box.top - box.bottom);
  const svg = make("svg", { width, height, role: "img", "aria-label": label });
  const clip = `${OWN}-${++count}`;
  svg.innerHTML = `<clipPath id="${clip}"><rect x="${box.left}" y="${box.top}" width="${box.right - box.left}" height="${box.bottom - box.top}"/></clipPath>`;
  const back = make("g", { class: "arq-back" }), marks = make("g", { "clip-path": `url(#${clip})` }), front = make("g");
  const say = (px, py, words, anchor, more = {}) => front.append(make("text", { x: px, y: py, "text-anchor": anchor, ...more }, words));
  if (xticks) {
    for (const [v, number] of ticks(x, Math.max(2, width / 90))) { back.append(make("line", { x1: X(v), x2: X(v), y1: box.top, y2: box.bottom })); say(X(v), box.bottom + 15, number, "middle"); }
  }
  if (yticks) {
    for (const [v, number] of ticks(y, Math.max(2, height / 50))) { back.append(make("line", { x1: box.left, x2: box.right, y1: Y(v), y2: Y(v) })); say(box.left - 5, Y(v) + 4, number, "end"); }
  }
  back.append(make("rect", { x: box.left, y: box.top, width: box.right - box.left, height: box.bottom - box.top }));
  if (xlabel) say((box.left + box.right) / 2, height - 6, xlabel, "middle");
  if (ylabel) say(0, 0, ylabel, "middle", { transform: `translate(11 ${(box.top + box.bottom) / 2}) rotate(-90)` });
  svg.append(back, marks, front);
  frame.plots.append(svg);
  const path = (d, kind, color, more = {}) => marks.appendChild(make("path", { d, class: `arq-${kind} arq-${color}`, ...more }));
  const each = (xs, ys, f) => Array.from(xs, (v, i) => f(X(v), Y(ys[i]))).join("");
  if (pick) {
    const at = (e, r) => pick(x[0] + ((e.clientX - r.left - box.left) / (box.right - box.left)) * (x[1] - x[0]), y[0] + ((e.clientY - r.top - box.bottom) / (box.top - box.bottom)) * (y[1] - y[0]));
    svg.classList.add("arq-pick");
    // The place of the plot is taken once: while dragging, this svg is replaced at every change, and a replaced one has no place.
    svg.addEventListener("pointerdown", (e) => { const r = svg.getBoundingClientRect(); frame.dragging = (later) => at(later, r); at(e, r); });
  }
  return {
    X, Y, box, width, shape: path,
    line: (xs, ys, color) => path("M" + Array.from(xs, (v, i) => `${X(v).toFixed(1)} ${Y(ys[i]).toFixed(1)}`).join("L"), "line", color),
    dots: (xs, ys, color, r = 3) => path(each(xs, ys, (a, b) => `M${(a - r).toFixed(1)} ${b.toFixed(1)}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0`), "dots", color),
    crosses: (xs, ys, color, r = 3) => path(each(xs, ys, (a, b) => `M${(a - r).toFixed(1)} ${(b - r).toFixed(1)}l${2 * r} ${2 * r}m0 ${-2 * r}l${-2 * r} ${2 * r}`), "line", color),
    bars: (lows, highs, tops, color) => path(Array.from(lows, (v, i) => `M${X(v).toFixed(1)} ${Y(0)}V${Y(tops[i]).toFixed(1)}H${X(highs[i]).toFixed(1)}V${Y(0)}z`).join(""), "dots", color),
    // [[low, high], ...] along x, each as high as the plot
    bands: (ranges, color) => path(ranges.map(([a, b]) => `M${X(a).toFixed(1)} ${box.top}H${X(b).toFixed(1)}V${box.bottom}H${X(a).toFixed(1)}z`).join(""), "area", color),
    rule: (at, color) => path("x" in at ? `M${X(at.x)} ${box.top}V${box.bottom}` : `M${box.left} ${Y(at.y)}H${box.right}`, "rule", color),
    // a line of coloured words above the plot's top: [[words, color], ...]
    key: (entries) => front.append(...entries.filter(([words]) => words).map(([words, color]) => make("text", { x: box.left, y: 13, class: `arq-key arq-${color}` }, words))),
    text: (v, w, words, anchor = "start", dx = 0, dy = 0) => say(X(v) + dx, Y(w) + dy, words, anchor, { class: "arq-said" }),
  };
}

// Words are as wide as the reader's fonts make them: keys are set side by side, and what leaves its plot is moved back, or squeezed where it is wider.
// What is said at a place goes a line up, or down, where it would lie on what was said before.
const LINE = 13;
function fit(svg) {
  const room = svg.width.baseVal.value, wide = new Map(Array.from(svg.querySelectorAll("text"), (t) => [t, t.getComputedTextLength()]));
  const keys = [...wide.keys()].filter((t) => t.classList.contains("arq-key")), sum = keys.reduce((all, t) => all + wide.get(t), 0);
  const squeeze = (t, w) => { if (w < wide.get(t)) { t.setAttribute("textLength", w); t.setAttribute("lengthAdjust", "spacingAndGlyphs"); } };
  const gap = Math.max(6, Math.min(12, (room - sum) / keys.length)), share = Math.min(1, (room - gap * keys.length) / sum);
  let left = keys.length && Math.max(1, Math.min(Number(keys[0].getAttribute("x")), room - share * sum - gap * (keys.length - 1) - 1));
  const said = [], least = keys.length ? 2 * LINE : LINE;  // below the keys
  for (const [t, w] of wide) {
    if (keys.includes(t)) {
      t.setAttribute("x", left);
      squeeze(t, share * w);
      left += share * w + gap;
    } else if (!t.hasAttribute("transform")) {
      const before = { start: 0, middle: 0.5, end: 1 }[t.getAttribute("text-anchor")] * Math.min(w, room - 2), at = Number(t.getAttribute("x"));
      t.setAttribute("x", Math.min(Math.max(at, 1 + before), room - 1 - Math.min(w, room - 2) + before));
      squeeze(t, room - 2);
      if (!t.classList.contains("arq-said")) continue;
      const from = Number(t.getAttribute("x")) - before, here = { from, to: from + Math.min(w, room - 2), y: Math.max(least, Number(t.getAttribute("y"))) };
      const free = (y) => y >= least && !said.some((one) => one.from < here.to && here.from < one.to && Math.abs(one.y - y) < LINE - 2);
      here.y = [0, -1, 1, -2, 2].map((lines) => here.y + lines * LINE).find(free) ?? here.y;
      t.setAttribute("y", here.y);
      said.push(here);
    }
  }
}

// Puts the widget into `host`: a saved figure with its sentence, or an empty element of a live notebook.
function mount(host, model, view) {
  const figure = host.tagName === "FIGURE" ? host : host.appendChild(make("figure", { class: "arq-widget" }));
  const finding = figure.querySelector(".arq-finding") || figure.appendChild(make("p", { class: "arq-finding", role: "status" }));
  const frame = { figure, plots: make("div", { class: "arq-plots" }), width: 0, dragging: null };
  const wrong = make("p", { class: "arq-wrong", role: "alert" }), note = make("p", { class: "arq-note" }), box = make("div", { class: "arq-controls" });
  let controls = [], data = null, failed = "", asked = 0;
  Object.assign(frame, { box, tell: model.tell, redraw: () => soon() });
  frame.panel = (options) => panel(frame, options);
  frame.set = (name, v) => { const c = controls.find((one) => one.name === name); model.set(name, c && c.snap ? c.snap(v) : v); };

  const room = () => Math.floor(frame.plots.clientWidth) || 640;
  function draw() {
    asked = 0;
    const spec = model.spec();
    let problem = failed || problemOf(spec, model), said = { finding: "" };
    frame.width = room();
    frame.plots.replaceChildren();
    controls.forEach((c) => c.show());
    if (!problem) {
      try {
        said = view(data, Object.fromEntries(spec.controls.map((c) => [c.name, model.get(c.name)])), frame);
      } catch (error) {
        problem = error.message;
      }
    }
    if (problem) frame.plots.replaceChildren();
    for (const svg of frame.plots.querySelectorAll("svg")) fit(svg);
    wrong.textContent = problem ? "This figure cannot be shown. " + problem : "";
    finding.textContent = said.finding;
    note.textContent = said.note || "";
    wrong.hidden = !problem;
    finding.hidden = !!problem;
    note.hidden = !said.note;
    figure.dataset.ready = "true";
  }
  const soon = () => { asked = asked || requestAnimationFrame(draw); };
  function start() {
    const spec = model.spec();
    failed = "";
    figure.setAttribute("aria-label", spec.title || "Interactive figure");
    try {
      data = { words: spec.words, ...Object.fromEntries(Object.entries(spec.arrays || {}).map(([k, a]) => [k, unpacked(k, a)])) };
      controls = (spec.controls || []).map((c) => Object.assign(control(c, model), { name: c.name }));
    } catch (error) {
      failed = error.message;
    }
    box.replaceChildren(...controls.map((c) => c.box));
    draw();
  }
  figure.insertBefore(box, finding);
  figure.insertBefore(wrong, finding);
  figure.insertBefore(frame.plots, finding);
  figure.append(note);
  addEventListener("pointermove", (e) => frame.dragging && frame.dragging(e));
  addEventListener("pointerup", () => { frame.dragging = null; });
  addEventListener("pointercancel", () => { frame.dragging = null; });
  model.on(soon);
  start();
  new ResizeObserver(() => room() !== frame.width && soon()).observe(figure);
}
