/* The fast path of parse + check + decode: the JSON text of a plain block becomes Arrow buffers, in one pass.
 *
 * Why it exists: the pure path (rpc.py, checks.py, decode.py) makes a Python object of every value, which is most of
 * what a block costs. This one makes none. It is optional: where it is not built, the pure path does all blocks.
 *
 * Its one invariant: WHATEVER IS ACCEPTED HERE, THE PURE PATH ACCEPTS AT LEVEL "strict", WITH THE SAME ROWS. It knows
 * only the plain spelling of each value, passes no judgement, and raises no error about data: whatever is not plain,
 * or fails a check of data.md 2.3, is *declined*. Then nothing is appended, and the caller asks the pure path, which
 * has the rows or the exact error. So a field that rpc.py types must be in a table of keys below, read or not: the
 * pure path refuses a block where it has another form (a test compares the tables with rpc.py).
 *
 * Texts come from strangers. Every read is bounded by the end of its text, nesting by MAX_DEPTH, rows by Arrow's
 * 32-bit offsets; a value is only ever decoded into a row that was reserved before.
 */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#if !defined(__SIZEOF_INT128__) || !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "needs a little-endian machine and a compiler with 128-bit integers; without them the pure path does it all"
#endif

typedef unsigned __int128 u128;

enum {
    MAX_DEPTH = 32,         /* of containers in a value that nobody reads; Python's own parser bears 1000 */
    MAX_NUMBER_CHARS = 1024, /* of a quantity, as in rpc.py */
    MAX_TOPICS = 4,
    BLOOM_BYTES = 256,
    HASH_BYTES = 32,
    ADDRESS_BYTES = 20,
    WORD_DIGITS = 64,
    MAX_DECIMAL_DIGITS = 39, /* of 2^128 - 1 */
    GIL_BYTES = 1 << 14,    /* a text that is shorter is read sooner than the lock is handed over */
};

#define NANOSECONDS UINT64_C(1000000000)
#define LAST_SECOND ((uint64_t)INT64_MAX / NANOSECONDS)
#define DECIMAL_LIMIT ((u128)UINT64_C(10000000000000000000) * UINT64_C(10000000000000000000)) /* 10^38 */

/* ---- columns: the buffers of all tables, in the order in which Arrow lists them ------------------------------- */

/* Rows that grow together. The last ones are bytes of values of any length, and what one block needs for itself. */
typedef enum {
    BLOCKS, TXS, LOGS, ACCESSES, KEYS, BLOBS, AUTHORIZATIONS, EXTRA, VALUES, INPUTS, DATA, OF_BLOCK, GROUPS
} Group;

typedef enum { BITS, BYTES, ENDS } Layout; /* one bit a row; so many bytes; int32 offsets, one more than rows */

/* X(column, group, layout, bytes). Depth first by column of schemas.py without `_block_num`: validity (nullable columns
 * only), offsets (lists and values of any length), values. native.py reads them in just this order. */
#define COLUMNS_OF_ALL(X)                       \
    X(B_NUMBER, BLOCKS, BYTES, 8)               \
    X(B_TIMESTAMP, BLOCKS, BYTES, 8)            \
    X(B_HASH, BLOCKS, BYTES, 32)                \
    X(B_PARENT, BLOCKS, BYTES, 32)              \
    X(B_OMMERS, BLOCKS, BYTES, 32)              \
    X(B_MINER, BLOCKS, BYTES, 20)               \
    X(B_STATE_ROOT, BLOCKS, BYTES, 32)          \
    X(B_TRANSACTIONS_ROOT, BLOCKS, BYTES, 32)   \
    X(B_RECEIPT_ROOT, BLOCKS, BYTES, 32)        \
    X(B_BLOOM_ENDS, BLOCKS, ENDS, 4)            \
    X(B_BLOOM, BLOCKS, BYTES, 256)              \
    X(B_DIFFICULTY, BLOCKS, BYTES, 16)          \
    X(B_TOTAL_DIFFICULTY_VALID, BLOCKS, BITS, 0) \
    X(B_TOTAL_DIFFICULTY, BLOCKS, BYTES, 16)    \
    X(B_GAS_LIMIT, BLOCKS, BYTES, 8)            \
    X(B_GAS_USED, BLOCKS, BYTES, 8)             \
    X(B_EXTRA_ENDS, BLOCKS, ENDS, 4)            \
    X(B_EXTRA, EXTRA, BYTES, 1)                 \
    X(B_MIX_HASH, BLOCKS, BYTES, 32)            \
    X(B_NONCE, BLOCKS, BYTES, 8)                \
    X(B_BASE_FEE_VALID, BLOCKS, BITS, 0)        \
    X(B_BASE_FEE, BLOCKS, BYTES, 16)            \
    X(B_WITHDRAWALS_VALID, BLOCKS, BITS, 0)     \
    X(B_WITHDRAWALS, BLOCKS, BYTES, 32)         \
    X(B_BLOB_GAS_VALID, BLOCKS, BITS, 0)        \
    X(B_BLOB_GAS, BLOCKS, BYTES, 8)             \
    X(B_EXCESS_VALID, BLOCKS, BITS, 0)          \
    X(B_EXCESS, BLOCKS, BYTES, 8)               \
    X(B_BEACON_VALID, BLOCKS, BITS, 0)          \
    X(B_BEACON, BLOCKS, BYTES, 32)              \
    X(B_REQUESTS_VALID, BLOCKS, BITS, 0)        \
    X(B_REQUESTS, BLOCKS, BYTES, 32)            \
    X(T_BLOCK_HASH, TXS, BYTES, 32)             \
    X(T_NUMBER, TXS, BYTES, 8)                  \
    X(T_TIMESTAMP, TXS, BYTES, 8)               \
    X(T_INDEX, TXS, BYTES, 4)                   \
    X(T_HASH, TXS, BYTES, 32)                   \
    X(T_TO_VALID, TXS, BITS, 0)                 \
    X(T_TO, TXS, BYTES, 20)                     \
    X(T_NONCE, TXS, BYTES, 8)                   \
    X(T_GAS_PRICE_VALID, TXS, BITS, 0)          \
    X(T_GAS_PRICE, TXS, BYTES, 16)              \
    X(T_GAS_LIMIT, TXS, BYTES, 8)               \
    X(T_VALUE_ENDS, TXS, ENDS, 4)               \
    X(T_VALUE, VALUES, BYTES, 1)                \
    X(T_INPUT_ENDS, TXS, ENDS, 4)               \
    X(T_INPUT, INPUTS, BYTES, 1)                \
    X(T_R, TXS, BYTES, 32)                      \
    X(T_S, TXS, BYTES, 32)                      \
    X(T_PARITY, TXS, BITS, 0)                   \
    X(T_CHAIN_ID_VALID, TXS, BITS, 0)           \
    X(T_CHAIN_ID, TXS, BYTES, 8)                \
    X(T_GAS_USED, TXS, BYTES, 8)                \
    X(T_TYPE, TXS, BYTES, 4)                    \
    X(T_MAX_FEE_VALID, TXS, BITS, 0)            \
    X(T_MAX_FEE, TXS, BYTES, 16)                \
    X(T_TIP_VALID, TXS, BITS, 0)                \
    X(T_TIP, TXS, BYTES, 16)                    \
    X(T_BLOB_FEE_VALID, TXS, BITS, 0)           \
    X(T_BLOB_FEE, TXS, BYTES, 16)               \
    X(T_FROM, TXS, BYTES, 20)                   \
    X(T_STATUS, TXS, BITS, 0)                   \
    X(T_ROOT_VALID, TXS, BITS, 0)               \
    X(T_ROOT, TXS, BYTES, 32)                   \
    X(T_ACCESS_VALID, TXS, BITS, 0)             \
    X(T_ACCESS_ENDS, TXS, ENDS, 4)              \
    X(C_ADDRESS, ACCESSES, BYTES, 20)           \
    X(C_KEY_ENDS, ACCESSES, ENDS, 4)            \
    X(C_KEY, KEYS, BYTES, 32)                   \
    X(T_BLOBS_VALID, TXS, BITS, 0)              \
    X(T_BLOB_ENDS, TXS, ENDS, 4)                \
    X(T_BLOB, BLOBS, BYTES, 32)                 \
    X(T_AUTHORIZATIONS_VALID, TXS, BITS, 0)     \
    X(T_AUTHORIZATION_ENDS, TXS, ENDS, 4)       \
    X(A_CHAIN_ID, AUTHORIZATIONS, BYTES, 8)     \
    X(A_ADDRESS, AUTHORIZATIONS, BYTES, 20)     \
    X(A_NONCE, AUTHORIZATIONS, BYTES, 8)        \
    X(A_PARITY, AUTHORIZATIONS, BITS, 0)        \
    X(A_R, AUTHORIZATIONS, BYTES, 32)           \
    X(A_S, AUTHORIZATIONS, BYTES, 32)           \
    X(L_BLOCK_HASH, LOGS, BYTES, 32)            \
    X(L_NUMBER, LOGS, BYTES, 8)                 \
    X(L_TIMESTAMP, LOGS, BYTES, 8)              \
    X(L_TX_HASH, LOGS, BYTES, 32)               \
    X(L_TX_INDEX, LOGS, BYTES, 4)               \
    X(L_INDEX, LOGS, BYTES, 4)                  \
    X(L_ADDRESS, LOGS, BYTES, 20)               \
    X(L_TOPIC0_VALID, LOGS, BITS, 0)            \
    X(L_TOPIC0, LOGS, BYTES, 32)                \
    X(L_TOPIC1_VALID, LOGS, BITS, 0)            \
    X(L_TOPIC1, LOGS, BYTES, 32)                \
    X(L_TOPIC2_VALID, LOGS, BITS, 0)            \
    X(L_TOPIC2, LOGS, BYTES, 32)                \
    X(L_TOPIC3_VALID, LOGS, BITS, 0)            \
    X(L_TOPIC3, LOGS, BYTES, 32)                \
    X(L_DATA_ENDS, LOGS, ENDS, 4)               \
    X(L_DATA, DATA, BYTES, 1)                   \
    X(TX_TEXT, OF_BLOCK, BYTES, sizeof(Text))

