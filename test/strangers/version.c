/* SPDX-License-Identifier: MIT */
/* Loads the version register of an IOAT function from its mapped BAR. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include "vfio.h"

int main(void)
{
	int iommu = open("/dev/iommu", O_RDWR), device = open("/dev/vfio/devices/vfio0", O_RDWR);
	struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind), .iommufd = iommu };
	if (ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, &bind) != 0)
		return 1;
	volatile uint8_t *bar = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, device, 0);
	printf("version 0x%02x\n", bar == MAP_FAILED ? 0 : bar[8]);
	return 0;
}
