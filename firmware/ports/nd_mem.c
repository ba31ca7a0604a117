/* memcpy and memset for firmware and images: by words where both ends are aligned, else by bytes. */
#include <stdint.h>
#include <string.h>

/* The empty asm keeps a compiler from turning these loops into calls of the very functions that they define. */
#define KEEP_LOOP() __asm volatile("" ::: "memory")

typedef uint32_t __attribute__((may_alias)) word_t;

void *memcpy(void *restrict to, const void *restrict from, size_t bytes)
{
    uint8_t *d = to;
    const uint8_t *s = from;
    if ((((uintptr_t)d | (uintptr_t)s) & 3u) == 0) {
        for (; bytes >= 16; bytes -= 16, d += 16, s += 16) {
            const word_t a = ((const word_t *)(const void *)s)[0], b = ((const word_t *)(const void *)s)[1];
            const word_t c = ((const word_t *)(const void *)s)[2], e = ((const word_t *)(const void *)s)[3];
            ((word_t *)(void *)d)[0] = a;
            ((word_t *)(void *)d)[1] = b;
            ((word_t *)(void *)d)[2] = c;
            ((word_t *)(void *)d)[3] = e;
            KEEP_LOOP();
        }
        for (; bytes >= 4; bytes -= 4, d += 4, s += 4) {
            *(word_t *)(void *)d = *(const word_t *)(const void *)s;
            KEEP_LOOP();
        }
    }
    while (bytes-- != 0) {
        *d++ = *s++;
        KEEP_LOOP();
    }
    return to;
}

void *memset(void *to, int value, size_t bytes)
{
    uint8_t *d = to;
    const uint32_t word = (uint8_t)value * 0x01010101u;
    for (; bytes != 0 && ((uintptr_t)d & 3u) != 0; --bytes) {
        *d++ = (uint8_t)value;
        KEEP_LOOP();
    }
    for (; bytes >= 4; bytes -= 4, d += 4) {
        *(word_t *)(void *)d = word;
        KEEP_LOOP();
    }
    while (bytes-- != 0) {
        *d++ = (uint8_t)value;
        KEEP_LOOP();
    }
    return to;
}

/* What clang calls these on bare Arm (Arm IHI 0043, section 4.3.4); the suffix promises an alignment. */
#if defined(__arm__) && defined(__clang__)
#define COPY(name)                                                    \
    void name(void *to, const void *from, size_t bytes);              \
    void name(void *to, const void *from, size_t bytes)               \
    {                                                                 \
        (void)memcpy(to, from, bytes);                                \
    }
#define SET(name)                                                     \
    void name(void *to, size_t bytes, int value);                     \
    void name(void *to, size_t bytes, int value)                      \
    {                                                                 \
        (void)memset(to, value, bytes);                               \
    }
#define CLEAR(name)                                                   \
    void name(void *to, size_t bytes);                                \
    void name(void *to, size_t bytes)                                 \
    {                                                                 \
        (void)memset(to, 0, bytes);                                   \
    }
COPY(__aeabi_memcpy)
COPY(__aeabi_memcpy4)
COPY(__aeabi_memcpy8)
SET(__aeabi_memset)
SET(__aeabi_memset4)
SET(__aeabi_memset8)
CLEAR(__aeabi_memclr)
CLEAR(__aeabi_memclr4)
CLEAR(__aeabi_memclr8)
#endif
