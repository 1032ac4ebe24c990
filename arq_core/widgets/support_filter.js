// Eq. 4 at work: candidates above epsilon stay (dots), the others go (crosses); the penalty is 0 up to the wall and infinite behind it.
const CUT = -12; // nats below which a log-density is drawn on the edge of the plot

function view(data, state, frame) {
  const [c, u, e] = [state.case || 0, state.state_index || 0, state.log_epsilon], one = data.actions.shape[3] === 1;
  const density = Array.from(data.log_prob.row(c, u)), kept = density.map((v) => v >= e), n = density.length;
  const m = kept.filter(Boolean).length;
  const dims = data.actions.shape[3], flat = data.actions.row(c, u);
  const coordinate = (i) => Float32Array.from({ length: n }, (_, j) => flat[j * dims + i]);
  const pickOf = (xs, keep) => Array.from(xs).filter((_, j) => kept[j] === keep);
  const top = Math.max(3, ...density) + 1, edge = (v) => Math.max(CUT, v), tick = data.words.tick || {};
  if (tick.label && !frame.button) {
    frame.button = make("button", { type: "button", class: "arq-button" }, "ε: " + tick.label);
    frame.button.addEventListener("click", () => frame.set("log_epsilon", tick.at));
    frame.button.addEventListener("keydown", (e) => e.stopPropagation());
    frame.box.append(frame.button);
  }

  if (one) densities(); else scatter();
  wall();
  const where = data.words.cases[c] + ", " + data.words.states[c][u];
  const finding = `${where}: log ε = ${fixed(e, 2)} keeps ${m} of ${n} candidates (${percent(m, n)}) and drops ${n - m}, whose penalty is infinite.`;
  return { finding, note: ["In the plot of the penalty only the place along the axis has a meaning; heights keep samples apart.", data.words.note, tick.told].join(" ").trim() };

  function densities() {
    const xs = coordinate(0), grid = Array.from(data.grid.values), model = Array.from(data.model.row(c, u)), truth = Array.from(data.truth.row(c, u));
    const p = frame.panel({ label: `Log-density of candidates over the action; ${m} of ${n} lie above the line at ${fixed(e, 2)}.`, share: 0.66, height: 250,
      x: [grid[0], grid[grid.length - 1]], y: [CUT, top], xlabel: "action", ylabel: "log-density (nats)", pick: (_, v) => frame.set("log_epsilon", v) });
    const half = (grid[1] - grid[0]) / 2;
    p.bands(outside(grid, model, half), "wall");
    p.line(grid, truth.map(edge), "truth");
    p.line(grid, model.map(edge), "model");
    p.rule({ y: edge(e) }, "dropped");
    marks(p, xs, density.map(edge));
    p.key([["model", "model"], ["truth", "truth"], ["kept", "kept"], ["dropped", "dropped"]]);
  }
  // Intervals of the action whose density is below epsilon.
  function outside(grid, values, half) {
    const ranges = [];
    grid.forEach((a, i) => {
      if (values[i] >= e) return;
      if (i && values[i - 1] < e) ranges[ranges.length - 1][1] = a + half; else ranges.push([a - half, a + half]);
    });
    return ranges;
  }
  function scatter() {
    const [i, j] = [state.x, state.y], names = data.words.coordinates;
    const range = (k) => { const v = data.actions.row(c); let [a, b] = [Infinity, -Infinity]; for (let q = k; q < v.length; q += dims) { a = Math.min(a, v[q]); b = Math.max(b, v[q]); } return [a - 0.05, b + 0.05]; };
    const p = frame.panel({ label: `Candidates in two coordinates of the action; ${m} of ${n} are kept.`, share: 0.55, height: 280, x: range(i), y: range(j), xlabel: names[i], ylabel: names[j] });
    marks(p, coordinate(i), coordinate(j));
    p.key([["kept", "kept"], ["dropped", "dropped"]]);
  }
  function marks(p, xs, ys) {
    p.crosses(pickOf(xs, false), pickOf(ys, false), "dropped");
    p.dots(pickOf(xs, true), pickOf(ys, true), "kept");
  }
  function wall() {
    const low = Math.min(CUT, Math.floor(Math.min(e, ...density.filter((v) => v > -60)))) - 1;
    const p = frame.panel({ label: `The penalty of Eq. 4 against log-density: zero above ${fixed(e, 2)}, infinite below.`, share: one ? 0.34 : 0.45, height: one ? 250 : 280,
      x: [low, top], y: [-0.12, 1.1], xlabel: "log-density (nats)", ylabel: "penalty p(s, a)", yticks: false, pick: (v) => frame.set("log_epsilon", v) });
    p.bands([[low, e]], "wall");
    p.line([low, e, e, top], [1, 1, 0, 0], "dropped");
    p.text(low, 1, "∞", "end", -6, 4);
    p.text(low, 0, "0", "end", -6, 4);
    if (tick.label) { p.rule({ x: edge(tick.at) }, "truth"); p.key([[tick.label, "truth"]]); }
    const at = density.map((v) => Math.max(low, v)), jitter = at.map((_, k) => 0.1 + (0.75 * ((k * 0.618) % 1)));
    marks(p, at, jitter);
  }
}
