/* What the resident firmware is asked and what it answers; neurodeploy/deploy/frames.py holds the same numbers.
 *
 * A reply has the request's sequence number and its type with the top bit set, or ND_NAK with a code and a detail.
 * A request that comes again (same number, same CRC) is answered from memory: repeating one never steps a model twice.
 * All numbers are little endian; every payload is a whole number of fields, checked for its length.
 */
#ifndef ND_RESIDENT_H
#define ND_RESIDENT_H

#define ND_FIRMWARE_ABI 1u
/* The target id of every firmware that runs its own model in TFLite Micro: "TFLM". */
#define ND_TARGET_TFLM 0x4D4C4654u

enum {
    ND_PING = 0x01,       /* -> target_id, abi, max_payload, build hash[16], cpuid, slot origin, slot bytes,
                                timer_hz (0: the timer counts instructions), broken frames since start, status of the last fault */
    ND_INFO = 0x02,       /* -> image bytes, image crc32, model hash[16], bss bytes, ticks of an empty step, n_stages,
                                then state, in and out bytes of each stage */
    ND_LOAD_BEGIN = 0x03, /* length -> ; the image that was there is gone */
    ND_LOAD_CHUNK = 0x04, /* offset, bytes -> ; in order, without gaps */
    ND_LOAD_END = 0x05,   /* -> ; checked, cleared, every stage reset */
    ND_RESET = 0x06,      /* stage -> */
    ND_STEP = 0x07,       /* stage, flags, n, inputs[n] -> n, stack bytes, ticks[n], outputs[n], states[n] */
    ND_READ = 0x08,       /* stage, region, offset, length -> bytes */
    ND_WRITE = 0x09,      /* stage, region, offset, bytes -> */
    ND_REPLY = 0x80,
    ND_NAK = 0xFF /* code, detail, detail */
};

/* Flags of ND_STEP. */
enum {
    ND_STEP_RESET_FIRST = 1,  /* reset the stage before the first of these steps */
    ND_STEP_STACK = 2,        /* find the deepest stack use of a step, its own frames only (paints the stack: slow) */
    ND_STEP_STATES = 4,       /* append the state after each step */
    ND_STEP_IN_PLACE = 8      /* one step on what ND_WRITE put there; neither inputs nor outputs are in the frames */
};

/* Regions of ND_READ and ND_WRITE. */
enum { ND_REGION_STATE = 0, ND_REGION_IN = 1, ND_REGION_OUT = 2, ND_REGIONS = 3 };

/* Codes of ND_NAK. */
enum {
    ND_ERR_UNKNOWN = 1,    /* no such request; detail: its type */
    ND_ERR_VERSION = 2,    /* another version of the frames; detail: ours */
    ND_ERR_LENGTH = 3,     /* payload too short or too long; details: found, needed */
    ND_ERR_NO_IMAGE = 4,   /* nothing is loaded */
    ND_ERR_STAGE = 5,      /* no such stage; details: found, stages */
    ND_ERR_RANGE = 6,      /* outside the region; details: end asked for, bytes there are */
    ND_ERR_TOO_BIG = 7,    /* the image doesn't fit; details: found, room */
    ND_ERR_ORDER = 8,      /* a load request out of order; details: found, needed */
    ND_ERR_IMAGE_CRC = 9,  /* details: found, needed */
    ND_ERR_IMAGE_HEAD = 10,/* the header makes no sense; detail: which field, counted from 0 */
    ND_ERR_FAULT = 11,     /* the model crashed and the board was reset; details: fault status, program counter */
    ND_ERR_REPLY = 12,     /* the reply would not fit a frame; details: bytes, room */
    ND_ERR_TFLM = 13,      /* TFLite Micro failed, its log says why; detail: the stage (firmware/tflm) */
    ND_ERR_TFLM_BEGIN = 14 /* the same before the first step; details: the stage, the bytes of its arena */
};

#endif
