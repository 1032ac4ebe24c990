// One update of soft actor-critic as a single call: the formulas of sac_learner.py (critic_loss, actor_loss, temperature, Adam, averages) with
// their gradients written out. For the small networks of sac.py a call takes a fifth of the time of the same update in torch, most of
// which is spent between the products. Matrices are row-major; networks have two hidden layers of W units, W a multiple of 16.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <utility>
#include <vector>

typedef float Vec __attribute__((vector_size(32), aligned(4), may_alias));      // 8 floats; any compiler target lowers it
static const float LOG_STD_MIN = -20, LOG_STD_MAX = 2, BETA1 = 0.9f, BETA2 = 0.999f, EPS = 1e-8f;     // sac.LOG_STD, train.ADAM

static inline Vec load(const float* p) { return *(const Vec*)p; }
static inline void store(float* p, Vec v) { *(Vec*)p = v; }

// R rows and 16 columns of C = start + A·B, in registers. A's element (i, k) is a[i·row + k·col].
template <int R>
static void tile(long K, const float* a, long row, long col, const float* b, long ldb, const float* start, long step, float* c, long ldc) {
    Vec sum[R][2];
    for (int i = 0; i < R; i++)
        for (int j = 0; j < 2; j++) sum[i][j] = start ? load(start + i * step + 8 * j) : Vec{};
    for (long k = 0; k < K; k++, b += ldb) {
        Vec b0 = load(b), b1 = load(b + 8);
        for (int i = 0; i < R; i++) {
            float x = a[i * row + k * col];
            sum[i][0] += x * b0;
            sum[i][1] += x * b1;
        }
    }
    for (int i = 0; i < R; i++)
        for (int j = 0; j < 2; j++) store(c + i * ldc + 8 * j, sum[i][j]);
}

// C [M, N] = start + A [M, K]·B [K, N]; N is a multiple of 16. `start` is nothing (0), a row (step 0), or C itself (step N).
static void product(long M, long N, long K, const float* a, long row, long col, const float* b, const float* start, long step, float* c) {
    for (long n = 0; n < N; n += 16) {
        const float* s = start ? start + n : nullptr;
        long m = 0;
        for (; m + 6 <= M; m += 6) tile<6>(K, a + m * row, row, col, b + n, N, s ? s + m * step : s, step, c + m * N + n, N);
        for (; m < M; m++) tile<1>(K, a + m * row, row, col, b + n, N, s ? s + m * step : s, step, c + m * N + n, N);
    }
}

static float dot(long K, const float* x, const float* y) {      // K is a multiple of 8
    Vec sum = {};
    for (long k = 0; k < K; k += 8) sum += load(x + k) * load(y + k);
    float total = 0;
    for (int i = 0; i < 8; i++) total += sum[i];
    return total;
}

static void transpose(long M, long N, const float* x, float* y) {      // [M, N] -> [N, M]
    for (long m = 0; m < M; m++)
        for (long n = 0; n < N; n++) y[n * M + m] = x[m * N + n];
}

static void relu(long n, float* x) {
    for (long i = 0; i < n; i++) x[i] = x[i] > 0 ? x[i] : 0;
}

static void mask(long n, float* gradient, const float* output) {      // through a relu
    for (long i = 0; i < n; i++) gradient[i] = output[i] > 0 ? gradient[i] : 0;
}

static void column_sums(long M, long N, const float* x, float* sums) {
    for (long n = 0; n < N; n++) sums[n] = 0;
    for (long m = 0; m < M; m++)
        for (long n = 0; n < N; n++) sums[n] += x[m * N + n];
}

struct Sizes { long S, A, W, B; };

struct Scratch {      // blocks of floats, aligned to a cache line, kept from call to call
    std::vector<std::pair<float*, size_t>> blocks;
    size_t next = 0;
    float* take(size_t n) {
        if (next == blocks.size()) blocks.push_back({nullptr, 0});
        auto& [block, size] = blocks[next++];
        if (size < n) {
            std::free(block);
            block = (float*)std::aligned_alloc(64, (n * sizeof(float) + 63) / 64 * 64);
            size = n;
        }
        return block;
    }
};

