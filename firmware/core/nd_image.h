/* A compiled model as the resident firmware takes it over the serial line.
 *
 * The image is one block of bytes, code and data together, linked for the address of the board's slot, with this header
 * first. It calls nothing outside itself. image_bytes and crc32 are filled in after linking (they depend on the result);
 * crc32 covers every byte after the field itself.
 */
#ifndef ND_IMAGE_H
#define ND_IMAGE_H

#include <stdint.h>

#define ND_IMAGE_MAGIC 0x474D494Eu /* "NIMG" */
#define ND_IMAGE_ABI 1u
#define ND_IMAGE_MAX_STAGES 8u
#define ND_IMAGE_CRC_FROM 16u /* the CRC covers the bytes from here */

typedef void (*nd_reset_fn)(void *state);
typedef void (*nd_step_fn)(void *state, const void *in, void *out);

typedef struct {
    nd_reset_fn reset;
    nd_step_fn step;
    uint32_t state_bytes, in_bytes, out_bytes, reserved;
} nd_stage_t;

typedef struct {
    uint32_t magic, abi, image_bytes, crc32;
    uint32_t n_stages;
    uint8_t model_hash[16];
    uint8_t *bss_start, *bss_end; /* cleared when the image is loaded */
    nd_stage_t stages[ND_IMAGE_MAX_STAGES];
} nd_image_t;

/* From the linker script. */
extern uint8_t nd_image_bss_start[], nd_image_bss_end[];

/* The header's fixed part and one row of its table. The functions take the stage's own types; the firmware calls them
 * through void pointers. The detour over void (*)(void) is how a compiler is told that this is meant. */
#define ND_IMAGE_HEAD(n_stages) ND_IMAGE_MAGIC, ND_IMAGE_ABI, 0, 0, (n_stages)
#define ND_IMAGE_BSS nd_image_bss_start, nd_image_bss_end
#define ND_STAGE(prefix)                                                                                             \
    {                                                                                                                \
        (nd_reset_fn)(void (*)(void))prefix##_reset, (nd_step_fn)(void (*)(void))prefix##_step,                      \
            sizeof(prefix##_state_t), sizeof(prefix##_in_t), sizeof(prefix##_out_t), 0                               \
    }
#define ND_IMAGE_PLACE __attribute__((section(".nd_image"), used))

#endif
