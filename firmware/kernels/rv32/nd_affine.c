/* Eight rows share every load of an input, two columns a round: 50 instructions of 53 are loads, MUL and ADD. There are
 * registers enough for compilers to find it. */
#include "nd_affine.h"

#include "nd_math.h"

#if defined(__GNUC__)
#define ND_INLINE static inline __attribute__((always_inline))
/* Keeps a compiler from working on both columns at once, for which there are not registers enough. */
#define ND_ONE_COLUMN() \
    __asm volatile("" : "+r"(s0), "+r"(s1), "+r"(s2), "+r"(s3), "+r"(s4), "+r"(s5), "+r"(s6), "+r"(s7) : : "memory")
#else
#define ND_INLINE static inline
#define ND_ONE_COLUMN() (void)0
#endif

#define FOUR(w, in)                \
    s0 += (uint32_t)((w)[0] * in); \
    s1 += (uint32_t)((w)[1] * in); \
    s2 += (uint32_t)((w)[2] * in); \
    s3 += (uint32_t)((w)[3] * in)

#define EIGHT(w, in)               \
    FOUR(w, in);                   \
    s4 += (uint32_t)((w)[4] * in); \
    s5 += (uint32_t)((w)[5] * in); \
    s6 += (uint32_t)((w)[6] * in); \
    s7 += (uint32_t)((w)[7] * in)

/* Sums of eight rows; from holds their biases and, column by column, their weights. */
ND_INLINE void eight_sums(const int32_t *from, const int16_t *x, int32_t columns, int32_t *s)
{
    const int8_t *w = (const int8_t *)(from + 8);
    const int16_t *const end = x + columns;
    uint32_t s0 = (uint32_t)from[0];
    uint32_t s1 = (uint32_t)from[1];
    uint32_t s2 = (uint32_t)from[2];
    uint32_t s3 = (uint32_t)from[3];
    uint32_t s4 = (uint32_t)from[4];
    uint32_t s5 = (uint32_t)from[5];
    uint32_t s6 = (uint32_t)from[6];
    uint32_t s7 = (uint32_t)from[7];
    if ((columns & 1) != 0) {
        const int32_t in = *x++;
        EIGHT(w, in);
        w += 8;
    }
    for (; x != end; x += 2, w += 16) {
        const int32_t in = x[0];
        EIGHT(w, in);
        ND_ONE_COLUMN();
        const int32_t next = x[1];
        EIGHT(w + 8, next);
    }
    s[0] = (int32_t)s0;
    s[1] = (int32_t)s1;
    s[2] = (int32_t)s2;
    s[3] = (int32_t)s3;
    s[4] = (int32_t)s4;
    s[5] = (int32_t)s5;
    s[6] = (int32_t)s6;
    s[7] = (int32_t)s7;
}

static void four_sums(const int32_t *from, const int16_t *x, int32_t columns, int32_t *s)
{
    const int8_t *w = (const int8_t *)(from + 4);
    uint32_t s0 = (uint32_t)from[0];
    uint32_t s1 = (uint32_t)from[1];
    uint32_t s2 = (uint32_t)from[2];
    uint32_t s3 = (uint32_t)from[3];
    for (const int16_t *const end = x + columns; x != end; w += 4) {
        const int32_t in = *x++;
        FOUR(w, in);
    }
    s[0] = (int32_t)s0;
    s[1] = (int32_t)s1;
    s[2] = (int32_t)s2;
    s[3] = (int32_t)s3;
}

static int32_t one_sum(const int32_t *from, const int16_t *x, int32_t columns)
{
    const int8_t *w = (const int8_t *)(from + 1);
    uint32_t sum = (uint32_t)from[0];
    for (const int16_t *const end = x + columns; x != end;) {
        sum += (uint32_t)(*w++ * *x++);
    }
    return (int32_t)sum;
}

static int32_t shifted(int32_t sum, int32_t mult, int32_t pre)
{
    return nd_rescale((int32_t)((uint32_t)sum << pre), mult);
}