/* A piece of the text: a string without its quotes, a flag, the start of a list. `at` is NULL where there is none:
 * `length` then tells null (1) from absent (0). */
typedef struct {
    const unsigned char *at;
    size_t length;
} Text;

#define ENUMERATED(column, group, layout, bytes) column,
typedef enum { COLUMNS_OF_ALL(ENUMERATED) COLUMNS } Column;
#undef ENUMERATED

enum { HANDED_OUT = TX_TEXT }; /* the columns before it */

static const struct {
    Group group;
    Layout layout;
    size_t bytes;
} SPEC[COLUMNS] = {
#define SPECIFIED(column, group, layout, bytes) {group, layout, bytes},
    COLUMNS_OF_ALL(SPECIFIED)
#undef SPECIFIED
};

/* What all accepted blocks left. A row counts once all of its columns are written, so that to take a block back is to
 * set the counts back. */
typedef struct {
    unsigned char *data[COLUMNS];
    size_t count[GROUPS];
    size_t capacity[GROUPS];
} Store;

typedef enum { TAKEN, FULL, NO_MEMORY } Reserved;

/* Bytes of a column of so many rows. Rows are at most INT_MAX, so that 64 bits are enough. */
static uint64_t bytes_of(Column column, uint64_t rows)
{
    switch (SPEC[column].layout) {
    case BITS: return (rows + 7) / 8;
    case ENDS: return (rows + 1) * SPEC[column].bytes;
    default: return rows * SPEC[column].bytes;
    }
}

/* Room in one column; its first offset is 0. */
static bool resize(Store *store, Column column, size_t rows)
{
    uint64_t bytes = bytes_of(column, rows);
    if (bytes > PY_SSIZE_T_MAX) return false;
    unsigned char *data = realloc(store->data[column], bytes ? (size_t)bytes : 1);
    if (data == NULL) return false;
    if (SPEC[column].layout == ENDS && store->data[column] == NULL) memset(data, 0, SPEC[column].bytes);
    store->data[column] = data;
    return true;
}

/* Room for `more` rows; for one at least, so that no column stays without memory. Where memory ends, columns that have grown already keep their rows and their room. */
static Reserved reserve(Store *store, Group group, size_t more)
{
    size_t count = store->count[group], capacity = store->capacity[group];
    if (capacity != 0 && more <= capacity - count) return TAKEN;
    if (more > INT_MAX - count) return FULL;
    size_t wanted = count + more, room = capacity ? 2 * capacity : 64;
    if (room < wanted) room = wanted;
    if (room > INT_MAX) room = INT_MAX;
    for (Column column = 0; column < COLUMNS; column++)
        if (SPEC[column].group == group && !resize(store, column, room)) return NO_MEMORY;
    store->capacity[group] = room;
    return TAKEN;
}

static inline unsigned char *cell(Store *store, Column column, size_t row)
{
    return store->data[column] + row * SPEC[column].bytes;
}

static inline void put_u64(Store *store, Column column, size_t row, uint64_t value)
{
    memcpy(cell(store, column, row), &value, sizeof value);
}

static inline void put_u32(Store *store, Column column, size_t row, uint32_t value)
{
    memcpy(cell(store, column, row), &value, sizeof value);
}

static inline void put_decimal(Store *store, Column column, size_t row, u128 value)
{
    memcpy(cell(store, column, row), &value, sizeof value);
}

/* Rows come in ascending order, so that no bit behind `row` counts. */
static inline void put_bit(Store *store, Column column, size_t row, bool bit)
{
    unsigned char *byte = store->data[column] + row / 8;
    unsigned before = row % 8 ? *byte & ((1u << row % 8) - 1) : 0;
    *byte = (unsigned char)(before | (unsigned)bit << row % 8);
}

/* Where the value of `row` ends: at the `count` of its group, which INT_MAX bounds. */
static inline void put_end(Store *store, Column column, size_t row, size_t end)
{
    put_u32(store, column, row + 1, (uint32_t)end);
}

static inline void put_null(Store *store, Column valid, Column column, size_t row)
{
    put_bit(store, valid, row, false);
    memset(cell(store, column, row), 0, SPEC[column].bytes);
}

/* ---- hex digits ----------------------------------------------------------------------------------------------- */

static inline unsigned nibble(unsigned char digit)
{
    unsigned value = (unsigned)digit - '0';
    if (value < 10) return value;
    value = ((unsigned)digit | 0x20) - 'a';
    return value < 6 ? value + 10 : 16;
}

#if defined(__SSE2__)
/* 16 digits as 8 bytes, one in each 16-bit lane; what is no digit clears bits of `good`. */
static inline __m128i unhex16(const unsigned char *digits, __m128i *good)
{
    __m128i text = _mm_loadu_si128((const __m128i *)digits);
    __m128i decimal = _mm_sub_epi8(text, _mm_set1_epi8('0'));
    __m128i letter = _mm_sub_epi8(_mm_or_si128(text, _mm_set1_epi8(0x20)), _mm_set1_epi8('a'));
    __m128i is_decimal = _mm_cmpeq_epi8(_mm_min_epu8(decimal, _mm_set1_epi8(9)), decimal);
    __m128i is_letter = _mm_cmpeq_epi8(_mm_min_epu8(letter, _mm_set1_epi8(5)), letter);
    *good = _mm_and_si128(*good, _mm_or_si128(is_decimal, is_letter));
    letter = _mm_and_si128(_mm_add_epi8(letter, _mm_set1_epi8(10)), is_letter);
    __m128i nibbles = _mm_or_si128(_mm_and_si128(decimal, is_decimal), letter);
    __m128i bytes = _mm_or_si128(_mm_slli_epi16(nibbles, 4), _mm_srli_epi16(nibbles, 8));
    return _mm_and_si128(bytes, _mm_set1_epi16(0xFF));
}
#endif

/* `bytes` bytes from twice as many digits; false where one is no digit. */
static bool unhex(unsigned char *out, const unsigned char *digits, size_t bytes)
{
#if defined(__SSE2__)
    __m128i good = _mm_set1_epi8(-1);
    for (; bytes >= 16; bytes -= 16, digits += 32, out += 16) {
        __m128i first = unhex16(digits, &good), second = unhex16(digits + 16, &good);
        _mm_storeu_si128((__m128i *)out, _mm_packus_epi16(first, second));
    }
    if (bytes >= 8) {
        _mm_storel_epi64((__m128i *)out, _mm_packus_epi16(unhex16(digits, &good), good));
        bytes -= 8, digits += 16, out += 8;
    }
    if (_mm_movemask_epi8(good) != 0xFFFF) return false;
#endif
    unsigned bad = 0;
    for (; bytes > 0; bytes--, digits += 2, out++) {
        unsigned high = nibble(digits[0]), low = nibble(digits[1]);
        bad |= high | low;
        *out = (unsigned char)(high << 4 | low);
    }
    return bad < 16;
}

static inline bool is_hex(Text text)
{
    return text.length >= 2 && text.at[0] == '0' && text.at[1] == 'x';
}

static inline bool unhex_fixed(unsigned char *out, Text text, size_t bytes)
{
    return text.at != NULL && text.length == 2 + 2 * bytes && is_hex(text) && unhex(out, text.at + 2, bytes);
}

/* A quantity, big-endian in `bytes` (at most 32) bytes; false where it is none or does not fit. */
static bool unhex_padded(unsigned char *out, Text text, size_t bytes)
{
    if (text.at == NULL || text.length < 3 || !is_hex(text)) return false;
    const unsigned char *digits = text.at + 2;
    size_t count = text.length - 2, room = 2 * bytes;
    for (; count > room; count--)
        if (*digits++ != '0') return false;
    unsigned char padded[WORD_DIGITS];
    memset(padded, '0', sizeof padded);
    memcpy(padded + room - count, digits, count);
    return unhex(out, padded, bytes);
}

static bool u64_of(Text text, uint64_t *value)
{
    unsigned char bytes[8];
    if (!unhex_padded(bytes, text, sizeof bytes)) return false;
    uint64_t big_endian;
    memcpy(&big_endian, bytes, sizeof big_endian);
    *value = __builtin_bswap64(big_endian);
    return true;
}

static bool u128_of(Text text, u128 *value)
{
    unsigned char bytes[16];
    if (!unhex_padded(bytes, text, sizeof bytes)) return false;
    uint64_t halves[2];
    memcpy(halves, bytes, sizeof halves);
    *value = (u128)__builtin_bswap64(halves[0]) << 64 | __builtin_bswap64(halves[1]);
    return true;
}

static inline bool same(Text one, Text other)
{
    return one.at != NULL && other.at != NULL && one.length == other.length && !memcmp(one.at, other.at, one.length);
}

enum { SPELLED_CHARS = 2 + 16 };

/* `number` as nodes spell it, at the end of `buffer` (SPELLED_CHARS): 0x and the fewest lower-case digits. */
static Text spelled(uint64_t number, unsigned char *buffer)
{
    unsigned char *at = buffer + SPELLED_CHARS;
    do *--at = (unsigned char)"0123456789abcdef"[number & 15];
    while (number >>= 4);
    *--at = 'x';
    *--at = '0';
    return (Text){at, (size_t)(buffer + SPELLED_CHARS - at)};
}

