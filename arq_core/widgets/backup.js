// Eq. 5 and Eq. 6 on the candidates of one state: which value is bootstrapped from, and how likely each candidate is to be taken.
function view(data, state, frame) {
  const u = state.state_index || 0, { k, log_epsilon: e, log_alpha } = state, alpha = 10 ** log_alpha;
  const q = Array.from(data.q.row(u)), density = Array.from(data.log_prob.row(u)), n = q.length, ofData = data.q_data.values[u], digits = data.words.digits;
  const kept = density.map((v) => v >= e), m = kept.filter(Boolean).length;
  const order = q.map((_, i) => i).sort((i, j) => q[j] - q[i]), rank = order.map((_, i) => i + 1);
  const inside = order.filter((i) => kept[i]);
  const { paper, released } = bootstraps(), p = probabilities(m ? kept : density.map((_, i) => i === 0)), all = probabilities(q.map(() => true));
  values();
  chances();
  const value = ([v, whose]) => `${fixed(v, digits)} (${whose})`;
  const finding = `${data.words.states[u]}: ${m} of ${n} candidates are in support; with K = ${k} the paper bootstraps from ${value(paper)}, the released code from ${value(released)}; ` +
    `at α = ${fixed(alpha, Math.max(0, 1 - Math.floor(log_alpha)))} Eq. 6 ${m ? "" : "takes the first, a plain draw, and "}gives the likeliest candidate ${percent(Math.max(...p), 1)} and chooses as if among ` +
    `${fixed(effective(p), 1)} equal ones, without the filter ${percent(Math.max(...all), 1)} and ${fixed(effective(all), 1)}.`;
  const own = `a′ is the data's own next action, log-density ${fixed(data.log_prob_data.values[u], 1)}; the released code adds it to the candidates without filtering it.`;
  return { finding, note: [own, data.words.note].join(" ").trim() };

  function bootstraps() {
    const own = [ofData, "the data's own action"];
    const kth = m >= k ? [q[inside[k - 1]], "the K-th largest"] : m ? [q[inside[m - 1]], "the least in support, as they are fewer than K"] : own;
    return { paper: kth, released: m >= k && kth[0] >= ofData ? kth : own };
  }
  function probabilities(among) {
    const top = Math.max(...q.filter((_, i) => among[i])), weight = q.map((v, i) => (among[i] ? Math.exp(Math.min(0, alpha * (v - top))) : 0));
    const sum = weight.reduce((a, b) => a + b);
    return weight.map((w) => w / sum);
  }
  function effective(r) {
    return Math.exp(-r.reduce((sum, v) => sum + (v > 0 ? v * Math.log(v) : 0), 0));
  }
  function values() {
    const low = Math.min(ofData, ...q), high = Math.max(ofData, ...q), room = (high - low || 1) * 0.14;
    const plot = frame.panel({ label: `Values of ${n} candidates from the largest to the smallest; ${m} are in support. The paper bootstraps from ${value0(paper)}, the released code from ${value0(released)}.`,
      height: 250, x: [0, n + 1], y: [low - room, high + room], ylabel: "Q", xticks: false, pick: (at) => frame.set("k", Math.max(1, order.filter((i, r) => kept[i] && r + 1 <= at + 0.5).length)) });
    if (m) plot.rule({ y: inside.reduce((sum, i) => sum + q[i], 0) / m }, "soft");
    const same = paper[0] === released[0];
    plot.rule({ y: paper[0] }, "truth");
    if (!same) plot.rule({ y: released[0] }, "extra");
    if (m >= k) plot.dots([order.indexOf(inside[k - 1]) + 1], [q[inside[k - 1]]], "truth", 7);
    const at = (keep) => rank.filter((_, r) => kept[order[r]] === keep);
    plot.crosses(at(false), at(false).map((r) => q[order[r - 1]]), "dropped");
    plot.dots(at(true), at(true).map((r) => q[order[r - 1]]), "kept");
    plot.text(order.filter((i) => q[i] > ofData).length + 0.5, ofData, "◆ a′", "start", -5, 4);
    const above = released[0] >= paper[0] ? "released" : "paper";
    if (same) plot.text(n + 1, paper[0], "paper and released", "end", -4, -5);
    else for (const [name, v] of [["paper", paper[0]], ["released", released[0]]]) plot.text(n + 1, v, name, "end", -4, name === above ? -5 : 13);
    plot.key([["kept", "kept"], ["dropped", "dropped"], ["K-th", "truth"], [m ? "mean of kept" : "", "soft"]]);
  }
  function value0(v) {
    return fixed(v[0], digits);
  }
  function chances() {
    const plot = frame.panel({ label: `Probabilities of Eq. 6 in the same order, among the candidates in support and among all; the largest are ${percent(Math.max(...p), 1)} and ${percent(Math.max(...all), 1)}.`,
      height: 170, x: [0, n + 1], y: [0, 1.12 * Math.max(...p, ...all)], xlabel: "candidates, from the largest Q to the smallest", ylabel: "probability" });
    plot.bars(rank.map((r) => r - 0.38), rank.map((r) => r + 0.38), order.map((i) => p[i]), "kept");
    plot.line(rank.flatMap((r) => [r - 0.5, r + 0.5]), order.flatMap((i) => [all[i], all[i]]), "extra");
    plot.key([["filtered (released)", "kept"], ["line: all (paper)", "extra"]]);
  }
}
