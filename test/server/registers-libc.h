/* Functions of libc, which use the largest registers of the processor that GLIBC_TUNABLES lets them. */
#include <wchar.h>

/* What functions of libc say of `n` bytes and a zero at `at`, and of the same bytes, and almost the same, in memory. */
static void ask(const char *at, const char *same, const char *other, size_t n, long *said)
{
	char last = same[n - 1];
	const wchar_t *wide = (const wchar_t *)(uintptr_t)(at - (uintptr_t)at % 4);
#define SAY(value) (*said++ = (long)(value))
#define SIGN(value) SAY(((value) > 0) - ((value) < 0))
#define PLACE(value) SAY((value) ? (const char *)(value) - at : -1)
	SIGN(memcmp(at, same, n));
	SIGN(memcmp(other, at, n));
	PLACE(memchr(at, last, n));
	PLACE(memchr(at, 0, n));
	PLACE(memrchr(at, last, n));
	SAY(strlen(at));
	SAY(strnlen(at, n / 2 + 1));
	SIGN(strcmp(at, same));
	SIGN(strcmp(other, at));
	SIGN(strncmp(at, other, n - 1));
	SIGN(strcasecmp(at, other));
	PLACE(strchr(at, last));
	PLACE(strchr(at, 1));
	PLACE(strchrnul(at, 1));
	PLACE(strrchr(at, last));
	SAY(strspn(at, "abcdef"));
	SAY(strcspn(at, "xyz"));
	PLACE(strstr(at, same + n - 1));
	PLACE(wmemchr(wide, (wchar_t)0x01010101, n / 4));
	SAY(wmemcmp(wide, wide, n / 4));
}

static void libc(void)
{
	enum { ANSWERS = 20, ROOM = 1200 };
	static const size_t sizes[] = { 1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 100, 128, 200, 300, 600, 1100 };
	static char same[ROOM] __attribute__((aligned(64))), other[ROOM] __attribute__((aligned(64))), back[ROOM];
	char *r = (char *)(uintptr_t)map() + PAGE - 700;
	for (size_t n = 0; n < sizeof(sizes) / sizeof(sizes[0]); n++) {
		size_t size = sizes[n], at = 64 + n % 5;
		long expected[ANSWERS], said[ANSWERS];
		memset(same, 'z', sizeof(same));
		for (size_t i = 0; i < size; i++)
			same[at + i] = (char)('a' + (i * 7 + n) % 23);
		same[at + size] = 0;
		memcpy(other, same, sizeof(other));
		other[at + size - 1] ^= 2;
		memcpy(r, same, 64 + at + size > ROOM ? ROOM : 64 + at + size);
		ask(same + at, same + at, other + at, size, expected);
		ask(r + at, same + at, other + at, size, said);
		for (size_t i = 0; i < ANSWERS; i++)
			if (said[i] != expected[i]) {
				fprintf(stderr, "answer %zu of %zu bytes: %ld, of memory %ld\n", i, size, said[i], expected[i]);
				exit(1);
			}
		CHECK(strcpy(back, r + at) == back && strcmp(back, same + at) == 0);
		CHECK(stpcpy(r + at, other + at) == r + at + size && strcmp(r + at, other + at) == 0);
		CHECK(strncpy(back, r + at, size / 2 + 1) == back && strncmp(back, other + at, size / 2 + 1) == 0);
		CHECK(memmove(r + at + 3, r + at, size) == r + at + 3 && memcmp(r + at + 3, other + at, size) == 0);
		CHECK(memccpy(back, r + at + 3, other[at + size - 1], size) != NULL);
	}
}
