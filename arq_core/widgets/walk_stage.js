// The walkers of walk.js and maze_walk.js: who computes their candidates, how they choose (Eq. 4, Eq. 6), and the clock by which they are shown.
// Where they walk is a world: after how many `steps` a walk is cut, start(engine, seed, walker) is a state [2], step(state, action) what comes of it { state, reward, end } (end: 0 for on the way, else how it ended).
const WATCHER = 65535; // stands where the reader looks (walking.WATCHER)
const ARRIVED = 1; // how a walk ended; other ends are a world's own
const CREW = 2; // workers at most: a page leaves the other processors to its reader
const REMEMBERED = 20000; // choices of walkers, half a kilobyte each

// Whole numbers and their units -> the numbers. A unit for all, or one for each column [1, columns] or row [rows, 1].
function scaledBy(codes, units, shape, of) {
  const columns = shape[shape.length - 1], place = of.length < 2 ? () => 0 : of[0] === 1 ? (i) => i % columns : (i) => Math.floor(i / columns);
  return Float32Array.from(codes, (v, i) => v * units[place(i)]);
}

// What walkEngine takes, from what Python sent; says which numbers are missing or damaged. A wide layer may come as a product of `left` and `right`.
function modelOf(data) {
  const words = data.words, normal = (i) => data.normal.row(i), weights = {}, size = (shape) => shape.reduce((a, b) => a * b, 1);
  for (const name of ["weights", "units", "embedded", "integrals", "normal", ...words.needs])
    if (!data[name]) throw new Error(`${name}: saw none, expected the numbers of the policy; run the notebook again.`);
  const kinds = { i2: data.weights.values, i1: data.bytes ? data.bytes.values : [] }, next = { i2: 0, i1: 0, units: 0 }, nodes = words.times.length;
  const wanted = words.layout.reduce((sum, [, shape]) => sum + size(shape), 0), seen = kinds.i2.length + kinds.i1.length, units = words.layout.reduce((sum, [, , , of]) => sum + size(of), 0);
  if (seen !== wanted || data.units.values.length !== units || data.embedded.shape[0] !== nodes)
    throw new Error(`weights: saw ${seen} numbers with ${data.units.values.length} units, expected ${wanted} with ${units}; run the notebook again.`);
  for (const [name, shape, kind, of] of words.layout) {
    const take = (from, at, n) => { next[at] += n; return from.subarray(next[at] - n, next[at]); };
    weights[name] = scaledBy(take(kinds[kind], kind, size(shape)), take(data.units.values, "units", size(of)), shape, of);
  }
  const [betaMin, betaMax] = words.betas, net = (room, layers) => Object.fromEntries(layers.map((layer) => [layer, { weight: weights[`${room}.${layer}.weight`] || product(`${room}.${layer}`), bias: weights[`${room}.${layer}.bias`] }]));
  function product(layer) {
    const left = weights[`${layer}.left`], right = weights[`${layer}.right`], [rank, columns] = words.layout.find(([name]) => name === `${layer}.right`)[1], out = new Float32Array((left.length / rank) * columns);
    for (let i = 0; i < left.length / rank; i++) {
      for (let c = 0; c < columns; c++) {
        let sum = 0;
        for (let k = 0; k < rank; k++) sum += left[i * rank + k] * right[k * columns + c];
        out[i * columns + c] = sum;
      }
    }
    return out;
  }
  return { weights, critics: words.critics.map((room) => net(room, ["of_state", "of_action", "hidden", "out"])), actors: words.actors.map((room) => net(room, ["first", "hidden", "out"])), named: words.named,
    layers: words.layers, width: data.embedded.shape[1], most: words.most, nodes, times: words.times, betaMin, betaMax,
    embedded: data.embedded.values, integrals: data.integrals.values, stateMean: normal(0), stateScale: normal(1), actionMean: normal(2), actionScale: normal(3) };
}

// Eq. 4 and Eq. 6: which of n candidates is taken for a number u in (0, 1], and how many are in support; the first where none is (policies.ImplicitPolicy).
function chosenOf({ logProb, q }, n, epsilon, alpha, u) {
  let inside = 0, top = -Infinity, total = 0, sum = 0, at = 0;
  for (let j = 0; j < n; j++) if (logProb[j] >= epsilon) { inside++; top = Math.max(top, q[j]); }
  if (!inside) return { at: 0, inside };
  const weight = (j) => (logProb[j] < epsilon ? 0 : alpha === Infinity ? Number(q[j] === top) : Math.exp(alpha * (q[j] - top)));
  for (let j = 0; j < n; j++) total += weight(j);
  for (; at < n - 1; at++) { sum += weight(at); if (sum >= u * total) break; }
  return { at, inside };
}

