package launcher

import (
	"fmt"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/host"
)

// firmwareMiB is about what OVMF takes for itself before a kernel starts.
//
// Measured with the AmdSev build of EDK2 2026.08 and a Linux 6.12 (a file of 11.1 MiB,
// init_size 55.9 MiB): with an initrd of 4.8 MiB it stops at 148 MiB of memory and boots
// at 152, with one of 36.8 MiB it stops at 224 and boots at 240. Beyond what bootBytes
// counts that is 71 to 75 and 84 to 99 MiB. Other builds may do with less, so that
// what lies between the two is a warning.
const firmwareMiB = 64

// bootBytes is what certainly has to be in memory at one time for Linux to start from
// UEFI: the kernel's file and the initrd as the firmware got them from QEMU, the initrd
// as the kernel got it from the firmware, and the room in which the kernel unpacks itself.
func bootBytes(in *guest.Inputs) (int64, error) {
	need, err := guest.KernelInitSize(in.Kernel, in.Kernel.Size)
	need += in.Kernel.Size
	if in.Initrd.HasContents() {
		need += 2 * in.Initrd.Size
	}
	return need, err
}

// checkBootMemory holds the guest's memory against what its start needs. Firmware that
// has too little of it says nothing: it finds no kernel, or stands still.
func (r *run) checkBootMemory() (host.Check, error) {
	need, err := bootBytes(r.inputs)
	if err != nil {
		return host.Check{}, err
	}
	c := checkOf("launch-boot-memory", "memory for kernel and initrd", fmt.Sprintf("%d MiB", r.g.MemoryMiB), nil)
	mib := (need + 1<<20 - 1) >> 20
	if int64(r.g.MemoryMiB) >= mib+firmwareMiB {
		return c, nil
	}
	c.Reason = fmt.Sprintf("%d MiB, and kernel and initrd alone need %d MiB to start, the firmware about %d MiB more", r.g.MemoryMiB, mib, firmwareMiB)
	c.Remedy = fmt.Sprintf("give the guest more memory, best %d MiB (memory_mib, --memory, -m) or more", (mib+2*firmwareMiB+63)/64*64)
	c.Verdict = host.Warning
	if int64(r.g.MemoryMiB) < mib {
		c.Verdict = host.Obstacle
	}
	return c, nil
}
