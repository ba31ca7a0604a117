/* VMLADAVA.S8 multiplies sixteen bytes by sixteen bytes and adds it all to one register. So an input is taken apart,
 * x = 256 h + l + 128 with bytes h and l, and a block of sixteen columns of one row is three instructions: load the
 * weights, add w h to one sum, add w l to another. The 128 w are in the bias. (VMLADAVA.S16 with weights widened as they
 * are loaded takes four for the same.) An accumulator is an even register, of which there are eight: four rows.
 *
 * The inputs of the last two blocks and of the eight single columns stay in registers over all rows; a loop takes the
 * blocks before, two at a time. So a row of at most 40 columns loads nothing but its weights. Four rows are then rescaled
 * at once: VRMULH is (a b + 2^31) >> 32, what nd_rescale() is.
 *
 * Compilers don't find this: it uses every register, and jumps where the number of columns wants it.
 */
#include "nd_affine.h"

#include <string.h>

#include "nd_math.h"

#if defined(__ARM_FEATURE_MVE) && defined(__GNUC__) && !defined(ND_NO_ASM)
#define ND_HAS_MVE 1
#include <arm_mve.h>
#else
#define ND_HAS_MVE 0
#endif

enum { ROWS = 4, BLOCK = 16, HEAD_WORDS = 4, TAIL_WORDS = 4 }; /* biases, multipliers */

/* Rows go by fours; the last four, also where some of them were among the four before. */
static int32_t first_of(const nd_affine_t *a, int32_t row)
{
    return row < a->rows - ROWS ? row : a->rows - ROWS;
}

#if ND_HAS_MVE

/* r1 stream, r3 y, r5 = 256, r7 = 128, r9 x; the rows' sums of w l in r0, r2, r4, r6, of w h in r8, r10, r12, lr. */
#define ONE_ROW(low, high, l, h)         \
    "vldrb.u8 q7, [r1], #16\n"           \
    "vmladava.s8 " low ", " l ", q7\n"   \
    "vmladava.s8 " high ", " h ", q7\n"

#define FOUR_ROWS(l, h)          \
    ONE_ROW("r0", "r8", l, h)    \
    ONE_ROW("r2", "r10", l, h)   \
    ONE_ROW("r4", "r12", l, h)   \
    ONE_ROW("r6", "lr", l, h)

/* Sixteen inputs: their low bytes less 128, and their high bytes. */
#define INPUTS(l, h, at)                         \
    "vld20.8 {" l ", " h "}, [" at "]\n"         \
    "vld21.8 {" l ", " h "}, [" at "]!\n"        \
    "vadd.i8 " l ", " l ", r7\n"

#define NEXT_BLOCK INPUTS("q5", "q6", "r9") FOUR_ROWS("q5", "q6")

#define EIGHT(sum)                  \
    "vldrb.s16 q7, [r1], #8\n"      \
    "vmladava.s16 " sum ", q4, q7\n"

/* r0 the product, r1 x, r2 y; 2^y_shift bytes each. The frame: pre, y of the last four rows, x and r11 the end of the
 * loop's, where to go after the eight columns, where to begin. q0-q3: inputs of the last two blocks; q4: the eight. */
#define BEGIN(y_shift)                  \
    "push {r4-r11, lr}\n"               \
    "vpush {d8-d15}\n"                  \
    "mov r3, r2\n"                      \
    "mov r9, r1\n"                      \
    "ldr r1, [r0]\n"                    \
    "ldrd r8, r4, [r0, #12]\n"          \
    "ldr r6, [r0, #20]\n"               \
    "sub r8, r8, #4\n"                  \
    "add r8, r3, r8, lsl #" y_shift "\n" \
    "mov r5, #256\n"                    \
    "mov r7, #128\n"                    \
    "lsls r10, r4, #28\n"               \
    "bpl 10f\n"                         \
    "vldrh.u16 q4, [r9], #16\n"         \
    "10:\n"                             \
    "adr.w r12, 6f + 1\n"               \
    "lsrs r2, r4, #4\n"                 \
    "beq 12f\n"                         \
    "add r11, r9, r2, lsl #5\n"         \
    "sub r11, r11, #64\n"               \
    "cmp r2, #2\n"                      \
    "bhs 11f\n"                         \
    "adr.w r12, 5f + 1\n" INPUTS("q0", "q1", "r9") \
    "b 12f\n"                           \
    "11:\n"                             \
    "mov r0, r11\n" INPUTS("q2", "q3", "r0") INPUTS("q0", "q1", "r0") \
    "adr.w r12, 4f + 1\n"               \
    "beq 12f\n"                         \
    "adr.w r12, 2f + 1\n"               \
    "lsls r2, r2, #31\n"                \
    "beq 12f\n"                         \
    "adr.w r12, 3f + 1\n"               \
    "12:\n"                             \
    "mov lr, r12\n"                     \
    "cmp r10, #0\n"                     \
    "bpl 13f\n"                         \
    "adr.w lr, 1f + 1\n"                \
    "13:\n"                             \
    "push {r6, r8, r9, r12, lr}\n"

