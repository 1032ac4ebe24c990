// Thirty walkers in the maze, by the policy that is chosen: walked in walk_stage.js, drawn here.
const PACE = 260; // milliseconds a step
const LAVA = 2, LURE = 3, DOOR = 4, LOST = 5; // how a walk may end
const ROOM = { x: [-0.7, 3.7], y: [-1.7, 5.7] }; // of the maze that is drawn, cells

function view(data, state, frame) {
  frame.show = frame.show || showOf(data, frame);
  return frame.show(state);
}

// A value in words (worth of maze_walk.py).
const worth = (v) => fixed(v, Math.abs(v) < 100 ? 2 : 0);

// The maze (envs/maze.py), in its arithmetic of 32 bits.
function mazeOf(data) {
  const m = data.words.maze, f = Math.fround, inside = (x, y, boxes) => boxes.some(([a, b, c, d]) => x >= a && x <= c && y >= b && y <= d);
  const share = Array.from({ length: m.checks }, (_, i) => f((i + 1) / m.checks));
  return {
    steps: m.steps,
    // The first normal draw that is not too far off.
    start: (engine, seed, walker) => {
      for (let i = 0; i < m.tries; i++) {
        const [a, b] = engine.normal(seed, 2, walker, i), x = m.stray * a, y = m.stray * b;
        if (Math.hypot(x, y) <= m.farthest) return [m.start[0] + x, m.start[1] + y];
      }
      return m.start;
    },
    step: ([x, y], [a, b]) => {
      const dx = f(m.reach * a), dy = f(m.reach * b);
      let px = x, py = y;
      for (const part of share) {
        px = f(x + f(part * dx));
        py = f(y + f(part * dy));
        const end = !inside(px, py, m.floor) ? LAVA : inside(px, py, m.lure) ? LURE : inside(px, py, m.goal) ? ARRIVED : inside(px, py, m.doors) ? DOOR : 0;
        if (end) return { state: [px, py], reward: m.rewards[end - 1], end };
      }
      return { state: [px, py], reward: 0, end: 0 };
    },
  };
}

