/* SPDX-License-Identifier: MIT */
/*
 * uiommufd-start NOFILE IGNORED PROGRAM [ARGS...]: becomes PROGRAM, with NOFILE as its soft limit of open files (0: as it is)
 * and the signals of the mask IGNORED (hexadecimal, bit 0 is signal 1) ignored. Node changes both for itself, and has no
 * way to start a program with anything else. The preload library, which is in this one, says when it cannot be in PROGRAM.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct rlimit limit;
	if (argc < 4)
		return 125;
	rlim_t files = strtoul(argv[1], NULL, 10);
	unsigned long ignored = strtoul(argv[2], NULL, 16);
	if (files && getrlimit(RLIMIT_NOFILE, &limit) == 0 && files <= limit.rlim_max) {
		limit.rlim_cur = files;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	for (int i = 0; i < 64; i++)
		if (ignored >> i & 1)
			signal(i + 1, SIG_IGN);
	execvp(argv[3], argv + 3);
	fprintf(stderr, "uiommufd: %s: cannot be executed: %s\n", argv[3], strerror(errno));
	return errno == ENOENT ? 127 : 126;
}
