package vmsa_test

import (
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/vmsa"
)

func TestLookupHost(t *testing.T) {
	for name, want := range map[string]string{
		"": "6.11+", "6.11+": "6.11+", "6.11": "6.11+", "6.12": "6.11+", "7.2": "6.11+", "7.2.13": "6.11+", "6.12.95+deb12-cloud-amd64": "6.11+", "6.11-rc1": "6.11+",
		"amd-6.6": "amd-6.6-6.7", "AMD-6.7": "amd-6.6-6.7", "amd-6.6-6.7": "amd-6.6-6.7", "6.6.0-rc1-snp-host-35f31dfb8101": "amd-6.6-6.7",
		"amd-6.8": "amd-6.8", "amd-6.9": "amd-6.9+", "6.9.0-rc7-snp-host-05b10142ac6a": "amd-6.9+", "amd-6.14": "amd-6.9+", "amd-5.19": "amd-5.19-6.5", "amd-6.5": "amd-5.19-6.5",
		"6.10": "6.10", "6.8": "6.8-6.9", "6.9.3": "6.8-6.9", "6.7": "6.6-6.7", "6.5": "5.11-6.5", "5.11": "5.11-6.5", "5.15.0-generic": "5.11-6.5",
	} {
		p, err := vmsa.LookupHost(name)
		if err != nil || p.Name != want {
			t.Errorf("%q: %q, %v; want %q", name, p.Name, err, want)
		}
	}
	for name, hint := range map[string]string{
		"5.10":     "older than any",
		"amd-5.18": "older than any",
		"amd-":     "unknown (",
		"linux":    "use one of 6.11+, amd-6.9+",
		"6":        "unknown (",
		"6.":       "unknown (",
		".12":      "unknown (",
		"6.12x":    "unknown (",
		"amd-6.77": "", // later than 6.9
		"amd6.8":   "did you mean amd-6.8?",
		"-6.12":    "unknown (",
	} {
		if _, err := vmsa.LookupHost(name); (err == nil) != (hint == "") || err != nil && !strings.Contains(err.Error(), hint) {
			t.Errorf("%q: got %v, want a hint %q", name, err, hint)
		}
	}
}

// TestHostProfiles: what each puts in a save area, and that the table covers
// every kernel once.
func TestHostProfiles(t *testing.T) {
	want := map[string]struct {
		features uint64
		noFPU    bool
		snp      bool
	}{
		"6.11+": {1, false, true}, "amd-6.9+": {1, false, true}, "amd-6.8": {1, true, true}, "amd-6.6-6.7": {0x21, true, true}, "amd-5.19-6.5": {1, true, true},
		"6.10": {0, false, false}, "6.8-6.9": {0, true, false}, "6.6-6.7": {0x20, true, false}, "5.11-6.5": {0, true, false},
	}
	for _, p := range vmsa.HostProfiles() {
		w, ok := want[p.Name]
		if !ok || p.Features != w.features || p.NoFPU != w.noFPU || p.SNP != w.snp || p.What == "" {
			t.Errorf("%+v", p)
		}
		if (p.CheckSNP() == nil) != p.SNP {
			t.Errorf("%s: %v", p.Name, p.CheckSNP())
		}
		if d := p.Describe(); !strings.HasPrefix(d, p.Name+" (") || !strings.HasSuffix(d, p.FPU()) {
			t.Errorf("%s: %q", p.Name, d)
		}
		delete(want, p.Name)
	}
	for name := range want {
		t.Errorf("no profile %s", name)
	}
	if d := vmsa.DefaultHost(); d.Name != vmsa.HostProfiles()[0].Name || !d.SNP {
		t.Errorf("default %+v", d)
	}
}
