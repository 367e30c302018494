// The kernels of the CUDA benchmarks, compiled at run time by NVRTC: no header is needed, since
// bf16 numbers are handled as their bits and tensor cores are called in PTX (sm_80 and newer).
// Straightforward on purpose: a fair stand-in for what an engine's own kernels take, not a record.

typedef unsigned short bf16;
typedef unsigned int u32;
typedef unsigned long long u64;

__device__ __forceinline__ float wide(u32 bits) { return __uint_as_float(bits << 16); }
__device__ __forceinline__ float low(u32 pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float high(u32 pair) { return __uint_as_float(pair & 0xffff0000u); }

// Rounds to nearest, ties to even.
__device__ __forceinline__ u32 narrow(float value) {
    u32 bits = __float_as_uint(value);
    return (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
}

__device__ __forceinline__ float silu(float value) { return value / (1.0f + __expf(-value)); }

extern "C" __global__ void nothing() {}

// Keeps the stream busy, so that the host can queue what comes next without gaps.
extern "C" __global__ void hold(long long cycles) {
    long long start = clock64();
    while (clock64() - start < cycles) {}
}

// Random bits, of which `keep` are kept and `set` are set: numbers of either sign from 0.5 to 1.
extern "C" __global__ void fill_random(u32* out, u64 words, u32 keep, u32 set) {
    u64 step = (u64)gridDim.x * blockDim.x;
    for (u64 index = (u64)blockIdx.x * blockDim.x + threadIdx.x; index < words; index += step) {
        u64 bits = (index + 1) * 0x9e3779b97f4a7c15ull;
        bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9ull;
        bits = (bits ^ (bits >> 27)) * 0x94d049bb133111ebull;
        out[index] = ((u32)(bits >> 32) & keep) | set;
    }
}

// rows x (gate, up) of `inner` columns each, into rows x inner.
extern "C" __global__ void silu_and_multiply(const bf16* gate_up, bf16* out, u64 count, int inner) {
    u64 index = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (index < count) {
        u64 row = index / inner, column = index % inner;
        float gate = wide(gate_up[row * 2 * inner + column]);
        float up = wide(gate_up[row * 2 * inner + inner + column]);
        out[index] = (bf16)narrow(silu(gate) * up);
    }
}

// ---- Grouped GEMM of experts --------------------------------------------------------------

__device__ __forceinline__ void copy_async(void* to, const void* from, int bytes) {
    u32 address = (u32)__cvta_generic_to_shared(to);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from),
                 "r"(bytes));
}

__device__ __forceinline__ void multiply(float (&sum)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

constexpr int COLUMNS = 64;  // outputs of a block
constexpr int DEPTH = 32;    // inputs of a stage
constexpr int STRIDE = 40;   // of a row in shared memory: no two rows of eight share banks
constexpr int STAGES = 3;
constexpr int THREADS = 128;

// One tile of one expert: x (rows x k) times the expert's weights (n x k), transposed. MATRICES 2
// is silu(x gate) * (x up). `tiles` holds expert, first row and rows of each tile; grid: columns
// of n, tiles; n divides by COLUMNS, k by DEPTH.
template <int ROWS, int MATRICES>
__device__ __forceinline__ void expert_tile(const bf16* x, const bf16* first, const bf16* second,
                                            bf16* out, const int* tiles, int n, int k) {
    constexpr int WARPS_DOWN = ROWS == 64 ? 2 : 1, WARPS_ACROSS = 4 / WARPS_DOWN;
    constexpr int HIGH = ROWS / WARPS_DOWN / 16, WIDE = COLUMNS / WARPS_ACROSS / 8;
    __shared__ __align__(16) bf16 shared_x[STAGES][ROWS * STRIDE];
    __shared__ __align__(16) bf16 shared_w[STAGES][MATRICES][COLUMNS * STRIDE];

    const int expert = tiles[3 * blockIdx.y], row0 = tiles[3 * blockIdx.y + 1];
    const int rows = tiles[3 * blockIdx.y + 2];
    const u64 column0 = (u64)blockIdx.x * COLUMNS;
    const bf16* weights[2] = {first + ((u64)expert * n + column0) * k,
                              second + ((u64)expert * n + column0) * k};
    const int thread = threadIdx.x, warp = thread / 32, lane = thread % 32;
    const int group = lane / 4, place = lane % 4;
    const int warp_row = warp / WARPS_ACROSS * (ROWS / WARPS_DOWN);
    const int warp_column = warp % WARPS_ACROSS * (COLUMNS / WARPS_ACROSS);

    float sums[MATRICES][HIGH][WIDE][4] = {};
    auto load = [&](int step) {
        const int stage = step % STAGES, start = step * DEPTH;
        for (int chunk = thread; chunk < ROWS * 4; chunk += THREADS) {
            const int row = chunk / 4, column = chunk % 4 * 8;
            const bf16* from = x + (u64)(row0 + (row < rows ? row : 0)) * k + start + column;
            copy_async(&shared_x[stage][row * STRIDE + column], from, row < rows ? 16 : 0);
        }
        for (int matrix = 0; matrix < MATRICES; matrix++) {
            for (int chunk = thread; chunk < COLUMNS * 4; chunk += THREADS) {
                const int row = chunk / 4, column = chunk % 4 * 8;
                const bf16* from = weights[matrix] + (u64)row * k + start + column;
                copy_async(&shared_w[stage][matrix][row * STRIDE + column], from, 16);
            }
        }
    };

    const int steps = k / DEPTH;
    for (int step = 0; step < STAGES - 1; step++) {
        if (step < steps) load(step);
        asm volatile("cp.async.commit_group;");
    }
    for (int step = 0; step < steps; step++) {
        asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 2));
        __syncthreads();
        if (step + STAGES - 1 < steps) load(step + STAGES - 1);
        asm volatile("cp.async.commit_group;");
        const bf16* xs = shared_x[step % STAGES];
#pragma unroll
        for (int depth = 0; depth < DEPTH; depth += 16) {
            u32 a[HIGH][4];
#pragma unroll
            for (int tile = 0; tile < HIGH; tile++) {
                const bf16* from =
                    xs + (warp_row + tile * 16 + group) * STRIDE + depth + place * 2;
                a[tile][0] = *(const u32*)from;
                a[tile][1] = *(const u32*)(from + 8 * STRIDE);
                a[tile][2] = *(const u32*)(from + 8);
                a[tile][3] = *(const u32*)(from + 8 * STRIDE + 8);
            }
#pragma unroll
            for (int matrix = 0; matrix < MATRICES; matrix++) {
                const bf16* ws = shared_w[step % STAGES][matrix];
#pragma unroll
                for (int across = 0; across < WIDE; across++) {
                    const bf16* from =
                        ws + (warp_column + across * 8 + group) * STRIDE + depth + place * 2;
                    const u32 b[2] = {*(const u32*)from, *(const u32*)(from + 8)};
#pragma unroll
                    for (int tile = 0; tile < HIGH; tile++) {
                        multiply(sums[matrix][tile][across], a[tile], b);
                    }
                }
            }
        }
    }

