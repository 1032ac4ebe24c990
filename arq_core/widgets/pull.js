// Theorem 1 as bars: Q, the penalty's own policy, and the two multiplied; below, what the strength of the penalty does to two actions.
function view(data, { strength }, frame) {
  const { low, step, watched, usual, note } = data.words, places = data.pi.shape[0], n = data.q.shape[0], i = Math.min(places - 1, Math.round((strength - low) / step));
  const q = data.q.values, induced = data.pi_p.row(i), pi = data.pi.row(i), free = data.pi.row(0), [left, right] = data.sides.row(i), said = fixed(strength, 1);
  const tallest = Math.max(...data.pi.values, ...data.pi_p.values), wide = frame.width >= NARROW;

  bars("Q, what is believed", q, [Math.min(0, ...q), 1.15 * Math.max(...q)], "kept", (v) => fixed(v, 1));
  bars("πₚ ∝ exp(−p), the penalty's own", induced, [0, 1.12 * tallest], "truth", (v) => percent(v, 1));
  const plot = bars("π ∝ πₚ exp(Q), the policy", pi, [0, 1.12 * tallest], "extra", (v) => percent(v, 1));
  const outline = (p, j) => `M${plot.X(j + 0.6).toFixed(1)} ${plot.Y(0).toFixed(1)}V${plot.Y(p).toFixed(1)}H${plot.X(j + 1.4).toFixed(1)}V${plot.Y(0).toFixed(1)}`;
  plot.shape(Array.from(free, outline).join(""), "line", "soft", { style: "stroke-width:1.2;stroke-dasharray:3 2" });
  byStrength();
  const finding = `Strength ${said}: of action ${watched + 1} the penalty's own policy πₚ has ${percent(induced[watched], 1)}, and the policy π ∝ πₚ exp(Q) has ${percent(pi[watched], 1)}, where it has ` +
    `${percent(free[watched], 1)} at strength ${fixed(low, 1)}. Both objectives at π: ⟨π, Q⟩ − KL(π, πₚ) = ${fixed(left, 2)}, ⟨π, Q − p⟩ − Z + H(π) = ${fixed(right, 2)}.`;
  return { finding, note };

  function bars(title, heights, y, color, word) {
    const plot = frame.panel({ label: `${title}, at strength ${said}: ${Array.from(heights, (v, j) => `action ${j + 1} ${word(v)}`).join(", ")}.`, share: 1 / 3, height: wide ? 210 : 150, x: [0.4, n + 0.6], y,
      xticks: false, yticks: false });
    for (const [those, hue] of [[(j) => j !== watched, color], [(j) => j === watched, "dropped"]]) {
      const some = Array.from(heights.keys()).filter(those);
      plot.bars(some.map((j) => j + 0.6), some.map((j) => j + 1.4), some.map((j) => heights[j]), hue);
    }
    heights.forEach((v, j) => plot.text(j + 1, y[0], String(j + 1), "middle", 0, 15));
    const top = heights.indexOf(Math.max(...heights));
    for (const j of new Set([watched, top])) plot.text(j + 1, Math.max(0, heights[j]), word(heights[j]), "middle", 0, -4);
    plot.key([[title, color]]);
    return plot;
  }
  function byStrength() {
    const high = low + step * (places - 1), xs = Array.from({ length: places }, (_, k) => low + step * k), of = (j) => xs.map((_, k) => data.pi.row(k)[j]);
    const plot = frame.panel({ label: `Shares of action ${watched + 1} and of action ${usual + 1} in the policy, by strength; at ${said} they are ${percent(pi[watched], 1)} and ${percent(pi[usual], 1)}.`, height: 170,
      x: [low - 0.5 * step, high + 0.5 * step], y: [0, 1], xlabel: "strength of the penalty", ylabel: "share of π", pick: (x) => frame.set("strength", x) });
    [[watched, "dropped"], [usual, "extra"]].forEach(([j, color]) => { plot.line(xs, of(j), color); plot.dots([strength], [pi[j]], color, 5); });
    plot.rule({ x: strength }, "soft");
    plot.key([[`action ${watched + 1}`, "dropped"], [`action ${usual + 1}`, "extra"]]);
  }
}
