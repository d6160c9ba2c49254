package host

import "fmt"

// Choose picks the backend for a request of auto, snp or sim, and says why.
//
// Auto is snp on a machine with SNP hardware, and stays snp when that cannot
// work: then the error is an [*ObstacleError] and says what to repair. There
// is no fall-back, or a broken host would go unnoticed. Otherwise auto is sim.
func Choose(requested string, m *Machine) (backend, reason string, err error) {
	switch requested {
	case SNP, Sim:
		backend, reason = requested, "asked for"
	case Auto, "":
		backend, reason = m.auto()
	default:
		return "", "", fmt.Errorf("backend %q is unknown: use auto, snp or sim", requested)
	}
	if failing := m.Obstacles(backend); len(failing) > 0 {
		return backend, reason, &ObstacleError{Backend: backend, Checks: failing}
	}
	return backend, reason, nil
}

func (m *Machine) auto() (backend, reason string) {
	switch {
	case m.SEV.Present:
		return SNP, "/dev/sev is there"
	case m.hardware():
		return SNP, "the processor has SEV-SNP"
	case m.CPU.SEV.SNP:
		return Sim, "there is no /dev/sev, and the processor's SEV-SNP is that of an SNP guest"
	}
	return Sim, "there is no /dev/sev and no processor with SEV-SNP"
}
