// The reverse process falls from noise (top) to actions (bottom); below each solver, where its samples now are beside the law that they should have.
function view(data, state, frame) {
  const [k, c, i] = [state.score || 0, state.behaviour || 0, state.time], words = data.words, last = words.named.length - 1;
  const several = Math.max(words.norms.length, 1), shown = [state.norm || 0, ...words.solvers.keys()].filter((w, at) => at === 0 || w >= several);
  const x = words.edges, bins = data.counts.shape[4], step = (x[1] - x[0]) / bins, edge = Array.from({ length: bins + 1 }, (_, b) => x[0] + b * step);
  const colors = ["kept", "extra", "model"], share = 1 / shown.length - 0.001;
  const used = (w, at) => data.used.row(w)[at];
  const stands = shown.map((w) => { const own = data.held.row(w)[i]; return { w, own, xs: data.paths.row(k, w, i, c).slice() }; });

  const told = shown.map((w) => `${words.solvers[w]}, after ${fixed(used(w, i))} of ${fixed(used(w, last))} evaluations, lies ${fixed(data.distance.row(k, w, i)[c], 3)} from the true law with ` +
    `${percent(data.off.row(k, w, i)[c], 1)} off its support`);
  const finding = `${words.behaviours[c]}, ${words.scores[k]}, ${words.named[i]}: ${told.join("; ")}; ${words.n} true samples lie ${fixed(data.null.row(i)[c], 3)} from it on average.`;
  if (frame.width < NARROW) stands.forEach((s, at) => { paths(s, at); histogram(s, at); });
  else { stands.forEach(paths); stands.forEach(histogram); }
  return { finding, note: words.note };

  function inSupport(v, level) {
    const low = data.low.row(level, c), high = data.high.row(level, c);
    return low.some((a, m) => v >= a && v <= high[m]);
  }
  function paths({ w, own, xs }, at) {
    const now = Array.from(xs, (v) => v / 1000), on = now.map((v) => inSupport(v, own)), out = on.filter((one) => !one).length;
    const p = frame.panel({ label: `${words.solvers[w]}: ${now.length} paths from noise at the top down to ${words.named[i]}; ${out} of them stand off the support.`, share,
      height: frame.width < NARROW ? 150 : 270, x, y: [-1, last + 1], yticks: false, ylabel: "noise → action", pick: (_, v) => frame.set("time", last - v) });
    now.forEach((_, j) => {
      const line = [];
      for (let level = 0; level <= i; level++) line.push(data.paths.row(k, w, level, c)[j] / 1000);
      p.line(line, line.map((_, level) => last - level), "soft arq-thin");
    });
    p.rule({ y: last - i }, colors[at % 3]);
    const marks = (keep, draw, color) => draw(now.filter((_, j) => on[j] === keep), now.map(() => last - i), color);
    marks(true, p.dots, colors[at % 3]);
    marks(false, p.crosses, "dropped");
    p.key([[`${words.solvers[w]}: ${fixed(used(w, i))} of ${fixed(used(w, last))}`, colors[at % 3]]]);
  }
  function histogram({ w, own }, at) {
    const part = Array.from(data.counts.row(k, w, i, c), (v) => v / words.n), mass = Array.from(data.mass.row(own, c), (v) => v / 10000);
    const p = frame.panel({ label: `${words.solvers[w]}: shares of its samples by place (bars) and the true law (line) at ${words.named[i]}.`, share, height: frame.width < NARROW ? 120 : 150,
      x, y: [0, 1.2 * Math.max(...part, ...mass)], yticks: false, xlabel: "standardised action", ylabel: "share" });
    p.bars(edge.slice(0, -1), edge.slice(1), part, colors[at % 3]);
    p.line(mass.flatMap((_, b) => [edge[b], edge[b + 1]]), mass.flatMap((m) => [m, m]), "truth");
    p.key([["samples", colors[at % 3]], ["true law", "truth"]]);
  }
}
