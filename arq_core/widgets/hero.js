// The first screen: below, the density of the recordings and the line; above, what the learner believes and what is true. It takes the best that the line leaves.
const VALUES = [-0.75, 1.7], DENSITIES = [-14.5, 2.5];

function view(data, state, frame) {
  const e = state.log_epsilon, [a, density, q, truth] = ["actions", "log_prob", "q", "truth"].map((name) => Array.from(data[name].values)), n = a.length;
  const kept = density.map((v) => v >= e), free = best(q.map(() => true)), chosen = kept.includes(true) ? best(kept) : -1, left = chosen >= 0;
  const line = `log ε = ${fixed(e, 2)}`, columns = [make("div"), make("div")];
  column(0, 0.7, values, hill);
  column(1, 0.3, outcome);
  frame.plots.append(...columns);
  return { finding: finding(), note: data.words.note };

  function best(among) {
    let at = -1;
    q.forEach((v, i) => { if (among[i] && (at < 0 || v > q[at])) at = i; });
    return at;
  }
  function told(i) {
    const place = data.words.places[data.words.edges.filter((edge) => a[i] > edge).length];
    return `${place} (${fixed(a[i], 2)}), believes in ${fixed(q[i], 2)} and gets ${fixed(truth[i], 2)}`;
  }
  function finding() {
    if (!left) return `${line} is above the densest action: nothing is left to choose from, not even what the recordings do most.`;
    const mass = density.map(Math.exp), sum = (xs) => xs.reduce((x, y) => x + y, 0);
    const shares = `${line} keeps ${percent(kept.filter(Boolean).length, n)} of the actions, and with them ${percent(sum(mass.filter((_, i) => kept[i])), sum(mass))} of what was recorded.`;
    return chosen === free ? `${shares} The learner picks ${told(chosen)}: as if it were free.` : `${shares} The learner picks ${told(chosen)}. Free, it would pick ${told(free)}.`;
  }
  function column(at, share, ...draw) {
    for (const one of draw) { one(share); columns[at].append(frame.plots.lastElementChild); }
  }
  // Intervals of actions that the line takes away.
  function dropped() {
    const half = (a[1] - a[0]) / 2, ranges = [];
    a.forEach((v, i) => {
      if (kept[i]) return;
      if (i && !kept[i - 1]) ranges[ranges.length - 1][1] = v + half; else ranges.push([v - half, v + half]);
    });
    return ranges;
  }
  function dashes(p, ys) {
    p.shape("M" + a.map((v, i) => `${p.X(v).toFixed(1)} ${p.Y(ys[i]).toFixed(1)}`).join("L"), "rule", "truth");
  }
  function values(share) {
    const p = frame.panel({ label: `What the learner believes of each action, and what is true. ${left ? `It picks ${told(chosen)}.` : "Nothing is left to pick."}`, share, height: 185, x: [-1, 1], y: VALUES, ylabel: "value", xticks: false });
    p.bands(dropped(), "wall");
    dashes(p, truth);
    p.line(a, q, "extra");
    if (left) {
      p.shape(`M${p.X(a[chosen]).toFixed(1)} ${p.Y(q[chosen]).toFixed(1)}V${p.box.bottom}`, "line", "kept");
      p.dots([a[chosen]], [truth[chosen]], "truth", 6);
      p.dots([a[chosen]], [q[chosen]], "extra", 7);
      const near = Math.abs(a[chosen] - a[free]) < 0.2;
      if (chosen === free) p.text(a[chosen], q[chosen], "picked", "start", 12, 4);
      else p.text(a[chosen], q[chosen], "picked", near ? "end" : "middle", near ? -14 : 0, near ? 4 : -12);
    } else p.text(0, -0.67, "nothing is left to pick", "middle");
    if (chosen !== free) {
      const x = p.X(a[free]), y = p.Y(q[free]);
      p.shape(`M${x - 6} ${y}a6 6 0 1 0 12 0a6 6 0 1 0 -12 0`, "hollow", "extra");
      p.text(a[free], q[free], "dropped", "start", 12, 4);
    }
    p.key([["believed, Q", "extra"], ["true", "truth"]]);
  }
  function hill(share) {
    const p = frame.panel({ label: `The log-density of the recorded behaviour: two hills, a low one on the left and a high one on the right; the line stands at ${fixed(e, 2)}.`, share, height: 175, x: [-1, 1], y: DENSITIES,
      xlabel: "left  ←  action  →  right", ylabel: "log-density", pick: (_, v) => frame.set("log_epsilon", v) });
    frame.plots.lastElementChild.style.touchAction = "none"; // a finger moves the line up and down, and not the page
    p.bands(dropped(), "wall");
    p.shape(`M${p.X(-1)} ${p.box.bottom}` + a.map((v, i) => `L${p.X(v).toFixed(1)} ${p.Y(density[i]).toFixed(1)}`).join("") + `L${p.X(1)} ${p.box.bottom}z`, "hill", "kept");
    if (left) p.shape(`M${p.X(a[chosen]).toFixed(1)} ${p.box.top}V${p.Y(density[chosen]).toFixed(1)}`, "line", "kept");
    p.shape(`M${p.box.left} ${p.Y(e)}H${p.box.right}`, "handle", "dropped");
    p.text(1, e, "ε ↕", "end", -6, -6);
    p.key([["what was recorded", "kept"], ["the line: drag it", "dropped"]]);
  }
  function outcome(share) {
    const p = frame.panel({ label: left ? `Of the action that is picked, ${fixed(q[chosen], 2)} is believed and ${fixed(truth[chosen], 2)} is true.` : "Nothing is picked, so nothing is believed of it.", share, height: frame.width < NARROW ? 150 : 360, x: [0, 2], y: [-0.75, 1.8], xticks: false });
    p.line([0, 2], [0, 0], "soft");
    if (left) {
      p.bars([0.2], [0.85], [q[chosen]], "extra");
      p.bars([1.15], [1.8], [truth[chosen]], "truth");
      for (const [x, v] of [[0.52, q[chosen]], [1.48, truth[chosen]]]) p.text(x, v, fixed(v, 2), "middle", 0, v < 0 ? 16 : -6);
    } else p.text(1, 0.5, "no choice", "middle");
    p.key([["believed", "extra"], ["true", "truth"]]);
  }
}
