#include "nd_float.h"

static uint32_t bits_of(float x)
{
    union {
        float number;
        uint32_t bits;
    } both;
    both.number = x;
    return both.bits;
}

static float float_of(uint32_t bits)
{
    union {
        float number;
        uint32_t bits;
    } both;
    both.bits = bits;
    return both.number;
}

/* 2^n for -126 <= n <= 127. */
static float power_of_two(int32_t n)
{
    return float_of((uint32_t)(n + 127) << 23);
}

float nd_floorf(float x)
{
    float whole;
    if (!(x > -8388608.0f && x < 8388608.0f)) {
        return x; /* whole already, or not a number */
    }
    whole = (float)(int32_t)x;
    return whole > x ? whole - 1.0f : whole;
}

/* To the nearest whole number, halves to the even one: adding 2^23 leaves no bits behind the point. */
float nd_rintf(float x)
{
    const float shift = x < 0.0f ? -8388608.0f : 8388608.0f;
    volatile float sum;
    if (!(x > -8388608.0f && x < 8388608.0f)) {
        return x;
    }
    sum = x + shift;
    return sum - shift;
}

int32_t nd_truncate(float x, int32_t low, int32_t high)
{
    if (x != x) {
        return 0;
    }
    if (x >= 2147483648.0f) {
        return high;
    }
    if (x <= -2147483648.0f) {
        return low;
    }
    return (int32_t)x < low ? low : (int32_t)x > high ? high : (int32_t)x;
}

int64_t nd_truncate64(float x)
{
    const float limit = 4611686018427387904.0f; /* 2^62 */
    if (x != x) {
        return 0;
    }
    return (int64_t)(x > limit ? limit : x < -limit ? -limit : x);
}

/* x = n ln 2 + r with |r| <= ln 2 / 2, then Taylor's series of e^r to r^7 (its rest is below 6e-9). */
float nd_expf(float x)
{
    float n, r, p;
    int32_t half;
    if (x > 88.8f) {
        return ND_INFINITY;
    }
    if (x < -104.0f) {
        return 0.0f;
    }
    if (x != x) {
        return x;
    }
    n = nd_rintf(x * 1.44269504f);
    r = x - n * 0.693359375f; /* ln 2 in two parts; the first has few bits, so the product is exact */
    r = r + n * 2.12194440e-4f;
    p = 1.98412698e-4f;
    p = p * r + 1.38888889e-3f;
    p = p * r + 8.33333333e-3f;
    p = p * r + 4.16666667e-2f;
    p = p * r + 1.66666667e-1f;
    p = p * r + 0.5f;
    p = p * (r * r) + r;
    p = p + 1.0f;
    half = (int32_t)n / 2; /* two factors: 2^n itself may be out of range where the result is not */
    return p * power_of_two(half) * power_of_two((int32_t)n - half);
}

/* x = 2^e (1 + f) with 1 + f between sqrt(1/2) and sqrt(2); log(1 + f) = 2 artanh(s), s = f / (2 + f). */
float nd_logf(float x)
{
    uint32_t bits = bits_of(x);
    float e = 0.0f;
    float f, s, z, series, half_square;
    if (x != x || x < 0.0f) {
        return ND_NAN;
    }
    if (x == 0.0f) {
        return -ND_INFINITY;
    }
    if (bits == 0x7F800000u) {
        return x;
    }
    if (bits < 0x00800000u) {
        bits = bits_of(x * 8388608.0f);
        e = -23.0f;
    }
    bits += 0x3F800000u - 0x3F3504F3u; /* so that the exponent steps at sqrt(1/2) */
    e += (float)((int32_t)(bits >> 23) - 127);
    f = float_of((bits & 0x007FFFFFu) + 0x3F3504F3u) - 1.0f;
    s = f / (2.0f + f);
    z = s * s;
    series = z * (0.666666667f + z * (0.4f + z * (0.285714286f + z * (0.222222222f + z * 0.181818182f))));
    half_square = 0.5f * f * f;
    /* 2 s = f - s f, and s f = f^2/2 - s f^2/2: the large part f stays exact */
    return e * 0.693359375f + (f - (half_square - (s * (half_square + series) - e * 2.12194440e-4f)));
}

