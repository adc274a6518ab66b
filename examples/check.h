/* SPDX-License-Identifier: MIT */
/* Checks that print a line of TAP each, for the examples. */
#ifndef CHECK_H
#define CHECK_H

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int checks, failures;

__attribute__((format(printf, 2, 3))) static void check(bool good, const char *sentence, ...)
{
	va_list arguments;

	printf("%sok %d - ", good ? "" : "not ", ++checks);
	va_start(arguments, sentence);
	vprintf(sentence, arguments);
	va_end(arguments);
	printf("\n");
	if (!good)
		failures++;
}

/* For steps without which nothing else makes sense. */
static int must(int result, const char *step)
{
	if (result >= 0)
		return result;
	printf("Bail out! %s: %s\n", step, strerror(errno));
	exit(1);
}

/* Prints the plan; the exit status of the program. */
static int verdict(void)
{
	printf("1..%d\n", checks);
	return failures ? 1 : 0;
}

#endif