/* The decimal digits of `number`, at the end of `buffer` (MAX_DECIMAL_DIGITS bytes). */
static Text decimal_text(u128 number, unsigned char *buffer)
{
    unsigned char *end = buffer + MAX_DECIMAL_DIGITS, *at = end;
    while (number > UINT64_MAX) {
        u128 rest = number / UINT64_C(10000000000000000000);
        uint64_t digits = (uint64_t)(number - rest * UINT64_C(10000000000000000000));
        for (int place = 0; place < 19; place++, digits /= 10) *--at = (unsigned char)('0' + digits % 10);
        number = rest;
    }
    uint64_t small = (uint64_t)number;
    do *--at = (unsigned char)('0' + small % 10);
    while (small /= 10);
    return (Text){at, (size_t)(end - at)};
}

/* ---- blooms: Keccak-256 of addresses and topics ---------------------------------------------------------------- */

static const uint64_t ROUND_CONSTANTS[24] = {
    0x0000000000000001, 0x0000000000008082, 0x800000000000808A, 0x8000000080008000, 0x000000000000808B,
    0x0000000080000001, 0x8000000080008081, 0x8000000000008009, 0x000000000000008A, 0x0000000000000088,
    0x0000000080008009, 0x000000008000000A, 0x000000008000808B, 0x800000000000008B, 0x8000000000008089,
    0x8000000000008003, 0x8000000000008002, 0x8000000000000080, 0x000000000000800A, 0x800000008000000A,
    0x8000000080008081, 0x8000000000008080, 0x0000000080000001, 0x8000000080008008,
};

static inline uint64_t rotated(uint64_t lane, unsigned bits)
{
    return lane << bits | lane >> (64 - bits);
}

/* X(from, to, rotation): rho and pi of Keccak-f[1600], all lanes but the first. */
#define MOVES(X)                                                                                    \
    X(1, 10, 1) X(2, 20, 62) X(3, 5, 28) X(4, 15, 27) X(5, 16, 36) X(6, 1, 44) X(7, 11, 6) X(8, 21, 55) \
    X(9, 6, 20) X(10, 7, 3) X(11, 17, 10) X(12, 2, 43) X(13, 12, 25) X(14, 22, 39) X(15, 23, 41)    \
    X(16, 8, 45) X(17, 18, 15) X(18, 3, 21) X(19, 13, 8) X(20, 14, 18) X(21, 24, 2) X(22, 9, 61)    \
    X(23, 19, 56) X(24, 4, 14)

static void keccak_f1600(uint64_t lanes[25])
{
    uint64_t moved[25], parity[5];
    for (int round = 0; round < 24; round++) {
        for (int x = 0; x < 5; x++) parity[x] = lanes[x] ^ lanes[x + 5] ^ lanes[x + 10] ^ lanes[x + 15] ^ lanes[x + 20];
        for (int x = 0; x < 5; x++) {
            uint64_t mix = parity[(x + 4) % 5] ^ rotated(parity[(x + 1) % 5], 1);
            for (int y = 0; y < 25; y += 5) lanes[x + y] ^= mix;
        }
        moved[0] = lanes[0];
#define MOVED(from, to, bits) moved[to] = rotated(lanes[from], bits);
        MOVES(MOVED)
#undef MOVED
        for (int y = 0; y < 25; y += 5)
            for (int x = 0; x < 5; x++) lanes[x + y] = moved[x + y] ^ (~moved[(x + 1) % 5 + y] & moved[(x + 2) % 5 + y]);
        lanes[0] ^= ROUND_CONSTANTS[round];
    }
}

/* The first 8 bytes of the Keccak-256 of at most 32 bytes, which stand zero-padded in `entry`. */
static uint64_t keccak_start(const unsigned char entry[HASH_BYTES], size_t length)
{
    uint64_t lanes[25] = {0};
    memcpy(lanes, entry, HASH_BYTES);
    lanes[length / 8] ^= UINT64_C(1) << 8 * (length % 8); /* the original padding: 1, then the last bit of the rate */
    lanes[16] ^= UINT64_C(1) << 63;
    keccak_f1600(lanes);
    return lanes[0];
}

/* What addresses and topics hash to: they repeat in almost every block. One reader at a time has it. */
enum { KNOWN_BITS = 15, KNOWN = 1 << KNOWN_BITS };

typedef struct Hashes {
    struct Hashes *next;
    struct {
        unsigned char entry[HASH_BYTES];
        size_t length; /* 0: nothing known */
        uint64_t start;
    } known[KNOWN];
} Hashes;

static uint64_t hash_start(Hashes *hashes, const unsigned char *bytes, size_t length)
{
    unsigned char entry[HASH_BYTES] = {0};
    memcpy(entry, bytes, length);
    uint64_t words[4];
    memcpy(words, entry, sizeof words);
    uint64_t mixed = (words[0] ^ rotated(words[1], 17) ^ rotated(words[2], 31) ^ words[3]) * UINT64_C(0x9E3779B97F4A7C15);
    size_t slot = mixed >> (64 - KNOWN_BITS);
    if (hashes->known[slot].length != length || memcmp(hashes->known[slot].entry, entry, sizeof entry)) {
        hashes->known[slot].start = keccak_start(entry, length);
        hashes->known[slot].length = length;
        memcpy(hashes->known[slot].entry, entry, sizeof entry);
    }
    return hashes->known[slot].start;
}

static void add_to_bloom(unsigned char bloom[BLOOM_BYTES], Hashes *hashes, const unsigned char *bytes, size_t length)
{
    uint64_t start = __builtin_bswap64(hash_start(hashes, bytes, length));
    for (int pair = 0; pair < 3; pair++) {
        unsigned place = start >> (48 - 16 * pair) & 2047;
        bloom[BLOOM_BYTES - 1 - place / 8] |= (unsigned char)(1u << place % 8);
    }
}

/* ---- objects: which keys each kind has -------------------------------------------------------------------------- */

typedef struct Reader Reader;
typedef bool Item(Reader *);

static Item access_entry, authorization, blob_hash, log_entry, storage_key, topic, transaction;

/* What a key's value must be for msgspec: a string, a string that is no longer than a quantity, true or false, a list.
 * Each may be null. */
typedef enum { TEXT, NUMBER, FLAG, LIST } Form;

static const char *const FORMS[] = {"text", "number", "flag", "list"};

typedef struct {
    const char *name;
    size_t length;
    Form form;
    Item *item; /* reads one of a list */
} Key;

/* X(kind, key, form, item): all fields of the structs of rpc.py. */
#define HEADER_KEYS(X)                          \
    X(H, number, NUMBER, NULL)                  \
    X(H, hash, TEXT, NULL)                      \
    X(H, parentHash, TEXT, NULL)                \
    X(H, timestamp, NUMBER, NULL)               \
    X(H, sha3Uncles, TEXT, NULL)                \
    X(H, miner, TEXT, NULL)                     \
    X(H, stateRoot, TEXT, NULL)                 \
    X(H, transactionsRoot, TEXT, NULL)          \
    X(H, receiptsRoot, TEXT, NULL)              \
    X(H, logsBloom, TEXT, NULL)                 \
    X(H, difficulty, NUMBER, NULL)              \
    X(H, totalDifficulty, NUMBER, NULL)         \
    X(H, gasLimit, NUMBER, NULL)                \
    X(H, gasUsed, NUMBER, NULL)                 \
    X(H, extraData, TEXT, NULL)                 \
    X(H, mixHash, TEXT, NULL)                   \
    X(H, nonce, NUMBER, NULL)                   \
    X(H, baseFeePerGas, NUMBER, NULL)           \
    X(H, withdrawalsRoot, TEXT, NULL)           \
    X(H, blobGasUsed, NUMBER, NULL)             \
    X(H, excessBlobGas, NUMBER, NULL)           \
    X(H, parentBeaconBlockRoot, TEXT, NULL)     \
    X(H, requestsHash, TEXT, NULL)              \
    X(H, transactions, LIST, transaction)

#define TRANSACTION_KEYS(X)                     \
    X(T, hash, TEXT, NULL)                      \
    X(T, type, NUMBER, NULL)                    \
    X(T, from, TEXT, NULL)                      \
    X(T, to, TEXT, NULL)                        \
    X(T, nonce, NUMBER, NULL)                   \
    X(T, gas, NUMBER, NULL)                     \
    X(T, gasPrice, NUMBER, NULL)                \
    X(T, maxFeePerGas, NUMBER, NULL)            \
    X(T, maxPriorityFeePerGas, NUMBER, NULL)    \
    X(T, maxFeePerBlobGas, NUMBER, NULL)        \
    X(T, value, NUMBER, NULL)                   \
    X(T, input, TEXT, NULL)                     \
    X(T, chainId, NUMBER, NULL)                 \
    X(T, v, NUMBER, NULL)                       \
    X(T, yParity, NUMBER, NULL)                 \
    X(T, r, NUMBER, NULL)                       \
    X(T, s, NUMBER, NULL)                       \
    X(T, blockHash, TEXT, NULL)                 \
    X(T, transactionIndex, NUMBER, NULL)        \
    X(T, accessList, LIST, access_entry)        \
    X(T, blobVersionedHashes, LIST, blob_hash)  \
    X(T, authorizationList, LIST, authorization) \
    X(T, sourceHash, TEXT, NULL)                \
    X(T, mint, NUMBER, NULL)                    \
    X(T, isSystemTx, FLAG, NULL)

#define ACCESS_KEYS(X)                          \
    X(C, address, TEXT, NULL)                   \
    X(C, storageKeys, LIST, storage_key)

#define AUTHORIZATION_KEYS(X)                   \
    X(A, chainId, NUMBER, NULL)                 \
    X(A, address, TEXT, NULL)                   \
    X(A, nonce, NUMBER, NULL)                   \
    X(A, yParity, NUMBER, NULL)                 \
    X(A, v, NUMBER, NULL)                       \
    X(A, r, NUMBER, NULL)                       \
    X(A, s, NUMBER, NULL)

