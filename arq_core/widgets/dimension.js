// The share of N(0, width² I) above a threshold on its density, by three rules; a chi-squared distribution function says it (support.normal_share).
const STYLE = ["dropped", "truth", "kept"]; // of the rules, in their order

// P(A/2, x), the regularised lower incomplete gamma function, by its power series: all terms are positive, nothing cancels. 1 beyond x = 150, where the rest is below e^-100.
function gammaP(dim, x) {
  if (x <= 0) return 0;
  if (x > 150) return 1;
  const a = dim / 2;
  let logGamma = dim % 2 ? 0.5 * Math.log(Math.PI) : 0; // of 1/2 or 1, raised to that of a + 1 by Γ(z + 1) = zΓ(z)
  for (let z = dim % 2 ? 0.5 : 1; z < a + 0.75; z++) logGamma += Math.log(z);
  let term = 1, sum = 1;
  for (let i = 1; term > 1e-17 * sum; i++) { term *= x / (a + i); sum += term; }
  return Math.min(1, sum * Math.exp(a * Math.log(x) - x - logGamma));
}
// The x at which gammaP is `share`, by halving.
function gammaPInverse(dim, share) {
  let low = 0, high = 150;
  for (let i = 0; i < 80; i++) { const x = (low + high) / 2; if (gammaP(dim, x) < share) low = x; else high = x; }
  return (low + high) / 2;
}
const densest = (dim, width) => -0.5 * dim * Math.log(2 * Math.PI * (width * width));

function view(data, state, frame) {
  const { rule, dim, width, log_epsilon: e, keep } = state, { rules, most, measured } = data.words;
  const threshold = (r, a, w = width) => [e, e * a, r === 2 ? densest(a, w) - gammaPInverse(a, keep) : 0][r];
  const share = (r, a, w = width) => (r === 2 ? keep : gammaP(a, densest(a, w) - threshold(r, a, w)));
  const dims = Array.from({ length: most }, (_, i) => i + 1), widths = Array.from({ length: 75 }, (_, i) => 0.02 * (i + 1));
  const key = [["• fixed", STYLE[0]], ["× per dimension", STYLE[1]], ["quantile", STYLE[2]]];
  const kept = percent(share(rule, dim), 1);

  const byDim = frame.panel({ label: `Share kept against the dimension at width ${fixed(width, 2)}, by three rules; ${rules[rule]} keeps ${kept} at A = ${dim}.`, share: 0.5, height: 230,
    x: [0, most + 1], y: [-0.03, 1.08], xlabel: "A, dimensions", ylabel: "share kept", pick: (v) => frame.set("dim", v) });
  curves(byDim, dims, (r, a) => share(r, a), 1);
  byDim.rule({ x: dim }, "soft");
  byDim.dots([dim], [share(rule, dim)], "model", 5);
  for (const b of measured) {
    byDim.dots([b.dim], [b.share], "extra", 5);
    byDim.text(b.dim, b.share, b.name, b.dim > most / 2 ? "end" : "start", 0, b.share > 0.5 ? 20 : -10);
  }
  byDim.key(key);

  const byWidth = frame.panel({ label: `Share kept against the width at A = ${dim}, by three rules; ${rules[rule]} keeps ${kept} at width ${fixed(width, 2)}.`, share: 0.5, height: 230,
    x: [0, 1.55], y: [-0.03, 1.08], xlabel: "width of behaviour", ylabel: "share kept", pick: (v) => frame.set("width", v) });
  curves(byWidth, widths, (r, w) => share(r, dim, w), 5);
  byWidth.rule({ x: width }, "soft");
  byWidth.dots([width], [share(rule, dim)], "model", 5);

  const levels = rules.flatMap((_, r) => dims.map((a) => threshold(r, a))), low = Math.max(-60, Math.min(...levels)), high = Math.min(60, Math.max(...levels));
  const byRule = frame.panel({ label: `The threshold that each rule sets against the dimension; ${rules[rule]} sets ${fixed(threshold(rule, dim), 2)} at A = ${dim}.`, height: 190,
    x: [0, most + 1], y: [low - 3, high + 3], xlabel: "A, dimensions", ylabel: "log ε it sets", pick: (v) => frame.set("dim", v) });
  curves(byRule, dims, (r, a) => threshold(r, a), 1);
  byRule.rule({ x: dim }, "soft");
  byRule.dots([dim], [threshold(rule, dim)], "model", 5);

  const points = ["The rule per dimension multiplies log ε by A."].concat(measured.map((b) => `${b.name}: ${percent(b.share, 1)} measured at log ε = ${fixed(b.log_epsilon, 2)}.`));
  const finding = `At A = ${dim} and width ${fixed(width, 2)} ${rules[rule]} (log ε = ${fixed(threshold(rule, dim), 2)}) keeps ${kept} of a normal behaviour, ` +
    `whose densest action has log-density ${fixed(densest(dim, width), 2)}; by the same rule ${percent(share(rule, 1), 1)} are kept at A = 1 and ${percent(share(rule, most), 1)} at A = ${most}.`;
  return { finding, note: points.join(" ") };

  // Rules differ in their marks too: dots, crosses, a bare line.
  function curves(plot, xs, f, every) {
    rules.forEach((_, r) => plot.line(xs, xs.map((x) => f(r, x)), STYLE[r]));
    const some = xs.filter((_, i) => i % every === 0);
    plot.dots(some, some.map((x) => f(0, x)), STYLE[0], 2.5);
    plot.crosses(some, some.map((x) => f(1, x)), STYLE[1], 2.5);
  }
}
