// Two normals under the diffusion of S1, in closed form: densities/mixture.py, algorithm/sde.py, and the steps of samplers.euler_maruyama.
function diffused({ weights, means, stds, betas, times, at: places, unit }) {
  const steps = (times.length - 1) / 2;
  const beta = (t) => betas[0] + (betas[1] - betas[0]) * t, integral = (t) => (betas[0] + 0.5 * (betas[1] - betas[0]) * t) * t;
  const marginal = (t) => ({ m: Math.exp(-integral(t) / 2), sigma: Math.sqrt(-Math.expm1(-integral(t))) });

  // p_t and its score at one action: each normal stays one, of mean m mean and variance (m std)^2 + sigma^2.
  function at(x, t) {
    const { m, sigma } = marginal(t);
    let density = 0, slope = 0;
    weights.forEach((weight, k) => {
      const variance = (m * stds[k]) ** 2 + sigma ** 2, away = x - m * means[k];
      const part = (weight * Math.exp(-(away ** 2) / (2 * variance))) / Math.sqrt(2 * Math.PI * variance);
      density += part;
      slope -= (part * away) / variance;
    });
    return { density, score: slope / density };
  }
  // Where every point is at each of the handle's places: `steps` forwards, then as many back; noise(k) is that of step k.
  function paths(start, noise) {
    const rows = [Float64Array.from(start)];
    for (let k = 0; k < 2 * steps; k++) {
      const t = times[k], b = integral(times[k + 1]) - integral(t), z = noise(k), last = rows[k], dt = t - times[k + 1];
      const forwards = (x, i) => Math.exp(-b / 2) * x + Math.sqrt(-Math.expm1(-b)) * unit * z[i];
      const back = (x, i) => x + beta(t) * (x / 2 + at(x, t).score) * dt + (k + 1 < 2 * steps ? Math.sqrt(beta(t) * dt) * unit * z[i] : 0); // S4; the last mean without its noise
      rows.push(last.map(k < steps ? forwards : back));
    }
    return places.map((k) => rows[k]);
  }
  return { marginal, at, paths };
}