#define RECEIPT_KEYS(X)                         \
    X(R, transactionHash, TEXT, NULL)           \
    X(R, transactionIndex, NUMBER, NULL)        \
    X(R, blockHash, TEXT, NULL)                 \
    X(R, cumulativeGasUsed, NUMBER, NULL)       \
    X(R, status, NUMBER, NULL)                  \
    X(R, root, TEXT, NULL)                      \
    X(R, logs, LIST, log_entry)                 \
    X(R, depositNonce, NUMBER, NULL)            \
    X(R, depositReceiptVersion, NUMBER, NULL)

#define LOG_KEYS(X)                             \
    X(L, address, TEXT, NULL)                   \
    X(L, topics, LIST, topic)                   \
    X(L, data, TEXT, NULL)                      \
    X(L, blockNumber, NUMBER, NULL)             \
    X(L, blockHash, TEXT, NULL)                 \
    X(L, transactionHash, TEXT, NULL)           \
    X(L, transactionIndex, NUMBER, NULL)        \
    X(L, logIndex, NUMBER, NULL)                \
    X(L, removed, FLAG, NULL)

#define ENUMERATED(kind, key, form, item) kind##_##key,
enum { HEADER_KEYS(ENUMERATED) OF_HEADER };
enum { TRANSACTION_KEYS(ENUMERATED) OF_TRANSACTION };
enum { ACCESS_KEYS(ENUMERATED) OF_ACCESS };
enum { AUTHORIZATION_KEYS(ENUMERATED) OF_AUTHORIZATION };
enum { RECEIPT_KEYS(ENUMERATED) OF_RECEIPT };
enum { LOG_KEYS(ENUMERATED) OF_LOG };
#undef ENUMERATED
enum { MOST_KEYS = OF_TRANSACTION };
_Static_assert(OF_HEADER <= MOST_KEYS && OF_RECEIPT <= MOST_KEYS && OF_LOG <= MOST_KEYS && OF_ACCESS <= MOST_KEYS &&
                   OF_AUTHORIZATION <= MOST_KEYS && MOST_KEYS <= 64,
               "an Object has a place, and `given` a bit, for each key");

#define KEYED(kind, key, form, item) {#key, sizeof #key - 1, form, item},
static const Key KEYS_OF_HEADER[] = {HEADER_KEYS(KEYED)};
static const Key KEYS_OF_TRANSACTION[] = {TRANSACTION_KEYS(KEYED)};
static const Key KEYS_OF_ACCESS[] = {ACCESS_KEYS(KEYED)};
static const Key KEYS_OF_AUTHORIZATION[] = {AUTHORIZATION_KEYS(KEYED)};
static const Key KEYS_OF_RECEIPT[] = {RECEIPT_KEYS(KEYED)};
static const Key KEYS_OF_LOG[] = {LOG_KEYS(KEYED)};
#undef KEYED

typedef enum { HEADER, TRANSACTION, ACCESS, AUTHORIZATION, RECEIPT, LOG, OBJECT_KINDS } Kind;

static const struct {
    const char *name; /* as msgspec's struct is called in rpc.py, without Rpc */
    const Key *keys;
    int count;
} OBJECTS[OBJECT_KINDS] = {
    {"Block", KEYS_OF_HEADER, OF_HEADER},
    {"Transaction", KEYS_OF_TRANSACTION, OF_TRANSACTION},
    {"Access", KEYS_OF_ACCESS, OF_ACCESS},
    {"Authorization", KEYS_OF_AUTHORIZATION, OF_AUTHORIZATION},
    {"Receipt", KEYS_OF_RECEIPT, OF_RECEIPT},
    {"Log", KEYS_OF_LOG, OF_LOG},
};

/* ---- the reader of one block ------------------------------------------------------------------------------------ */

enum { REMEMBERED = 40, UNKNOWN = -1, MALFORMED = -2 };

/* A key that stood at some place in the last object of its kind: the next one has it there too, as a rule. */
typedef struct {
    const unsigned char *at; /* behind the opening quote */
    size_t length;           /* with the closing one */
    int key;
} Remembered;

/* Its texts point into the caller's buffers: they are good during one add(), and nobody may change those meanwhile. */
struct Reader {
    const unsigned char *at, *end; /* of the text that is being read */
    Store *store;
    Hashes *hashes;
    uint64_t number; /* that was asked for */

    Text number_text, hash; /* as the header spells them, for receipts and logs */
    Text named_hash;        /* as the transactions do, which may stand before it */
    Text tx_hash, tx_index; /* of the receipt that is being read */
    unsigned char tx_index_digits[SPELLED_CHARS];
    size_t first_tx, first_log; /* rows of this block */
    size_t receipts;            /* read */
    uint64_t gas;               /* cumulative, of the last receipt */
    Text topics[MAX_TOPICS];
    int topic_count;
    unsigned char bloom[BLOOM_BYTES]; /* of all logs read */

    const char *declined_at, *declined_for; /* an object or a check, a key or a reason; NULL if nothing was */
    bool no_memory;
    Remembered remembered[OBJECT_KINDS][REMEMBERED];
};

/* The strings of one object, by key. */
typedef struct {
    Kind kind;
    Text text[MOST_KEYS];
} Object;

static bool declined(Reader *reader, const char *at, const char *reason)
{
    if (reader->declined_at == NULL) reader->declined_at = at, reader->declined_for = reason;
    return false;
}

static bool declined_key(Reader *reader, Kind kind, int key)
{
    return declined(reader, OBJECTS[kind].name, OBJECTS[kind].keys[key].name);
}

static inline bool room(Reader *reader, Group group, size_t rows)
{
    Reserved reserved = reserve(reader->store, group, rows);
    if (reserved == NO_MEMORY) reader->no_memory = true;
    return reserved == TAKEN || declined(reader, "columns", "size");
}

/* -- JSON -- */

static inline void skip_blanks(Reader *reader)
{
    while (reader->at < reader->end && *reader->at <= ' ' && (*reader->at == ' ' || *reader->at == '\n' ||
                                                             *reader->at == '\r' || *reader->at == '\t'))
        reader->at++;
}

/* The next byte that is no blank; 0 at the end, which is no token either. */
static inline unsigned char peek(Reader *reader)
{
    skip_blanks(reader);
    return reader->at < reader->end ? *reader->at : 0;
}

static inline bool take(Reader *reader, unsigned char token)
{
    if (peek(reader) != token) return false;
    reader->at++;
    return true;
}

static bool take_word(Reader *reader, const char *word, size_t length)
{
    if ((size_t)(reader->end - reader->at) < length || memcmp(reader->at, word, length)) return false;
    reader->at += length;
    return true;
}

/* The quote that ends a string of printable ASCII; NULL where there is none, or anything else before it. */
static const unsigned char *closing_quote(const unsigned char *at, const unsigned char *end)
{
#if defined(__SSE2__)
    for (; end - at >= 16; at += 16) {
        __m128i text = _mm_loadu_si128((const __m128i *)at);
        __m128i stops = _mm_cmplt_epi8(text, _mm_set1_epi8(' ')); /* signed: bytes from 0x80 too */
        stops = _mm_or_si128(stops, _mm_cmpeq_epi8(text, _mm_set1_epi8('"')));
        stops = _mm_or_si128(stops, _mm_cmpeq_epi8(text, _mm_set1_epi8('\\')));
        int found = _mm_movemask_epi8(stops);
        if (found) {
            at += __builtin_ctz((unsigned)found);
            return *at == '"' ? at : NULL;
        }
    }
#endif
    for (; at < end; at++) {
        if (*at == '"') return at;
        if (*at < ' ' || *at >= 0x80 || *at == '\\') return NULL;
    }
    return NULL;
}

static inline bool take_string(Reader *reader, Text *text)
{
    if (!take(reader, '"')) return false;
    const unsigned char *quote = closing_quote(reader->at, reader->end);
    if (quote == NULL) return false;
    *text = (Text){reader->at, (size_t)(quote - reader->at)};
    reader->at = quote + 1;
    return true;
}

static bool take_digits(Reader *reader)
{
    const unsigned char *first = reader->at;
    while (reader->at < reader->end && *reader->at >= '0' && *reader->at <= '9') reader->at++;
    return reader->at > first;
}

/* A JSON number, strictly. */
static bool skip_number(Reader *reader)
{
    (void)take_word(reader, "-", 1);
    if (!take_word(reader, "0", 1) && !take_digits(reader)) return false;
    if (take_word(reader, ".", 1) && !take_digits(reader)) return false;
    if (take_word(reader, "e", 1) || take_word(reader, "E", 1)) {
        if (!take_word(reader, "+", 1)) (void)take_word(reader, "-", 1);
        return take_digits(reader);
    }
    return true;
}

/* A value that nobody reads. */
static bool skip_value(Reader *reader, int depth)
{
    Text text;
    unsigned char first = peek(reader), last;
    switch (first) {
    case '"': return take_string(reader, &text);
    case 'n': return take_word(reader, "null", 4);
    case 't': return take_word(reader, "true", 4);
    case 'f': return take_word(reader, "false", 5);
    case '{': last = '}'; break;
    case '[': last = ']'; break;
    default: return skip_number(reader);
    }
    if (depth >= MAX_DEPTH) return false;
    reader->at++;
    if (take(reader, last)) return true;
    do {
        if (first == '{' && !(take_string(reader, &text) && take(reader, ':'))) return false;
        if (!skip_value(reader, depth + 1)) return false;
    } while (take(reader, ','));
    return take(reader, last);
}

