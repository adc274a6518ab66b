/* Maps a region that a file of the server offers, and checks that both see the same memory, for as long as it is mapped. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(condition)                                                     \
	do {                                                                 \
		if (!(condition)) {                                          \
			fprintf(stderr, "%d: %s\n", __LINE__, #condition);   \
			exit(1);                                             \
		}                                                            \
	} while (0)

enum { READ_BYTE = 0x100, WRITE_BYTE = 0x200, IN_USE = 0x300 };
#define SIZE 8192UL

int main(void)
{
	int fd = open("/dev/region", O_RDWR), go[2];
	CHECK(fd >= 0 && pipe(go) == 0);
	CHECK(mmap(NULL, SIZE, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED && errno == EINVAL);
	CHECK(ioctl(fd, IN_USE) == 0);

	/* What the server put there before is there, and each sees what the other writes. */
	volatile uint8_t *bytes = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(bytes != MAP_FAILED && bytes[1] == 42);
	bytes[SIZE - 1] = 7;
	CHECK(ioctl(fd, READ_BYTE, SIZE - 1) == 7);
	CHECK(ioctl(fd, WRITE_BYTE, 5) == 0 && bytes[5] == 99);
	CHECK(ioctl(fd, IN_USE) == 1);

	/* Another mapping, at a place of the program's choice, is of the same memory. */
	void *place = mmap(NULL, SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	volatile uint8_t *again = mmap(place, SIZE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0);
	CHECK((void *)again == place && again[SIZE - 1] == 7);
	CHECK(munmap((void *)bytes, SIZE) == 0 && ioctl(fd, IN_USE) == 1);

	/* A child that never talks to the server keeps it mapped. */
	pid_t child = fork();
	if (child == 0) {
		char byte;
		close(go[1]);
		_exit(read(go[0], &byte, 1) != 0);
	}
	CHECK(munmap((void *)again, SIZE) == 0 && ioctl(fd, IN_USE) == 1);
	close(go[1]);
	int status;
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	CHECK(ioctl(fd, IN_USE) == 0);

	/* Mapped once more, it is what it was. The program ends with it mapped. */
	bytes = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);
	CHECK(bytes != MAP_FAILED && bytes[SIZE - 1] == 7 && bytes[5] == 99);
	return 0;
}
