/* Four rows share every halfword of weights, h = n0 + 16 n1 + 256 n2 + 4096 w3 with n = w + 8. The sums of the products
 * of x with h cut off after 4, 8, 12 and 16 bits are
 *
 *   A = N0   B = N0 + 16 N1   C = N0 + 16 N1 + 256 N2   D = N0 + 16 N1 + 256 N2 + 4096 S3,   N = S + 8 X, X = sum of x
 *
 * and all but the last take one instruction to cut off and one SMLAD or SMLALD for two columns: seven for eight
 * products. Beginning at -8 X, -136 X and -2184 X (the last twice) makes every N an S. A and B wrap in 32 bits, which
 * loses nothing as S0 + 16 S1 is proved to fit; C and D have 64. What is left, every time exact:
 *
 *   S0 = A   S1 = (B - A) / 16   S2 = (C - B) / 256   S3 = (D - C) / 4096
 */
#include "nd_affine4.h"

#include <string.h>

#include "nd_math.h"

typedef struct {
    const int16_t *x, *x_end;
    int32_t a, b; /* where A and B begin */
    int64_t c;    /* where C and D begin */
    uint32_t odd; /* whether there is an odd number of tiles (four columns) in a row */
    int32_t pre;
    void *y;
    const int32_t *stream_end;
} nd_job_t;

#if ND_HAS_ASM

/* r0 stream, r1 x, r2-r3 weights, r4-r5 inputs, r6 what is cut off; r7 = A, r8 = B, r10:r9 = C, r12:r11 = D; lr x_end. */
#define COLUMNS(w, x)                   \
    "smlald r11, r12, " w ", " x "\n"   \
    "bic r6, " w ", #0xF000F000\n"      \
    "smlald r9, r10, r6, " x "\n"       \
    "uxtb16 r6, " w "\n"                \
    "smlad r8, r6, " x ", r8\n"         \
    "and r6, " w ", #0x000F000F\n"      \
    "smlad r7, r6, " x ", r7\n"

#define TILE                        \
    "ldmia r0!, {r2, r3}\n"         \
    "ldmia r1!, {r4, r5}\n"         \
    COLUMNS("r2", "r4")             \
    COLUMNS("r3", "r5")

/* Four rows: leaves their sums in r4-r7. */
#define FOUR_ROWS                           \
    "push {r4-r11, lr}\n"                   \
    "ldmia r1, {r2-r11}\n"                  \
    "push {r2-r11}\n"                       \
    "1:\n"                                  \
    "ldrd r1, lr, [sp]\n"                   \
    "add r2, sp, #8\n"                      \
    "ldmia r2, {r7-r10}\n"                  \
    "mov r11, r9\n"                         \
    "mov r12, r10\n"                        \
    "ldr r2, [sp, #24]\n"                   \
    "cmp r2, #0\n"                          \
    "bne 3f\n"                              \
    "2:\n" TILE                             \
    "3:\n" TILE                             \
    "cmp r1, lr\n"                          \
    "bne 2b\n"                              \
    "ldmia r0!, {r1-r4}\n"                  \
    "sub r5, r8, r7\n"                      \
    "add r5, r2, r5, asr #4\n"              \
    "lsr r6, r9, #8\n"                      \
    "orr r6, r6, r10, lsl #24\n"            \
    "sub r6, r6, r8, asr #8\n"              \
    "add r6, r6, r3\n"                      \
    "lsr r9, r9, #12\n"                     \
    "orr r9, r9, r10, lsl #20\n"            \
    "lsr r11, r11, #12\n"                   \
    "orr r11, r11, r12, lsl #20\n"          \
    "sub r11, r11, r9\n"                    \
    "add r4, r4, r11\n"                     \
    "add r7, r7, r1\n"

/* y in r10; goes on with the next four rows, or returns. */
#define NEXT_FOUR           \
    "str r10, [sp, #32]\n"  \
    "ldr r1, [sp, #36]\n"   \
    "cmp r0, r1\n"          \
    "bne 1b\n"              \
    "add sp, sp, #40\n"     \
    "pop {r4-r11, pc}\n"

#define ND_IN_R0 __attribute__((unused))
#define ND_IN_R1 __attribute__((unused))

__attribute__((naked, noinline)) static void sums(const int32_t *stream ND_IN_R0, const nd_job_t *job ND_IN_R1)
{
    __asm volatile(FOUR_ROWS
                   "ldr r10, [sp, #32]\n"
                   "str r7, [r10], #4\n"
                   "str r5, [r10], #4\n"
                   "str r6, [r10], #4\n"
                   "str r4, [r10], #4\n" NEXT_FOUR);
}

