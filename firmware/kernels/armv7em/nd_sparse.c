/* core/nd_sparse.c with SMLAD for the tiles, and one loop that every row and kind of result share. */
#include "nd_sparse.h"

#include "nd_math.h"

#if ND_HAS_ASM

/* r0 stream, r1 this window of x, r2 sum, r3 tiles left, r4 singles left, r8 bias, r9 mult, r10 y, r11 rows left, lr how
 * a sum becomes a result. On the stack: x, the last window of x, pre. */
#define SINGLE                          \
    "ldrb.w r5, [r0], #2\n"             \
    "ldrsb.w r6, [r0, #-1]\n"           \
    "ldrh.w r5, [r1, r5, lsl #1]\n"     \
    "smlabb r2, r5, r6, r2\n"

#define RESCALED                \
    "ldr r3, [r9], #4\n"        \
    "ldr r4, [sp, #8]\n"        \
    "lsl r2, r2, r4\n"          \
    "smmulr r2, r2, r3\n"

#define NEXT_ROW            \
    "subs r11, r11, #1\n"   \
    "bne 1b\n"              \
    "add sp, sp, #12\n"     \
    "pop {r4-r11, pc}\n"

#define ND_IN_R0 __attribute__((unused))
#define ND_IN_R1 __attribute__((unused))
#define ND_IN_R2 __attribute__((unused))
#define ND_IN_R3 __attribute__((unused))

/* All rows; y has that many bits an element. The singles are a loop of eight that is entered where the number of them
 * leaves no rest. */
__attribute__((naked, noinline)) static void
product(const nd_sparse_t *a ND_IN_R0, const int16_t *x ND_IN_R1, void *y ND_IN_R2, int32_t bits ND_IN_R3)
{
    __asm volatile("push {r4-r11, lr}\n"
                   "mov r10, r2\n"
                   "ldr r7, [r0, #20]\n"                /* pre */
                   "ldmia r0, {r0, r8, r9, r11, r12}\n" /* stream, bias, mult, rows, windows */
                   "sub r12, r12, #1\n"
                   "add r2, r1, r12, lsl #9\n"
                   "push {r1, r2, r7}\n"
                   "adr lr, 7f\n"
                   "cmp r3, #16\n"
                   "it eq\n"
                   "adreq lr, 6f\n"
                   "it gt\n"
                   "adrgt lr, 5f\n"
                   "1:\n"
                   "ldr r1, [sp]\n"
                   "ldr r2, [r8], #4\n"
                   "2:\n"
                   "ldrb r4, [r0, #1]\n"
                   "ldrb r3, [r0], #2\n"
                   "cbz r3, 4f\n"
                   "3:\n"
                   "ldr r5, [r0, #1]\n"
                   "ldrb r6, [r0], #5\n"
                   "add r6, r1, r6, lsl #3\n"
                   "ldrd r6, r7, [r6]\n"
                   "sxtb16 r12, r5\n"
                   "smlad r2, r12, r6, r2\n"
                   "sxtb16 r12, r5, ror #8\n"
                   "smlad r2, r12, r7, r2\n"
                   "subs r3, r3, #1\n"
                   "bne 3b\n"
                   "4:\n"
                   "and r3, r4, #7\n"
                   "tbb [pc, r3]\n"
                   "8:\n"
                   ".byte 68, 60, 52, 44, 36, 28, 20, 12\n" /* halfwords from here to the last r3 singles */
                   "9:\n" SINGLE SINGLE SINGLE SINGLE SINGLE SINGLE SINGLE SINGLE
                   "subs r4, r4, #8\n"
                   "bge 9b\n"
                   "ldr r3, [sp, #4]\n"
                   "cmp r1, r3\n"
                   "bne 10f\n"
                   "mov pc, lr\n"
                   "10:\n"
                   "add r1, r1, #512\n"
                   "b 2b\n"
                   ".balign 4\n"
                   "5:\n"
                   "str r2, [r10], #4\n" NEXT_ROW
                   ".balign 4\n"
                   "6:\n" RESCALED
                   "ssat r2, #16, r2\n"
                   "strh r2, [r10], #2\n" NEXT_ROW
                   ".balign 4\n"
                   "7:\n" RESCALED
                   "ssat r2, #8, r2\n"
                   "strb r2, [r10], #1\n" NEXT_ROW);
}

#else

/* The twin in C. */
#define ND_SINGLE(k) sum += (uint32_t)((int8_t)s[2 * (k) + 1] * at[s[2 * (k)]])

/* All rows; y has that many bits an element. */
static void product(const nd_sparse_t *a, const int16_t *x, void *y, int32_t bits)
{
    const uint8_t *s = a->weights;
    for (int32_t row = 0; row < a->rows; ++row) {
        const int16_t *at = x;
        int32_t windows = a->windows;
        int32_t made;
        uint32_t sum = (uint32_t)a->bias[row];
        for (;;) {
            uint32_t tiles = s[0];
            const uint32_t singles = s[1];
            s += 2;
            for (; tiles != 0; --tiles, s += 5) {
                const int16_t *in = at + 4 * s[0];
                sum += (uint32_t)((int8_t)s[1] * in[0]);
                sum += (uint32_t)((int8_t)s[2] * in[2]);
                sum += (uint32_t)((int8_t)s[3] * in[1]);
                sum += (uint32_t)((int8_t)s[4] * in[3]);
            }
            if (singles & 1u) {
                ND_SINGLE(0);
                s += 2;
            }
            if (singles & 2u) {
                ND_SINGLE(0);
                ND_SINGLE(1);
                s += 4;
            }
            for (uint32_t fours = singles >> 2; fours != 0; --fours, s += 8) {
                ND_SINGLE(0);
                ND_SINGLE(1);
                ND_SINGLE(2);
                ND_SINGLE(3);
            }
            if (--windows == 0) {
                break;
            }
            at += ND_SPARSE_WINDOW;
        }
        if (bits == 32) {
            ((int32_t *)y)[row] = (int32_t)sum;
            continue;
        }
        made = nd_rescale((int32_t)((uint32_t)sum << a->pre), a->mult[row]);
        if (bits == 16) {
            ((int16_t *)y)[row] = (int16_t)nd_sat16(made);
        } else {
            ((int8_t *)y)[row] = (int8_t)nd_sat8(made);
        }
    }
}

#endif

void nd_sparse_i8_i32(const nd_sparse_t *a, const int16_t *x, int32_t *y)
{
    product(a, x, y, 32);
}

void nd_sparse_i8_i16(const nd_sparse_t *a, const int16_t *x, int16_t *y)
{
    product(a, x, y, 16);
}

void nd_sparse_i8_i8(const nd_sparse_t *a, const int16_t *x, int8_t *y)
{
    product(a, x, y, 8);
}
