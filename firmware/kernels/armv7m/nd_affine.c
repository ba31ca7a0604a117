/* Eight rows share every load of an input: 17 instructions for eight products, of which 16 are a load of a weight and MLA.
 *
 * Compilers don't find the loop below: eight sums, two pointers, the end, the input and two weights are every register
 * there is, so a few things wait on the stack. It does four columns a round and is entered in the middle where their
 * number is no multiple of four: all its instructions have four bytes, 68 a column. Loads stand in pairs, which costs a
 * core one cycle less than load and use by turns. What is left of the rows is done in C.
 */
#include "nd_affine.h"

#include <string.h>

#include "nd_math.h"

typedef struct {
    const int16_t *x;
    const int16_t *x_end;
    uint32_t entry; /* bytes of the loop that the first round leaves out, and 1: the address is one of Thumb code */
    int32_t pre;
    void *y;
    const int32_t *stream_end;
} nd_job_t;

#if ND_HAS_V7M

/* r0 stream, r1 x, r2 its end, r3 and r12 weights, lr the input, r4-r11 sums. */
#define TWO(a, b)             \
    "ldrsb r3, [r0], #1\n"    \
    "ldrsb r12, [r0], #1\n"   \
    "mla " a ", r3, lr, " a "\n" \
    "mla " b ", r12, lr, " b "\n"

#define COLUMN                \
    "ldrsh lr, [r1], #2\n"    \
    TWO("r4", "r5")           \
    TWO("r6", "r7")           \
    TWO("r8", "r9")           \
    TWO("r10", "r11")

/* Eight rows: leaves their sums in r4-r11. */
#define EIGHT_ROWS            \
    "push {r4-r11, lr}\n"     \
    "ldmia r1, {r2-r7}\n"     \
    "adr r8, 2f\n"            \
    "add r4, r4, r8\n"        \
    "push {r2-r7}\n"          \
    "1:\n"                    \
    "ldmia r0!, {r4-r11}\n"   \
    "ldrd r1, r2, [sp]\n"     \
    "ldr pc, [sp, #8]\n"      \
    ".balign 4\n"             \
    "2:\n"                    \
    COLUMN COLUMN COLUMN COLUMN \
    "cmp r1, r2\n"            \
    "bne 2b\n"

#define NEXT_EIGHT            \
    "str r2, [sp, #16]\n"     \
    "ldr r1, [sp, #20]\n"     \
    "cmp r0, r1\n"            \
    "bne 1b\n"                \
    "add sp, sp, #24\n"       \
    "pop {r4-r11, pc}\n"

/* A sum, its multiplier: the result goes to y. */
#define RESCALE(s, m)         \
    "smull " m ", " s ", " s ", " m "\n" \
    "add " s ", " s ", " m ", lsr #31\n" \
    "ssat " s ", #16, " s "\n" \
    "strh " s ", [r2], #2\n"

#define ND_IN_R0 __attribute__((unused))
#define ND_IN_R1 __attribute__((unused))

__attribute__((naked, noinline)) static void sums(const int32_t *stream ND_IN_R0, const nd_job_t *job ND_IN_R1)
{
    __asm volatile(EIGHT_ROWS
                   "ldr r2, [sp, #16]\n"
                   "add r0, r0, #32\n"
                   "stmia r2!, {r4-r11}\n" NEXT_EIGHT);
}

__attribute__((naked, noinline)) static void rescaled(const int32_t *stream ND_IN_R0, const nd_job_t *job ND_IN_R1)
{
    __asm volatile(EIGHT_ROWS
                   "ldrd r1, r2, [sp, #12]\n"
                   "cbz r1, 3f\n"
                   "lsl r4, r4, r1\n"
                   "lsl r5, r5, r1\n"
                   "lsl r6, r6, r1\n"
                   "lsl r7, r7, r1\n"
                   "lsl r8, r8, r1\n"
                   "lsl r9, r9, r1\n"
                   "lsl r10, r10, r1\n"
                   "lsl r11, r11, r1\n"
                   "3:\n"
                   "ldmia r0!, {r1, r3, r12, lr}\n"
                   RESCALE("r4", "r1") RESCALE("r5", "r3") RESCALE("r6", "r12") RESCALE("r7", "lr")
                   "ldmia r0!, {r1, r3, r12, lr}\n"
                   RESCALE("r8", "r1") RESCALE("r9", "r3") RESCALE("r10", "r12") RESCALE("r11", "lr")
                   NEXT_EIGHT);
}

