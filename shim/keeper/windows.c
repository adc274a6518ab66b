/* SPDX-License-Identifier: MIT */
/*
 * A window is 1 GiB of memory of JavaScript, in which a file is shown; where that ends, zeros follow that are ours alone.
 *
 * A program may cut its file short at any time. Then an access of ours raises SIGBUS, and the handler puts zeros there:
 * the memory stays memory, its contents are lost. The windows lie in one range of addresses, so that the handler knows them.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keeper.h"

#define WINDOW_BYTES (1UL << 30)
#define MOST_WINDOWS 1024UL
#define PAGE_BYTES 4096UL /* the smallest there is: larger ones are found by trying */

struct window {
	int fd; /* a descriptor of our own; -1: it shows nothing */
	off_t offset;
	size_t end; /* zeros of ours from here on */
};

static struct window windows[MOST_WINDOWS];
static bool taken[MOST_WINDOWS];
static char *range; /* NULL: cannot be had */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t prepared = PTHREAD_ONCE_INIT;
static struct sigaction before;

static bool put_zeros(char *at, size_t size, int protection)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
	return mmap(at, size, protection, flags, -1, 0) != MAP_FAILED;
}

/* Puts zeros where the file of window `i` has nothing at `at`. Runs in a signal handler. */
static bool mend(size_t i, size_t at)
{
	struct window *w = &windows[i];
	struct stat st;
	if (w->fd < 0 || at >= w->end)
		return false;
	/* Beyond the end of the file: all the rest is gone too, and one mapping does for it. Else one page, of any size. */
	bool rest = fstat(w->fd, &st) != 0 || w->offset + (off_t)at >= st.st_size;
	for (size_t page = PAGE_BYTES; page <= WINDOW_BYTES; page *= 2) {
		size_t from = at & ~(page - 1);
		if (!put_zeros(range + i * WINDOW_BYTES + from, rest ? w->end - from : page, PROT_READ | PROT_WRITE))
			continue;
		if (rest)
			w->end = from;
		return true;
	}
	/* There may be too many mappings already. Better that this file is lost than the server. */
	w->end = 0;
	return put_zeros(range + i * WINDOW_BYTES, WINDOW_BYTES, PROT_READ | PROT_WRITE);
}

static void on_bus_error(int signal, siginfo_t *info, void *context)
{
	(void)context;
	int kept = errno;
	uintptr_t at = (uintptr_t)info->si_addr - (uintptr_t)range;
	bool fault = info->si_code > 0;
	bool mended = fault && at < MOST_WINDOWS * WINDOW_BYTES && mend(at / WINDOW_BYTES, at % WINDOW_BYTES);
	if (!mended) {
		/* Not ours. A fault comes again as soon as we return; a signal that was sent has to be. */
		sigaction(signal, &before, NULL);
		if (!fault)
			raise(signal);
	}
	errno = kept;
}

