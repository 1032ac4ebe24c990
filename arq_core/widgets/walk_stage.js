// The walkers of walk.js: who computes their candidates, how they choose (Eq. 4, Eq. 6) and what the bridge answers (envs/bridge.py).
const WATCHER = 65535; // stands on the middle of the plank that is looked at (walking.WATCHER)
const ACROSS = 1, OFF = 2; // how a walk ended
const CREW = 2; // workers at most: a page leaves the other processors to its reader
const REMEMBERED = 20000; // choices of walkers, half a kilobyte each

// What walkEngine takes, from what Python sent; says which numbers are missing or damaged.
function modelOf(data) {
  const words = data.words, normal = (i) => data.normal.row(i), weights = {};
  for (const name of ["weights", "units", "embedded", "integrals", "normal", "middle", "sideways"])
    if (!data[name]) throw new Error(`${name}: saw none, expected the numbers of the policy; run the notebook again.`);
  const wanted = words.layout.reduce((sum, [, shape]) => sum + shape.reduce((a, b) => a * b, 1), 0), nodes = words.times.length;
  if (data.weights.values.length !== wanted || data.units.values.length !== words.layout.length || data.embedded.shape[0] !== nodes)
    throw new Error(`weights: saw ${data.weights.values.length} numbers in ${data.units.values.length} arrays, expected ${wanted} in ${words.layout.length}; run the notebook again.`);
  let at = 0;
  words.layout.forEach(([name, shape], i) => {
    const size = shape.reduce((a, b) => a * b, 1), unit = data.units.values[i];
    weights[name] = Float32Array.from(data.weights.values.subarray(at, at + size), (v) => v * unit);
    at += size;
  });
  const [betaMin, betaMax] = words.betas;
  return { weights, layers: words.layers, width: data.embedded.shape[1], critic: weights["critic.hidden.bias"].length, most: words.most, nodes, times: words.times, betaMin, betaMax,
    embedded: data.embedded.values, integrals: data.integrals.values, stateMean: normal(0), stateScale: normal(1), actionMean: normal(2), actionScale: normal(3) };
}

// Eq. 4 and Eq. 6: which of n candidates is taken for a number u in (0, 1], and how many are in support; the first where none is (policies.ImplicitPolicy).
function chosenOf({ logProb, q }, n, epsilon, alpha, u) {
  let inside = 0, top = -Infinity, total = 0, sum = 0, at = 0;
  for (let j = 0; j < n; j++) if (logProb[j] >= epsilon) { inside++; top = Math.max(top, q[j]); }
  if (!inside) return { at: 0, inside };
  const weight = (j) => (logProb[j] >= epsilon ? Math.exp(alpha * (q[j] - top)) : 0);
  for (let j = 0; j < n; j++) total += weight(j);
  for (; at < n - 1; at++) { sum += weight(at); if (sum >= u * total) break; }
  return { at, inside };
}

// Where an action leads from a plank, and what it earns.
function stepped(words, middle, plank, sideways, grasp, move) {
  const b = words.bridge, next = Math.min(plank + 1, b.planks), to = Math.fround(sideways + move), off = Math.abs(to - middle[next]) > b.half;
  const coins = Math.min(1, Math.max(0, (grasp + b.grasp) / (2 * b.grasp))) / b.planks;
  return { plank: next, sideways: to, off, ended: off || next >= b.planks, reward: off ? b.fall : coins };
}

// Answers jobs { seed, step, walker, n, plank, sideways } with candidates: two workers, or this page itself where it may have none.
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