/* Four rows: 1 the eight columns, 2 and 3 the loop over an even or odd number of blocks, 4 and 5 the last two. */
#define SUMS                            \
    "9:\n"                              \
    "ldmia r1!, {r0, r2, r4, r6}\n"     \
    "clrm {r8, r10, r12, lr}\n"         \
    "ldr pc, [sp, #16]\n"               \
    "1:\n" EIGHT("r0") EIGHT("r2") EIGHT("r4") EIGHT("r6") \
    "ldr pc, [sp, #12]\n"               \
    "3:\n"                              \
    "ldr r9, [sp, #8]\n"                \
    "b 8f\n"                            \
    "2:\n"                              \
    "ldr r9, [sp, #8]\n"                \
    "7:\n" NEXT_BLOCK                   \
    "8:\n" NEXT_BLOCK                   \
    "cmp r9, r11\n"                     \
    "bne 7b\n"                          \
    "4:\n" FOUR_ROWS("q2", "q3")        \
    "5:\n" FOUR_ROWS("q0", "q1")        \
    "6:\n"

#define RESCALED(shifted)               \
    "vmov q5[2], q5[0], r0, r4\n"       \
    "vmov q5[3], q5[1], r2, r6\n"       \
    "vmov q6[2], q6[0], r8, r12\n"      \
    "vmov q6[3], q6[1], r10, lr\n"      \
    "vmla.s32 q5, q6, r5\n"             \
    "ldrd r0, r2, [sp]\n" shifted       \
    "vldrw.u32 q6, [r1], #16\n"         \
    "vrmulh.s32 q5, q5, q6\n"           \
    "vqmovnb.s32 q5, q5\n"

#define SHIFTED "vshl.s32 q5, r0\n"

/* Where fewer than four rows are left, the last four come, some of them again. */
#define NEXT_FOUR(y_bytes)              \
    "cmp r3, r2\n"                      \
    "bls 9b\n"                          \
    "sub r0, r3, r2\n"                  \
    "mov r3, r2\n"                      \
    "cmp r0, #" y_bytes "\n"            \
    "bne 9b\n"                          \
    "add sp, sp, #20\n"                 \
    "vpop {d8-d15}\n"                   \
    "pop {r4-r11, pc}\n"

#define KERNEL(name)                                                                                 \
    __attribute__((naked, noinline)) static void name(const nd_affine_t *a __attribute__((unused)),  \
                                                      const int16_t *x __attribute__((unused)),      \
                                                      void *y __attribute__((unused)))

KERNEL(to_i32)
{
    __asm volatile(BEGIN("2") SUMS
                   "add r0, r0, r8, lsl #8\n"
                   "add r2, r2, r10, lsl #8\n"
                   "add r4, r4, r12, lsl #8\n"
                   "add r6, r6, lr, lsl #8\n"
                   "stmia r3!, {r0, r2, r4, r6}\n"
                   "add r1, r1, #16\n"
                   "ldr r2, [sp, #4]\n" NEXT_FOUR("16"));
}

KERNEL(to_i16)
{
    __asm volatile(BEGIN("1") SUMS RESCALED("") "vstrh.32 q5, [r3], #8\n" NEXT_FOUR("8"));
}

KERNEL(to_i16_shifted)
{
    __asm volatile(BEGIN("1") SUMS RESCALED(SHIFTED) "vstrh.32 q5, [r3], #8\n" NEXT_FOUR("8"));
}

KERNEL(to_i8)
{
    __asm volatile(BEGIN("0") SUMS RESCALED(SHIFTED)
                   "vqmovnb.s16 q5, q5\n"
                   "vstrb.32 q5, [r3], #4\n" NEXT_FOUR("4"));
}

#else

/* The twin in C. */
static const int32_t *four_sums(const int32_t *stream, const int16_t *x, uint32_t columns, int32_t *s)
{
    const int8_t *w = (const int8_t *)(stream + HEAD_WORDS);
    const int16_t *const x_end = x + columns;
    memcpy(s, stream, ROWS * sizeof *s);
    if (columns % BLOCK != 0) {
        for (int row = 0; row < ROWS; ++row) {
            for (int k = 0; k < BLOCK / 2; ++k) {
                s[row] = (int32_t)((uint32_t)s[row] + (uint32_t)(*w++ * x[k]));
            }
        }
        x += BLOCK / 2;
    }
    for (; x != x_end; x += BLOCK) {
        for (int row = 0; row < ROWS; ++row) {
            int32_t low = 0, high = 0;
            for (int k = 0; k < BLOCK; ++k, ++w) {
                low += *w * ((x[k] & 0xFF) - 128);
                high += *w * (x[k] >> 8);
            }
            s[row] = (int32_t)((uint32_t)s[row] + (uint32_t)low + ((uint32_t)high << 8));
        }
    }
    return stream + HEAD_WORDS + columns + TAIL_WORDS;
}