static bool take_list(Reader *reader, Item *item)
{
    if (!take(reader, '[')) return false;
    if (take(reader, ']')) return true;
    do
        if (!item(reader)) return false;
    while (take(reader, ','));
    return take(reader, ']');
}

static int key_of(Kind kind, Text name)
{
    const Key *keys = OBJECTS[kind].keys;
    for (int key = 0; key < OBJECTS[kind].count; key++)
        if (keys[key].length == name.length && !memcmp(keys[key].name, name.at, name.length)) return key;
    return UNKNOWN;
}

/* The key that stands at `place` of an object. */
static int take_key(Reader *reader, Kind kind, size_t place)
{
    if (!take(reader, '"')) return MALFORMED;
    Remembered *last = place < REMEMBERED ? &reader->remembered[kind][place] : NULL;
    if (last && last->at && (size_t)(reader->end - reader->at) >= last->length &&
        !memcmp(reader->at, last->at, last->length)) {
        reader->at += last->length;
        return last->key;
    }
    const unsigned char *start = reader->at, *quote = closing_quote(start, reader->end);
    if (quote == NULL) return MALFORMED;
    int key = key_of(kind, (Text){start, (size_t)(quote - start)});
    if (last) *last = (Remembered){start, (size_t)(quote - start) + 1, key};
    reader->at = quote + 1;
    return key;
}

/* The value of a known key, of the form that it must have. */
static bool take_value(Reader *reader, const Key *key, Text *text)
{
    unsigned char first = peek(reader);
    const unsigned char *start = reader->at;
    if (first == 'n') {
        text->length = 1;
        return take_word(reader, "null", 4);
    }
    switch (key->form) {
    case TEXT: return take_string(reader, text);
    case NUMBER: return take_string(reader, text) && text->length <= MAX_NUMBER_CHARS;
    case FLAG: *text = (Text){start, 1}; return take_word(reader, "true", 4) || take_word(reader, "false", 5);
    case LIST: *text = (Text){start, 1}; return take_list(reader, key->item);
    }
    return false;
}

static bool take_object(Reader *reader, Kind kind, Object *object)
{
    object->kind = kind;
    memset(object->text, 0, (size_t)OBJECTS[kind].count * sizeof(Text));
    uint64_t given = 0;
    if (!take(reader, '{')) return declined(reader, OBJECTS[kind].name, "no object");
    if (take(reader, '}')) return true;
    size_t place = 0;
    do {
        int key = take_key(reader, kind, place++);
        if (key == MALFORMED || !take(reader, ':')) return declined(reader, OBJECTS[kind].name, "malformed");
        if (key == UNKNOWN) {
            if (!skip_value(reader, 0)) return declined(reader, OBJECTS[kind].name, "a field of no table");
            continue;
        }
        if (given >> key & 1) return declined(reader, OBJECTS[kind].name, "a key twice");
        given |= UINT64_C(1) << key;
        if (!take_value(reader, &OBJECTS[kind].keys[key], &object->text[key])) return declined_key(reader, kind, key);
    } while (take(reader, ','));
    return take(reader, '}') || declined(reader, OBJECTS[kind].name, "malformed");
}

static inline bool given(const Object *object, int key)
{
    return object->text[key].at != NULL;
}

static inline bool absent(const Object *object, int key)
{
    return object->text[key].at == NULL && object->text[key].length == 0;
}

/* The very text that is expected. */
static inline bool says(Reader *reader, const Object *object, int key, Text expected)
{
    return same(object->text[key], expected) || declined_key(reader, object->kind, key);
}

/* -- values of an object: into a row that has room -- */

static bool read_fixed(Reader *reader, const Object *object, int key, Column column, size_t row)
{
    bool good = unhex_fixed(cell(reader->store, column, row), object->text[key], SPEC[column].bytes);
    return good || declined_key(reader, object->kind, key);
}

static bool read_word(Reader *reader, const Object *object, int key, Column column, size_t row)
{
    bool good = unhex_padded(cell(reader->store, column, row), object->text[key], HASH_BYTES);
    return good || declined_key(reader, object->kind, key);
}

static bool read_number(Reader *reader, const Object *object, int key, uint64_t *value)
{
    return u64_of(object->text[key], value) || declined_key(reader, object->kind, key);
}

static bool read_u64(Reader *reader, const Object *object, int key, Column column, size_t row)
{
    uint64_t value;
    if (!read_number(reader, object, key, &value)) return false;
    put_u64(reader->store, column, row, value);
    return true;
}

static bool read_decimal(Reader *reader, const Object *object, int key, Column column, size_t row)
{
    u128 value;
    if (!u128_of(object->text[key], &value) || value >= DECIMAL_LIMIT) return declined_key(reader, object->kind, key);
    put_decimal(reader->store, column, row, value);
    return true;
}

typedef bool Read(Reader *, const Object *, int key, Column, size_t row);

/* A nullable column: the value where `wanted`, which then must be good. */
static bool read_if(bool wanted, Read *read, Reader *reader, const Object *object, int key, Column valid, Column column,
                    size_t row)
{
    if (!wanted) {
        put_null(reader->store, valid, column, row);
        return true;
    }
    put_bit(reader->store, valid, row, true);
    return read(reader, object, key, column, row);
}

static bool read_given(Read *read, Reader *reader, const Object *object, int key, Column valid, Column column,
                       size_t row)
{
    return read_if(given(object, key), read, reader, object, key, valid, column, row);
}

/* Bytes of any length, behind those of `bytes`' rows before. */
static bool read_binary(Reader *reader, const Object *object, int key, Column ends, Column bytes, size_t row)
{
    Text text = object->text[key];
    if (text.at == NULL || !is_hex(text) || text.length % 2) return declined_key(reader, object->kind, key);
    Group group = SPEC[bytes].group;
    size_t length = text.length / 2 - 1, start = reader->store->count[group];
    if (!room(reader, group, length)) return false;
    if (!unhex(cell(reader->store, bytes, start), text.at + 2, length)) return declined_key(reader, object->kind, key);
    reader->store->count[group] = start + length;
    put_end(reader->store, ends, row, start + length);
    return true;
}

/* A quantity as decimal text. */
static bool read_value(Reader *reader, const Object *object, int key, size_t row)
{
    u128 value;
    unsigned char digits[MAX_DECIMAL_DIGITS];
    if (!u128_of(object->text[key], &value)) return declined_key(reader, object->kind, key);
    Text text = decimal_text(value, digits);
    size_t start = reader->store->count[VALUES];
    if (!room(reader, VALUES, text.length)) return false;
    memcpy(cell(reader->store, T_VALUE, start), text.at, text.length);
    reader->store->count[VALUES] = start + text.length;
    put_end(reader->store, T_VALUE_ENDS, row, start + text.length);
    return true;
}

/* -- the lists of a transaction -- */

static bool read_hash_item(Reader *reader, Group group, Column column, const char *name)
{
    Text text;
    if (!room(reader, group, 1)) return false;
    size_t row = reader->store->count[group];
    if (!take_string(reader, &text) || !unhex_fixed(cell(reader->store, column, row), text, HASH_BYTES))
        return declined(reader, "Transaction", name);
    reader->store->count[group]++;
    return true;
}

static bool blob_hash(Reader *reader)
{
    return read_hash_item(reader, BLOBS, T_BLOB, "blobVersionedHashes");
}

static bool storage_key(Reader *reader)
{
    return read_hash_item(reader, KEYS, C_KEY, "storageKeys");
}

static bool access_entry(Reader *reader)
{
    Object access;
    if (!take_object(reader, ACCESS, &access) || !room(reader, ACCESSES, 1)) return false;
    if (!given(&access, C_storageKeys)) return declined_key(reader, ACCESS, C_storageKeys);
    size_t row = reader->store->count[ACCESSES];
    if (!read_fixed(reader, &access, C_address, C_ADDRESS, row)) return false;
    put_end(reader->store, C_KEY_ENDS, row, reader->store->count[KEYS]);
    reader->store->count[ACCESSES]++;
    return true;
}

/* 0 or 1, under its new name or its old one; both must say the same. */
static bool read_authorized_parity(Reader *reader, const Object *entry, uint64_t *parity)
{
    uint64_t v;
    int key = given(entry, A_yParity) ? A_yParity : A_v;
    if (!read_number(reader, entry, key, parity)) return false;
    if (*parity > 1) return declined_key(reader, AUTHORIZATION, key);
    if (!given(entry, A_v)) return true;
    return read_number(reader, entry, A_v, &v) && (v == *parity || declined_key(reader, AUTHORIZATION, A_v));
}

static bool authorization(Reader *reader)
{
    Object entry;
    uint64_t parity;
    if (!take_object(reader, AUTHORIZATION, &entry) || !room(reader, AUTHORIZATIONS, 1)) return false;
    size_t row = reader->store->count[AUTHORIZATIONS];
    if (!read_u64(reader, &entry, A_chainId, A_CHAIN_ID, row) ||
        !read_fixed(reader, &entry, A_address, A_ADDRESS, row) || !read_u64(reader, &entry, A_nonce, A_NONCE, row) ||
        !read_authorized_parity(reader, &entry, &parity) || !read_word(reader, &entry, A_r, A_R, row) ||
        !read_word(reader, &entry, A_s, A_S, row))
        return false;
    put_bit(reader->store, A_PARITY, row, parity);
    reader->store->count[AUTHORIZATIONS]++;
    return true;
}

/* The items that a list of this transaction added, or none of them where its type has no such list. */
static void keep_list(Reader *reader, bool wanted, Column valid, Column ends, Group items, size_t before, size_t row)
{
    put_bit(reader->store, valid, row, wanted);
    if (!wanted) reader->store->count[items] = before;
    put_end(reader->store, ends, row, reader->store->count[items]);
}

/* -- transactions -- */

