/* Two rows share every halfword of weights, p = 256 w1 + w0. Over a row, SMLALD on the words as they are sums up
 * 256 S1 + S0 in 64 bits; SXTB16 keeps the low bytes, w0, and SMLAD sums up S0 in 32. So four products take three
 * instructions, and S1 is the rest: (256 S1 + S0) / 256 - S0 / 256, exact because both have the same low byte. The
 * sums start at the biases in the same form.
 *
 * Compilers don't find the loop below: it uses every register, so what isn't needed in it waits on the stack. Rows of
 * up to 4 ND_TILES columns run straight through unrolled code, entered where as many tiles are left as the row has; of
 * longer rows a loop takes the rest first. docs/kernels.md explains it.
 */
#include "nd_affine.h"

#include <string.h>

#include "nd_math.h"

enum { HEAD_WORDS = 6, TAIL_WORDS = 4 }; /* biases; multipliers */

#if ND_HAS_ASM

#define ND_TILES 12 /* tiles of four columns that are unrolled */
#define TILE_BYTES 52

/* r0 stream, r1 x, r2-r5 weights, r6-r7 inputs; sums: r8 = S0, r10:r9 = 256 S1 + S0, r11 = S2, lr:r12 = 256 S3 + S2. */
#define TILE                         \
    "ldmia.n r0!, {r2-r5}\n"         \
    "ldmia.n r1!, {r6, r7}\n"        \
    "smlald r9, r10, r2, r6\n"       \
    "sxtb16 r2, r2\n"                \
    "smlad r8, r2, r6, r8\n"         \
    "smlald r12, lr, r3, r6\n"       \
    "sxtb16 r3, r3\n"                \
    "smlad r11, r3, r6, r11\n"       \
    "smlald r9, r10, r4, r7\n"       \
    "sxtb16 r4, r4\n"                \
    "smlad r8, r4, r7, r8\n"         \
    "smlald r12, lr, r5, r7\n"       \
    "sxtb16 r5, r5\n"                \
    "smlad r11, r5, r7, r11\n"

/* One group of four rows after another. The frame at sp: x, where to enter, x at the end of the loop, y, end of y (of
 * whole groups), rows that are left, where to enter after the loop. RESULTS stores four results at r2, up to r3. */
#define ROWS_OF_FOUR(RESULTS, Y_SHIFT, Y_BYTES, COPY)                                     \
    "push {r4-r11, lr}\n"                                                                 \
    "ldrd r6, r7, [r0, #12]\n" /* rows, columns */                                        \
    "ldr r0, [r0]\n"                                                                      \
    "mov r4, r2\n"                                                                        \
    "mov r3, r1\n"                                                                        \
    "lsr r7, r7, #2\n"                                                                    \
    "1: cmp r7, %[tiles]\n"                                                               \
    "itt gt\n"                                                                            \
    "subgt r7, #4\n"                                                                      \
    "addgt r3, #32\n"                                                                     \
    "bgt 1b\n"                                                                            \
    "rsb r7, r7, %[tiles]\n" /* tiles to leave out */                                     \
    "mov r5, %[tile_bytes]\n"                                                             \
    "adr r2, 3f\n"                                                                        \
    "adds r2, #1\n"                                                                       \
    "mla r7, r7, r5, r2\n"                                                                \
    "mov r2, r7\n"                                                                        \
    "cmp r3, r1\n"                                                                        \
    "itt ne\n"                                                                            \
    "adrne r2, 8f\n"                                                                      \
    "addne r2, #1\n"                                                                      \
    "bic r5, r6, #3\n"                                                                    \
    "add r5, r4, r5, lsl #" Y_SHIFT "\n"                                                  \
    "and r6, r6, #3\n"                                                                    \
    "push {r1-r7}\n"                                                                      \
    "cmp r4, r5\n"                                                                        \
    "beq 4f\n"                                                                            \
    "2: ldmia r0!, {r8-r12, lr}\n"                                                        \
    "ldmia sp, {r1, pc}\n"                                                                \
    ".balign 4\n"                                                                         \
    "8: .rept 4\n" TILE                                                                   \
    ".endr\n"                                                                             \
    "ldr r2, [sp, #8]\n"                                                                  \
    "cmp r1, r2\n"                                                                        \
    "bne 8b\n"                                                                            \
    "ldr pc, [sp, #24]\n"                                                                 \
    ".balign 4\n"                                                                         \
    "3: .rept %c[tiles]\n" TILE                                                           \
    ".endr\n"                                                                             \
    "ldmia r0!, {r4-r7}\n"                                                                \
    "lsr r9, r9, #8\n"                                                                    \
    "orr r9, r9, r10, lsl #24\n"                                                          \
    "sub r9, r9, r8, asr #8\n"                                                            \
    "lsr r12, r12, #8\n"                                                                  \
    "orr r12, r12, lr, lsl #24\n"                                                         \
    "sub r12, r12, r11, asr #8\n"                                                         \
    "ldrd r2, r3, [sp, #12]\n" RESULTS                                                    \
    "str r2, [sp, #12]\n"                                                                 \
    "cmp r2, r3\n"                                                                        \
    "bne 2b\n"                                                                            \
    "4: ldr r6, [sp, #20]\n"                                                              \
    "rsbs r6, r6, #0\n"                                                                   \
    "beq 6f\n"                                                                            \
    "bgt 5f\n"                                                                            \
    /* The last group is computed into a frame of its own with room for four results. */  \
    "ldr r7, [sp, #24]\n"                                                                 \
    "ldmia sp, {r1-r3}\n"                                                                 \
    "sub sp, sp, #" Y_BYTES "\n"                                                          \
    "mov r4, sp\n"                                                                        \
    "add r5, r4, #" Y_BYTES "\n"                                                          \
    "push {r1-r7}\n"                                                                      \
    "b 2b\n"                                                                              \
    "5: ldr r2, [sp, #40 + " Y_BYTES "]\n" /* r6 results from sp + 28 to r2 */            \
    "add r4, sp, #28\n" COPY                                                              \
    "add sp, sp, #28 + " Y_BYTES "\n"                                                     \
    "6: add sp, sp, #28\n"                                                                \
    "pop {r4-r11, pc}\n"