#pragma unroll
    for (int tile = 0; tile < HIGH; tile++) {
#pragma unroll
        for (int across = 0; across < WIDE; across++) {
            const u64 column = column0 + warp_column + across * 8 + place * 2;
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int row = warp_row + tile * 16 + group + half * 8;
                float left = sums[0][tile][across][2 * half];
                float right = sums[0][tile][across][2 * half + 1];
                if (MATRICES == 2) {
                    left = silu(left) * sums[MATRICES - 1][tile][across][2 * half];
                    right = silu(right) * sums[MATRICES - 1][tile][across][2 * half + 1];
                }
                if (row < rows) {
                    *(u32*)(out + (u64)(row0 + row) * n + column) =
                        narrow(left) | narrow(right) << 16;
                }
            }
        }
    }
}

#define EXPERT_KERNEL(name, rows, matrices)                                                     \
    extern "C" __global__ void __launch_bounds__(THREADS)                                       \
        name(const bf16* x, const bf16* first, const bf16* second, bf16* out, const int* tiles, \
             int n, int k) {                                                                    \
        expert_tile<rows, matrices>(x, first, second, out, tiles, n, k);                        \
    }
EXPERT_KERNEL(expert_gate_up_16, 16, 2)
EXPERT_KERNEL(expert_gate_up_64, 64, 2)
EXPERT_KERNEL(expert_down_16, 16, 1)
EXPERT_KERNEL(expert_down_64, 64, 1)

// ---- Decode attention ---------------------------------------------------------------------

constexpr int HEAD = 128;   // dimensions of a head
constexpr int LANES = 8;    // threads that share a key: 16 dimensions each
constexpr int PARTS = THREADS / LANES;