struct Critic {      // of one member: weights [S W], [A W], [W W], [W], and biases
    float *ws, *bs, *wa, *wh, *bh, *wo, *bo;
    Critic(float* const* p, long e, const Sizes& d)
        : ws(p[0] + e * d.S * d.W), bs(p[1] + e * d.W), wa(p[2] + e * d.A * d.W), wh(p[3] + e * d.W * d.W), bh(p[4] + e * d.W),
          wo(p[5] + e * d.W), bo(p[6] + e) {}
};

static void critic_forward(const Critic& c, const Sizes& d, const float* s, const float* a, float* h1, float* h2, float* q) {
    product(d.B, d.W, d.S, s, d.S, 1, c.ws, c.bs, 0, h1);
    product(d.B, d.W, d.A, a, d.A, 1, c.wa, h1, d.W, h1);
    relu(d.B * d.W, h1);
    product(d.B, d.W, d.W, h1, d.W, 1, c.wh, c.bh, 0, h2);
    relu(d.B * d.W, h2);
    for (long b = 0; b < d.B; b++) q[b] = dot(d.W, h2 + b * d.W, c.wo) + *c.bo;
}

// Gradients at the two hidden layers, d1 and d2 [B W], from dq [B].
static void critic_backward(const Critic& c, const Sizes& d, const float* dq, const float* h1, const float* h2, float* d1, float* d2,
                            float* wt) {
    for (long b = 0; b < d.B; b++)
        for (long w = 0; w < d.W; w++) d2[b * d.W + w] = h2[b * d.W + w] > 0 ? dq[b] * c.wo[w] : 0;
    transpose(d.W, d.W, c.wh, wt);
    product(d.B, d.W, d.W, d2, d.W, 1, wt, nullptr, 0, d1);
    mask(d.B * d.W, d1, h1);
}

struct Actor { float *w1, *b1, *w2, *b2, *w3, *b3; };

static void actor_forward(const Actor& p, const Sizes& d, const float* s, float* h1, float* h2, float* out, float* w3t) {
    product(d.B, d.W, d.S, s, d.S, 1, p.w1, p.b1, 0, h1);
    relu(d.B * d.W, h1);
    product(d.B, d.W, d.W, h1, d.W, 1, p.w2, p.b2, 0, h2);
    relu(d.B * d.W, h2);
    transpose(d.W, 2 * d.A, p.w3, w3t);
    for (long b = 0; b < d.B; b++)
        for (long j = 0; j < 2 * d.A; j++) out[b * 2 * d.A + j] = dot(d.W, h2 + b * d.W, w3t + j * d.W) + p.b3[j];
}

// sac.squashed: actions [B A] and log densities [B] from parameters [B 2A].
static void squash(const Sizes& d, const float* out, const float* noise, float* a, float* log_prob) {
    for (long b = 0; b < d.B; b++) {
        double total = 0;
        for (long j = 0; j < d.A; j++) {
            const float *mean = out + b * 2 * d.A + j, z = noise[b * d.A + j];
            float log_std = std::fmin(std::fmax(mean[d.A], LOG_STD_MIN), LOG_STD_MAX), u = *mean + std::exp(log_std) * z;
            float softplus = std::fmax(-2 * u, 0.0f) + std::log1p(std::exp(-std::fabs(2 * u)));
            a[b * d.A + j] = std::tanh(u);
            total += -0.5f * z * z - log_std - 0.918938533f - 2 * (0.693147181f - u - softplus);      // log(2 pi)/2, log 2
        }
        log_prob[b] = (float)total;
    }
}

static void adam(long n, float* p, const float* g, float* mean, float* square, float* taken, float lr) {
    *taken += 1;
    float rate = lr / (1 - std::pow((double)BETA1, *taken)), root = std::sqrt(1 - std::pow((double)BETA2, *taken));
    for (long i = 0; i < n; i++) {
        mean[i] += (1 - BETA1) * (g[i] - mean[i]);
        square[i] = BETA2 * square[i] + (1 - BETA2) * g[i] * g[i];
        p[i] -= rate * mean[i] / (std::sqrt(square[i]) / root + EPS);
    }
}

// Parameters, Adam's steps taken, means and squares, each a list of tensors in torch's order: 7 of the critics, 6 of the actor, log alpha.
struct Trained {
    float* const *p, *const *taken, *const *mean, *const *square;
    void step(int i, long n, const float* gradient, float lr) const { adam(n, p[i], gradient, mean[i], square[i], taken[i], lr); }
};

struct Batch { float *s, *a, *after, *reward, *live; };