#endif

/* Four rows of a group whose columns lie `step` bytes apart; s holds their biases. */
static inline void four_sums(const int8_t *w, int32_t step, const nd_job_t *job, int32_t *s)
{
    uint32_t s0 = (uint32_t)s[0];
    uint32_t s1 = (uint32_t)s[1];
    uint32_t s2 = (uint32_t)s[2];
    uint32_t s3 = (uint32_t)s[3];
    for (const int16_t *x = job->x; x != job->x_end; w += step) {
        const int32_t in = *x++;
        s0 += (uint32_t)(w[0] * in);
        s1 += (uint32_t)(w[1] * in);
        s2 += (uint32_t)(w[2] * in);
        s3 += (uint32_t)(w[3] * in);
    }
    s[0] = (int32_t)s0;
    s[1] = (int32_t)s1;
    s[2] = (int32_t)s2;
    s[3] = (int32_t)s3;
}

#if !ND_HAS_V7M

/* The twins in C. */
static const int32_t *eight_sums(const int32_t *stream, const nd_job_t *job, int32_t *s)
{
    const int8_t *w = (const int8_t *)(stream + 8);
    memcpy(s, stream, 8 * sizeof *s);
    four_sums(w, 8, job, s);
    four_sums(w + 4, 8, job, s + 4);
    return stream + 8 + 2 * (job->x_end - job->x);
}

static void sums(const int32_t *stream, const nd_job_t *job)
{
    for (int32_t *y = job->y; stream != job->stream_end; y += 8) {
        stream = eight_sums(stream, job, y) + 8;
    }
}

static void rescaled(const int32_t *stream, const nd_job_t *job)
{
    for (int16_t *y = job->y; stream != job->stream_end; y += 8) {
        int32_t s[8];
        const int32_t *mult = eight_sums(stream, job, s);
        for (int row = 0; row < 8; ++row) {
            y[row] = (int16_t)nd_sat16(nd_rescale((int32_t)((uint32_t)s[row] << job->pre), mult[row]));
        }
        stream = mult + 8;
    }
}

#endif

static nd_job_t job_of(const nd_affine_t *a, const int16_t *x, void *y)
{
    const int32_t *stream = a->weights;
    const uint32_t skipped = (0u - (uint32_t)a->columns) & 3u;
    const nd_job_t job = { x, x + a->columns, 68u * skipped + 1u, a->pre, y,
                           stream + (a->rows >> 3) * (16 + 2 * a->columns) };
    return job;
}

/* Sums and multipliers, eight each, of the one to seven rows behind the groups of eight. */
static void rest_of(const nd_affine_t *a, nd_job_t job, int32_t *s, int32_t *mult)
{
    const int32_t *stream = job.stream_end;
    int32_t left = a->rows & 7;
    if (left >= 6) {
        job.y = s;
        job.stream_end += 16 + 2 * a->columns;
        sums(stream, &job);
        memcpy(mult, job.stream_end - 8, 8 * sizeof *mult);
        return;
    }
    if (left >= 3) {
        memcpy(s, stream, 4 * sizeof *s);
        four_sums((const int8_t *)(stream + 4), 4, &job, s);
        stream += 4 + a->columns;
        memcpy(mult, stream, 4 * sizeof *mult);
        stream += 4;
        s += 4;
        mult += 4;
        left -= 4;
    }
    for (; left > 0; --left) {
        const int8_t *w = (const int8_t *)(stream + 1);
        uint32_t sum = (uint32_t)*stream;
        for (const int16_t *x = job.x; x != job.x_end;) {
            sum += (uint32_t)(*w++ * *x++);
        }
        stream += 1 + ((a->columns + 3) >> 2);
        *s++ = (int32_t)sum;
        *mult++ = *stream++;
    }
}

