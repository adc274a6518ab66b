"""What <linux/iommufd.h> and <linux/vfio.h> say, typed off by hand: map a page, and have the first device attached to it."""
import ctypes, fcntl, glob, mmap, os, struct

def command(number):
    return ord(';') << 8 | number

def call(fd, number, layout, *values):
    data = bytearray(struct.pack(layout, struct.calcsize(layout), *values))
    fcntl.ioctl(fd, command(number), data)
    return struct.unpack(layout, data)

iommu = os.open('/dev/iommu', os.O_RDWR)
ioas = call(iommu, 0x81, '=III', 0, 0)[2]
page = mmap.mmap(-1, mmap.PAGESIZE)
address = ctypes.addressof(ctypes.c_char.from_buffer(page))
iova = call(iommu, 0x85, '=IIIIQQQ', 6, ioas, 0, address, mmap.PAGESIZE, 0)[6]

node = sorted(glob.glob('/sys/bus/pci/devices/*/vfio-dev/*'))[0]
device = os.open('/dev/vfio/devices/' + os.path.basename(node), os.O_RDWR)
call(device, 118, '=IIiI', 0, iommu, 0)
call(device, 119, '=III', 0, ioas)
vendor = os.pread(device, 2, 7 << 40).hex()
print(os.path.basename(os.path.dirname(os.path.dirname(node))), vendor, hex(iova))
try:
    call(iommu, 0x80, '=II', ioas)
except OSError as error:
    print(error.strerror)
