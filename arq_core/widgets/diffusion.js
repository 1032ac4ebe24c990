// Points on their way to noise and back, over time, beside the density of noised actions and its score at the present time.
const SPEED = 22; // places of the handle a second, while it plays
const LEVELS = 8; // shades of the density
const ARROWS = [-2.5, -2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2, 2.5]; // actions where the score is drawn
const LONGEST = 0.44; // of an arrow, in units of the action

function view(data, state, frame) {
  frame.show = frame.show || showOf(data, frame);
  return frame.show(state.time);
}

function showOf(data, frame) {
  const words = data.words, { side, cells, low, means, stds } = words, last = words.at.length - 1, places = last / 2, times = words.at.map((k) => words.times[k]);
  const process = diffused(words), paths = process.paths(data.start.values, (k) => data.noise.row(k)), n = paths[0].length, middle = (means[0] + means[1]) / 2;
  const grid = Array.from({ length: cells + 1 }, (_, c) => -side + (2 * side * c) / cells), densities = times.map((t) => grid.map((x) => process.at(x, t).density)), highest = Math.max(...densities[0]);
  const button = make("button", { type: "button", class: "arq-button" }), still = matchMedia("(prefers-reduced-motion: reduce)"), clock = { plays: false, at: 0, before: 0 };
  let shades = { key: "" }, stands = 0;
  button.addEventListener("click", () => { if (clock.plays) { clock.plays = false; frame.redraw(); } else play(); });
  button.addEventListener("keydown", (e) => e.stopPropagation());
  frame.box.prepend(button);
  const halt = (e) => { if (e.target !== button) clock.plays = false; }; // a hand takes the handle
  for (const event of ["input", "keydown", "pointerdown"]) frame.box.addEventListener(event, halt, true);
  return (time) => {
    stands = time;
    if (clock.plays) frame.figure.dataset.busy = "true"; else delete frame.figure.dataset.busy;
    button.textContent = clock.plays ? "❚❚ Pause" : "▶ Play";
    overTime(time);
    atPresent(time);
    return { finding: clock.plays ? (time < places ? "Noise is added." : "The way back.") : told(time), note: words.note };
  };

  // From the beginning where the end is reached; who wants no motion goes from one end of a way to the other.
  function play() {
    const from = stands >= last ? 0 : stands;
    if (still.matches) { frame.set("time", stands >= last ? 0 : stands < places ? places : last); return; }
    Object.assign(clock, { plays: true, at: from, before: performance.now() });
    frame.set("time", from);
    requestAnimationFrame(tick);
  }
  function tick(now) {
    if (!clock.plays || !frame.plots.isConnected) return;
    const before = Math.floor(clock.at);
    clock.at = Math.min(last, clock.at + (Math.max(0, now - clock.before) / 1000) * SPEED);
    clock.before = now;
    if (clock.at >= last) clock.plays = false; else requestAnimationFrame(tick);
    if (Math.floor(clock.at) !== before) frame.set("time", Math.floor(clock.at));
  }

  function overTime(time) {
    const wide = frame.width >= NARROW, plot = frame.panel({ label: `${n} points over time: noise is added from the left to the middle, and the score leads them back from the middle to the right; now ${nameOf(time)}.`,
      share: 1 - beside(), height: wide ? 330 : 270, x: [-1, last + 1], y: [-side, side], xticks: false, ylabel: "action", pick: (at) => { clock.plays = false; frame.set("time", at); } });
    for (const d of shadesOf(plot)) plot.shape(d, "area", "soft", { style: "fill-opacity:.1" });
    const thin = { style: "stroke-opacity:.5;stroke-width:.9" }, trail = (first, to, from, end) => Array.from({ length: end - from }, (_, j) => "M" +
      paths.slice(first, to + 1).map((row, k) => `${plot.X(first + k).toFixed(1)} ${plot.Y(row[from + j]).toFixed(1)}`).join("L")).join("");
    const there = Math.min(time, places), kinds = [[0, low, "kept"], [low, n, "truth"]];
    for (const [from, end, color] of kinds) plot.shape(trail(0, there, from, end), "line", color, thin);
    if (time > places) plot.shape(trail(places, time, 0, n), "line", "extra", thin);
    arrows(plot, [0.1, 0.28, 0.46, 0.64, 0.82].flatMap((share) => ARROWS.map((x) => [places + Math.round(share * places), x])), (place) => place);
    plot.rule({ x: places }, "soft");
    plot.rule({ x: time }, "model");
    for (const [from, end, color] of kinds) plot.dots(Array(end - from).fill(time), paths[time].slice(from, end), time > places ? "extra" : color, 3.5);
    const floor = (at, said, anchor) => plot.text(at, -side, said, anchor, 0, 16);
    floor(0, "recorded", "start");
    floor(places, "noise", "middle");
    floor(last, "new", "end");
    if (wide) { floor(places / 2, "+ noise →", "middle"); floor(1.5 * places, "along the score →", "middle"); }
    plot.key([["recorded:", "soft"], ["low", "kept"], ["high", "truth"], ["new", "extra"], ["score", "dropped"]]);
  }
  // The density at the present time, on the same axis of actions, with its score.
  function atPresent(time) {
    const p = densities[time], wide = frame.width >= NARROW, plot = frame.panel({ label: `The density of noised actions at ${nameOf(time)}, and arrows of its score: they point to where it is higher.`, share: beside(), height: wide ? 330 : 230,
      x: [0, 1.5 * highest], y: [-side, side], xticks: false, yticks: !wide });
    plot.shape(`M${plot.X(0)} ${plot.Y(-side)}${grid.map((x, c) => `L${plot.X(p[c]).toFixed(1)} ${plot.Y(x).toFixed(1)}`).join("")}L${plot.X(0)} ${plot.Y(side)}z`, "area", "soft", { style: "fill-opacity:.35" });
    for (const [from, end, color] of [[0, low, "kept"], [low, n, "truth"]]) plot.dots(Array(end - from).fill(0.05 * highest), paths[time].slice(from, end), time > places ? "extra" : color, 2.5);
    arrows(plot, ARROWS.map((x) => [time, x]), () => 1.3 * highest);
    plot.text(0.75 * highest, -side, `density and score, t = ${fixed(times[time], 2)}`, "middle", 0, 16);
  }
  // Arrows along the axis of actions, from x in the direction of the score at a place of the handle. None reaches beyond the mean of the nearest kind: v score is the way to it.
  function arrows(plot, some, across) {
    let lines = "", heads = "";
    for (const [place, x] of some) {
      const { m, sigma } = process.marginal(times[place]), v = (m * stds[0]) ** 2 + sigma ** 2, way = v * process.at(x, times[place]).score;
      const length = Math.sign(way) * LONGEST * -Math.expm1(-Math.abs(way) / LONGEST), px = plot.X(across(place)).toFixed(1), from = plot.Y(x), to = plot.Y(x + length);
      const head = Math.sign(from - to) * Math.min(6, 0.75 * Math.abs(from - to));
      lines += `M${px} ${from.toFixed(1)}V${to.toFixed(1)}`;
      heads += `M${px} ${to.toFixed(1)}l-4 ${head.toFixed(1)}h8z`;
    }
    plot.shape(lines, "line", "dropped");
    plot.shape(heads, "area", "dropped");
  }
  // Where the density of a place is above each level, as boxes: the same wherever the handle stands, so they are found once for a size of the plot.
  function shadesOf(plot) {
    const key = [plot.width, plot.box.bottom].join(), step = (2 * side) / cells, found = Array(LEVELS).fill("");
    if (shades.key === key) return shades.found;
    densities.forEach((p, place) => {
      const x0 = plot.X(place - 0.5).toFixed(1), x1 = plot.X(place + 0.5).toFixed(1);
      for (let level = 0; level < LEVELS; level++) {
        const least = 0.75 * highest * ((level + 0.5) / LEVELS) ** 1.6, edge = (i) => plot.Y(grid[i] - step + (step * (least - p[i - 1])) / (p[i] - p[i - 1])).toFixed(1);
        for (let i = 1; i <= cells; i++) {
          if (p[i - 1] < least && p[i] >= least) found[level] += `M${x0} ${edge(i)}H${x1}V`;
          if (p[i - 1] >= least && p[i] < least) found[level] += `${edge(i)}H${x0}z`;
        }
      }
    });
    shades = { key, found: found.filter((d) => d) };
    return shades.found;
  }
  function beside() { return Math.max(0.28, 210 / frame.width); }
  function nameOf(time) { return `t = ${fixed(times[time], 2)}, ${time <= places ? "forwards" : "back"}`; }
  function told(time) {
    const t = times[time], { m, sigma } = process.marginal(t), lies = paths[time].map((x) => x < m * middle), other = lies.filter((is, i) => is !== Number(paths[0][i] < process.marginal(times[0]).m * middle)).length;
    const below = lies.reduce((sum, is) => sum + is, 0), between = percent(process.at(m * middle, t).density, Math.max(...densities[time]));
    const does = time <= places ? `Forwards, t = ${fixed(t, 2)}: a point is ${fixed(m, 2)} of its recorded action and noise of spread ${fixed(sigma, 2)}.`
      : `Back, t = ${fixed(t, 2)}: the points follow the arrows, with fresh noise at each step.`;
    return `${does} ${below} of ${n} points lie below the middle, ${n - below} above${time > places ? `; ${other} have changed sides since they were recorded` : ""}; the density in the middle is ${between} of its highest.`;
  }
}