static void prepare(void)
{
	size_t size = (MOST_WINDOWS + 1) * WINDOW_BYTES;
	struct sigaction action = { .sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	void *at = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	for (size_t i = 0; i < MOST_WINDOWS; i++)
		windows[i].fd = -1;
	if (at == MAP_FAILED)
		return;
	range = (char *)(((uintptr_t)at + WINDOW_BYTES - 1) & ~(WINDOW_BYTES - 1));
	sigaction(SIGBUS, &action, &before);
}

static char *at_of(size_t i)
{
	return range + i * WINDOW_BYTES;
}

/* Takes the file away from window `i`. */
static bool clear(size_t i)
{
	if (windows[i].fd >= 0)
		close(windows[i].fd);
	windows[i] = (struct window){ .fd = -1 };
	return put_zeros(at_of(i), WINDOW_BYTES, PROT_READ | PROT_WRITE);
}

/* Maps the file of window `i` up to `end`, in pages of its own size, as a hugetlb file asks for. */
static bool reach(size_t i, size_t end)
{
	struct window *w = &windows[i];
	struct stat st;
	if (fstat(w->fd, &st) != 0)
		return false;
	size_t unit = (size_t)st.st_blksize;
	end = (end + unit - 1) / unit * unit;
	end = end < WINDOW_BYTES ? end : WINDOW_BYTES;
	off_t offset = w->offset + (off_t)w->end;
	int flags = MAP_SHARED | MAP_FIXED | MAP_NORESERVE;
	if (end > w->end &&
	    mmap(at_of(i) + w->end, end - w->end, PROT_READ | PROT_WRITE, flags, w->fd, offset) == MAP_FAILED)
		return false;
	w->end = end > w->end ? end : w->end;
	return true;
}

static long take_free(void)
{
	long found = -ENOMEM;
	pthread_once(&prepared, prepare);
	pthread_mutex_lock(&lock);
	for (size_t i = 0; range && i < MOST_WINDOWS && found < 0; i++)
		if (!taken[i]) {
			taken[i] = true;
			found = (long)i;
		}
	pthread_mutex_unlock(&lock);
	return found;
}

static void give_back(size_t i)
{
	clear(i);
	put_zeros(at_of(i), WINDOW_BYTES, PROT_NONE);
	pthread_mutex_lock(&lock);
	taken[i] = false;
	pthread_mutex_unlock(&lock);
}

/*
 * V8 counts the bytes of an ArrayBuffer as memory that a garbage collection may free, and would start one for each
 * window: 8 ms. It is told that this is memory of somebody else.
 */
static void discount(napi_env env, int64_t bytes)
{
	int64_t counted;
	napi_adjust_external_memory(env, -bytes, &counted);
}

static void finalize(napi_env env, void *data, void *hint)
{
	(void)data;
	discount(env, -(int64_t)WINDOW_BYTES);
	give_back((size_t)hint);
}

/* createWindow(): zeros, as an ArrayBuffer; or -errno. */
napi_value create_window(napi_env env, napi_callback_info info)
{
	napi_value buffer;
	(void)info;
	long i = take_free();
	if (i < 0)
		return number(env, (double)i);
	discount(env, WINDOW_BYTES);
	if (clear((size_t)i) &&
	    napi_create_external_arraybuffer(env, at_of((size_t)i), WINDOW_BYTES, finalize, (void *)i, &buffer) == 0)
		return buffer;
	discount(env, -(int64_t)WINDOW_BYTES);
	give_back((size_t)i);
	return number(env, -ENOMEM);
}

/* Which window a buffer is; -1: none. */
static long window_at(napi_env env, napi_value value)
{
	void *data = NULL;
	size_t length = 0;
	napi_get_arraybuffer_info(env, value, &data, &length);
	size_t offset = (size_t)((char *)data - range);
	return range && data && length == WINDOW_BYTES && offset < MOST_WINDOWS * WINDOW_BYTES ? (long)(offset / WINDOW_BYTES) : -1;
}

/* showFile(window, descriptor, offset, bytes): its first `bytes` are the file's, whole pages of it. 0 or -errno. */
napi_value show_file(napi_env env, napi_callback_info info)
{
	napi_value v[MOST_ARGUMENTS];
	arguments(env, info, v);
	long i = window_at(env, v[0]);
	if (i < 0)
		return number(env, -EINVAL);
	windows[i].fd = fcntl(int_at(env, v[1]), F_DUPFD_CLOEXEC, 0);
	windows[i].offset = (off_t)double_at(env, v[2]);
	if (windows[i].fd >= 0 && reach((size_t)i, (size_t)double_at(env, v[3])))
		return number(env, 0);
	int error = errno;
	clear((size_t)i);
	return number(env, -error);
}

/* showMore(window, bytes): the file has grown. 0 or -errno. */
napi_value show_more(napi_env env, napi_callback_info info)
{
	napi_value v[MOST_ARGUMENTS];
	arguments(env, info, v);
	long i = window_at(env, v[0]);
	return outcome(env, i >= 0 && reach((size_t)i, (size_t)double_at(env, v[1])) ? 0 : -1);
}

/* clearWindow(window): zeros again. 0 or -errno. */
napi_value clear_window(napi_env env, napi_callback_info info)
{
	napi_value v[MOST_ARGUMENTS];
	arguments(env, info, v);
	long i = window_at(env, v[0]);
	return outcome(env, i >= 0 && clear((size_t)i) ? 0 : -1);
}