static void to_i32(const nd_affine_t *a, const int16_t *x, int32_t *y)
{
    const int32_t *stream = a->weights;
    for (int32_t row = 0; row < a->rows; row += ROWS) {
        stream = four_sums(stream, x, (uint32_t)a->columns, y + first_of(a, row));
    }
}

static const int32_t *four_rescaled(const int32_t *stream, const nd_affine_t *a, const int16_t *x, int32_t *s)
{
    stream = four_sums(stream, x, (uint32_t)a->columns, s);
    for (int row = 0; row < ROWS; ++row) {
        s[row] = nd_rescale((int32_t)((uint32_t)s[row] << a->pre), stream[row - TAIL_WORDS]);
    }
    return stream;
}

static void to_i16(const nd_affine_t *a, const int16_t *x, int16_t *y)
{
    const int32_t *stream = a->weights;
    for (int32_t row = 0; row < a->rows; row += ROWS) {
        int32_t s[ROWS];
        stream = four_rescaled(stream, a, x, s);
        for (int i = 0; i < ROWS; ++i) {
            y[first_of(a, row) + i] = (int16_t)nd_sat16(s[i]);
        }
    }
}

#define to_i16_shifted to_i16

static void to_i8(const nd_affine_t *a, const int16_t *x, int8_t *y)
{
    const int32_t *stream = a->weights;
    for (int32_t row = 0; row < a->rows; row += ROWS) {
        int32_t s[ROWS];
        stream = four_rescaled(stream, a, x, s);
        for (int i = 0; i < ROWS; ++i) {
            y[first_of(a, row) + i] = (int8_t)nd_sat8(s[i]);
        }
    }
}

#endif

/* The kernels take at least four rows; the stream has as many. */
#define ALL_ROWS(kernel, type)                              \
    if (a->rows >= ROWS) {                                  \
        kernel(a, x, y);                                    \
    } else {                                                \
        type all[ROWS];                                     \
        nd_affine_t four = *a;                              \
        four.rows = ROWS;                                   \
        kernel(&four, x, all);                              \
        memcpy(y, all, (uint32_t)a->rows * sizeof *y);      \
    }

void nd_affine_i8_i32(const nd_affine_t *a, const int16_t *x, int32_t *y)
{
    ALL_ROWS(to_i32, int32_t)
}

void nd_affine_i8_i16(const nd_affine_t *a, const int16_t *x, int16_t *y)
{
    ALL_ROWS(to_i16, int16_t)
}

void nd_affine_i8_i16_shifted(const nd_affine_t *a, const int16_t *x, int16_t *y)
{
    ALL_ROWS(to_i16_shifted, int16_t)
}

void nd_affine_i8_i8(const nd_affine_t *a, const int16_t *x, int8_t *y)
{
    ALL_ROWS(to_i8, int8_t)
}

/* i16 weights: eight products an instruction, four rows for every load of x. One row by itself is plain C. */
static int32_t sum_i16(const nd_affine_t *a, const int16_t *x, int32_t row)
{
    const int16_t *w = (const int16_t *)a->weights + row * a->columns;
    uint32_t sum = (uint32_t)a->bias[row];
    for (int32_t k = 0; k < a->columns; ++k) {
        sum += (uint32_t)(w[k] * x[k]);
    }
    return (int32_t)sum;
}

static int32_t scaled_i16(const nd_affine_t *a, int32_t row, int32_t sum)
{
    return nd_rescale((int32_t)((uint32_t)sum << a->pre), a->mult[row]);
}

#if ND_HAS_MVE

typedef int32x4_t sums_t;