/* Near 0 Lambert's continued fraction, cut after 13 (error below 1e-9 up to 0.625); else by e^2x. */
float nd_tanhf(float x)
{
    const float size = x < 0.0f ? 0.0f - x : x;
    float y;
    if (size < 0.625f) {
        const float z = x * x;
        return x * (10395.0f + z * (1260.0f + z * 21.0f)) / (10395.0f + z * (4725.0f + z * (210.0f + z)));
    }
    y = size > 9.02f ? 1.0f : 1.0f - 2.0f / (nd_expf(size + size) + 1.0f);
    return x != x ? x : x < 0.0f ? -y : y;
}

float nd_sigmoidf(float x)
{
    const float e = nd_expf(x < 0.0f ? x : 0.0f - x);
    return x < 0.0f ? e / (1.0f + e) : 1.0f / (1.0f + e);
}

/* max(x, 0) + log(1 + e^-|x|); what 1 + e loses is put back by the factor e / ((1 + e) - 1). */
float nd_softplusf(float x)
{
    const float e = nd_expf(x < 0.0f ? x : 0.0f - x);
    const float u = 1.0f + e;
    const float tail = u == 1.0f ? e : nd_logf(u) * (e / (u - 1.0f));
    return (x < 0.0f ? 0.0f : x) + tail;
}

/* Rounded correctly: the root of the mantissa bit by bit, one bit more than is kept. */
float nd_sqrtf(float x)
{
    uint32_t bits = bits_of(x);
    int32_t exponent = (int32_t)(bits >> 23) - 127;
    uint64_t rest, root = 0;
    if (x == 0.0f || bits == 0x7F800000u || x != x) {
        return x;
    }
    if (x < 0.0f) {
        return ND_NAN;
    }
    if (exponent == -127) {
        bits = bits_of(x * 16777216.0f);
        exponent = (int32_t)(bits >> 23) - 127 - 24;
    }
    rest = (bits & 0x007FFFFFu) | 0x00800000u;
    if (exponent & 1) {
        rest <<= 1;
        exponent -= 1;
    }
    rest <<= 25; /* mantissa times 2^48: the root has 25 bits */
    for (uint64_t bit = (uint64_t)1 << 48; bit != 0; bit >>= 2) {
        if (rest >= root + bit) {
            rest -= root + bit;
            root = (root >> 1) + bit;
        } else {
            root >>= 1;
        }
    }
    root = (root + 1u) >> 1; /* a tie can't be: a root with 25 bits has a square with 49 or more */
    return float_of((uint32_t)root + ((uint32_t)(exponent / 2 + 126) << 23));
}

void nd_matvec_f32(const float *w, const float *x, int32_t rows, int32_t columns, float *y)
{
    for (int32_t row = 0; row < rows; ++row) {
        float sum = 0.0f;
        for (int32_t k = 0; k < columns; ++k) {
            sum += w[k] * x[k];
        }
        y[row] = sum;
        w += columns;
    }
}

static float size_of(float x)
{
    return x < 0.0f ? 0.0f - x : x;
}

static void exchange(float *a, float *b)
{
    const float kept = *a;
    *a = *b;
    *b = kept;
}

void nd_solve(float *a, float *x, int32_t n)
{
    for (int32_t k = 0; k < n; ++k) {
        int32_t pivot = k;
        for (int32_t i = k + 1; i < n; ++i) {
            if (size_of(a[i * n + k]) > size_of(a[pivot * n + k])) {
                pivot = i;
            }
        }
        if (pivot != k) {
            for (int32_t j = k; j < n; ++j) {
                exchange(&a[k * n + j], &a[pivot * n + j]);
            }
            exchange(&x[k], &x[pivot]);
        }
        for (int32_t i = k + 1; i < n; ++i) {
            const float factor = a[i * n + k] / a[k * n + k];
            for (int32_t j = k + 1; j < n; ++j) {
                a[i * n + j] -= factor * a[k * n + j];
            }
            x[i] -= factor * x[k];
        }
    }
    for (int32_t k = n - 1; k >= 0; --k) {
        for (int32_t j = k + 1; j < n; ++j) {
            x[k] -= a[k * n + j] * x[j];
        }
        x[k] = x[k] / a[k * n + k];
    }
}
