/* Four rows share every load of an input: 13 instructions for four products.
 *
 * Thumb's loads with an offset in the instruction are loads without a sign, so weights come as w' = w + 128 and inputs are
 * copied as x' = x + 32768. Modulo 2^32, sum(w x) = sum(w' x') - 128 sum(x') - 32768 sum(w); the last is in the biases.
 *
 * Compilers don't find the loop below: four sums, two pointers, an input and a product are all eight registers that
 * Armv6-M computes with. It does eight columns a round, as far as offsets reach, and is entered in the middle where their
 * number is no multiple of eight; a column has 26 bytes of code.
 */
#include "nd_affine.h"

#include <string.h>

#include "nd_math.h"

typedef struct {
    const uint16_t *x_end; /* of the copied inputs */
    uint32_t correction;   /* -128 sum(x') */
    uint32_t entry;        /* bytes of the loop that the first round leaves out, and 1: the address is one of Thumb code */
    const int32_t *stream_end;
    const uint16_t *x;
    uint32_t left_out;     /* bytes of weights that the first round leaves out */
    int32_t pre;
    void *y;
} nd_job_t;

/* A sum rescaled by a multiplier of the stream. */
static inline int32_t rescaled_by(int32_t sum, int32_t pre, int32_t mult)
{
    return nd_rescale_by((int32_t)((uint32_t)sum << pre), (int32_t)((uint32_t)mult >> 16), (int16_t)mult);
}

#if ND_HAS_V6M

/* r0-r3 sums, r4 stream, r5 x, r6 the input, r7 a product; r8 the end of x, r9 the correction, r12 where the loop is
 * entered, lr the stream's end. */
#define PRODUCT(sum, offset)         \
    "ldrb r7, [r4, #" offset "]\n"   \
    "muls r7, r6, r7\n"              \
    "adds " sum ", " sum ", r7\n"

#define COLUMN(x, w0, w1, w2, w3)    \
    "ldrh r6, [r5, #" x "]\n"        \
    PRODUCT("r0", w0) PRODUCT("r1", w1) PRODUCT("r2", w2) PRODUCT("r3", w3)

/* Four rows: leaves their sums in r0-r3. */
#define FOUR_ROWS                    \
    ".syntax unified\n"              \
    "push {r4-r7, lr}\n"             \
    "mov r4, r8\n"                   \
    "mov r5, r9\n"                   \
    "push {r4, r5}\n"                \
    "mov r4, r0\n"                   \
    "ldmia r1!, {r2, r3, r5, r6}\n"  \
    "mov r8, r2\n"                   \
    "mov r9, r3\n"                   \
    "mov lr, r6\n"                   \
    "adr r6, 2f\n"                   \
    "adds r5, r5, r6\n"              \
    "mov r12, r5\n"                  \
    "ldmia r1!, {r2, r3, r5, r6}\n"  \
    "lsrs r7, r3, #1\n"              \
    "subs r2, r2, r7\n"              \
    "push {r2, r3, r5, r6}\n"        \
    "1:\n"                           \
    "ldmia r4!, {r0-r3}\n"           \
    "add r0, r0, r9\n"               \
    "add r1, r1, r9\n"               \
    "add r2, r2, r9\n"               \
    "add r3, r3, r9\n"               \
    "ldr r5, [sp]\n"                 \
    "ldr r7, [sp, #4]\n"             \
    "subs r4, r4, r7\n"              \
    "bx r12\n"                       \
    ".balign 4\n"                    \
    "2:\n"                           \
    COLUMN("0", "0", "1", "2", "3")      \
    COLUMN("2", "4", "5", "6", "7")      \
    COLUMN("4", "8", "9", "10", "11")    \
    COLUMN("6", "12", "13", "14", "15")  \
    COLUMN("8", "16", "17", "18", "19")  \
    COLUMN("10", "20", "21", "22", "23") \
    COLUMN("12", "24", "25", "26", "27") \
    COLUMN("14", "28", "29", "30", "31") \
    "adds r4, #32\n"                 \
    "adds r5, #16\n"                 \
    "cmp r5, r8\n"                   \
    "bne 2b\n"

#define NEXT_FOUR                    \
    "str r5, [sp, #12]\n"            \
    "cmp r4, lr\n"                   \
    "beq 8f\n"                       \
    "b 1b\n"                         \
    "8:\n"                           \
    "add sp, #16\n"                  \
    "pop {r4, r5}\n"                 \
    "mov r8, r4\n"                   \
    "mov r9, r5\n"                   \
    "pop {r4-r7, pc}\n"

