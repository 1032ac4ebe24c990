// Table 1 on one state: p, pi_p = softmax(-p), pi = softmax(Q - p) and its true value, for every row; arq_core.theory.penalties has the formulas.
const STYLE = { keeps: "kept", drowns: "dropped", falls: "extra" };

const summed = (xs) => xs.reduce((a, b) => a + b, 0);
function softmax(xs) {
  const top = Math.max(...xs), weight = xs.map((x) => Math.exp(x - top)), sum = summed(weight);
  return weight.map((w) => w / sum);
}
// w of w + ln w = z: Newton's method on u = ln w, from above, where e^u + u - z is convex.
function omega(z) {
  let u = z < 1 ? z : Math.log(z);
  for (let i = 0; i < 40; i++) {
    const w = Math.exp(u), step = (w + u - z) / (w + 1);
    u -= step;
    if (Math.abs(step) < 1e-15) break;
  }
  return Math.exp(u);
}

// A share and a strength by their logarithms, with two digits, as penalty.py says them.
const shareOf = (log10) => fixed(100 * 10 ** log10, Math.max(1, -1 - Math.floor(log10))) + "%";
const strengthOf = (log10) => fixed(10 ** log10, Math.max(0, 1 - Math.floor(log10)));

function view(data, state, frame) {
  const { rows, verdicts, bandwidth, steps, halvings } = data.words, { row, log_rarity, log_alpha, log_epsilon: e } = state;
  const [a, behavior, reward, q, noise] = ["actions", "behavior", "reward", "q", "noise"].map((k) => Array.from(data[k].values));
  const best = reward.indexOf(Math.max(...reward)), wrong = q.map((v, i) => v > reward[i]), alpha = 10 ** log_alpha;
  const kernel = a.map((x) => a.map((y) => Math.exp(-((x - y) ** 2) / (2 * bandwidth ** 2))));
  const now = at(log_rarity), shownRow = rows.map((_, i) => judged(i, now)), mine = shownRow[row];
  const p = penalty(row, now, mine.pi), induced = softmax(p.map((v) => -v)), oracle = rows.indexOf("oracle"), rarity = shareOf(log_rarity);

  chances();
  everyRow();
  byRarity();
  values();
  penalties();
  const told = verdicts.map((v, k) => {
    const names = rows.filter((_, i) => shownRow[i].verdict === v);
    return `${names.length} ${["keep it", "drown it in more frequent actions", "fall for a wrong Q"][k]} (${names.join(", ") || "none"})`;
  });
  const finding = `The best action is ${rarity} of the data. With α = ${strengthOf(log_alpha)} and ε = ${shareOf(e / Math.LN10)}, ${rows[row]} takes it with ` +
    `${percent(mine.pi[best], 1)} and actions of a wrong Q with ${percent(mine.ofWrong, 1)}: a true value of ${fixed(mine.value, 2)}, where the oracle has ${fixed(shownRow[oracle].value, 2)}. ` +
    `Of ${rows.length} penalties ${told.join(", ")}.`;
  const none = now.empty ? " No action is in support at this ε, and the likeliest stands for it." : "";
  const rule = "Keeps: the best action has at least half. Otherwise falls: actions of a wrong Q have more than the rest; or else drowns. One α serves all rows, though its unit differs; no penalty, the support and the oracle have none.";
  return { finding, note: `${rule} Anti-exploration and PLOFF are given the distance to the support of Eq. 4, MOPO the noise of outcomes.${none}` };

  // The behaviour at a rarity, Eq. 4's support, and every action's distance to it. Curves need less precision than numbers.
  function at(logRarity, precision = 1e-12) {
    const r = 10 ** logRarity, rest = summed(behavior.filter((_, i) => i !== best));
    const beta = behavior.map((b, i) => (i === best ? r : ((1 - r) * b) / rest)), kept = beta.map((b) => b >= Math.exp(e)), empty = !kept.includes(true);
    const inside = empty ? beta.map((_, i) => i === beta.indexOf(Math.max(...beta))) : kept;
    return { beta, inside, empty, precision, mean: summed(beta.map((b, i) => b * a[i])), away: a.map((x) => Math.min(...a.filter((_, i) => inside[i]).map((y) => Math.abs(x - y)))) };
  }
  function penalty(i, { beta, inside, mean, away }, pi) {
    return q.map((v, j) => ({
      "no penalty": () => 0, "support of Eq. 4": () => (inside[j] ? 0 : Infinity), "BRAC-KL": () => -alpha * Math.log(beta[j]),
      "BRAC-MMD²": () => 2 * alpha * summed(kernel[j].map((k, l) => k * (pi[l] - beta[l]))), "TD3+BC": () => alpha * (a[j] - mean) ** 2,
      "anti-exploration": () => alpha * away[j] ** 2, PLOFF: () => v * (1 - Math.exp(-alpha * away[j])), MOPO: () => alpha * noise[j],
      CQL: () => (beta[j] > 0 ? alpha * (pi[j] / beta[j] - 1) : Infinity), oracle: () => v - reward[j],
    })[rows[i]]());
  }
  function policy(i, here) {
    return rows[i] === "BRAC-MMD²" ? mmd(here.beta, here.precision) : rows[i] === "CQL" ? cql(here.beta) : softmax(penalty(i, here).map((v, j) => q[j] - v));
  }
  function mmd(beta, precision) {
    const n = q.length, logits = q.map(() => 0), change = q.map(() => 0), pi = q.map(() => 0);
    for (let t = 0, most = 1; t < steps && most >= precision; t++) {
      const top = Math.max(...logits);
      let sum = 0;
      for (let j = 0; j < n; j++) sum += pi[j] = Math.exp(logits[j] - top);
      for (let j = 0; j < n; j++) {
        change[j] = q[j] - logits[j];
        for (let l = 0; l < n; l++) change[j] -= 2 * alpha * kernel[j][l] * (pi[l] / sum - beta[l]);
        change[j] /= 1 + 2 * alpha;
      }
      most = 0;
      for (let j = 0; j < n; j++) { logits[j] += change[j]; most = Math.max(most, Math.abs(change[j])); }
    }
    return softmax(logits);
  }
  function cql(beta) {
    const among = q.filter((_, j) => beta[j] > 0), mu = (c) => q.map((v, j) => (beta[j] > 0 ? (beta[j] / alpha) * omega(v + alpha - c + Math.log(alpha / beta[j])) : 0));
    let low = Math.min(...among) - alpha - 100, high = Math.max(...among) + 100;
    for (let t = 0; t < halvings; t++) { const c = (low + high) / 2; if (summed(mu(c)) > 1) low = c; else high = c; }
    return mu((low + high) / 2);
  }
  function judged(i, here) {
    const pi = policy(i, here), ofWrong = summed(pi.filter((_, j) => wrong[j])), rest = summed(pi.filter((_, j) => !wrong[j])) - pi[best];
    return { pi, ofWrong, value: summed(pi.map((v, j) => v * reward[j])), verdict: pi[best] >= 0.5 ? "keeps" : ofWrong > rest ? "falls" : "drowns" };
  }

  function everyRow() {
    const n = rows.length, low = Math.min(0, ...reward), high = Math.max(...reward), end = high + 0.08 * (high - low);
    const plot = frame.panel({ label: `True values: ${rows.map((name, i) => `${name} ${fixed(shownRow[i].value, 2)}, ${shownRow[i].verdict}`).join("; ")}.`, share: 0.5, height: 350,
      x: [low - 0.03 * (high - low), end], y: [n - 0.35, -0.55], xlabel: "true value of softmax(Q − p)", yticks: false, pick: (_, y) => frame.set("row", Math.max(0, Math.min(n - 1, Math.round(y)))) });
    shownRow.forEach((one, i) => {
      plot.line([low, one.value], [i + 0.3, i + 0.3], STYLE[one.verdict]);
      plot[one.verdict === "keeps" ? "dots" : "crosses"]([one.value], [i + 0.3], STYLE[one.verdict], i === row ? 6 : 4);
      plot.text(low, i, (i === row ? "▸ " : "") + rows[i], "start", 5, 2);
      plot.text(end, i, `${fixed(one.value, 2)} ${one.verdict}`, "end", -4, 2);
    });
    plot.key([["● keeps", "kept"], ["× drowns", "dropped"], ["× falls", "extra"]]);
  }
  function byRarity() {
    const xs = Array.from({ length: 20 }, (_, i) => -4 + (3.7 * i) / 19), low = Math.min(0, ...reward), high = Math.max(...reward), support = rows.indexOf("support of Eq. 4");
    const curve = (i) => xs.map((x) => judged(i, at(x, 1e-5)).value), room = 0.06 * (high - low);
    const plot = frame.panel({ label: `True value against the rarity of the best action: ${rows[row]}, the support of Eq. 4 and the oracle; ${rows[row]} has ${fixed(mine.value, 2)} at ${rarity}.`,
      share: 0.5, height: 350, x: [-4.1, -0.2], y: [low - room, high + 2 * room], xticks: false, ylabel: "true value", pick: (x) => frame.set("log_rarity", x) });
    ["0.01%", "0.1%", "1%", "10% of data"].forEach((share, i) => plot.text(i - 4, low - room, share, "middle", 0, 16));
    plot.rule({ y: shownRow[oracle].value }, "truth");
    plot.line(xs, curve(support), "kept");
    plot.dots(xs, curve(support), "kept", 2.5);
    plot.line(xs, curve(row), "model");
    plot.rule({ x: log_rarity }, "soft");
    plot.dots([log_rarity], [mine.value], "model", 5);
    plot.key([[rows[row], "model"], ["• support", "kept"], ["- - oracle", "truth"]]);
  }
  function values() {
    const all = [...q, ...reward], low = Math.min(0, ...all), high = Math.max(...all), room = 0.1 * (high - low || 1);
    const plot = frame.panel({ label: "The learner's Q and the true reward of every action.", share: 0.5, height: 190, x: span(), y: [low - room, high + room], xlabel: "action", ylabel: "reward, Q" });
    plot.dots(a, reward, "truth", 4);
    plot.crosses(a, q, "dropped", 4.5);
    plot.text(a[best], reward[best], "best", "middle", 0, 17);
    plot.key([["● true", "truth"], ["× Q", "dropped"]]);
  }
  function penalties() {
    const finite = p.filter(Number.isFinite), low = Math.min(0, ...finite), high = Math.max(low + 1, ...finite), room = 0.12 * (high - low);
    const plot = frame.panel({ label: `p of ${rows[row]}: ${a.map((x, j) => `${fixed(p[j], 2)} at ${fixed(x, 2)}`).join(", ")}.`, share: 0.5, height: 190, x: span(), y: [low - room, high + 2 * room],
      xlabel: "action", ylabel: "p" });
    const is = a.map((_, j) => j).filter((j) => Number.isFinite(p[j]));
    for (const j of is) plot.line([a[j], a[j]], [0, p[j]], "model");
    plot.dots(is.map((j) => a[j]), is.map((j) => p[j]), "model", 4);
    a.forEach((x, j) => Number.isFinite(p[j]) || plot.text(x, high + room, "∞", "middle", 0, 4));
    plot.key([[`p, ${rows[row]}`, "model"]]);
  }
  function chances() {
    const w = 0.22 * Math.min(...a.flatMap((x, i) => a.filter((_, j) => j !== i).map((y) => Math.abs(x - y)))) || 0.05;
    const plot = frame.panel({ label: `Probabilities of every action: ${a.map((x, j) => `at ${fixed(x, 2)} data ${percent(now.beta[j], 1)}, softmax(−p) ${percent(induced[j], 1)}, policy ${percent(mine.pi[j], 1)}`).join("; ")}.`,
      height: 240, x: span(), y: [0, 1.3], xlabel: "action", ylabel: "probability" });
    [[now.beta, "soft"], [induced, "truth"], [mine.pi, "kept"]].forEach(([y, color], k) => plot.bars(a.map((x) => x + (k - 1.5) * w), a.map((x) => x + (k - 0.5) * w), y, color));
    a.forEach((x, j) => {
      if (j === best || wrong[j]) plot.text(x, 1.18, j === best ? "best" : "Q wrong", "middle");
      if (j === best || mine.pi[j] >= 0.1) plot.text(x + w, mine.pi[j], percent(mine.pi[j], 1), "middle", 0, -4);
    });
    plot.key([["data β", "soft"], ["the penalty's own πₚ", "truth"], [`the policy π, ${rows[row]}`, "kept"]]);
  }
  function span() {
    const low = Math.min(...a), high = Math.max(...a), room = 0.12 * (high - low || 1);
    return [low - room, high + room];
  }
}