// Answers jobs { seed, step, walker, n, state, of, critic } with candidates: two workers, or this page itself where it may have none.
function crewOf(model, own, failed) {
  const idle = [], queue = [];
  const source = `(${workerOf})(${walkEngine})`;
  function workerOf(engineOf) {
    let engine = null;
    self.onmessage = ({ data }) => {
      if (data.model) { engine = engineOf(data.model); return; }
      try { self.postMessage(engine.candidates(data, engine.place(data.n))); } catch (error) { self.postMessage({ error: error.message }); }
    };
  }
  const here = { send: (job, done) => setTimeout(() => { try { done(own.candidates(job, own.place(job.n))); } catch (error) { done({ error: error.message }); } }) };
  function hire() {
    try {
      const worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
      worker.postMessage({ model });
      const one = { end: () => worker.terminate() };
      one.send = (job, done) => {
        worker.onmessage = (e) => done(e.data);
        worker.onerror = (e) => { e.preventDefault(); one.send = here.send; here.send(job, done); };
        worker.postMessage(job);
      };
      return one;
    } catch {
      return here;
    }
  }
  const crew = [];
  function next() {
    while (idle.length && queue.length) {
      const one = idle.pop(), { job, done } = queue.shift();
      one.send(job, (answer) => {
        idle.push(one);
        if (answer.error) failed(answer.error); else done(answer);
        next();
      });
    }
  }
  return {
    drop: () => { queue.length = 0; },
    ask: (job, done) => {
      if (!crew.length) { for (let i = 0; i < Math.min(CREW, navigator.hardwareConcurrency || 1); i++) crew.push(hire()); idle.push(...crew); }
      queue.push({ job, done });
      next();
    },
    end: () => { queue.length = 0; for (const one of crew.splice(0)) one.end && one.end(); idle.length = 0; },
  };
}

// The walk of one position of the handles, as far as it is known. `states` [steps + 1][2 walkers]; `steps` [walkers] that each took, and how it ended.
// `upto` steps are known of all, and the walk ends with step `last`.
function stageOf(data, world, changed) {
  const W = data.words.walkers, T = world.steps, model = modelOf(data), engine = walkEngine(model);
  const known = new Map(), stage = { run: null, failed: "", engine };
  const crew = crewOf(model, engine, (told) => { stage.failed = told; changed(); });
  const started = (key, count) => ({ key, walkers: count, states: Array.from({ length: T + 1 }, () => new Float32Array(2 * count)), steps: new Int32Array(count), end: new Uint8Array(count), alive: count, empty: 0, believed: 0, earned: 0, upto: 0, last: T, done: false });
  const ended = (run) => Object.assign(run, { across: run.end.reduce((sum, e) => sum + (e === ARRIVED), 0), taken: run.steps.reduce((a, b) => a + b), upto: T, last: Math.max(...run.steps), done: true });

  // The candidates of a walker at a state, from those of as many or more that were drawn before: noise is a function of its place.
  function candidates(job, done) {
    const key = `${job.of}/${job.critic}/${job.seed}/${job.step}/${job.walker}/${job.state}`, found = known.get(key);
    if (found && found.n >= job.n) { done(found); return; }
    crew.ask(job, (answer) => { if (known.size > REMEMBERED) known.clear(); known.set(key, answer); done(answer); });
  }
  // A walk that is known already: rows of `states` up to the last, which goes on to the end.
  function given(key, { states, steps, ends, empty, believed, earned }) {
    const run = started(key, steps.length);
    run.states.forEach((all, t) => all.set(states.row(Math.min(t, states.shape[0] - 1))));
    run.steps.set(steps);
    run.end.set(ends);
    return ended(Object.assign(run, { alive: 0, empty, believed, earned }));
  }
  function begin(key, { seed, n, alpha, epsilon, of, critic }) {
    const run = started(key, W);
    crew.drop();
    for (let i = 0; i < W; i++) run.states[0].set(world.start(engine, seed, i), 2 * i);
    const take = (step) => {
      let waits = run.alive;
      for (let i = 0; i < W; i++) {
        if (run.end[i]) continue;
        const state = Array.from(run.states[step].subarray(2 * i, 2 * i + 2));
        candidates({ seed, step, walker: i, n, state, of, critic }, (drawn) => {
          if (stage.run !== run) return;
          const { at, inside } = chosenOf(drawn, n, epsilon, alpha, engine.choice(seed, step, i));
          const to = world.step(state, drawn.actions.subarray(2 * at, 2 * at + 2));
          run.states[step + 1].set(to.state, 2 * i);
          run.steps[i] = step + 1;
          run.earned += (data.words.gamma ** step * to.reward) / W;
          run.empty += inside ? 0 : 1;
          if (!step) run.believed += drawn.q[at] / W;
          if (to.end) { run.end[i] = to.end; run.alive--; }
          if (!--waits) landed(step + 1);
        });
      }
    };
    const landed = (step) => {
      for (let i = 0; i < W; i++) if (run.steps[i] < step || step === T || !run.alive) for (let t = run.steps[i] + 1; t <= T; t++) run.states[t].set(run.states[run.steps[i]].subarray(2 * i, 2 * i + 2), 2 * i);
      run.upto = step;
      if (run.alive && step < T) setTimeout(() => stage.run === run && take(step)); else { ended(run); changed(); }
    };
    stage.run = run;
    take(0);
  }
  // Goes to the walk of a key, of a policy `how` { seed, n, alpha, epsilon, of, critic } or one that is `known`; true where another one began.
  stage.go = (key, how, known) => {
    if (stage.run && stage.run.key === key) return false;
    if (known) { crew.drop(); stage.run = given(key, known); } else begin(key, how);
    return true;
  };
  // What is chosen of candidates that were drawn, where each leads from a state, and how many are in support.
  stage.look = (drawn, state, { n, epsilon, alpha }, u) => {
    const ends = Array.from({ length: n }, (_, j) => world.step(state, drawn.actions.subarray(2 * j, 2 * j + 2)));
    return { ...drawn, ends, ...chosenOf(drawn, n, epsilon, alpha, u) };
  };
  stage.end = crew.end;
  return stage;
}