enum { LEGACY, ACCESS_LIST, DYNAMIC_FEE, BLOB, SET_CODE };

/* 0 or 1, 27 or 28 (before EIP-155), or 35 + 2 * chain id + parity. */
static bool parity_of(uint64_t v, bool *parity)
{
    if (v > 1 && v != 27 && v != 28 && v < 35) return false;
    *parity = v <= 1 ? v == 1 : (v - 27) % 2;
    return true;
}

static bool read_parity(Reader *reader, const Object *tx, size_t row)
{
    uint64_t v = 0, y_parity = 0;
    bool parity = false, has_v = given(tx, T_v), has_parity = given(tx, T_yParity);
    if (!has_v && !has_parity) return declined_key(reader, TRANSACTION, T_v);
    if (has_v && (!read_number(reader, tx, T_v, &v) || !parity_of(v, &parity)))
        return declined_key(reader, TRANSACTION, T_v);
    if (has_parity) {
        if (!read_number(reader, tx, T_yParity, &y_parity)) return false;
        if (y_parity > 1 || (has_v && parity != (y_parity == 1))) return declined_key(reader, TRANSACTION, T_yParity);
        parity = y_parity == 1;
    }
    put_bit(reader->store, T_PARITY, row, parity);
    return true;
}

static bool read_chain_id(Reader *reader, const Object *tx, uint64_t kind, size_t row)
{
    uint64_t v = 0;
    if (kind == LEGACY && given(tx, T_v) && !read_number(reader, tx, T_v, &v)) return false;
    if (kind == LEGACY && v >= 35) {
        put_bit(reader->store, T_CHAIN_ID_VALID, row, true);
        put_u64(reader->store, T_CHAIN_ID, row, (v - 35) / 2);
        return true;
    }
    bool wanted = kind != LEGACY || (given(tx, T_chainId) && v != 27 && v != 28);
    return read_if(wanted, read_u64, reader, tx, T_chainId, T_CHAIN_ID_VALID, T_CHAIN_ID, row);
}

static bool read_fees(Reader *reader, const Object *tx, uint64_t kind, size_t row)
{
    bool priced = kind < DYNAMIC_FEE;
    int highest = priced ? T_gasPrice : T_maxFeePerGas;
    put_bit(reader->store, T_MAX_FEE_VALID, row, true);
    return read_decimal(reader, tx, highest, T_MAX_FEE, row) &&
           read_if(priced, read_decimal, reader, tx, T_gasPrice, T_GAS_PRICE_VALID, T_GAS_PRICE, row) &&
           read_if(!priced, read_decimal, reader, tx, T_maxPriorityFeePerGas, T_TIP_VALID, T_TIP, row) &&
           read_if(kind == BLOB, read_decimal, reader, tx, T_maxFeePerBlobGas, T_BLOB_FEE_VALID, T_BLOB_FEE, row);
}

/* `before` are the counts from before its lists were read. */
static bool read_lists(Reader *reader, const Object *tx, uint64_t kind, const size_t *before, size_t row)
{
    if (kind != LEGACY && absent(tx, T_accessList)) return declined_key(reader, TRANSACTION, T_accessList);
    if (kind == BLOB && !given(tx, T_blobVersionedHashes))
        return declined_key(reader, TRANSACTION, T_blobVersionedHashes);
    if (kind == SET_CODE && !given(tx, T_authorizationList))
        return declined_key(reader, TRANSACTION, T_authorizationList);
    if (kind == LEGACY) reader->store->count[KEYS] = before[KEYS];
    keep_list(reader, kind != LEGACY, T_ACCESS_VALID, T_ACCESS_ENDS, ACCESSES, before[ACCESSES], row);
    keep_list(reader, kind == BLOB, T_BLOBS_VALID, T_BLOB_ENDS, BLOBS, before[BLOBS], row);
    keep_list(reader, kind == SET_CODE, T_AUTHORIZATIONS_VALID, T_AUTHORIZATION_ENDS, AUTHORIZATIONS,
              before[AUTHORIZATIONS], row);
    return true;
}

static bool all_zero(const unsigned char *bytes, size_t count)
{
    unsigned char any = 0;
    for (size_t at = 0; at < count; at++) any |= bytes[at];
    return any == 0;
}

/* The sender and the receiver; not those of Polygon's state syncs, which header_checks.py treats apart. */
static bool read_parties(Reader *reader, const Object *tx, uint64_t kind, size_t row)
{
    Store *store = reader->store;
    bool called = given(tx, T_to);
    if (kind >= BLOB && !called) return declined_key(reader, TRANSACTION, T_to);
    if (!read_fixed(reader, tx, T_from, T_FROM, row) ||
        !read_if(called, read_fixed, reader, tx, T_to, T_TO_VALID, T_TO, row))
        return false;
    if (called && all_zero(cell(store, T_FROM, row), ADDRESS_BYTES) && all_zero(cell(store, T_TO, row), ADDRESS_BYTES))
        return declined(reader, "Transaction", "a state sync");
    return true;
}

/* Check 4 for transactions: all of one block, whose hash may come later. */
static bool of_one_block(Reader *reader, Text named)
{
    if (reader->named_hash.at == NULL) reader->named_hash = named;
    return same(named, reader->named_hash) || declined_key(reader, TRANSACTION, T_blockHash);
}

static bool transaction(Reader *reader)
{
    Store *store = reader->store;
    Object tx;
    uint64_t kind;
    size_t before[GROUPS];
    memcpy(before, store->count, sizeof before);
    if (!take_object(reader, TRANSACTION, &tx) || !room(reader, TXS, 1) || !room(reader, OF_BLOCK, 1)) return false;
    size_t row = store->count[TXS];
    if (!read_number(reader, &tx, T_type, &kind) || !of_one_block(reader, tx.text[T_blockHash])) return false;
    if (kind > SET_CODE) return declined_key(reader, TRANSACTION, T_type);
    if (!read_fixed(reader, &tx, T_hash, T_HASH, row) || !read_parties(reader, &tx, kind, row) ||
        !read_u64(reader, &tx, T_nonce, T_NONCE, row) || !read_u64(reader, &tx, T_gas, T_GAS_LIMIT, row) ||
        !read_value(reader, &tx, T_value, row) || !read_binary(reader, &tx, T_input, T_INPUT_ENDS, T_INPUT, row) ||
        !read_word(reader, &tx, T_r, T_R, row) || !read_word(reader, &tx, T_s, T_S, row) ||
        !read_parity(reader, &tx, row) || !read_chain_id(reader, &tx, kind, row) ||
        !read_fees(reader, &tx, kind, row) || !read_lists(reader, &tx, kind, before, row))
        return false;
    put_u32(store, T_TYPE, row, (uint32_t)kind);
    put_u32(store, T_INDEX, row, (uint32_t)(row - reader->first_tx));
    memcpy(cell(store, TX_TEXT, store->count[OF_BLOCK]++), &tx.text[T_hash], sizeof(Text));
    store->count[TXS]++;
    return true;
}

/* -- receipts and logs -- */

static bool topic(Reader *reader)
{
    if (reader->topic_count == MAX_TOPICS) return declined_key(reader, LOG, L_topics);
    return take_string(reader, &reader->topics[reader->topic_count++]);
}

static bool read_topics(Reader *reader, size_t row)
{
    static const Column VALID[] = {L_TOPIC0_VALID, L_TOPIC1_VALID, L_TOPIC2_VALID, L_TOPIC3_VALID};
    static const Column TOPIC[] = {L_TOPIC0, L_TOPIC1, L_TOPIC2, L_TOPIC3};
    for (int place = 0; place < MAX_TOPICS; place++) {
        if (place >= reader->topic_count) {
            put_null(reader->store, VALID[place], TOPIC[place], row);
            continue;
        }
        unsigned char *bytes = cell(reader->store, TOPIC[place], row);
        put_bit(reader->store, VALID[place], row, true);
        if (!unhex_fixed(bytes, reader->topics[place], HASH_BYTES)) return declined_key(reader, LOG, L_topics);
        add_to_bloom(reader->bloom, reader->hashes, bytes, HASH_BYTES);
    }
    return true;
}

/* Checks 4 to 7: it is of this block and this receipt, and the next one of the block. */
static bool belongs(Reader *reader, const Object *entry, uint64_t index)
{
    unsigned char digits[SPELLED_CHARS];
    bool removed = given(entry, L_removed) && *entry->text[L_removed].at == 't';
    return says(reader, entry, L_blockHash, reader->hash) && says(reader, entry, L_blockNumber, reader->number_text) &&
           says(reader, entry, L_transactionHash, reader->tx_hash) &&
           says(reader, entry, L_transactionIndex, reader->tx_index) &&
           says(reader, entry, L_logIndex, spelled(index, digits)) && (!removed || declined_key(reader, LOG, L_removed));
}

static bool log_entry(Reader *reader)
{
    Store *store = reader->store;
    Object entry;
    reader->topic_count = 0;
    if (!take_object(reader, LOG, &entry) || !room(reader, LOGS, 1)) return false;
    if (!given(&entry, L_topics)) return declined_key(reader, LOG, L_topics);
    size_t row = store->count[LOGS], index = row - reader->first_log;
    if (!belongs(reader, &entry, index) || !read_fixed(reader, &entry, L_address, L_ADDRESS, row) ||
        !read_binary(reader, &entry, L_data, L_DATA_ENDS, L_DATA, row) || !read_topics(reader, row))
        return false;
    add_to_bloom(reader->bloom, reader->hashes, cell(store, L_ADDRESS, row), ADDRESS_BYTES);
    memcpy(cell(store, L_TX_HASH, row), cell(store, T_HASH, reader->first_tx + reader->receipts), HASH_BYTES);
    put_u32(store, L_TX_INDEX, row, (uint32_t)reader->receipts);
    put_u32(store, L_INDEX, row, (uint32_t)index);
    store->count[LOGS]++;
    return true;
}

