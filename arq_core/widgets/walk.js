// Thirty walkers on the bridge, by the policy that the handles make: walked in walk_stage.js, drawn here.
const PACE = 350; // milliseconds a plank
const WIDE = 1.3; // sideways; who falls farther out lies on the edge of the drawing

function view(data, state, frame) {
  frame.show = frame.show || showOf(data, frame);
  return frame.show(state);
}

const OFF = 2; // how a walk may end

// The bridge (envs/bridge.py).
function bridgeOf(data) {
  const b = data.words.bridge, middle = data.middle ? data.middle.values : [];
  return {
    steps: b.planks,
    start: (engine, seed, walker) => [0, b.stray * engine.start(seed, walker)],
    step: ([plank, sideways], [grasp, move]) => {
      const next = Math.min(plank + 1, b.planks), to = Math.fround(sideways + move), off = Math.abs(to - middle[next]) > b.half;
      const coins = Math.min(1, Math.max(0, (grasp + b.grasp) / (2 * b.grasp))) / b.planks;
      return { state: [next, to], reward: off ? b.fall : coins, end: off ? OFF : next >= b.planks ? ARRIVED : 0 };
    },
  };
}

function showOf(data, frame) {
  const words = data.words, W = words.walkers, T = words.bridge.planks, half = words.bridge.half, stage = stageOf(data, bridgeOf(data), frame.redraw), middle = data.middle.values, looked = new Map();
  let run = null, drawn = null;
  const clock = clockOf(frame, stage, PACE, paint), key = (at) => [at.epsilon_at, at.alpha_at, at.n, at.seed].join();
  return show;

  function show(state) {
    clock.check();
    const at = { ...state, of: "score", critic: 0, epsilon: words.lines[state.epsilon_at] ?? -Infinity, alpha: words.alphas[state.alpha_at] };
    const another = stage.go(key(at), at, words.first && words.first.key.join() === key(at) && { ...words.first, states: data.walked }) && run !== null;
    run = stage.run;
    const look = lookFrom(at);
    frame.plots.append(clock.counts);
    drawn = bridge(at.plank);
    candidates(at, look);
    bars();
    clock.moved(another, tell);
    return { finding: `${ofWalk(at)} ${ofPlank(at, look)}`, note: words.note };
  }
  function tell() {
    frame.tell("crossed", run.across);
    frame.tell("positions", run.states.map((row) => Array.from({ length: W }, (_, i) => [row[2 * i], row[2 * i + 1]])));
  }
  // What is chosen from on the middle of a plank.
  function lookFrom(at) {
    const { seed, plank, n } = at, of = `${seed}/${plank}/${n}`, state = [plank, middle[plank]];
    if (!looked.has(of)) looked.set(of, stage.engine.candidates({ ...at, step: plank, walker: WATCHER, state }, stage.engine.place(n)));
    return stage.look(looked.get(of), state, at, stage.engine.choice(seed, plank, WATCHER));
  }
  // Walkers where the clock stands: on their way, across, or a cross where they fell.
  function paint(now) {
    const { X, Y } = drawn.plot, dot = (x, y, r) => `M${(x - r).toFixed(1)} ${y.toFixed(1)}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0`;
    let trails = "", walking = "", across = "", off = "", crossed = 0, fell = 0;
    for (let i = 0; i < W; i++) {
      const side = (p) => run.states[p][2 * i + 1], t = Math.min(now, run.steps[i]), k = Math.floor(t), y0 = side(k), y = t > k ? y0 + (t - k) * (side(k + 1) - y0) : y0, px = X(t), py = Y(Math.min(WIDE - 0.1, Math.max(0.1 - WIDE, y)));
      for (let p = 0; p <= k; p++) trails += `${p ? "L" : "M"}${X(p).toFixed(1)} ${Y(side(p)).toFixed(1)}`;
      trails += `L${px.toFixed(1)} ${py.toFixed(1)}`;
      const end = t >= run.steps[i] ? run.end[i] : 0;
      if (end === OFF) { fell++; off += `M${(px - 4).toFixed(1)} ${(py - 4).toFixed(1)}l8 8m0 -8l-8 8`; }
      else if (end === ARRIVED) { crossed++; across += dot(px, py, 4); } else walking += dot(px, py, 4);
    }
    for (const [name, d] of Object.entries({ trails, walking, across, off })) drawn[name].setAttribute("d", d || "M0 0");
    return [[`${crossed} of ${W} crossed`, "truth"], [`${fell} fell`, "dropped"], [`${W - crossed - fell} on the bridge`, "kept"]];
  }
  function bridge(plank) {
    const plot = frame.panel({ label: `The bridge from above, ${T} planks from left to right, and the walks of ${W} walkers; plank ${plank} is looked at.`, height: 250, x: [-0.5, T + 0.5], y: [-WIDE, WIDE], xlabel: "plank", ylabel: "sideways", yticks: false,
      pick: (x) => frame.set("plank", x) });
    const box = (p) => `M${plot.X(p - 0.43).toFixed(1)} ${plot.Y(middle[p] + half).toFixed(1)}H${plot.X(p + 0.43).toFixed(1)}V${plot.Y(middle[p] - half).toFixed(1)}H${plot.X(p - 0.43).toFixed(1)}z`;
    plot.shape(Array.from({ length: T + 1 }, (_, p) => box(p)).join(""), "area", "wall");
    plot.shape(box(plank), "line", "extra");
    const shapes = { trails: ["line", "soft arq-thin"], walking: ["dots", "kept"], across: ["dots", "truth"], off: ["line", "dropped"] };
    return { plot, ...Object.fromEntries(Object.entries(shapes).map(([name, [kind, color]]) => [name, plot.shape("M0 0", kind, color)])) };
  }
  // Candidates on the middle of a plank: each points to where it would lead, the farther the larger its Q.
  function candidates({ plank, n, k, epsilon }, look) {
    const from = middle[plank], q = look.q.subarray(0, n), low = Math.min(...q), span = Math.max(...q) - low || 1, kept = (j) => look.logProb[j] >= epsilon;
    const to = look.ends.map((e) => e.state[1]), next = middle[plank + 1], tops = [next - half, next + half, from, ...to];
    const plot = frame.panel({ label: `${n} candidates from the middle of plank ${plank}: ${look.inside} are in support; ${look.ends.filter((e) => e.end === OFF).length} lead off the bridge${look.ends[look.at].end === OFF ? ", the chosen one too" : ""}.`,
      height: 260, share: 0.64, x: [-0.06, 1.1], y: [Math.min(...tops) - 0.08, Math.max(...tops) + 0.08], xlabel: `from plank ${plank} to plank ${plank + 1}`, ylabel: "sideways", xticks: false });
    plot.shape(`M${plot.X(0.97)} ${plot.Y(next + half)}H${plot.X(1.09)}V${plot.Y(next - half)}H${plot.X(0.97)}z`, "area", "wall");
    const tip = (j) => { const f = 0.3 + (0.7 * (q[j] - low)) / span; return [plot.X(f), plot.Y(from + f * (to[j] - from))]; };
    const order = Array.from(q.keys()).sort((i, j) => kept(i) - kept(j) || (i === look.at) - (j === look.at));
    for (const j of order) {
      const [x, y] = tip(j), chosen = j === look.at, color = chosen ? "truth" : kept(j) ? "kept" : "dropped", angle = Math.atan2(y - plot.Y(from), x - plot.X(0)), r = chosen ? 12 : 8;
      const back = (turn) => `${(x - r * Math.cos(angle + turn)).toFixed(1)} ${(y - r * Math.sin(angle + turn)).toFixed(1)}`;
      plot.shape(`M${plot.X(0).toFixed(1)} ${plot.Y(from).toFixed(1)}L${x.toFixed(1)} ${y.toFixed(1)}`, "line", color, { style: `stroke-width:${chosen ? 4 : 1.2}${kept(j) ? "" : ";stroke-dasharray:4 3"}` });
      plot.shape(`M${x.toFixed(1)} ${y.toFixed(1)}L${back(0.4)}L${back(-0.4)}z`, kept(j) ? "dots" : "hollow", color);
    }
    const kth = order.filter(kept).sort((i, j) => q[j] - q[i])[k - 1];
    if (kth !== undefined) { const [x, y] = tip(kth); plot.shape(`M${x - 9} ${y}a9 9 0 1 0 18 0a9 9 0 1 0 -18 0`, "line", "extra"); }
    plot.key([[`${look.inside} in support`, "kept"], [`${n - look.inside} dropped`, "dropped"], ["chosen", "truth"], [kth === undefined ? "" : "K-th largest", "extra"]]);
  }
  function bars() {
    const { believed, earned } = run, low = Math.min(0, -1, earned), high = Math.max(1.2, believed + 0.15);
    const told = run.done ? `believed ${fixed(believed, 2)}, earned ${fixed(earned, 2)}` : "they are on their way";
    const plot = frame.panel({ label: `What the walkers believed in at the start and what they earned, means: ${told}.`, height: 260, share: 0.36, x: [0, 2], y: [low - 0.1, high], ylabel: "value", xticks: false });
    plot.rule({ y: 0 }, "soft");
    for (const [i, [name, v, color]] of [["believed", believed, "extra"], ["earned", earned, "truth"]].entries()) {
      plot.text(i + 0.5, low - 0.1, name, "middle", 0, 15);
      if (!run.done) continue;
      plot.bars([i + 0.22], [i + 0.78], [v], color);
      plot.text(i + 0.5, v, fixed(v, 2), "middle", 0, v < 0 ? 15 : -5);
    }
  }
  function ofWalk({ epsilon, alpha, n }) {
    const filtered = epsilon === -Infinity ? "No filter" : `log ε = ${fixed(epsilon, 1)}`, start = `${filtered}, α = ${fixed(alpha)}, N = ${n}: `;
    if (!run.done) return `${start}${W} walkers are on their way.`;
    const empty = run.empty ? ` At ${run.empty} of ${run.taken} steps nothing was in support, and the first draw was taken.` : "";
    return `${start}${run.across} of ${W} walkers cross, ${W - run.across} fall; they believed in ${fixed(run.believed, 2)} and earned ${fixed(run.earned, 2)}.${empty}`;
  }
  function ofPlank({ plank, n, k, epsilon }, { logProb, q, ends, inside }) {
    if (!inside) return `From plank ${plank}, none of ${n} candidates is in support: the first draw is taken.`;
    const kept = Array.from(q.subarray(0, n)).filter((_, j) => logProb[j] >= epsilon).sort((a, b) => b - a);
    let best = 0;
    for (let j = 1; j < n; j++) if (q[j] > q[best]) best = j;
    const dropped = logProb[best] >= epsilon ? "" : `; the best of all, worth ${fixed(q[best], 2)}, ${ends[best].end === OFF ? "leads off the bridge" : "leads on"} and is dropped`;
    const passed = inside >= k ? `K = ${k} passes on ${fixed(kept[k - 1], 2)}` : `there are fewer than K = ${k}`;
    return `From plank ${plank}, ${inside} of ${n} candidates are in support, the best worth ${fixed(kept[0], 2)}${dropped}; ${passed}.`;
  }
}