#define RESCALED            \
    "smmulr r8, r8, r4\n"   \
    "smmulr r9, r9, r5\n"   \
    "smmulr r11, r11, r6\n" \
    "smmulr r12, r12, r7\n" \
    "ssat r8, #16, r8\n"    \
    "ssat r9, #16, r9\n"    \
    "ssat r11, #16, r11\n"  \
    "ssat r12, #16, r12\n"  \
    "pkhbt r8, r8, r9, lsl #16\n"    \
    "pkhbt r11, r11, r12, lsl #16\n" \
    "stmia r2!, {r8, r11}\n"

#define SUMS "stmia r2!, {r8, r9, r11, r12}\n"

#define COPY_HALVES            \
    "7: ldrh r5, [r4], #2\n"   \
    "strh r5, [r2], #2\n"      \
    "subs r6, r6, #1\n"        \
    "bne 7b\n"
#define COPY_WORDS             \
    "7: ldr r5, [r4], #4\n"    \
    "str r5, [r2], #4\n"       \
    "subs r6, r6, #1\n"        \
    "bne 7b\n"

#define ND_IN_REGISTER __attribute__((unused))

__attribute__((naked)) void nd_affine_i8_i16(const nd_affine_t *a ND_IN_REGISTER, const int16_t *x ND_IN_REGISTER,
                                             int16_t *y ND_IN_REGISTER)
{
    __asm volatile(ROWS_OF_FOUR(RESCALED, "1", "8", COPY_HALVES)::[tiles] "I"(ND_TILES), [tile_bytes] "I"(TILE_BYTES));
}

__attribute__((naked)) void nd_affine_i8_i32(const nd_affine_t *a ND_IN_REGISTER, const int16_t *x ND_IN_REGISTER,
                                             int32_t *y ND_IN_REGISTER)
{
    __asm volatile(ROWS_OF_FOUR(SUMS, "2", "16", COPY_WORDS)::[tiles] "I"(ND_TILES), [tile_bytes] "I"(TILE_BYTES));
}

#else

/* The twin in C, with intrinsics where there are some. What stands at w: biases and weights of four rows; then w stands
 * at their multipliers, and the sums are in s0 to s3. ODD: whether the columns are no multiple of 8. */
#define TWO_COLUMNS                                                              \
    {                                                                            \
        const uint32_t in = nd_pair(at), p = (uint32_t)w[0], q = (uint32_t)w[1]; \
        both0 = nd_smlald(p, in, both0);                                         \
        s0 = nd_smlad(nd_sxtb16(p), in, s0);                                     \
        both2 = nd_smlald(q, in, both2);                                         \
        s2 = nd_smlad(nd_sxtb16(q), in, s2);                                     \
        at += 2;                                                                 \
        w += 2;                                                                  \
    }