/* Its status; before Byzantium the state root in place of one, which counts as success (data.md 1.4.2). */
static bool read_outcome(Reader *reader, const Object *receipt, size_t row)
{
    uint64_t status = 1;
    bool has_status = given(receipt, R_status);
    if (!has_status && !given(receipt, R_root)) return declined_key(reader, RECEIPT, R_status);
    if (has_status && !read_number(reader, receipt, R_status, &status)) return false;
    if (status > 1) return declined_key(reader, RECEIPT, R_status);
    put_bit(reader->store, T_STATUS, row, status);
    return read_if(!has_status, read_fixed, reader, receipt, R_root, T_ROOT_VALID, T_ROOT, row);
}

/* Checks 3, 4 and 9 for one receipt, whose logs are read with it. */
static bool receipt(Reader *reader)
{
    Store *store = reader->store;
    Object receipt;
    uint64_t gas;
    size_t index = reader->receipts, row = reader->first_tx + index;
    if (index >= store->count[OF_BLOCK]) return declined(reader, "receipts", "more than transactions");
    memcpy(&reader->tx_hash, cell(store, TX_TEXT, index), sizeof(Text));
    reader->tx_index = spelled(index, reader->tx_index_digits);
    if (!take_object(reader, RECEIPT, &receipt)) return false;
    if (!says(reader, &receipt, R_transactionHash, reader->tx_hash) ||
        !says(reader, &receipt, R_transactionIndex, reader->tx_index) ||
        !says(reader, &receipt, R_blockHash, reader->hash))
        return false;
    if (!given(&receipt, R_logs)) return declined_key(reader, RECEIPT, R_logs);
    if (!read_number(reader, &receipt, R_cumulativeGasUsed, &gas)) return false;
    if (gas < reader->gas) return declined_key(reader, RECEIPT, R_cumulativeGasUsed);
    reader->gas = gas;
    put_u64(store, T_GAS_USED, row, gas);
    reader->receipts++;
    return read_outcome(reader, &receipt, row);
}

/* -- blocks -- */

static bool ended(Reader *reader, const char *name)
{
    skip_blanks(reader);
    return reader->at == reader->end || declined(reader, name, "something behind it");
}

static bool read_timestamp(Reader *reader, const Object *header, size_t row)
{
    uint64_t seconds;
    if (!read_number(reader, header, H_timestamp, &seconds)) return false;
    if (seconds > LAST_SECOND) return declined_key(reader, HEADER, H_timestamp);
    put_u64(reader->store, B_TIMESTAMP, row, seconds * NANOSECONDS);
    return true;
}

static bool read_mix_and_nonce(Reader *reader, const Object *header, size_t row)
{
    memset(cell(reader->store, B_MIX_HASH, row), 0, HASH_BYTES);
    put_u64(reader->store, B_NONCE, row, 0);
    return (!given(header, H_mixHash) || read_fixed(reader, header, H_mixHash, B_MIX_HASH, row)) &&
           (!given(header, H_nonce) || read_u64(reader, header, H_nonce, B_NONCE, row));
}

static bool read_header(Reader *reader, const Object *header, size_t row)
{
    put_u64(reader->store, B_NUMBER, row, reader->number);
    put_end(reader->store, B_BLOOM_ENDS, row, (row + 1) * BLOOM_BYTES);
    return read_timestamp(reader, header, row) && read_fixed(reader, header, H_hash, B_HASH, row) &&
           read_fixed(reader, header, H_parentHash, B_PARENT, row) &&
           read_fixed(reader, header, H_sha3Uncles, B_OMMERS, row) &&
           read_fixed(reader, header, H_miner, B_MINER, row) &&
           read_fixed(reader, header, H_stateRoot, B_STATE_ROOT, row) &&
           read_fixed(reader, header, H_transactionsRoot, B_TRANSACTIONS_ROOT, row) &&
           read_fixed(reader, header, H_receiptsRoot, B_RECEIPT_ROOT, row) &&
           read_fixed(reader, header, H_logsBloom, B_BLOOM, row) &&
           read_decimal(reader, header, H_difficulty, B_DIFFICULTY, row) &&
           read_u64(reader, header, H_gasLimit, B_GAS_LIMIT, row) &&
           read_u64(reader, header, H_gasUsed, B_GAS_USED, row) &&
           read_binary(reader, header, H_extraData, B_EXTRA_ENDS, B_EXTRA, row) &&
           read_mix_and_nonce(reader, header, row);
}

static bool read_forked_header(Reader *reader, const Object *header, size_t row)
{
    return read_given(read_decimal, reader, header, H_totalDifficulty, B_TOTAL_DIFFICULTY_VALID, B_TOTAL_DIFFICULTY,
                      row) &&
           read_given(read_decimal, reader, header, H_baseFeePerGas, B_BASE_FEE_VALID, B_BASE_FEE, row) &&
           read_given(read_fixed, reader, header, H_withdrawalsRoot, B_WITHDRAWALS_VALID, B_WITHDRAWALS, row) &&
           read_given(read_u64, reader, header, H_blobGasUsed, B_BLOB_GAS_VALID, B_BLOB_GAS, row) &&
           read_given(read_u64, reader, header, H_excessBlobGas, B_EXCESS_VALID, B_EXCESS, row) &&
           read_given(read_fixed, reader, header, H_parentBeaconBlockRoot, B_BEACON_VALID, B_BEACON, row) &&
           read_given(read_fixed, reader, header, H_requestsHash, B_REQUESTS_VALID, B_REQUESTS, row);
}

/* Checks 1 and 4: the header is that of the block that was asked for, and of the transactions. */
static bool numbered(Reader *reader, const Object *header)
{
    uint64_t number;
    reader->number_text = header->text[H_number];
    reader->hash = header->text[H_hash];
    if (!given(header, H_transactions)) return declined_key(reader, HEADER, H_transactions);
    if (!read_number(reader, header, H_number, &number)) return false;
    if (number != reader->number) return declined_key(reader, HEADER, H_number);
    bool ours = reader->named_hash.at == NULL || same(reader->hash, reader->named_hash);
    return ours || declined_key(reader, TRANSACTION, T_blockHash);
}

/* Check 2 without transactions: both roots say so. */
static bool says_empty(Reader *reader, size_t row)
{
    static const unsigned char EMPTY_ROOT[HASH_BYTES] = {
        0x56, 0xE8, 0x1F, 0x17, 0x1B, 0xCC, 0x55, 0xA6, 0xFF, 0x83, 0x45, 0xE6, 0x92, 0xC0, 0xF8, 0x6E,
        0x5B, 0x48, 0xE0, 0x1B, 0x99, 0x6C, 0xAD, 0xC0, 0x01, 0x62, 0x2F, 0xB5, 0xE3, 0x63, 0xB4, 0x21,
    };
    bool empty = !memcmp(cell(reader->store, B_TRANSACTIONS_ROOT, row), EMPTY_ROOT, HASH_BYTES) &&
                 !memcmp(cell(reader->store, B_RECEIPT_ROOT, row), EMPTY_ROOT, HASH_BYTES);
    return empty || declined(reader, "Block", "roots without transactions");
}

/* Checks 2, 8 and 9: what the header says about all receipts. */
static bool accounted(Reader *reader, size_t row)
{
    Store *store = reader->store;
    uint64_t gas;
    if (reader->receipts != store->count[OF_BLOCK]) return declined(reader, "receipts", "fewer than transactions");
    if (reader->receipts == 0 && !says_empty(reader, row)) return false;
    if (memcmp(cell(store, B_BLOOM, row), reader->bloom, BLOOM_BYTES)) return declined_key(reader, HEADER, H_logsBloom);
    memcpy(&gas, cell(store, B_GAS_USED, row), sizeof gas);
    return gas == reader->gas || declined_key(reader, HEADER, H_gasUsed);
}

/* What every row of the block copies from its header. */
static void copy_header(Store *store, size_t block, Column hash, Column number, Column timestamp, size_t first,
                        size_t end)
{
    for (size_t row = first; row < end; row++) {
        memcpy(cell(store, hash, row), cell(store, B_HASH, block), HASH_BYTES);
        memcpy(cell(store, number, row), cell(store, B_NUMBER, block), 8);
        memcpy(cell(store, timestamp, row), cell(store, B_TIMESTAMP, block), 8);
    }
}

static bool read_block(Reader *reader, Text block, Text receipts)
{
    Store *store = reader->store;
    Object header;
    reader->at = block.at, reader->end = block.at + block.length;
    if (!take_object(reader, HEADER, &header) || !ended(reader, "Block") || !numbered(reader, &header)) return false;
    size_t row = store->count[BLOCKS];
    if (row >= INT_MAX / BLOOM_BYTES) return declined(reader, "columns", "size");
    if (!room(reader, BLOCKS, 1) || !read_header(reader, &header, row) || !read_forked_header(reader, &header, row))
        return false;
    if (receipts.at != NULL) {
        reader->at = receipts.at, reader->end = receipts.at + receipts.length;
        if (!take_list(reader, receipt)) return declined(reader, "receipts", "malformed");
        if (!ended(reader, "receipts")) return false;
    }
    if (!accounted(reader, row)) return false;
    copy_header(store, row, T_BLOCK_HASH, T_NUMBER, T_TIMESTAMP, reader->first_tx, store->count[TXS]);
    copy_header(store, row, L_BLOCK_HASH, L_NUMBER, L_TIMESTAMP, reader->first_log, store->count[LOGS]);
    store->count[BLOCKS]++;
    return true;
}