function showOf(data, frame) {
  const words = data.words, stage = stageOf(data, mazeOf(data), frame.redraw), world = mazeOf(data), cells = Array.from({ length: data.cells.shape[0] }, (_, i) => Array.from(data.cells.row(i)));
  const drawnFrom = new Map(), valued = new Map(), looks = new Map();
  let run = null, drawn = null;
  const clock = clockOf(frame, stage, PACE, paint);
  return show;

  // The policy that the handles make, and the walk's name.
  function policyOf(state) {
    const own = words.policies[state.policy], at = own.critics.length > 1 ? state.trained_at : 0, line = own.filtered ? state.epsilon_at : 0;
    const how = { ...state, ...own, critic: own.critics.length ? own.critics[at] : -1, alpha: own.alpha ?? Infinity, epsilon: own.filtered ? words.lines[line] ?? -Infinity : -Infinity, replayed: own.of === "recordings", acts: typeof own.of === "number" };
    return { ...how, after: own.critics.length > 1 ? words.steps[at] : 0, key: [state.policy, at, line, how.replayed ? 0 : state.seed].join() };
  }
  function show(state) {
    clock.check();
    const how = policyOf(state), known = how.replayed ? { ...words.recordings, states: data.recorded } : words.first && words.first.key.join() === how.key && { ...words.first, states: data.walked };
    const another = stage.go(how.key, how, known) && run !== null;
    run = stage.run;
    const values = how.critic < 0 ? null : cells.map((_, c) => passedOn(how, c)), look = how.replayed ? null : lookFrom(how, how.cell);
    frame.plots.append(clock.counts);
    drawn = maze(how, values);
    const column = make("div", { class: "arq-column" });
    if (look) candidates(how, look); else recorded(how);
    column.append(frame.plots.lastElementChild);
    bars(how);
    column.append(frame.plots.lastElementChild);
    frame.plots.append(column);
    clock.moved(another, tell);
    return { finding: [ofAll(how), how.replayed ? `${words.whole || "None"} of them walked the whole way from the start.` : values ? ofCells(values) : "", ofCell(how, look)].filter(Boolean).join(" "), note: words.note };
  }
  function tell() {
    frame.tell("arrived", run.across);
    frame.tell("positions", run.states.map((row) => Array.from({ length: run.walkers }, (_, i) => [row[2 * i], row[2 * i + 1]])));
  }

  // Candidates in the middle of a cell. Those of the clone are sent; others are drawn here.
  function candidatesOf({ of, n, critic }, cell) {
    const key = `${of}/${cell}`, named = `${key}/${critic}`;
    if (valued.has(named)) return valued.get(named);
    if (!drawnFrom.has(key)) {
      drawnFrom.set(key, of === "score" ? { n, actions: data.cell_actions.row(cell), logProb: data.cell_log_prob.row(cell) } : stage.engine.candidates({ of, n, critic, seed: 1, step: 0, walker: WATCHER - cell, state: cells[cell] }, stage.engine.place(n)));
    }
    const found = { ...drawnFrom.get(key), q: new Float32Array(n) };
    stage.engine.values(critic, cells[cell], found.actions, found.q, n);
    valued.set(named, found);
    return found;
  }
  function lookFrom(how, cell) {
    const key = `${how.key}/${cell}`;
    if (!looks.has(key)) looks.set(key, stage.look(candidatesOf(how, cell), cells[cell], how, stage.engine.choice(1, 0, WATCHER - cell)));
    return looks.get(key);
  }
  function keptOf({ logProb, q }, epsilon) { return Array.from(q.keys()).filter((j) => logProb[j] >= epsilon).sort((i, j) => q[j] - q[i]); }
  // The K-th largest Q in support of a cell; NaN where there are fewer. An actor has one candidate.
  function passedOn(how, cell) {
    const drawn = candidatesOf(how, cell), kept = keptOf(drawn, how.epsilon), at = kept[how.acts ? 0 : how.k - 1];
    return at === undefined ? NaN : drawn.q[at];
  }

  function square(plot, [a, b, c, d]) { return `M${plot.X(a).toFixed(1)} ${plot.Y(d).toFixed(1)}H${plot.X(c).toFixed(1)}V${plot.Y(b).toFixed(1)}H${plot.X(a).toFixed(1)}z`; }
  function around([x, y], r) { return [x - r, y - r, x + r, y + r]; }
  // A plot whose units are as long upwards as sideways, with the floors on lava.
  function ground(share, x, y, options) {
    const width = Math.max(200, Math.floor(frame.width < NARROW ? frame.width : frame.width * share - 8)) - 36; // as panel makes it
    const plot = frame.panel({ ...options, share, x, y, height: Math.round(width * ((y[1] - y[0]) / (x[1] - x[0]))) + 44, xticks: false, yticks: false }), squares = (boxes) => boxes.map((one) => square(plot, one)).join("");
    plot.shape(square(plot, [x[0], y[0], x[1], y[1]]), "area", "wall");
    plot.shape(squares(words.maze.floor), "floor", "floor");
    for (const [name, color] of [["lure", "extra"], ["goal", "truth"], ["doors", "soft"]]) plot.shape(squares(words.maze[name]), "area", `${color} arq-faint`);
    return plot;
  }
  // Where an action from a cell would lead if nothing stopped it, the shorter the smaller its Q.
  function arrows(plot, how, look, from) {
    const { n, epsilon, k } = how, q = look.q, low = Math.min(...q), span = Math.max(...q) - low, kept = (j) => look.logProb[j] >= epsilon, reach = words.maze.reach;
    const tip = (j) => { const part = span ? 0.3 + (0.7 * (q[j] - low)) / span : 1; return [from[0] + part * reach * look.actions[2 * j], from[1] + part * reach * look.actions[2 * j + 1]]; };
    for (const j of Array.from(q.keys()).sort((i, j) => kept(i) - kept(j) || (i === look.at) - (j === look.at))) arrow(plot, from, tip(j), j === look.at ? "truth" : kept(j) ? "kept" : "dropped", j === look.at, kept(j));
    const kth = how.critic < 0 || how.acts ? undefined : keptOf(look, epsilon)[k - 1];
    if (kth !== undefined) { const [x, y] = tip(kth); plot.shape(`M${plot.X(x) - 9} ${plot.Y(y)}a9 9 0 1 0 18 0a9 9 0 1 0 -18 0`, "line", "extra"); }
    plot.key([[how.acts ? "" : how.filtered ? `${look.inside} in support` : `${how.n} candidates`, "kept"], [n > look.inside ? `${n - look.inside} dropped` : "", "dropped"], ["chosen", "truth"], [kth === undefined ? "" : "K-th largest", "extra"]]);
  }
  function arrow(plot, [x0, y0], [x1, y1], color, thick, full) {
    const [ax, ay, bx, by] = [plot.X(x0), plot.Y(y0), plot.X(x1), plot.Y(y1)], angle = Math.atan2(by - ay, bx - ax), r = thick ? 12 : 8, back = (turn) => `${(bx - r * Math.cos(angle + turn)).toFixed(1)} ${(by - r * Math.sin(angle + turn)).toFixed(1)}`;
    plot.shape(`M${ax.toFixed(1)} ${ay.toFixed(1)}L${bx.toFixed(1)} ${by.toFixed(1)}`, "line", color, { style: `stroke-width:${thick ? 4 : 1.2}${full ? "" : ";stroke-dasharray:4 3"}` });
    plot.shape(`M${bx.toFixed(1)} ${by.toFixed(1)}L${back(0.4)}L${back(-0.4)}z`, full ? "dots" : "hollow", color);
  }
  function close([x, y]) { return [[x - 1.75, x + 1.75], [y - 1.75, y + 1.75]]; }
  function candidates(how, look) {
    const from = cells[how.cell], lava = look.ends.filter((e) => e.end === LAVA).length;
    const plot = ground(0.5, ...close(from), { label: `${how.n === 1 ? "The one candidate" : `${how.n} candidates`} at cell ${how.cell}${how.filtered ? `: ${look.inside} in support; ` : ": "}${lava} into lava${look.ends[look.at].end === LAVA ? ", the chosen one too" : ""}.` });
    arrows(plot, how, look, from);
  }
  function stepsAt(cell) {
    const r = words.recordings, near = (x, y) => { let best = 0; for (let c = 1; c < cells.length; c++) if (Math.fround((x - cells[c][0]) ** 2 + (y - cells[c][1]) ** 2) < Math.fround((x - cells[best][0]) ** 2 + (y - cells[best][1]) ** 2)) best = c; return best; };
    const found = [];
    r.steps.forEach((n, i) => { for (let t = 0; t < n; t++) { const at = (t) => Array.from(data.recorded.row(t, i)); if (near(...at(t)) === cell) found.push([at(t), at(t + 1)]); } });
    return found;
  }
  function recorded(how) {
    const steps = stepsAt(how.cell), plot = ground(0.5, ...close(cells[how.cell]), { label: `The ${steps.length} steps of these recordings that begin at cell ${how.cell}.` });
    for (const [from, to] of steps) arrow(plot, from, to, "kept", false, true);
    plot.key([[`${steps.length} recorded steps`, "kept"]]);
  }
  function maze(how, values) {
    const told = values ? ` What is passed on from its cells, from the start on: ${values.map((v) => (Number.isFinite(v) ? worth(v) : "nothing")).join(", ")}.` : "";
    const nearest = (x, y) => cells.reduce((best, at, c) => (Math.hypot(at[0] - x, at[1] - y) < Math.hypot(cells[best][0] - x, cells[best][1] - y) ? c : best), 0);
    const plot = ground(0.5, ROOM.x, ROOM.y, { label: `The maze from above: floors in lava, from the start past a lure and four doors to the goal, and the walks of ${run.walkers} walkers; cell ${how.cell} is looked at.${told}`, pick: (x, y) => frame.set("cell", nearest(x, y)) });
    if (values) {
      values.forEach((v, c) => {
        if (!Number.isFinite(v)) return;
        plot.shape(square(plot, around(cells[c], 0.4)), "area", v < 0 ? "dropped" : "kept", { style: `fill-opacity:${(0.45 * Math.min(1, Math.abs(v))).toFixed(3)}` });
        plot.text(cells[c][0], cells[c][1] - 0.36, worth(v), "middle");
      });
    }
    plot.shape(square(plot, around(cells[how.cell], 0.4)), "line", "extra");
    plot.text(0, 0.2, "start", "middle");
    plot.text(1, -1.36, "lure", "middle");
    plot.text(3, 3.64, "goal", "middle");
    const shapes = { trails: ["line", "soft arq-thin"], walking: ["dots", "kept"], across: ["dots", "truth"], lured: ["dots", "extra"], out: ["dots", "soft"], off: ["line", "dropped"] };
    return { plot, ...Object.fromEntries(Object.entries(shapes).map(([name, [kind, color]]) => [name, plot.shape("M0 0", kind, color)])) };
  }
  // Walkers where the clock stands: on their way, at an end, or a cross where they fell.
  function paint(now) {
    const { X, Y } = drawn.plot, dot = (x, y, r) => `M${(x - r).toFixed(1)} ${y.toFixed(1)}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0`, seen = [0, 0, 0, 0, 0, 0], d = { trails: "", walking: "", across: "", lured: "", out: "", off: "" };
    for (let i = 0; i < run.walkers; i++) {
      const at = (t, axis) => run.states[t][2 * i + axis], t = Math.min(now, run.steps[i]), k = Math.floor(t), mid = (axis) => at(k, axis) + (t > k ? (t - k) * (at(k + 1, axis) - at(k, axis)) : 0), px = X(mid(0)), py = Y(mid(1));
      for (let p = 0; p <= k; p++) d.trails += `${p ? "L" : "M"}${X(at(p, 0)).toFixed(1)} ${Y(at(p, 1)).toFixed(1)}`;
      d.trails += `L${px.toFixed(1)} ${py.toFixed(1)}`;
      const end = t >= run.steps[i] ? run.end[i] : 0;
      seen[end]++;
      if (end === LAVA) d.off += `M${(px - 4).toFixed(1)} ${(py - 4).toFixed(1)}l8 8m0 -8l-8 8`;
      else d[["walking", "across", "", "lured", "out", "walking"][end]] += dot(px, py, 3.5);
    }
    for (const [name, path] of Object.entries(d)) drawn[name].setAttribute("d", path || "M0 0");
    return [[`${seen[ARRIVED]} of ${run.walkers} at the goal`, "truth"], [`${seen[LURE]} at the lure`, "extra"], [`${seen[DOOR]} at a door`, "soft"], [`${seen[LAVA]} in lava`, "dropped"], [`${seen[0] + seen[LOST]} on the way`, "kept"]];
  }
  function bars(how) {
    const shown = how.critic < 0 ? [["earned", run.earned, "truth"]] : [["believed", run.believed, "extra"], ["earned", run.earned, "truth"]], all = shown.map(([, v]) => v), low = Math.min(0, ...all) - 0.15, high = Math.max(1.1, ...all) + 0.15;
    const told = run.done ? shown.map(([name, v]) => `${name} ${worth(v)}`).join(", ") : "they are on their way";
    const plot = frame.panel({ label: `What the walkers believed in at the start and what they earned, means: ${told}.`, height: 190, share: 0.5, x: [0, 2], y: [low, high], ylabel: "value", xticks: false });
    plot.rule({ y: 0 }, "soft");
    for (const [i, [name, v, color]] of shown.entries()) {
      plot.text(i + 0.5, low, name, "middle", 0, 15);
      if (!run.done) continue;
      plot.bars([i + 0.22], [i + 0.78], [v], color);
      plot.text(i + 0.5, Math.max(v, 0), worth(v), "middle", 0, -5);
    }
  }
  function ofAll(how) {
    const count = (end) => run.end.reduce((sum, e) => sum + (e === end), 0), filter = !how.filtered ? "" : how.epsilon === -Infinity ? ", no filter" : `, log ε = ${fixed(how.epsilon, 1)}`;
    const who = `${how.label[0].toUpperCase()}${how.label.slice(1)}${how.after ? ` after ${how.after.toLocaleString("en-US")} steps` : ""}${filter}: `;
    if (!run.done) return `${who}${run.walkers} walkers are on their way.`;
    const empty = run.empty ? ` At ${run.empty} of ${run.taken} steps nothing was in support, and the first draw was taken.` : "", believed = how.critic < 0 ? "" : `believed in ${worth(run.believed)} and `;
    return `${who}${count(ARRIVED)} of ${run.walkers} walkers reach the goal, ${count(LURE)} the lure, ${count(DOOR)} a door; ${count(LAVA)} end in lava, ${count(LOST)} are lost. They ${believed}earned ${fixed(run.earned, 2)}.${empty}`;
  }
  function ofCells(values) { return `To its critic ${values.filter((v) => v > words.maze.rewards[LURE - 1]).length} of ${values.length} cells of the way are worth more than the lure.`; }
  function ofCell(how, look) {
    const where = `At cell ${how.cell}`;
    if (!look) return `${where}, ${stepsAt(how.cell).length} of their steps begin.`;
    const falls = (j) => look.ends[j].end === LAVA, into = (j) => (falls(j) ? "leads into lava" : "leads on");
    if (how.critic < 0) return `${where}, one of ${how.n} candidates is taken by chance; ${look.ends.filter((e) => e.end === LAVA).length} lead into lava.`;
    if (how.acts) return `${where} it has one action, worth ${worth(look.q[0])}, which leads ${falls(0) ? "into lava" : "on"}.`;
    let best = 0;
    for (let j = 1; j < how.n; j++) if (look.q[j] > look.q[best]) best = j;
    if (!how.filtered) return `${where}, the best of ${how.n} candidates is worth ${worth(look.q[best])} and ${into(best)}.`;
    const kept = keptOf(look, how.epsilon);
    if (!kept.length) return `${where}, none of ${how.n} candidates is in support: the first draw is taken.`;
    const dropped = look.logProb[best] >= how.epsilon ? (falls(best) ? ", which leads into lava" : "") : `; the best of all, worth ${worth(look.q[best])}, ${into(best)} and is dropped`;
    const passed = kept.length >= how.k ? `K = ${how.k} passes on ${worth(look.q[kept[how.k - 1]])}` : `there are fewer than K = ${how.k}`;
    return `${where}, ${kept.length} of ${how.n} candidates are in support, the best worth ${worth(look.q[kept[0]])}${dropped}; ${passed}.`;
  }
}
