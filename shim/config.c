/* SPDX-License-Identifier: MIT */
/*
 * Reads the server's configuration: lines of "key value", written by src/server/directory.ts. It is beside the library
 * under the name by which that was loaded, so LD_PRELOAD is all that a program has to keep of its environment.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>

#include "shim.h"

static struct config loaded;
static const struct config *present;
static bool tried;

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool hex_decode(const char *text, uint8_t *into, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		int high = digit(text[2 * i]), low = high < 0 ? -1 : digit(text[2 * i + 1]);
		if (low < 0)
			return false;
		into[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

static void *pages(size_t size)
{
	void *p = mmap(NULL, size ? size : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return p == MAP_FAILED ? NULL : p;
}

/* The file in private memory, zero-terminated; NULL when it cannot be read. Raw calls: ours are interposed. */
static char *slurp(const char *path)
{
	struct stat st;
	int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	char *text = syscall(SYS_fstat, fd, &st) == 0 ? pages((size_t)st.st_size + 1) : NULL;
	size_t done = 0;
	while (text && done < (size_t)st.st_size) {
		ssize_t n = syscall(SYS_read, fd, text + done, (size_t)st.st_size - done);
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	syscall(SYS_close, fd);
	return text;
}

static const char *value_after(const char *line, const char *key)
{
	size_t n = strlen(key);
	return strncmp(line, key, n) == 0 && line[n] == ' ' ? line + n + 1 : NULL;
}

static struct name named(const char *text)
{
	return (struct name){ text, strlen(text) };
}

static void read_line(const char *line)
{
	const char *v;
	if ((v = value_after(line, "root"))) {
		loaded.root = v;
		loaded.root_length = strlen(v);
	} else if ((v = value_after(line, "device"))) {
		loaded.device = strtoull(v, NULL, 10);
	} else if ((v = value_after(line, "server"))) {
		loaded.server = (pid_t)strtol(v, NULL, 10);
	} else if ((v = value_after(line, "calls"))) {
		loaded.calls = named(v);
	} else if ((v = value_after(line, "keeper"))) {
		loaded.keeper = named(v);
	} else if ((v = value_after(line, "handles"))) {
		loaded.handles = named(v);
	} else if ((v = value_after(line, "secret"))) {
		hex_decode(v, loaded.secret, sizeof(loaded.secret));
	} else if ((v = value_after(line, "own"))) {
		loaded.owned[loaded.owned_count++] = v;
	} else if ((v = value_after(line, "node"))) {
		char *at;
		struct node *node = &loaded.nodes[loaded.node_count++];
		node->inode = strtoull(v, &at, 10);
		unsigned long major = strtoul(at, &at, 10), minor = strtoul(at, &at, 10);
		node->rdev = makedev(major, minor);
		node->mode = (mode_t)strtoul(at, &at, 8);
		node->size = (off_t)strtoul(at, &at, 10);
		node->path = at + 1;
	}
}

static char *slurp_beside_library(void)
{
	char path[PATH_MAX];
	Dl_info library;
	const char *name = dladdr(&loaded, &library) ? library.dli_fname : "", *slash = strrchr(name, '/');
	int n = slash ? snprintf(path, sizeof(path), "%.*s/config", (int)(slash - name), name) : 0;
	return n > 0 && n < (int)sizeof(path) ? slurp(path) : NULL;
}

static void load(void)
{
	char *text = slurp_beside_library();
	if (!text)
		return;
	size_t lines = 0;
	for (const char *p = text; (p = strchr(p, '\n')); p++)
		lines++;
	loaded.owned = pages(lines * sizeof(*loaded.owned));
	loaded.nodes = pages(lines * sizeof(*loaded.nodes));
	if (!loaded.owned || !loaded.nodes)
		return;
	for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
		*end = 0;
		read_line(line);
	}
	if (loaded.root && loaded.calls.text && loaded.keeper.text && loaded.handles.text)
		present = &loaded;
}

const struct config *config(void)
{
	/* No lock: our constructor runs while there is one thread, unless another library's constructor made some. */
	if (__builtin_expect(!tried, 0)) {
		int kept = errno;
		tried = true;
		load();
		errno = kept;
	}
	return present;
}

__attribute__((constructor)) static void load_early(void)
{
	config();
}