/* The whole product; bits are those of y, 32 for raw sums. */
ND_INLINE void product(const nd_affine_t *a, const int16_t *x, void *y, int bits)
{
    const int32_t *stream = a->weights;
    const int32_t rows = a->rows;
    const int32_t columns = a->columns;
    const int32_t pre = a->pre;
    for (int32_t row = 0; row < rows;) {
        const int32_t left = rows - row;
        const int32_t n = left >= 6 ? 8 : left >= 3 ? 4 : 1;
        const int32_t end = row + (left < n ? left : n);
        const int32_t *mult = stream + n + ((n * columns + 3) >> 2);
        int32_t s[8];
        if (n == 8) {
            eight_sums(stream, x, columns, s);
        } else if (n == 4) {
            four_sums(stream, x, columns, s);
        } else {
            s[0] = one_sum(stream, x, columns);
        }
        stream = mult + n;
        for (const int32_t *sum = s; row < end; ++row, ++sum, ++mult) {
            if (bits == 32) {
                ((int32_t *)y)[row] = *sum;
            } else if (bits == 16) {
                ((int16_t *)y)[row] = (int16_t)nd_sat16(shifted(*sum, *mult, pre));
            } else {
                ((int8_t *)y)[row] = (int8_t)nd_sat8(shifted(*sum, *mult, pre));
            }
        }
    }
}

void nd_affine_i8_i32(const nd_affine_t *a, const int16_t *x, int32_t *y)
{
    product(a, x, y, 32);
}

void nd_affine_i8_i16(const nd_affine_t *a, const int16_t *x, int16_t *y)
{
    product(a, x, y, 16);
}

void nd_affine_i8_i8(const nd_affine_t *a, const int16_t *x, int8_t *y)
{
    product(a, x, y, 8);
}

/* i16 weights: four rows that follow one another share an input. Returns how many sums there are, four or one. */
static int32_t next_sums_i16(const nd_affine_t *a, const int16_t *x, int32_t row, int32_t *s)
{
    const int16_t *w0 = (const int16_t *)a->weights + row * a->columns;
    const int16_t *const end = x + a->columns;
    uint32_t s0 = (uint32_t)a->bias[row];
    if (a->rows - row < 4) {
        while (x != end) {
            s0 += (uint32_t)(*w0++ * *x++);
        }
        s[0] = (int32_t)s0;
        return 1;
    }
    const int16_t *w1 = w0 + a->columns;
    const int16_t *w2 = w1 + a->columns;
    const int16_t *w3 = w2 + a->columns;
    uint32_t s1 = (uint32_t)a->bias[row + 1];
    uint32_t s2 = (uint32_t)a->bias[row + 2];
    uint32_t s3 = (uint32_t)a->bias[row + 3];
    if ((a->columns & 1) != 0) {
        const int32_t in = *x++;
        s0 += (uint32_t)(*w0++ * in);
        s1 += (uint32_t)(*w1++ * in);
        s2 += (uint32_t)(*w2++ * in);
        s3 += (uint32_t)(*w3++ * in);
    }
    for (; x != end; x += 2, w0 += 2, w1 += 2, w2 += 2, w3 += 2) {
        s0 += (uint32_t)(w0[0] * x[0]) + (uint32_t)(w0[1] * x[1]);
        s1 += (uint32_t)(w1[0] * x[0]) + (uint32_t)(w1[1] * x[1]);
        s2 += (uint32_t)(w2[0] * x[0]) + (uint32_t)(w2[1] * x[1]);
        s3 += (uint32_t)(w3[0] * x[0]) + (uint32_t)(w3[1] * x[1]);
    }
    s[0] = (int32_t)s0;
    s[1] = (int32_t)s1;
    s[2] = (int32_t)s2;
    s[3] = (int32_t)s3;
    return 4;
}

void nd_affine_i16_i32(const nd_affine_t *a, const int16_t *x, int32_t *y)
{
    for (int32_t row = 0; row < a->rows;) {
        row += next_sums_i16(a, x, row, y + row);
    }
}

void nd_affine_i16_i16(const nd_affine_t *a, const int16_t *x, int16_t *y)
{
    for (int32_t row = 0; row < a->rows;) {
        int32_t s[4];
        const int32_t end = row + next_sums_i16(a, x, row, s);
        for (const int32_t *sum = s; row < end; ++row) {
            y[row] = (int16_t)nd_sat16(shifted(*sum++, a->mult[row], a->pre));
        }
    }
}

void nd_affine_i16_i8(const nd_affine_t *a, const int16_t *x, int8_t *y)
{
    for (int32_t row = 0; row < a->rows;) {
        int32_t s[4];
        const int32_t end = row + next_sums_i16(a, x, row, s);
        for (const int32_t *sum = s; row < end; ++row) {
            y[row] = (int8_t)nd_sat8(shifted(*sum++, a->mult[row], a->pre));
        }
    }
}
