package host

import "github.com/snplaunch/snplaunch/vmsa"

// CPUSignature is EAX of CPUID function 1 of this machine's processor as QEMU
// gives it to a guest with -cpu host: family, model and stepping, nothing else.
// ok is false where there is no CPUID instruction.
func CPUSignature() (sig uint32, ok bool) { return cpuSignature(cpuid) }

func cpuSignature(cpuid CPUID) (uint32, bool) {
	eax, _, _, _ := cpuid(1, 0)
	family, model, stepping := vmsa.SplitSignature(eax)
	return vmsa.Signature(family, model, stepping), eax != 0
}