// GROUP query heads of one request attend to `span` keys from blockIdx.y * span, with a running
// softmax. queries: batch x heads x HEAD; keys, values: batch x kv_heads x context x HEAD.
// partial: splits x batch x heads x (HEAD sums, then maximum and total in `state`).
template <int GROUP>
__device__ __forceinline__ void attend(const bf16* queries, const bf16* keys, const bf16* values,
                                       float* partial, float* state, int heads, int kv_heads,
                                       int context, int span) {
    __shared__ float query[GROUP][HEAD];
    __shared__ float merged[PARTS][HEAD];
    __shared__ float maxima[PARTS][GROUP], totals[PARTS][GROUP];
    const int thread = threadIdx.x, part = thread / LANES, lane = thread % LANES;
    const int groups = heads / GROUP, head0 = blockIdx.x % groups * GROUP;
    const u64 request = blockIdx.x / groups;
    const u64 kv = (request * kv_heads + head0 / (heads / kv_heads)) * context;
    const int start = blockIdx.y * span;
    const int end = start + span < context ? start + span : context;
    // 1 / sqrt(HEAD) and the change of base from e to 2.
    const float scale = 0.08838834764831845f * 1.4426950408889634f;
    for (int index = thread; index < GROUP * HEAD; index += THREADS) {
        query[index / HEAD][index % HEAD] =
            wide(queries[(request * heads + head0) * HEAD + index]) * scale;
    }
    __syncthreads();

    float sums[GROUP][16] = {}, most[GROUP], total[GROUP];
    for (int head = 0; head < GROUP; head++) {
        most[head] = -1e30f;
        total[head] = 0.0f;
    }
    for (int base = start; base < end; base += PARTS) {
        const bool inside = base + part < end;
        const u64 at = (kv + (inside ? base + part : start)) * HEAD;
        float key[16], value[16];
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const uint4 k = ((const uint4*)(keys + at))[half * LANES + lane];
            const uint4 v = ((const uint4*)(values + at))[half * LANES + lane];
            const u32 k4[4] = {k.x, k.y, k.z, k.w}, v4[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
            for (int pair = 0; pair < 4; pair++) {
                key[half * 8 + pair * 2] = low(k4[pair]);
                key[half * 8 + pair * 2 + 1] = high(k4[pair]);
                value[half * 8 + pair * 2] = low(v4[pair]);
                value[half * 8 + pair * 2 + 1] = high(v4[pair]);
            }
        }
#pragma unroll
        for (int head = 0; head < GROUP; head++) {
            float score = 0.0f;
#pragma unroll
            for (int index = 0; index < 16; index++) {
                score += key[index] * query[head][index / 8 * 64 + lane * 8 + index % 8];
            }
            for (int mask = LANES / 2; mask > 0; mask /= 2) {
                score += __shfl_xor_sync(0xffffffffu, score, mask);
            }
            const float now = inside ? fmaxf(most[head], score) : most[head];
            const float keep = exp2f(most[head] - now);
            const float weight = inside ? exp2f(score - now) : 0.0f;
            most[head] = now;
            total[head] = total[head] * keep + weight;
#pragma unroll
            for (int index = 0; index < 16; index++) {
                sums[head][index] = sums[head][index] * keep + weight * value[index];
            }
        }
    }

    for (int head = 0; head < GROUP; head++) {
        if (lane == 0) {
            maxima[part][head] = most[head];
            totals[part][head] = total[head];
        }
    }
    __syncthreads();
#pragma unroll
    for (int head = 0; head < GROUP; head++) {
        float whole = maxima[0][head];
        for (int other = 1; other < PARTS; other++) whole = fmaxf(whole, maxima[other][head]);
        const float share = exp2f(most[head] - whole);
#pragma unroll
        for (int index = 0; index < 16; index++) {
            merged[part][index / 8 * 64 + lane * 8 + index % 8] = sums[head][index] * share;
        }
        __syncthreads();
        float sum = 0.0f, all = 0.0f;
        for (int other = 0; other < PARTS; other++) {
            sum += merged[other][thread];
            all += totals[other][head] * exp2f(maxima[other][head] - whole);
        }
        const u64 place = (u64)blockIdx.y * gridDim.x * GROUP + request * heads + head0 + head;
        partial[place * HEAD + thread] = sum;
        if (thread == 0) {
            state[2 * place] = whole;
            state[2 * place + 1] = all;
        }
        __syncthreads();
    }
}

#define ATTENTION_KERNEL(name, group)                                                           \
    extern "C" __global__ void __launch_bounds__(THREADS)                                       \
        name(const bf16* queries, const bf16* keys, const bf16* values, float* partial,         \
             float* state, int heads, int kv_heads, int context, int span) {                    \
        attend<group>(queries, keys, values, partial, state, heads, kv_heads, context, span);   \
    }
ATTENTION_KERNEL(attention_1, 1)
ATTENTION_KERNEL(attention_4, 4)
ATTENTION_KERNEL(attention_8, 8)

// Merges the splits of each head: grid batch x heads, a thread a dimension.
extern "C" __global__ void attention_merge(const float* partial, const float* state, bf16* out,
                                           int splits) {
    float whole = -1e30f, sum = 0.0f, all = 0.0f;
    for (int split = 0; split < splits; split++) {
        whole = fmaxf(whole, state[2 * ((u64)split * gridDim.x + blockIdx.x)]);
    }
    for (int split = 0; split < splits; split++) {
        const u64 place = (u64)split * gridDim.x + blockIdx.x;
        const float share = exp2f(state[2 * place] - whole);
        sum += partial[place * HEAD + threadIdx.x] * share;
        all += state[2 * place + 1] * share;
    }
    out[(u64)blockIdx.x * HEAD + threadIdx.x] = (bf16)narrow(sum / all);
}