static sums_t four_sums_i16(const nd_affine_t *a, const int16_t *x, int32_t row)
{
    const int16_t *w0 = (const int16_t *)a->weights + row * a->columns;
    const int16_t *w1 = w0 + a->columns, *w2 = w1 + a->columns, *w3 = w2 + a->columns;
    const int32_t *bias = a->bias + row;
    int32_t s0 = bias[0], s1 = bias[1], s2 = bias[2], s3 = bias[3];
    sums_t sums;
    __asm volatile("wlstp.16 lr, %[columns], 2f\n"
                   "1:\n"
                   "vldrh.u16 q0, [%[x]], #16\n"
                   "vldrh.u16 q1, [%[w0]], #16\n"
                   "vmladava.s16 %[s0], q0, q1\n"
                   "vldrh.u16 q1, [%[w1]], #16\n"
                   "vmladava.s16 %[s1], q0, q1\n"
                   "vldrh.u16 q1, [%[w2]], #16\n"
                   "vmladava.s16 %[s2], q0, q1\n"
                   "vldrh.u16 q1, [%[w3]], #16\n"
                   "vmladava.s16 %[s3], q0, q1\n"
                   "letp lr, 1b\n"
                   "2:\n"
                   "vmov %q[sums][2], %q[sums][0], %[s0], %[s2]\n"
                   "vmov %q[sums][3], %q[sums][1], %[s1], %[s3]\n"
                   : [s0] "+Te"(s0), [s1] "+Te"(s1), [s2] "+Te"(s2), [s3] "+Te"(s3), [x] "+r"(x), [w0] "+r"(w0),
                     [w1] "+r"(w1), [w2] "+r"(w2), [w3] "+r"(w3), [sums] "=w"(sums)
                   : [columns] "r"(a->columns)
                   : "lr", "d0", "d1", "d2", "d3", "memory");
    return sums;
}

static sums_t four_scaled_i16(const nd_affine_t *a, int32_t row, sums_t s)
{
    return vrmulhq_s32(vshlq_r_s32(s, a->pre), vld1q_s32(a->mult + row));
}

static void put_i32(const nd_affine_t *a, int32_t row, sums_t s, int32_t *y)
{
    (void)a;
    vst1q_s32(y + row, s);
}

static void put_i16(const nd_affine_t *a, int32_t row, sums_t s, int16_t *y)
{
    const sums_t scaled = four_scaled_i16(a, row, s);
    vstrhq_s32(y + row, vreinterpretq_s32_s16(vqmovnbq_s32(vreinterpretq_s16_s32(scaled), scaled)));
}

static void put_i8(const nd_affine_t *a, int32_t row, sums_t s, int8_t *y)
{
    const sums_t scaled = four_scaled_i16(a, row, s);
    const int16x8_t halves = vqmovnbq_s32(vreinterpretq_s16_s32(scaled), scaled);
    vstrbq_s32(y + row, vreinterpretq_s32_s8(vqmovnbq_s16(vreinterpretq_s8_s16(halves), halves)));
}

#else

typedef struct {
    int32_t row[ROWS];
} sums_t;

static sums_t four_sums_i16(const nd_affine_t *a, const int16_t *x, int32_t row)
{
    sums_t s;
    for (int i = 0; i < ROWS; ++i) {
        s.row[i] = sum_i16(a, x, row + i);
    }
    return s;
}

static void put_i32(const nd_affine_t *a, int32_t row, sums_t s, int32_t *y)
{
    (void)a;
    memcpy(y + row, s.row, sizeof s.row);
}

static void put_i16(const nd_affine_t *a, int32_t row, sums_t s, int16_t *y)
{
    for (int i = 0; i < ROWS; ++i) {
        y[row + i] = (int16_t)nd_sat16(scaled_i16(a, row + i, s.row[i]));
    }
}

static void put_i8(const nd_affine_t *a, int32_t row, sums_t s, int8_t *y)
{
    for (int i = 0; i < ROWS; ++i) {
        y[row + i] = (int8_t)nd_sat8(scaled_i16(a, row + i, s.row[i]));
    }
}

#endif

#define ALL_ROWS_I16(put, one)                                  \
    if (a->rows < ROWS) {                                       \
        for (int32_t row = 0; row < a->rows; ++row) {           \
            const int32_t sum = sum_i16(a, x, row);             \
            y[row] = one;                                       \
        }                                                       \
        return;                                                 \
    }                                                           \
    for (int32_t row = 0; row < a->rows; row += ROWS) {         \
        const int32_t at = first_of(a, row);                    \
        put(a, at, four_sums_i16(a, x, at), y);                 \
    }

void nd_affine_i16_i32(const nd_affine_t *a, const int16_t *x, int32_t *y)
{
    ALL_ROWS_I16(put_i32, sum)
}

void nd_affine_i16_i16(const nd_affine_t *a, const int16_t *x, int16_t *y)
{
    ALL_ROWS_I16(put_i16, (int16_t)nd_sat16(scaled_i16(a, row, sum)))
}

void nd_affine_i16_i8(const nd_affine_t *a, const int16_t *x, int8_t *y)
{
    ALL_ROWS_I16(put_i8, (int8_t)nd_sat8(scaled_i16(a, row, sum)))
}