// The walk of one position of the handles, as far as it is known. `sideways` [planks + 1][walkers]; `steps` [walkers] that each took, and how it ended: on its way, across, off.
// `upto` steps are known of all, and the walk ends with step `last`.
function stageOf(data, changed) {
  const words = data.words, W = words.walkers, T = words.bridge.planks, middle = data.middle && data.middle.values, model = modelOf(data), engine = walkEngine(model);
  const known = new Map(), looked = new Map(), stage = { run: null, failed: "" };
  const crew = crewOf(model, engine, (told) => { stage.failed = told; changed(); });
  const started = (key) => ({ key, sideways: Array.from({ length: T + 1 }, () => new Float32Array(W)), steps: new Int32Array(W), end: new Uint8Array(W), alive: W, empty: 0, believed: 0, earned: 0, upto: 0, last: T, done: false });
  const ended = (run) => Object.assign(run, { across: run.end.reduce((sum, e) => sum + (e === ACROSS), 0), taken: run.steps.reduce((a, b) => a + b), upto: T, last: Math.max(...run.steps), done: true });

  // The candidates of a walker at a state, from those of as many or more that were drawn before: noise is a function of its place.
  function candidates(job, done) {
    const key = `${job.seed}/${job.step}/${job.walker}/${job.sideways}`, found = known.get(key);
    if (found && found.n >= job.n) { done(found); return; }
    crew.ask(job, (answer) => { if (known.size > REMEMBERED) known.clear(); known.set(key, answer); done(answer); });
  }
  function first() {
    const f = words.first, run = started(f.key.join());
    run.sideways.forEach((row, t) => row.set(data.sideways.row(t)));
    run.steps.set(f.steps);
    f.crossed.forEach((across, i) => { run.end[i] = across ? ACROSS : OFF; });
    return ended(Object.assign(run, { alive: 0, empty: f.empty, believed: f.believed, earned: f.earned }));
  }
  function begin(key, { seed, n, alpha, epsilon }) {
    const run = started(key);
    crew.drop();
    for (let i = 0; i < W; i++) run.sideways[0][i] = words.bridge.stray * engine.start(seed, i);
    const plank = (step) => {
      let waits = run.alive;
      for (let i = 0; i < W; i++) {
        if (run.end[i]) continue;
        const sideways = run.sideways[step][i];
        candidates({ seed, step, walker: i, n, plank: step, sideways }, (drawn) => {
          if (stage.run !== run) return;
          const { at, inside } = chosenOf(drawn, n, epsilon, alpha, engine.choice(seed, step, i));
          const to = stepped(words, middle, step, sideways, drawn.actions[2 * at], drawn.actions[2 * at + 1]);
          run.sideways[step + 1][i] = to.sideways;
          run.steps[i] = step + 1;
          run.earned += (words.gamma ** step * to.reward) / W;
          run.empty += inside ? 0 : 1;
          if (!step) run.believed += drawn.q[at] / W;
          if (to.ended) { run.end[i] = to.off ? OFF : ACROSS; run.alive--; }
          if (!--waits) landed(step + 1);
        });
      }
    };
    const landed = (step) => {
      for (let t = step; t <= T; t++) for (let i = 0; i < W; i++) if (run.steps[i] < t) run.sideways[t][i] = run.sideways[run.steps[i]][i];
      run.upto = step;
      if (run.alive) setTimeout(() => stage.run === run && plank(step)); else { ended(run); changed(); }
    };
    stage.run = run;
    plank(0);
  }
  // Goes to the walk of these settings; true where another one began.
  stage.go = (settings) => {
    const key = [settings.epsilon_at, settings.alpha_at, settings.n, settings.seed].join();
    if (stage.run && stage.run.key === key) return false;
    if (words.first && words.first.key.join() === key) { crew.drop(); stage.run = first(); } else begin(key, settings);
    return true;
  };
  // What is chosen from on the middle of a plank.
  stage.look = ({ seed, plank, n, epsilon, alpha }) => {
    const key = `${seed}/${plank}/${n}`;
    if (!looked.has(key)) looked.set(key, engine.candidates({ seed, step: plank, walker: WATCHER, n, plank, sideways: middle[plank] }, engine.place(n)));
    const drawn = looked.get(key), ends = Array.from({ length: n }, (_, j) => stepped(words, middle, plank, middle[plank], drawn.actions[2 * j], drawn.actions[2 * j + 1]));
    return { ...drawn, ends, ...chosenOf(drawn, n, epsilon, alpha, engine.choice(seed, plank, WATCHER)) };
  };
  stage.end = crew.end;
  return stage;
}
