/* Two rows share every halfword of weights, p = 256 w1 + w0. Over a row, SMLALD on the words as they are sums up
 * 256 S1 + S0 in 64 bits; SXTB16 keeps the low bytes, w0, and SMLAD sums up S0 in 32. So four products take three
 * instructions, and S1 is the rest: (256 S1 + S0) / 256 - S0 / 256, exact because both have the same low byte.
 *
 * Compilers don't find the loop below: it uses every register, so a few things wait on the stack.
 */
#include "nd_affine.h"

#include <string.h>

#include "nd_math.h"

enum { TAIL_WORDS = 6 }; /* bias of rows 1 and 3, four multipliers */

typedef struct {
    const int16_t *x;
    uint32_t odd; /* whether there is an odd number of tiles in a row */
    const int16_t *x_end;
    int32_t pre;
    void *y;
    const int32_t *stream_end;
} nd_job_t;

#if ND_HAS_DSP

/* r0 stream, r1 x, r2-r5 weights, r6-r7 inputs; sums: r8 = S0, r10:r9 = 256 S1 + S0, r11 = S2, lr:r12 = 256 S3 + S2. */
#define TILE                        \
    "ldmia r0!, {r2-r5}\n"          \
    "ldmia r1!, {r6, r7}\n"         \
    "smlald r9, r10, r2, r6\n"      \
    "sxtb16 r2, r2\n"               \
    "smlad r8, r2, r6, r8\n"        \
    "smlald r12, lr, r3, r6\n"      \
    "sxtb16 r3, r3\n"               \
    "smlad r11, r3, r6, r11\n"      \
    "smlald r9, r10, r4, r7\n"      \
    "sxtb16 r4, r4\n"               \
    "smlad r8, r4, r7, r8\n"        \
    "smlald r12, lr, r5, r7\n"      \
    "sxtb16 r5, r5\n"               \
    "smlad r11, r5, r7, r11\n"

/* Four rows: leaves their sums in r8, r9, r11, r12, the multipliers in r4-r7, pre in r1, y in r10. */
#define FOUR_ROWS                           \
    "push {r4-r11, lr}\n"                   \
    "ldmia r1, {r2-r7}\n"                   \
    "push {r2-r7}\n"                        \
    "1:\n"                                  \
    "ldmia r0!, {r8, r11}\n"                \
    "mov r9, r8\n"                          \
    "asr r10, r8, #31\n"                    \
    "mov r12, r11\n"                        \
    "asr lr, r11, #31\n"                    \
    "ldrd r1, r2, [sp]\n"                   \
    "cbnz r2, 3f\n"                         \
    "2:\n" TILE                             \
    "3:\n" TILE                             \
    "ldr r2, [sp, #8]\n"                    \
    "cmp r1, r2\n"                          \
    "bne 2b\n"                              \
    "ldmia r0!, {r2-r7}\n"                  \
    "lsr r9, r9, #8\n"                      \
    "orr r9, r9, r10, lsl #24\n"            \
    "sub r9, r9, r8, asr #8\n"              \
    "add r9, r9, r2\n"                      \
    "lsr r12, r12, #8\n"                    \
    "orr r12, r12, lr, lsl #24\n"           \
    "sub r12, r12, r11, asr #8\n"           \
    "add r12, r12, r3\n"                    \
    "ldrd r1, r10, [sp, #12]\n"

#define ND_IN_R0 __attribute__((unused))
#define ND_IN_R1 __attribute__((unused))

#define NEXT_FOUR           \
    "str r10, [sp, #16]\n"  \
    "ldr r1, [sp, #20]\n"   \
    "cmp r0, r1\n"          \
    "bne 1b\n"              \
    "add sp, sp, #24\n"     \
    "pop {r4-r11, pc}\n"

__attribute__((naked, noinline)) static void sums(const int32_t *stream ND_IN_R0, const nd_job_t *job ND_IN_R1)
{
    __asm volatile(FOUR_ROWS "stmia r10!, {r8, r9, r11, r12}\n" NEXT_FOUR);
}

__attribute__((naked, noinline)) static void rescaled(const int32_t *stream ND_IN_R0, const nd_job_t *job ND_IN_R1)
{
    __asm volatile(FOUR_ROWS
                   "lsl r8, r8, r1\n"
                   "lsl r9, r9, r1\n"
                   "lsl r11, r11, r1\n"
                   "lsl r12, r12, r1\n"
                   "smmulr r8, r8, r4\n"
                   "smmulr r9, r9, r5\n"
                   "smmulr r11, r11, r6\n"
                   "smmulr r12, r12, r7\n"
                   "ssat r8, #16, r8\n"
                   "ssat r9, #16, r9\n"
                   "ssat r11, #16, r11\n"
                   "ssat r12, #16, r12\n"
                   "pkhbt r8, r8, r9, lsl #16\n"
                   "pkhbt r11, r11, r12, lsl #16\n"
                   "str r8, [r10], #4\n"
                   "str r11, [r10], #4\n" NEXT_FOUR);
}

#else