/* nd_rescale_by and nd_sat16 of the sum on the stack, r6 = pre, to y in r5. ASR leaves the bit that rounds in the carry. */
#define RESCALE(offset)              \
    "pop {r0}\n"                     \
    "ldmia r4!, {r2}\n"              \
    "lsls r0, r6\n"                  \
    "sxth r7, r0\n"                  \
    "movs r1, #0\n"                  \
    "asrs r0, r0, #16\n"             \
    "adcs r0, r1\n"                  \
    "sxth r3, r2\n"                  \
    "lsrs r2, r2, #16\n"             \
    "mov r1, r7\n"                   \
    "muls r1, r3, r1\n"              \
    "asrs r1, r1, #16\n"             \
    "muls r7, r2, r7\n"              \
    "muls r2, r0, r2\n"              \
    "muls r0, r3, r0\n"              \
    "adds r0, r0, r7\n"              \
    "adds r0, r0, r1\n"              \
    "asrs r0, r0, #16\n"             \
    "adcs r2, r0\n"                  \
    "sxth r0, r2\n"                  \
    "cmp r0, r2\n"                   \
    "beq 3f\n"                       \
    "asrs r0, r2, #31\n"             \
    "movs r1, #128\n"                \
    "lsls r1, r1, #8\n"              \
    "subs r1, #1\n"                  \
    "eors r0, r1\n"                  \
    "3:\n"                           \
    "strh r0, [r5, #" offset "]\n"

#define ND_IN_R0 __attribute__((unused))
#define ND_IN_R1 __attribute__((unused))
#define ND_IN_R2 __attribute__((unused))
#define ND_IN_R3 __attribute__((unused))

__attribute__((naked, noinline)) static void sums(const int32_t *stream ND_IN_R0, const nd_job_t *job ND_IN_R1)
{
    __asm volatile(FOUR_ROWS
                   "ldr r5, [sp, #12]\n"
                   "stmia r5!, {r0-r3}\n"
                   "adds r4, #16\n" NEXT_FOUR);
}

__attribute__((naked, noinline)) static void rescaled(const int32_t *stream ND_IN_R0, const nd_job_t *job ND_IN_R1)
{
    __asm volatile(FOUR_ROWS
                   "ldr r6, [sp, #8]\n"
                   "ldr r5, [sp, #12]\n"
                   "push {r0-r3}\n"
                   RESCALE("0") RESCALE("2") RESCALE("4") RESCALE("6")
                   "adds r5, #8\n" NEXT_FOUR);
}

#else

/* The twins in C. */
static const int32_t *four_sums(const int32_t *stream, const nd_job_t *job, int32_t *s)
{
    const uint8_t *w = (const uint8_t *)(stream + 4);
    uint32_t s0 = (uint32_t)stream[0] + job->correction;
    uint32_t s1 = (uint32_t)stream[1] + job->correction;
    uint32_t s2 = (uint32_t)stream[2] + job->correction;
    uint32_t s3 = (uint32_t)stream[3] + job->correction;
    for (const uint16_t *x = job->x; x != job->x_end; w += 4) {
        const uint32_t in = *x++;
        s0 += w[0] * in;
        s1 += w[1] * in;
        s2 += w[2] * in;
        s3 += w[3] * in;
    }
    s[0] = (int32_t)s0;
    s[1] = (int32_t)s1;
    s[2] = (int32_t)s2;
    s[3] = (int32_t)s3;
    return (const int32_t *)(const void *)w;
}

static void sums(const int32_t *stream, const nd_job_t *job)
{
    for (int32_t *y = job->y; stream != job->stream_end; y += 4) {
        stream = four_sums(stream, job, y) + 4;
    }
}

static void rescaled(const int32_t *stream, const nd_job_t *job)
{
    for (int16_t *y = job->y; stream != job->stream_end; y += 4) {
        int32_t s[4];
        const int32_t *mult = four_sums(stream, job, s);
        for (int row = 0; row < 4; ++row) {
            y[row] = (int16_t)nd_sat16(rescaled_by(s[row], job->pre, mult[row]));
        }
        stream = mult + 4;
    }
}

#endif

