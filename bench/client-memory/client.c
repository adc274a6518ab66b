/* Memory to be looked at: prints where a shared file is, private memory, and one of 10 000 mappings; then waits. */
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGES 1000UL
#define PAGE 4096UL
#define SCATTERED 10000UL

/* Word 2 of each page names the next page of a walk through all of them. */
static uint8_t *filled(uint8_t *pages)
{
	for (uint64_t i = 0; i < PAGES; i++)
		*(uint64_t *)(pages + i * PAGE + 8) = (i + 617) % PAGES;
	return pages;
}

static uint8_t *scattered(void)
{
	uint8_t *pages = mmap(NULL, SCATTERED * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (uint64_t i = 0; i < SCATTERED; i += 2)
		mprotect(pages + i * PAGE, PAGE, PROT_READ);
	return pages + (SCATTERED / 2 + 1) * PAGE;
}

int main(void)
{
	int fd = memfd_create("shared", 0);
	if (fd < 0 || ftruncate(fd, PAGES * PAGE) != 0)
		return 1;
	uint8_t *shared = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	uint8_t *own = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	printf("%lu %lu %lu\n", (unsigned long)filled(shared), (unsigned long)filled(own), (unsigned long)scattered());
	fflush(stdout);
	return (int)read(0, &fd, 1);
}