/* The twin in C. */
static const int32_t *four_sums(const int32_t *stream, const nd_job_t *job, int32_t *s)
{
    uint32_t even[2] = { (uint32_t)stream[0], (uint32_t)stream[1] };
    int64_t both[2] = { stream[0], stream[1] };
    stream += 2;
    for (const int16_t *x = job->x; x != job->x_end; x += 4) {
        for (int half = 0; half < 2; ++half) {
            for (int pair = 0; pair < 2; ++pair) {
                const uint32_t word = (uint32_t)*stream++;
                for (int k = 0; k < 2; ++k) {
                    const int32_t p = (int16_t)(word >> (16 * k));
                    const int32_t in = x[2 * half + k];
                    both[pair] += p * in;
                    even[pair] += (uint32_t)((int8_t)(p & 0xFF) * in);
                }
            }
        }
    }
    for (int pair = 0; pair < 2; ++pair) {
        s[2 * pair] = (int32_t)even[pair];
        s[2 * pair + 1] = (int32_t)((uint32_t)((both[pair] >> 8) - (s[2 * pair] >> 8)) + (uint32_t)stream[pair]);
    }
    return stream + TAIL_WORDS;
}

static void sums(const int32_t *stream, const nd_job_t *job)
{
    for (int32_t *y = job->y; stream != job->stream_end; y += 4) {
        stream = four_sums(stream, job, y);
    }
}

static void rescaled(const int32_t *stream, const nd_job_t *job)
{
    for (int16_t *y = job->y; stream != job->stream_end; y += 4) {
        int32_t s[4];
        stream = four_sums(stream, job, s);
        for (int row = 0; row < 4; ++row) {
            y[row] = (int16_t)nd_sat16(nd_rescale((int32_t)((uint32_t)s[row] << job->pre), stream[row - 4]));
        }
    }
}

#endif

static nd_job_t job_of(const nd_affine_t *a, const int16_t *x)
{
    const nd_job_t job = { x, ((uint32_t)a->columns >> 2) & 1u, x + a->columns, a->pre, 0, 0 };
    return job;
}

/* Words of the stream for four rows. */
static int32_t step_of(const nd_affine_t *a)
{
    return 2 + a->columns + TAIL_WORDS;
}

void nd_affine_i8_i32(const nd_affine_t *a, const int16_t *x, int32_t *y)
{
    const int32_t *stream = a->weights;
    const int32_t groups = a->rows >> 2;
    const int32_t left = a->rows & 3;
    nd_job_t job = job_of(a, x);
    job.stream_end = stream + groups * step_of(a);
    if (groups != 0) {
        job.y = y;
        sums(stream, &job);
    }
    if (left != 0) {
        int32_t last[4];
        stream = job.stream_end;
        job.stream_end = stream + step_of(a);
        job.y = last;
        sums(stream, &job);
        memcpy(y + 4 * groups, last, (uint32_t)left * sizeof *y);
    }
}

void nd_affine_i8_i16(const nd_affine_t *a, const int16_t *x, int16_t *y)
{
    const int32_t *stream = a->weights;
    const int32_t groups = a->rows >> 2;
    const int32_t left = a->rows & 3;
    nd_job_t job = job_of(a, x);
    job.stream_end = stream + groups * step_of(a);
    if (groups != 0) {
        job.y = y;
        rescaled(stream, &job);
    }
    if (left != 0) {
        int16_t last[4];
        stream = job.stream_end;
        job.stream_end = stream + step_of(a);
        job.y = last;
        rescaled(stream, &job);
        memcpy(y + 4 * groups, last, (uint32_t)left * sizeof *y);
    }
}

void nd_affine_i8_i8(const nd_affine_t *a, const int16_t *x, int8_t *y)
{
    const int32_t *stream = a->weights;
    nd_job_t job = job_of(a, x);
    for (int32_t row = 0; row < a->rows; row += 4) {
        int32_t s[4];
        job.stream_end = stream + step_of(a);
        job.y = s;
        sums(stream, &job);
        stream = job.stream_end;
        for (int32_t i = 0; i < 4 && row + i < a->rows; ++i) {
            y[row + i] = (int8_t)nd_sat8(nd_rescale((int32_t)((uint32_t)s[i] << a->pre), stream[i - 4]));
        }
    }
}

/* i16 weights: two products an instruction. */
static int32_t sum_i16(const nd_affine_t *a, const int16_t *x, int32_t row)
{
    const int16_t *w = (const int16_t *)a->weights + row * a->columns;
    int32_t sum = a->bias[row];
    for (int32_t k = 0; k < a->columns; k += 4) {
        sum = nd_smlad(nd_pair(w + k), nd_pair(x + k), sum);
        sum = nd_smlad(nd_pair(w + k + 2), nd_pair(x + k + 2), sum);
    }
    return sum;
}

static int32_t rescaled_i16(const nd_affine_t *a, const int16_t *x, int32_t row)
{
    return nd_rescale((int32_t)((uint32_t)sum_i16(a, x, row) << a->pre), a->mult[row]);
}

void nd_affine_i16_i32(const nd_affine_t *a, const int16_t *x, int32_t *y)
{
    for (int32_t row = 0; row < a->rows; ++row) {
        y[row] = sum_i16(a, x, row);
    }
}

void nd_affine_i16_i16(const nd_affine_t *a, const int16_t *x, int16_t *y)
{
    for (int32_t row = 0; row < a->rows; ++row) {
        y[row] = (int16_t)nd_sat16(rescaled_i16(a, x, row));
    }
}

void nd_affine_i16_i8(const nd_affine_t *a, const int16_t *x, int8_t *y)
{
    for (int32_t row = 0; row < a->rows; ++row) {
        y[row] = (int8_t)nd_sat8(rescaled_i16(a, x, row));
    }
}