/* Copies x' = x + 32768, and zeros up to a whole group of four columns, which count for nothing; returns the sum. */
static uint32_t copied(const int16_t *x, int32_t columns, uint16_t *copy)
{
    const uint16_t *in = (const uint16_t *)x;
    const uint16_t *whole = in + (columns & ~3);
    uint32_t flip = 32768;
    uint32_t sum = 0;
#if ND_HAS_V6M
    __asm("" : "+r"(flip)); /* a compiler that knows it narrows what has no need to be narrowed */
#endif
    for (; in != whole; in += 4, copy += 4) {
        const uint32_t x0 = in[0] ^ flip;
        const uint32_t x1 = in[1] ^ flip;
        const uint32_t x2 = in[2] ^ flip;
        const uint32_t x3 = in[3] ^ flip;
        copy[0] = (uint16_t)x0;
        copy[1] = (uint16_t)x1;
        copy[2] = (uint16_t)x2;
        copy[3] = (uint16_t)x3;
        sum += x0 + x1 + x2 + x3;
    }
    if ((columns & 3) != 0) {
        copy[1] = copy[2] = copy[3] = 0;
        for (int32_t k = 0; k < (columns & 3); ++k) {
            const uint32_t last = in[k] ^ flip;
            copy[k] = (uint16_t)last;
            sum += last;
        }
    }
    return sum;
}

static nd_job_t job_of(const nd_affine_t *a, const int16_t *x, uint16_t *copy, void *y)
{
    const int32_t *stream = a->weights;
    const uint32_t left_out = (0u - (uint32_t)a->columns) & 7u;
    const nd_job_t job = { copy + a->columns, 0u - (copied(x, a->columns, copy) << 7), 26u * left_out + 1u,
                           stream + (a->rows >> 2) * (8 + a->columns), copy, 4u * left_out, a->pre, y };
    return job;
}

/* Sums and multipliers, four each, of the one to three rows behind the groups of four. */
static void rest_of(const nd_affine_t *a, nd_job_t job, int32_t *s, int32_t *mult)
{
    const int32_t *stream = job.stream_end;
    int32_t left = a->rows & 3;
    if (left == 3) {
        job.y = s;
        job.stream_end += 8 + a->columns;
        sums(stream, &job);
        memcpy(mult, job.stream_end - 4, 4 * sizeof *mult);
        return;
    }
    for (; left != 0; --left) {
        uint32_t sum = (uint32_t)*stream++ + job.correction;
        for (const uint16_t *x = job.x; x < job.x_end; x += 4, ++stream) {
            const uint8_t *w = (const uint8_t *)stream;
            sum += (uint32_t)w[0] * x[0];
            sum += (uint32_t)w[1] * x[1];
            sum += (uint32_t)w[2] * x[2];
            sum += (uint32_t)w[3] * x[3];
        }
        *s++ = (int32_t)sum;
        *mult++ = *stream++;
    }
}

void nd_affine_i8_i32(const nd_affine_t *a, const int16_t *x, int32_t *y)
{
    uint16_t copy[(a->columns + 3) & ~3];
    const nd_job_t job = job_of(a, x, copy, y);
    const int32_t left = a->rows & 3;
    if (a->rows >= 4) {
        sums(a->weights, &job);
    }
    if (left != 0) {
        int32_t s[4];
        int32_t mult[4];
        rest_of(a, job, s, mult);
        memcpy(y + a->rows - left, s, (uint32_t)left * sizeof *y);
    }
}

void nd_affine_i8_i16(const nd_affine_t *a, const int16_t *x, int16_t *y)
{
    uint16_t copy[(a->columns + 3) & ~3];
    const nd_job_t job = job_of(a, x, copy, y);
    const int32_t left = a->rows & 3;
    if (a->rows >= 4) {
        rescaled(a->weights, &job);
    }
    if (left != 0) {
        int32_t s[4];
        int32_t mult[4];
        rest_of(a, job, s, mult);
        y += a->rows - left;
        for (int32_t i = 0; i < left; ++i) {
            y[i] = (int16_t)nd_sat16(rescaled_by(s[i], a->pre, mult[i]));
        }
    }
}

