// Trained policies' networks: candidates of beta with their log-densities and values, as nets.py, samplers.py, likelihood.py and qlearning.py compute them; uniform candidates, and actors that have one action a state.
// One function, which needs nothing around it: a page's workers are made of its text. Nothing is allocated once it is made.
function walkEngine(model) {
  const A = 2, { width: W, critics, actors, most, nodes, weights: w, embedded, integrals, stateMean, stateScale, actionMean, actionScale } = model;
  const widest = Math.max(...[...critics, ...actors].map((net) => net.hidden.bias.length));
  const rows = 3 * most + 1; // of a candidate: its value and its derivatives along both coordinates; products take rows by twos
  const [h, u, s] = [1, 2, 3].map(() => new Float32Array(rows * W)), [a, b] = [1, 2].map(() => new Float32Array((most + 1) * widest));
  const x = new Float32Array(nodes * most * A), score = new Float32Array(nodes * most * A), div = new Float32Array(nodes * most), last = new Float32Array(most * A);
  const state = new Float32Array(W), scaled = new Float32Array(A), out = new Float32Array(rows * A), words = new Uint32Array(2);
  const dense = Array.from({ length: model.layers }, (_, i) => ({ weight: w[`score.dense.${i}.weight`], bias: w[`score.dense.${i}.bias`] }));
  const sde = Array.from(model.times, (t) => {
    const B = (model.betaMin + 0.5 * (model.betaMax - model.betaMin) * t) * t;
    return { alpha: Math.exp(-B / 2), sigma: Math.sqrt(-Math.expm1(-B)), lambda: -0.5 * Math.log(Math.expm1(B)) };
  });

  // Threefry-2x32 with 20 rounds, as in noise.py: two words for the counter (c0, c1) under the key (k0, k1), in `words`.
  function threefry(k0, k1, c0, c1) {
    const keys = [k0, k1, k0 ^ k1 ^ 0x1bd11bda], turns = [13, 15, 26, 6, 17, 29, 16, 24];
    let p = (c0 + k0) | 0, q = (c1 + k1) | 0;
    for (let i = 0; i < 20; i++) {
      p = (p + q) | 0;
      q = ((q << turns[i % 8]) | (q >>> (32 - turns[i % 8]))) ^ p;
      if (i % 4 === 3) {
        const n = (i >> 2) + 1;
        p = (p + keys[n % 3]) | 0;
        q = (q + keys[(n + 1) % 3] + n) | 0;
      }
    }
    words[0] = p;
    words[1] = q;
  }
  const uniform = (seed, what, counter) => { threefry(seed, what, counter, 0); return (words[0] >>> 8) / 2 ** 24; };

  // y = x weight, row by row; `to` is a multiple of 4, `n` is rounded up to a multiple of 2.
  function product(x, weight, y, n, from, to) {
    for (let r = 0; r < n; r += 2) {
      const i = r * from, j = i + from;
      for (let c = 0; c < to; c += 4) {
        let p0 = 0, p1 = 0, p2 = 0, p3 = 0, q0 = 0, q1 = 0, q2 = 0, q3 = 0;
        for (let k = 0, at = c; k < from; k++, at += to) {
          const w0 = weight[at], w1 = weight[at + 1], w2 = weight[at + 2], w3 = weight[at + 3], p = x[i + k], q = x[j + k];
          p0 += p * w0; p1 += p * w1; p2 += p * w2; p3 += p * w3;
          q0 += q * w0; q1 += q * w1; q2 += q * w2; q3 += q * w3;
        }
        const o = r * to + c, e = o + to;
        y[o] = p0; y[o + 1] = p1; y[o + 2] = p2; y[o + 3] = p3;
        y[e] = q0; y[e + 1] = q1; y[e + 2] = q2; y[e + 3] = q3;
      }
    }
  }
  function shift(y, bias, n) {
    for (let r = 0, o = 0; r < n; r++) for (let c = 0; c < bias.length; c++, o++) y[o] += bias[c];
  }

  // Swish of from + time, and its derivatives along the tangents, into s.
  function swish(from, time, n) {
    const one = n * W, two = 2 * one;
    for (let r = 0, o = 0; r < n; r++) {
      for (let c = 0; c < W; c++, o++) {
        const v = from[o] + embedded[time + c], gate = 1 / (1 + Math.exp(-v)), y = v * gate, slope = gate + y - y * gate;
        s[o] = y;
        s[one + o] = slope * from[one + o];
        s[two + o] = slope * from[two + o];
      }
    }
  }

  // The score at node i and its divergence, by one forward-mode pass along both axes of the action.
  function evaluate(i, n) {
    const at = i * most * A, weight = w["score.of_action.weight"], sigma = sde[i].sigma, end = w["score.out.weight"], all = 3 * n;
    for (let r = 0, o = 0; r < n; r++) {
      const x0 = x[at + A * r], x1 = x[at + A * r + 1];
      for (let c = 0; c < W; c++, o++) {
        h[o] = x0 * weight[c] + x1 * weight[W + c] + state[c];
        h[n * W + o] = weight[c];
        h[2 * n * W + o] = weight[W + c];
      }
    }
    for (let layer = 0; layer < dense.length; layer += 2) {
      for (let half = 0; half < 2; half++) {
        swish(half ? u : h, i * W, n);
        product(s, dense[layer + half].weight, u, all, W, W);
        shift(u, dense[layer + half].bias, n);
      }
      for (let o = 0; o < all * W; o++) h[o] += u[o];
    }
    for (let r = 0; r < all; r++) {
      let p = r < n ? w["score.out.bias"][0] : 0, q = r < n ? w["score.out.bias"][1] : 0;
      for (let c = 0, o = r * W; c < W; c++, o++) { p += h[o] * end[A * c]; q += h[o] * end[A * c + 1]; }
      out[A * r] = p / sigma;
      out[A * r + 1] = q / sigma;
    }
    score.set(out.subarray(0, n * A), at);
    for (let r = 0; r < n; r++) div[i * most + r] = out[A * (n + r)] + out[A * (2 * n + r) + 1];
  }

  // DPM-Solver++(2M) over all nodes (samplers.dpmpp_2m).
  function solve(n) {
    for (let i = 0, before = 0; i + 1 < nodes; i++) {
      evaluate(i, n);
      const { alpha, sigma, lambda } = sde[i], next = sde[i + 1], step = next.lambda - lambda, at = i * most * A, to = at + most * A;
      const keep = next.sigma / sigma, move = next.alpha * Math.expm1(-step), ahead = i ? step / (2 * before) : 0;
      for (let o = 0; o < n * A; o++) {
        const d = (x[at + o] + sigma * sigma * score[at + o]) / alpha;
        x[to + o] = keep * x[at + o] - move * (d + ahead * (d - last[o]));
        last[o] = d;
      }
      before = step;
    }
    evaluate(nodes - 1, n);
  }

  // log p at the last node of candidate r, from the walk itself (likelihood.sample_with_log_prob and log_prob_change).
  function density(r) {
    let total = 0, prior = 0;
    for (let d = 0; d < A; d++) prior -= 0.5 * (x[A * r + d] ** 2 + Math.log(2 * Math.PI));
    for (let i = 0; i + 1 < nodes; i++) {
      for (let d = 0; d < A; d++) {
        const o = i * most * A + A * r + d, e = o + most * A;
        let beside = x[e] - x[o];
        for (let k = 0; k < nodes; k++) { const at = k * most * A + A * r + d; beside -= integrals[i * nodes + k] * sde[k].sigma ** 2 * (x[at] + score[at]); }
        total += ((score[e] + score[o]) / 2) * beside;
      }
      for (let k = 0; k < nodes; k++) total -= integrals[i * nodes + k] * sde[k].sigma ** 2 * (A + div[k * most + r]);
    }
    return prior + total;
  }

  // relu(x) hidden of n rows in a, into b.
  function hidden(net, n) {
    const H = net.hidden.bias.length;
    product(a, net.hidden.weight, b, n, H, H);
    shift(b, net.hidden.bias, n);
    return H;
  }

  // Q(s, a) of n actions at a state by a critic (nets.Critic); 0 of all by none.
  function values(critic, at, actions, q, n) {
    const net = critics[critic];
    if (!net) { q.fill(0, 0, n); return; }
    const { of_state: of, of_action: act, out } = net, H = of.bias.length;
    for (let r = 0, o = 0; r < n; r++) {
      for (let c = 0; c < H; c++, o++) a[o] = Math.max(0, at[0] * of.weight[c] + at[1] * of.weight[H + c] + of.bias[c] + actions[A * r] * act.weight[c] + actions[A * r + 1] * act.weight[H + c]);
    }
    hidden(net, n);
    for (let r = 0; r < n; r++) {
      let sum = out.bias[0];
      for (let c = 0; c < H; c++) sum += Math.max(0, b[r * H + c]) * out.weight[c];
      q[r] = sum;
    }
  }

  // The action of an actor (penalised.Actor): tanh of the network's mean.
  function point(net, at, actions) {
    const { first, out } = net, H = first.bias.length;
    for (let c = 0; c < H; c++) a[c] = Math.max(0, at[0] * first.weight[c] + at[1] * first.weight[H + c] + first.bias[c]);
    hidden(net, 1);
    for (let d = 0; d < A; d++) {
      let sum = out.bias[d];
      for (let c = 0; c < H; c++) sum += Math.max(0, b[c]) * out.weight[A * c + d];
      actions[d] = Math.tanh(sum);
    }
  }

  // Two standard normal numbers (Box and Muller 1958), into `pair`.
  const pair = new Float64Array(2);
  function normal(seed, what, first, second) {
    threefry(seed, what, first, second);
    const length = Math.sqrt(-2 * Math.log((words[0] + 1) / 2 ** 32)), angle = (2 * Math.PI * words[1]) / 2 ** 32;
    pair[0] = length * Math.cos(angle);
    pair[1] = length * Math.sin(angle);
    return pair;
  }

  // Draws of the clone and their log-densities.
  function draw({ seed, state: at, n }, counter, into) {
    const of = w["score.of_state.weight"];
    for (let d = 0; d < A; d++) scaled[d] = stateScale[d] ? (at[d] - stateMean[d]) / stateScale[d] : 0;
    for (let c = 0; c < W; c++) state[c] = scaled[0] * of[c] + scaled[1] * of[W + c] + w["score.of_state.bias"][c];
    for (let r = 0; r < n; r++) x.set(normal(seed, 0, counter, r), A * r);
    solve(n);
    const end = (nodes - 1) * most * A;
    for (let o = 0; o < n * A; o++) into.actions[o] = Math.min(1, Math.max(-1, actionMean[o % A] + actionScale[o % A] * x[end + o]));
    for (let r = 0; r < n; r++) into.logProb[r] = density(r);
  }
  // Uniform actions of the box and their log-density (uniform.UniformBehavior).
  function scatter({ seed, n }, counter, into) {
    for (let r = 0; r < n; r++) {
      threefry(seed, 0, counter, r);
      for (let d = 0; d < A; d++) into.actions[A * r + d] = (2 * (words[d] >>> 8)) / 2 ** 24 - 1;
    }
    into.logProb.fill(-A * Math.log(2));
  }

  // n candidates of a walker at a step and a state, in the box, with log-density and Q: into the arrays of `into`. They come of the clone ("score"), of the box ("uniform"), or of an actor, by its place.
  function candidates(job, into) {
    const { of, step, walker, n, critic, state: at } = job, counter = step * 65536 + walker;
    if (of === "score") draw(job, counter, into);
    else if (of === "uniform") scatter(job, counter, into);
    else { point(actors[of], at, into.actions); into.logProb.fill(0); }
    values(critic, at, into.actions, into.q, n);
    for (let r = 0; r < n; r++) {
      if (!Number.isFinite(into.actions[A * r] + into.actions[A * r + 1] + into.logProb[r] + into.q[r])) throw new Error(`the policy: saw a candidate that is not a number at ${model.named} ${Array.from(at, (v) => Number(v.toFixed(2))).join(", ")}, expected finite ones; its weights are damaged: run the notebook again.`);
    }
    return into;
  }
  return {
    candidates,
    values,
    normal,
    place: (n) => ({ n, actions: new Float32Array(n * A), logProb: new Float32Array(n), q: new Float32Array(n) }),
    choice: (seed, step, walker) => 1 - uniform(seed, 1, step * 65536 + walker), // in (0, 1]
    start: (seed, walker) => 2 * uniform(seed, 2, walker) - 1,
  };
}
