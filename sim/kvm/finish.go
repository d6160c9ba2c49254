package kvm

import "github.com/snplaunch/snplaunch/sim/psp"

// finishParams reads the fixed part of struct kvm_sev_snp_launch_finish.
func finishParams(b []byte) psp.FinishParams {
	p := psp.FinishParams{
		IDBlockEnabled:   b[16] != 0,
		AuthorKeyEnabled: b[17] != 0,
		VCEKDisabled:     b[18] != 0,
	}
	copy(p.HostData[:], b[19:51])
	return p
}
