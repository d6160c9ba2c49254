package launcher

import "github.com/snplaunch/snplaunch/snp"

// Computed is the launch digest of the guest's description.
func (s *Session) Computed() snp.LaunchDigest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.r.res.Computed
}

// Report is the last attestation report of the guest, as it came, and its certificate
// table; nil before one came.
func (s *Session) Report() (raw, certificates []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.r.res.Report, s.r.res.Certificates
}

// Trusted is the fingerprint of the simulated root that the last report was verified
// against; empty on hardware, and before one was.
func (s *Session) Trusted() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.r.res.Trusted
}