// The button and the clock of a walk: `pace` milliseconds a step, from the start whenever another one began; `paint(now)` draws where the clock stands and returns what the counters say: [[words, color], ...].
function clockOf(frame, stage, pace, paint) {
  const still = matchMedia("(prefers-reduced-motion: reduce)"), clock = { at: Infinity, before: 0, walks: false };
  const button = make("button", { type: "button", class: "arq-button" }), counts = make("p", { class: "arq-counts" });
  button.addEventListener("click", () => { if (clock.walks) { clock.walks = false; show(); } else walkFrom(clock.at >= stage.run.last ? 0 : clock.at); });
  button.addEventListener("keydown", (e) => e.stopPropagation());
  frame.box.prepend(button);
  function walkFrom(at) {
    clock.at = at;
    if (clock.walks) return;
    clock.walks = true;
    clock.before = performance.now();
    requestAnimationFrame(tick);
  }
  function tick(now) {
    if (!frame.plots.isConnected) { clock.walks = false; stage.end(); }
    if (!clock.walks) return;
    const run = stage.run, end = run.done ? run.last : run.upto;
    clock.at = Math.min(end, clock.at + Math.max(0, now - clock.before) / pace);
    clock.before = now;
    if (run.done && clock.at >= end) clock.walks = false; else requestAnimationFrame(tick);
    show();
  }
  function show() {
    paint(Math.min(clock.at, stage.run.upto)).forEach(([words, color], i) => {
      const count = counts.children[i] || counts.appendChild(make("span"));
      count.className = `arq-${color}`;
      if (count.textContent !== words) count.textContent = words;
    });
    const does = clock.walks ? "❚❚ Pause" : "▶ Walk";
    if (button.textContent !== does) button.textContent = does;
  }
  return {
    counts, show,
    // Shows a failure of the walkers in the frame, or goes on.
    check: () => { button.hidden = !!stage.failed; if (stage.failed) { clock.walks = false; stage.end(); throw new Error(stage.failed); } },
    // After a change of the handles: what is not computed yet is said to be busy, and another walk begins.
    moved: (another, tell) => {
      const run = stage.run;
      if (run.done) delete frame.figure.dataset.busy; else frame.figure.dataset.busy = "true";
      if (run.done && !run.told) { run.told = true; tell(run); }
      if (another) { clock.at = Infinity; if (!still.matches) walkFrom(0); }
      show();
    },
  };
}