static Batch gather(const Sizes& d, const float* replay, const int64_t* rows, Scratch& scratch) {      // rows of s, a, r, terminal, s'
    Batch x{scratch.take(d.B * d.S), scratch.take(d.B * d.A), scratch.take(d.B * d.S), scratch.take(d.B), scratch.take(d.B)};
    for (long b = 0; b < d.B; b++) {
        const float* row = replay + rows[b] * (2 * d.S + d.A + 2);
        for (long j = 0; j < d.S; j++) x.s[b * d.S + j] = row[j], x.after[b * d.S + j] = row[d.S + d.A + 2 + j];
        for (long j = 0; j < d.A; j++) x.a[b * d.A + j] = row[d.S + j];
        x.reward[b] = row[d.S + d.A], x.live[b] = 1 - row[d.S + d.A + 1];
    }
    return x;
}

// sac_learner.critic_loss: y = r + gamma (1 - terminal) (min Q'(s', a') - alpha log pi(a'|s')), and a step down the squared error from it.
static void critic_step(const Sizes& d, const Batch& x, const float* noise, float gamma, float lr, float alpha, const Trained& critics,
                        const Actor& actor, float* const* target, Scratch& scratch) {
    const long B = d.B, W = d.W, BW = B * W, size[7] = {d.S * W, W, d.A * W, W * W, W, W, 1};
    float *h1 = scratch.take(BW), *h2 = scratch.take(BW), *d1 = scratch.take(BW), *d2 = scratch.take(BW), *out = scratch.take(2 * B * d.A),
          *next = scratch.take(B * d.A), *log_prob = scratch.take(B), *q0 = scratch.take(B), *q = scratch.take(B), *y = scratch.take(B),
          *dq = scratch.take(B), *transposed = scratch.take(W * W), *gradients[7];
    actor_forward(actor, d, x.after, h1, h2, out, transposed);
    squash(d, out, noise, next, log_prob);
    critic_forward(Critic(target, 0, d), d, x.after, next, h1, h2, q0);
    critic_forward(Critic(target, 1, d), d, x.after, next, h1, h2, q);
    for (long b = 0; b < B; b++) y[b] = x.reward[b] + gamma * x.live[b] * (std::fmin(q0[b], q[b]) - alpha * log_prob[b]);
    for (int i = 0; i < 7; i++) gradients[i] = scratch.take(2 * size[i]);
    for (long e = 0; e < 2; e++) {
        Critic c(critics.p, e, d), g(gradients, e, d);
        critic_forward(c, d, x.s, x.a, h1, h2, q);
        *g.bo = 0;
        for (long b = 0; b < B; b++) *g.bo += dq[b] = 2 * (q[b] - y[b]) / B;
        critic_backward(c, d, dq, h1, h2, d1, d2, transposed);
        product(1, W, B, dq, 0, 1, h2, nullptr, 0, g.wo);
        product(W, W, B, h1, 1, W, d2, nullptr, 0, g.wh);
        column_sums(B, W, d2, g.bh);
        product(d.S, W, B, x.s, 1, d.S, d1, nullptr, 0, g.ws);
        product(d.A, W, B, x.a, 1, d.A, d1, nullptr, 0, g.wa);
        column_sums(B, W, d1, g.bs);
    }
    for (int i = 0; i < 7; i++) critics.step(i, 2 * size[i], gradients[i], lr);
}

// Gradient of the mean of -min_e Q_e(s, a) at the actions, [B A].
static void action_gradient(const Sizes& d, const float* s, const float* a, const Trained& critics, float* da, Scratch& scratch) {
    const long BW = d.B * d.W;
    float *h[2][2], *q[2], *d1 = scratch.take(BW), *d2 = scratch.take(BW), *dq = scratch.take(d.B), *transposed = scratch.take(d.W * d.W);
    for (long e = 0; e < 2; e++) {
        h[e][0] = scratch.take(BW), h[e][1] = scratch.take(BW), q[e] = scratch.take(d.B);
        critic_forward(Critic(critics.p, e, d), d, s, a, h[e][0], h[e][1], q[e]);
    }
    for (long i = 0; i < d.B * d.A; i++) da[i] = 0;
    for (long e = 0; e < 2; e++) {
        Critic c(critics.p, e, d);
        for (long b = 0; b < d.B; b++) dq[b] = (e == 0) == (q[0][b] < q[1][b]) ? -1.0f / d.B : 0;
        critic_backward(c, d, dq, h[e][0], h[e][1], d1, d2, transposed);
        for (long b = 0; b < d.B; b++)
            for (long j = 0; j < d.A; j++) da[b * d.A + j] += dot(d.W, d1 + b * d.W, c.wa + j * d.W);
    }
}