__attribute__((naked, noinline)) static void rescaled(const int32_t *stream ND_IN_R0, const nd_job_t *job ND_IN_R1)
{
    __asm volatile(FOUR_ROWS
                   "ldmia r0!, {r1-r3, r8}\n"
                   "ldrd r9, r10, [sp, #28]\n"
                   "lsl r7, r7, r9\n"
                   "lsl r5, r5, r9\n"
                   "lsl r6, r6, r9\n"
                   "lsl r4, r4, r9\n"
                   "smmulr r7, r7, r1\n"
                   "smmulr r5, r5, r2\n"
                   "smmulr r6, r6, r3\n"
                   "smmulr r4, r4, r8\n"
                   "ssat r7, #16, r7\n"
                   "ssat r5, #16, r5\n"
                   "ssat r6, #16, r6\n"
                   "ssat r4, #16, r4\n"
                   "pkhbt r7, r7, r5, lsl #16\n"
                   "pkhbt r6, r6, r4, lsl #16\n"
                   "str r7, [r10], #4\n"
                   "str r6, [r10], #4\n" NEXT_FOUR);
}

#else

/* The twin in C. */
static const int32_t *four_sums(const int32_t *stream, const nd_job_t *job, int32_t *s)
{
    int32_t a = job->a, b = job->b;
    int64_t c = job->c, d = job->c;
    for (const int16_t *x = job->x; x != job->x_end; x += 2) {
        const uint32_t w = (uint32_t)*stream++;
        const uint32_t in = nd_pair(x);
        a = nd_smlad(w & 0x000F000Fu, in, a);
        b = nd_smlad(w & 0x00FF00FFu, in, b);
        c = nd_smlald(w & 0x0FFF0FFFu, in, c);
        d = nd_smlald(w, in, d);
    }
    s[0] = (int32_t)((uint32_t)a + (uint32_t)stream[0]);
    s[1] = (int32_t)((uint32_t)((int32_t)((uint32_t)b - (uint32_t)a) >> 4) + (uint32_t)stream[1]);
    s[2] = (int32_t)((uint32_t)((c >> 8) - (b >> 8)) + (uint32_t)stream[2]);
    s[3] = (int32_t)((uint32_t)((d >> 12) - (c >> 12)) + (uint32_t)stream[3]);
    return stream + 4;
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
            y[row] = (int16_t)nd_sat16(nd_rescale((int32_t)((uint32_t)s[row] << job->pre), *stream++));
        }
    }
}

#endif

static nd_job_t job_of(const nd_affine4_t *a, const int16_t *x)
{
    nd_job_t job = { x, x + a->columns, 0, 0, 0, ((uint32_t)a->columns >> 2) & 1u, a->pre, 0, 0 };
    int32_t sum = 0;
    for (; x != job.x_end; x += 4) {
        sum = nd_smlad(nd_pair(x), 0x00010001u, sum);
        sum = nd_smlad(nd_pair(x + 2), 0x00010001u, sum);
    }
    job.a = (int32_t)(0u - 8u * (uint32_t)sum);
    job.b = (int32_t)(0u - 136u * (uint32_t)sum);
    job.c = (int64_t)-2184 * sum;
    return job;
}

void nd_affine_i4_i32(const nd_affine4_t *a, const int16_t *x, int32_t *y)
{
    const int32_t step = (a->columns >> 1) + 4;
    const int32_t *stream = a->weights;
    const int32_t groups = a->rows >> 2;
    const int32_t left = a->rows & 3;
    nd_job_t job = job_of(a, x);
    job.stream_end = stream + groups * step;
    if (groups != 0) {
        job.y = y;
        sums(stream, &job);
    }
    if (left != 0) {
        int32_t last[4];
        stream = job.stream_end;
        job.stream_end = stream + step;
        job.y = last;
        sums(stream, &job);
        memcpy(y + 4 * groups, last, (uint32_t)left * sizeof *y);
    }
}

void nd_affine_i4_i16(const nd_affine4_t *a, const int16_t *x, int16_t *y)
{
    const int32_t step = (a->columns >> 1) + 8;
    const int32_t *stream = a->weights;
    const int32_t groups = a->rows >> 2;
    const int32_t left = a->rows & 3;
    nd_job_t job = job_of(a, x);
    job.stream_end = stream + groups * step;
    if (groups != 0) {
        job.y = y;
        rescaled(stream, &job);
    }
    if (left != 0) {
        int16_t last[4];
        stream = job.stream_end;
        job.stream_end = stream + step;
        job.y = last;
        rescaled(stream, &job);
        memcpy(y + 4 * groups, last, (uint32_t)left * sizeof *y);
    }
}

/* The stream's multipliers lie between the groups, so four rows at a time. */
void nd_affine_i4_i8(const nd_affine4_t *a, const int16_t *x, int8_t *y)
{
    const int32_t *stream = a->weights;
    nd_job_t job = job_of(a, x);
    for (int32_t row = 0; row < a->rows; row += 4) {
        int32_t s[4];
        job.stream_end = stream + (a->columns >> 1) + 4;
        job.y = s;
        sums(stream, &job);
        stream = job.stream_end;
        for (int32_t i = 0; i < 4 && row + i < a->rows; ++i) {
            y[row + i] = (int8_t)nd_sat8(nd_rescale((int32_t)((uint32_t)s[i] << a->pre), stream[i]));
        }
        stream += 4;
    }
}