/* Append a block; or leave the store as it was. */
static bool add_block(Reader *reader, Text block, Text receipts)
{
    Store *store = reader->store;
    size_t before[GROUPS];
    store->count[OF_BLOCK] = 0;
    memcpy(before, store->count, sizeof before);
    reader->first_tx = before[TXS], reader->first_log = before[LOGS];
    if (read_block(reader, block, receipts)) return true;
    memcpy(store->count, before, sizeof before);
    return false;
}

/* ---- Python ------------------------------------------------------------------------------------------------------ */

/* Memory that was a column, for Arrow to keep. */
typedef struct {
    PyObject_HEAD
    unsigned char *data;
    Py_ssize_t size;
} Buffer;

typedef struct {
    PyObject_HEAD
    Store store;
    const char *declined_at, *declined_for;
    bool busy; /* a thread is adding, without the lock */
} Columns;

static PyTypeObject *buffer_type;
static Hashes *spare_hashes; /* those that no thread uses; the interpreter's lock guards the list */

static void free_instance(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static void buffer_dealloc(PyObject *self)
{
    free(((Buffer *)self)->data);
    free_instance(self);
}

static int buffer_get(PyObject *self, Py_buffer *view, int flags)
{
    Buffer *buffer = (Buffer *)self;
    return PyBuffer_FillInfo(view, self, buffer->data, buffer->size, 1, flags);
}

static PyType_Slot buffer_slots[] = {
    {Py_tp_dealloc, buffer_dealloc},
    {Py_bf_getbuffer, buffer_get},
    {Py_tp_doc, "The bytes of one buffer, read-only."},
    {0, NULL},
};

static PyType_Spec buffer_spec = {
    .name = "ampd_ray.datasets.evm._native.Buffer",
    .basicsize = sizeof(Buffer),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = buffer_slots,
};

static void columns_dealloc(PyObject *self)
{
    for (Column column = 0; column < COLUMNS; column++) free(((Columns *)self)->store.data[column]);
    free_instance(self);
}

static bool idle(const Columns *self)
{
    if (self->busy) PyErr_SetString(PyExc_RuntimeError, "in use by another call");
    return !self->busy;
}

static Hashes *borrow_hashes(void)
{
    Hashes *hashes = spare_hashes;
    if (hashes == NULL) return calloc(1, sizeof *hashes);
    spare_hashes = hashes->next;
    return hashes;
}

static void give_back_hashes(Hashes *hashes)
{
    hashes->next = spare_hashes;
    spare_hashes = hashes;
}

/* Without the interpreter's lock where it is worth it. */
static bool add_unlocked(Columns *self, Reader *reader, Text block, Text receipts)
{
    bool added;
    self->busy = true;
    if (block.length + receipts.length < GIL_BYTES) {
        added = add_block(reader, block, receipts);
    } else {
        Py_BEGIN_ALLOW_THREADS
        added = add_block(reader, block, receipts);
        Py_END_ALLOW_THREADS
    }
    self->busy = false;
    return added;
}

static PyObject *add(Columns *self, uint64_t number, Text block, Text receipts)
{
    if (!idle(self)) return NULL;
    Reader reader = {.store = &self->store, .hashes = borrow_hashes(), .number = number};
    if (reader.hashes == NULL) return PyErr_NoMemory();
    bool added = add_unlocked(self, &reader, block, receipts);
    give_back_hashes(reader.hashes);
    self->declined_at = reader.declined_at, self->declined_for = reader.declined_for;
    return reader.no_memory ? PyErr_NoMemory() : PyBool_FromLong(added);
}

static Text text_of(const Py_buffer *view)
{
    return (Text){view->len ? view->buf : (const unsigned char *)"", (size_t)view->len};
}

static PyObject *columns_add(PyObject *self, PyObject *arguments)
{
    PyObject *number_given, *block_given, *receipts_given;
    if (!PyArg_ParseTuple(arguments, "OOO", &number_given, &block_given, &receipts_given)) return NULL;
    unsigned long long number = PyLong_AsUnsignedLongLong(number_given);
    if (PyErr_Occurred()) return NULL;
    Py_buffer block, receipts = {0};
    if (PyObject_GetBuffer(block_given, &block, PyBUF_SIMPLE) < 0) return NULL;
    PyObject *added = NULL;
    if (receipts_given == Py_None) {
        added = add((Columns *)self, number, text_of(&block), (Text){NULL, 0});
    } else if (PyObject_GetBuffer(receipts_given, &receipts, PyBUF_SIMPLE) == 0) {
        added = add((Columns *)self, number, text_of(&block), text_of(&receipts));
        PyBuffer_Release(&receipts);
    }
    PyBuffer_Release(&block);
    return added;
}

/* (rows, Buffer) for a column, whose memory the buffer has yet to get. */
static PyObject *empty_column(const Store *store, Column column, Buffer **buffer)
{
    *buffer = PyObject_New(Buffer, buffer_type);
    if (*buffer == NULL) return NULL;
    (*buffer)->data = NULL;
    (*buffer)->size = 0;
    return Py_BuildValue("(nN)", (Py_ssize_t)store->count[SPEC[column].group], (PyObject *)*buffer);
}

/* The memory of a column goes over to `buffer`, without the room that no row took. */
static void hand_over(Store *store, Column column, Buffer *buffer)
{
    uint64_t bytes = bytes_of(column, store->count[SPEC[column].group]);
    unsigned char *shrunk = realloc(store->data[column], bytes ? (size_t)bytes : 1);
    buffer->data = shrunk != NULL ? shrunk : store->data[column];
    buffer->size = (Py_ssize_t)bytes;
    store->data[column] = NULL;
}

static PyObject *columns_take(PyObject *self, PyObject *Py_UNUSED(nothing))
{
    Store *store = &((Columns *)self)->store;
    Buffer *buffers[HANDED_OUT];
    if (!idle((Columns *)self)) return NULL;
    for (Group group = 0; group < GROUPS; group++)
        if (reserve(store, group, 0) == NO_MEMORY) return PyErr_NoMemory();
    ((Columns *)self)->busy = true; /* a new object may collect garbage, which runs anything, other threads too */
    PyObject *taken = PyList_New(HANDED_OUT);
    for (int column = 0; taken != NULL && column < HANDED_OUT; column++) {
        PyObject *item = empty_column(store, (Column)column, &buffers[column]);
        if (item == NULL || PyList_SetItem(taken, column, item) < 0) Py_CLEAR(taken);
    }
    ((Columns *)self)->busy = false;
    if (taken == NULL) return NULL;
    for (int column = 0; column < HANDED_OUT; column++) hand_over(store, (Column)column, buffers[column]);
    free(store->data[TX_TEXT]);
    memset(store, 0, sizeof *store);
    return taken;
}

static PyObject *columns_declined(PyObject *self, void *Py_UNUSED(closure))
{
    Columns *columns = (Columns *)self;
    if (!idle(columns)) return NULL;
    if (columns->declined_at == NULL) Py_RETURN_NONE;
    return PyUnicode_FromFormat("%s: %s", columns->declined_at, columns->declined_for);
}

static PyMethodDef columns_methods[] = {
    {"add", columns_add, METH_VARARGS, "Append a block if it is plain: (number, block, receipts or None) -> bool."},
    {"take", columns_take, METH_NOARGS, "All columns as (rows, Buffer), in order; nothing is left."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef columns_getset[] = {
    {"declined", columns_declined, NULL, "Why the last block was not added; None if it was.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot columns_slots[] = {
    {Py_tp_dealloc, columns_dealloc},
    {Py_tp_methods, columns_methods},
    {Py_tp_getset, columns_getset},
    {Py_tp_doc, "The rows of blocks, as columns that grow."},
    {0, NULL},
};

static PyType_Spec columns_spec = {
    .name = "ampd_ray.datasets.evm._native.Columns",
    .basicsize = sizeof(Columns),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = columns_slots,
};

/* The tables of keys, for the test that compares them with rpc.py: {"Transaction": {"hash": "text", ...}, ...}. */
static PyObject *keys_of_all(void)
{
    PyObject *all = PyDict_New();
    for (Kind kind = 0; all != NULL && kind < OBJECT_KINDS; kind++) {
        PyObject *keys = PyDict_New();
        if (keys == NULL || PyDict_SetItemString(all, OBJECTS[kind].name, keys) < 0) Py_CLEAR(all);
        for (int key = 0; all != NULL && key < OBJECTS[kind].count; key++) {
            PyObject *form = PyUnicode_FromString(FORMS[OBJECTS[kind].keys[key].form]);
            if (form == NULL || PyDict_SetItemString(keys, OBJECTS[kind].keys[key].name, form) < 0) Py_CLEAR(all);
            Py_XDECREF(form);
        }
        Py_XDECREF(keys);
    }
    return all;
}

static struct PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_native", .m_doc = "JSON text of plain blocks to Arrow buffers.", .m_size = -1,
};

PyMODINIT_FUNC PyInit__native(void)
{
    PyObject *module = PyModule_Create(&module_definition);
    if (module == NULL) return NULL;
    buffer_type = (PyTypeObject *)PyType_FromSpec(&buffer_spec);
    PyObject *columns_type = buffer_type != NULL ? PyType_FromSpec(&columns_spec) : NULL;
    PyObject *keys = columns_type != NULL ? keys_of_all() : NULL;
    bool made = buffer_type != NULL && columns_type != NULL && keys != NULL &&
                PyModule_AddObjectRef(module, "Buffer", (PyObject *)buffer_type) == 0 &&
                PyModule_AddObjectRef(module, "Columns", columns_type) == 0 &&
                PyModule_AddIntConstant(module, "HANDED_OUT", HANDED_OUT) == 0 &&
                PyModule_AddObjectRef(module, "KEYS", keys) == 0;
    Py_XDECREF(columns_type);
    Py_XDECREF(keys);
    if (!made) Py_CLEAR(module);
    return module;
}
