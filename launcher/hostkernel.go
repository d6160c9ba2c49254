package launcher

import (
	"fmt"

	"github.com/snplaunch/snplaunch/vmsa"
)

// checkHost refuses save areas that this host does not make. QEMU cannot
// choose SEV_FEATURES: the host's kernel does, so a value other than its
// usual one needs a kernel that explains it.
func (r *run) checkHost() error {
	p, err := r.g.HostProfile()
	if err != nil {
		return err
	}
	if err := p.CheckSNP(); err != nil {
		return err
	}
	if r.g.GuestFeatures != p.Features {
		return fmt.Errorf("guest_features %s: QEMU launches every guest with what the host's kernel gives, on %s with %s, so this guest can be measured but not run (leave guest_features out, or name the kernel with host_kernel)",
			vmsa.DescribeFeatures(r.g.GuestFeatures), p.Name, vmsa.DescribeFeatures(p.Features))
	}
	if d := vmsa.DefaultHost(); r.o.Backend == BackendSim && (p.Features != d.Features || p.NoFPU != d.NoFPU) {
		return fmt.Errorf("host_kernel %s: the software SNP host is a Linux %s, so this guest can be measured but not run on it (leave host_kernel out, or use --backend snp on such a host)", r.g.HostKernel, d.Name)
	}
	if r.g.CPUSig != nil {
		if sig, err := vmsa.Lookup(r.g.CPU); err == nil && sig != *r.g.CPUSig {
			return fmt.Errorf("cpu_sig 0x%x: QEMU launches %s with 0x%x, so this guest can be measured but not run (leave cpu_sig out, or name a CPU model that has it)", *r.g.CPUSig, r.g.CPU, sig)
		}
	}
	return nil
}