static int32_t shifted(int32_t sum, int32_t mult, int32_t pre)
{
    return nd_rescale((int32_t)((uint32_t)sum << pre), mult);
}

void nd_affine_i8_i32(const nd_affine_t *a, const int16_t *x, int32_t *y)
{
    const nd_job_t job = job_of(a, x, y);
    const int32_t left = a->rows & 7;
    if (a->rows >= 8) {
        sums(a->weights, &job);
    }
    if (left != 0) {
        int32_t s[8];
        int32_t mult[8];
        rest_of(a, job, s, mult);
        memcpy(y + a->rows - left, s, (uint32_t)left * sizeof *y);
    }
}

void nd_affine_i8_i16(const nd_affine_t *a, const int16_t *x, int16_t *y)
{
    const nd_job_t job = job_of(a, x, y);
    const int32_t left = a->rows & 7;
    if (a->rows >= 8) {
        rescaled(a->weights, &job);
    }
    if (left != 0) {
        int32_t s[8];
        int32_t mult[8];
        rest_of(a, job, s, mult);
        y += a->rows - left;
        for (int32_t i = 0; i < left; ++i) {
            y[i] = (int16_t)nd_sat16(shifted(s[i], mult[i], a->pre));
        }
    }
}

/* What is saturated to 16 bits before is saturated to 8 bits as well. */
void nd_affine_i8_i8(const nd_affine_t *a, const int16_t *x, int8_t *y)
{
    const int32_t *stream = a->weights;
    const int32_t left = a->rows & 7;
    int16_t eight[8];
    nd_job_t job = job_of(a, x, eight);
    const int32_t *end = job.stream_end;
    for (; stream != end; y += 8) {
        job.stream_end = stream + 16 + 2 * a->columns;
        rescaled(stream, &job);
        stream = job.stream_end;
        for (int i = 0; i < 8; ++i) {
            y[i] = (int8_t)nd_sat8(eight[i]);
        }
    }
    if (left != 0) {
        int32_t s[8];
        int32_t mult[8];
        rest_of(a, job, s, mult);
        for (int32_t i = 0; i < left; ++i) {
            y[i] = (int8_t)nd_sat8(shifted(s[i], mult[i], a->pre));
        }
    }
}

/* i16 weights: four rows that follow one another share an input. */
static void four_sums_i16(const nd_affine_t *a, const int16_t *x, int32_t row, int32_t *s)
{
    const int16_t *w0 = (const int16_t *)a->weights + row * a->columns;
    const int16_t *w1 = w0 + a->columns;
    const int16_t *w2 = w1 + a->columns;
    const int16_t *w3 = w2 + a->columns;
    uint32_t s0 = (uint32_t)a->bias[row];
    uint32_t s1 = (uint32_t)a->bias[row + 1];
    uint32_t s2 = (uint32_t)a->bias[row + 2];
    uint32_t s3 = (uint32_t)a->bias[row + 3];
    for (const int16_t *end = x + a->columns; x != end;) {
        const int32_t in = *x++;
        s0 += (uint32_t)(*w0++ * in);
        s1 += (uint32_t)(*w1++ * in);
        s2 += (uint32_t)(*w2++ * in);
        s3 += (uint32_t)(*w3++ * in);
    }
    s[0] = (int32_t)s0;
    s[1] = (int32_t)s1;
    s[2] = (int32_t)s2;
    s[3] = (int32_t)s3;
}

/* The sums of the rows from `row` on, four or what is left of them; returns how many. */
static int32_t next_sums_i16(const nd_affine_t *a, const int16_t *x, int32_t row, int32_t *s)
{
    if (a->rows - row >= 4) {
        four_sums_i16(a, x, row, s);
        return 4;
    }
    const int16_t *w = (const int16_t *)a->weights + row * a->columns;
    uint32_t sum = (uint32_t)a->bias[row];
    for (const int16_t *end = x + a->columns; x != end;) {
        sum += (uint32_t)(*w++ * *x++);
    }
    s[0] = (int32_t)sum;
    return 1;
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