#define FOUR_SUMS(ODD)                                                           \
    int32_t s0 = w[0], s2 = w[3];                                                \
    int64_t both0 = nd_join(w[1], w[2]), both2 = nd_join(w[4], w[5]);            \
    const int16_t *at = x;                                                       \
    w += HEAD_WORDS;                                                             \
    if (ODD) {                                                                   \
        TWO_COLUMNS                                                              \
        TWO_COLUMNS                                                              \
    }                                                                            \
    for (const int16_t *const end = at + eights; at != end;)                     \
        TWO_COLUMNS                                                              \
    const int32_t s1 = (int32_t)((uint32_t)(both0 >> 8) - (uint32_t)(s0 >> 8));  \
    const int32_t s3 = (int32_t)((uint32_t)(both2 >> 8) - (uint32_t)(s2 >> 8))
#define FOUR_ROWS(ODD)                                                                           \
    for (; y != last; y += 4, w += TAIL_WORDS) {                                                   \
        FOUR_SUMS(ODD);                                                                          \
        nd_put_pair(y, nd_pack(nd_sat16(nd_rescale(s0, w[0])), nd_sat16(nd_rescale(s1, w[1]))));   \
        nd_put_pair(y + 2, nd_pack(nd_sat16(nd_rescale(s2, w[2])), nd_sat16(nd_rescale(s3, w[3])))); \
    }

void nd_affine_i8_i32(const nd_affine_t *a, const int16_t *x, int32_t *y)
{
    const int32_t *w = a->weights;
    const int32_t eights = a->columns & ~7;
    for (int32_t left = a->rows; left > 0; left -= 4, y += 4, w += TAIL_WORDS) {
        FOUR_SUMS(a->columns & 4);
        const int32_t s[4] = { s0, s1, s2, s3 };
        memcpy(y, s, (uint32_t)(left < 4 ? left : 4) * sizeof *y);
    }
}

void nd_affine_i8_i16(const nd_affine_t *a, const int16_t *x, int16_t *y)
{
    const int32_t *w = a->weights;
    const int32_t eights = a->columns & ~7;
    const int16_t *const last = y + (a->rows & ~3);
    if (a->columns & 4) {
        FOUR_ROWS(1)
    } else {
        FOUR_ROWS(0)
    }
    if (a->rows & 3) {
        const nd_affine_t rest = { w, 0, 0, a->rows & 3, a->columns, 0 };
        int32_t s[4];
        nd_affine_i8_i32(&rest, x, s);
        for (int32_t i = 0; i < rest.rows; ++i) {
            y[i] = (int16_t)nd_sat16(nd_rescale(s[i], w[HEAD_WORDS + a->columns + i]));
        }
    }
}

#endif

/* Four rows by themselves, for the results that are rare: their sums, shifted and rescaled. */
static int32_t four_rescaled(nd_affine_t *four, const int16_t *x, int32_t *s)
{
    const int32_t *const mult = (const int32_t *)four->weights + HEAD_WORDS + four->columns;
    const int32_t rows = four->rows < 4 ? four->rows : 4;
    const nd_affine_t part = { four->weights, 0, 0, rows, four->columns, 0 };
    nd_affine_i8_i32(&part, x, s);
    for (int32_t i = 0; i < rows; ++i) {
        s[i] = nd_rescale((int32_t)((uint32_t)s[i] << four->pre), mult[i]);
    }
    four->weights = mult + TAIL_WORDS;
    four->rows -= rows;
    return rows;
}

void nd_affine_i8_i16_shifted(const nd_affine_t *a, const int16_t *x, int16_t *y)
{
    nd_affine_t four = *a;
    while (four.rows > 0) {
        int32_t s[4];
        const int32_t rows = four_rescaled(&four, x, s);
        for (int32_t i = 0; i < rows; ++i) {
            *y++ = (int16_t)nd_sat16(s[i]);
        }
    }
}

void nd_affine_i8_i8(const nd_affine_t *a, const int16_t *x, int8_t *y)
{
    nd_affine_t four = *a;
    while (four.rows > 0) {
        int32_t s[4];
        const int32_t rows = four_rescaled(&four, x, s);
        for (int32_t i = 0; i < rows; ++i) {
            *y++ = (int8_t)nd_sat8(s[i]);
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