// sac_learner.actor_loss: a step down the mean of alpha log pi(a|s) - min_e Q_e(s, a), through a = tanh(u). Returns the mean of log pi.
static float actor_step(const Sizes& d, const float* s, const float* noise, float lr, float alpha, const Trained& critics,
                        const Trained& actors, const Actor& actor, Scratch& scratch) {
    const long S = d.S, A = d.A, B = d.B, W = d.W, BW = B * W, size[6] = {S * W, W, W * W, W, 2 * A * W, 2 * A};
    float *h1 = scratch.take(BW), *h2 = scratch.take(BW), *d1 = scratch.take(BW), *d2 = scratch.take(BW), *out = scratch.take(2 * B * A),
          *dout = scratch.take(2 * B * A), *a = scratch.take(B * A), *da = scratch.take(B * A), *log_prob = scratch.take(B),
          *transposed = scratch.take(W * W), *w3t = scratch.take(2 * A * W), *g3t = scratch.take(2 * A * W), *g[6];
    actor_forward(actor, d, s, h1, h2, out, w3t);
    squash(d, out, noise, a, log_prob);
    action_gradient(d, s, a, critics, da, scratch);
    double mean_log_prob = 0;
    for (long b = 0; b < B; b++) {
        mean_log_prob += log_prob[b] / B;
        for (long j = 0; j < A; j++) {
            float raw = out[b * 2 * A + A + j], x = a[b * A + j];
            bool inside = raw >= LOG_STD_MIN && raw <= LOG_STD_MAX;
            float du = da[b * A + j] * (1 - x * x) + alpha / B * 2 * x;      // d log pi/du = 2 tanh(u)
            dout[b * 2 * A + j] = du;
            dout[b * 2 * A + A + j] = inside ? du * std::exp(raw) * noise[b * A + j] - alpha / B : 0;
        }
    }
    for (int i = 0; i < 6; i++) g[i] = scratch.take(size[i]);
    product(2 * A, W, B, dout, 1, 2 * A, h2, nullptr, 0, g3t);
    transpose(2 * A, W, g3t, g[4]);
    column_sums(B, 2 * A, dout, g[5]);
    product(B, W, 2 * A, dout, 2 * A, 1, w3t, nullptr, 0, d2);
    mask(BW, d2, h2);
    product(W, W, B, h1, 1, W, d2, nullptr, 0, g[2]);
    column_sums(B, W, d2, g[3]);
    transpose(W, W, actor.w2, transposed);
    product(B, W, W, d2, W, 1, transposed, nullptr, 0, d1);
    mask(BW, d1, h1);
    product(S, W, B, s, 1, S, d1, nullptr, 0, g[0]);
    column_sums(B, W, d1, g[1]);
    for (int i = 0; i < 6; i++) actors.step(i, size[i], g[i], lr);
    return (float)mean_log_prob;
}

// Rows of the replay buffer [B] and noise [2, B, A]; the order of steps is that of sac_learner.torch_update.
extern "C" void sac_update(const Sizes* sizes, const float* replay, const int64_t* rows, const float* noise, float gamma, float lr,
                           float polyak, const Trained* critics, const Trained* actors, const Trained* alphas, float* const* target) {
    static thread_local Scratch scratch;
    scratch.next = 0;
    const Sizes& d = *sizes;
    const Batch batch = gather(d, replay, rows, scratch);
    float* const* w = actors->p;
    const Actor actor{w[0], w[1], w[2], w[3], w[4], w[5]};
    const float alpha = std::exp(*alphas->p[0]);
    critic_step(d, batch, noise, gamma, lr, alpha, *critics, actor, target, scratch);
    const float of_alpha = d.A - actor_step(d, batch.s, noise + d.B * d.A, lr, alpha, *critics, *actors, actor, scratch);
    alphas->step(0, 1, &of_alpha, lr);
    const long size[7] = {d.S * d.W, d.W, d.A * d.W, d.W * d.W, d.W, d.W, 1};
    for (int i = 0; i < 7; i++)
        for (long j = 0; j < 2 * size[i]; j++) target[i][j] += (1 - polyak) * (critics->p[i][j] - target[i][j]);
}
