package launcher

import (
	"fmt"

	"github.com/snplaunch/snplaunch/diagnose"
)

// kernelDenied is the finding of an AmdSev build of OVMF that went past the kernel.
const kernelDenied = "boot-kernel-denied"

// explainConsole adds the cause of a guest that did not boot, where what it printed, or what
// QEMU said beside it, is known.
func (r *Result) explainConsole() {
	switch r.Verdict {
	case VerdictFirmwareRefused, VerdictNotAttested, VerdictTimeout:
	default:
		return
	}
	if r.Error == nil {
		return
	}
	f := diagnose.FromConsole(r.Console + "\n" + r.Stderr)
	if f == nil {
		return
	}
	if f.ID == kernelDenied && r.guest != nil && r.guest.UsesKernelHashes() {
		// There is a table, so the firmware had no memory for what it vouches for.
		r.Error.Message += fmt.Sprintf("\nLikely: The firmware could not take kernel and initrd in, for which the guest's %d MiB of memory are too little.", r.guest.MemoryMiB)
		r.Error.Advice = "give the guest more memory (memory_mib), or a smaller initrd"
		return
	}
	likely := ""
	if f.Likely {
		likely = "Likely: "
	}
	r.Error.Message += "\n" + likely + f.Cause
	r.Error.Advice = f.Advice
}