/* What is saturated to 16 bits before is saturated to 8 bits as well. */
void nd_affine_i8_i8(const nd_affine_t *a, const int16_t *x, int8_t *y)
{
    uint16_t copy[(a->columns + 3) & ~3];
    const int32_t *stream = a->weights;
    const int32_t left = a->rows & 3;
    int16_t four[4];
    nd_job_t job = job_of(a, x, copy, four);
    const int32_t *end = job.stream_end;
    for (; stream != end; y += 4) {
        job.stream_end = stream + 8 + a->columns;
        rescaled(stream, &job);
        stream = job.stream_end;
        for (int i = 0; i < 4; ++i) {
            y[i] = (int8_t)nd_sat8(four[i]);
        }
    }
    if (left != 0) {
        int32_t s[4];
        int32_t mult[4];
        rest_of(a, job, s, mult);
        for (int32_t i = 0; i < left; ++i) {
            y[i] = (int8_t)nd_sat8(rescaled_by(s[i], a->pre, mult[i]));
        }
    }
}

/* i16 weights: two rows share every load of an input. */
typedef struct {
    uint32_t s0, s1;
    int32_t bytes; /* minus those of a row */
} nd_two_t;

#if ND_HAS_V6M

/* r0-r2 the ends of x and of two rows, r4 and r5 their sums, r6 the place before the ends, r7 the input. */
__attribute__((naked, noinline)) static void two_sums_i16(const int16_t *x_end ND_IN_R0, const int16_t *w0_end ND_IN_R1,
                                                          const int16_t *w1_end ND_IN_R2, nd_two_t *two ND_IN_R3)
{
    __asm volatile(".syntax unified\n"
                   "push {r3-r7}\n"
                   "ldmia r3!, {r4, r5, r6}\n"
                   "1:\n"
                   "ldrsh r7, [r0, r6]\n"
                   "ldrsh r3, [r1, r6]\n"
                   "muls r3, r7, r3\n"
                   "adds r4, r4, r3\n"
                   "ldrsh r3, [r2, r6]\n"
                   "muls r3, r7, r3\n"
                   "adds r5, r5, r3\n"
                   "adds r6, #2\n"
                   "bne 1b\n"
                   "pop {r3}\n"
                   "stmia r3!, {r4, r5}\n"
                   "pop {r4-r7}\n"
                   "bx lr\n");
}

#else

static void two_sums_i16(const int16_t *x_end, const int16_t *w0_end, const int16_t *w1_end, nd_two_t *two)
{
    for (int32_t k = two->bytes / 2; k != 0; ++k) {
        two->s0 += (uint32_t)(w0_end[k] * x_end[k]);
        two->s1 += (uint32_t)(w1_end[k] * x_end[k]);
    }
}

#endif

/* The sums of the next two rows, or twice that of the last; returns how many rows they are. */
static int32_t next_sums_i16(const nd_affine_t *a, const int16_t *x, int32_t row, int32_t *s)
{
    const int32_t n = a->rows - row >= 2 ? 2 : 1;
    const int16_t *end = (const int16_t *)a->weights + (row + 1) * a->columns;
    nd_two_t two = { (uint32_t)a->bias[row], (uint32_t)a->bias[row + n - 1], -2 * a->columns };
    two_sums_i16(x + a->columns, end, end + (n - 1) * a->columns, &two);
    s[0] = (int32_t)two.s0;
    s[1] = (int32_t)two.s1;
    return n;
}

static int32_t shifted(const nd_affine_t *a, int32_t sum, int32_t row)
{
    return nd_rescale((int32_t)((uint32_t)sum << a->pre), a->mult[row]);
}

void nd_affine_i16_i32(const nd_affine_t *a, const int16_t *x, int32_t *y)
{
    for (int32_t row = 0; row < a->rows;) {
        int32_t s[2];
        const int32_t end = row + next_sums_i16(a, x, row, s);
        for (const int32_t *sum = s; row < end; ++row) {
            y[row] = *sum++;
        }
    }
}

void nd_affine_i16_i16(const nd_affine_t *a, const int16_t *x, int16_t *y)
{
    for (int32_t row = 0; row < a->rows;) {
        int32_t s[2];
        const int32_t end = row + next_sums_i16(a, x, row, s);
        for (const int32_t *sum = s; row < end; ++row) {
            y[row] = (int16_t)nd_sat16(shifted(a, *sum++, row));
        }
    }
}

void nd_affine_i16_i8(const nd_affine_t *a, const int16_t *x, int8_t *y)
{
    for (int32_t row = 0; row < a->rows;) {
        int32_t s[2];
        const int32_t end = row + next_sums_i16(a, x, row, s);
        for (const int32_t *sum = s; row < end; ++row) {
            y[row] = (int8_t)nd_sat8(shifted(a, *sum++, row));
        }
    }
}
