/* Round trips on request: a line "echo N" or "ioctl N" on stdin, an empty line on stdout when they are done. */
#include <stddef.h>
#include <sys/un.h>

#include "../../shim/protocol.h"
#include "client.h"

static int connect_echo(const char *name)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	strcpy(a.sun_path + 1, name);
	CHECK(connect(fd, (void *)&a, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name))) == 0);
	return fd;
}

int main(int argc, char **argv)
{
	CHECK(argc == 2);
	char line[64], kind[16];
	long count;
	struct request request = { .op = OP_IOCTL };
	struct reply reply;
	int echo = connect_echo(argv[1]), fd = toy();
	uint32_t word = 0;
	works(fd);
	while (fgets(line, sizeof(line), stdin) && sscanf(line, "%15s %ld", kind, &count) == 2) {
		for (long i = 0; i < count; i++) {
			if (strcmp(kind, "echo") == 0) {
				CHECK(send(echo, &request, sizeof(request), 0) == sizeof(request));
				CHECK(recv(echo, &reply, sizeof(reply), 0) == sizeof(reply));
			} else if (strcmp(kind, "ioctl") == 0) {
				CHECK(ioctl(fd, ECHO, i) == i);
			} else {
				CHECK(ioctl(fd, INCREMENT, &word) == 0);
			}
		}
		puts("");
		fflush(stdout);
	}
	return 0;
}
