package report_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// go-sev-guest before v0.15.0 takes the root of trust from the report's own
// chain when it is given none (see the package comment): go.mod must never ask
// for one of those, nor put another module in its place.
func TestGoSEVGuestIsNotTooOld(t *testing.T) {
	const module = "github.com/google/go-sev-guest"
	data, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	version := ""
	for _, line := range strings.Split(string(data), "\n") {
		line, _, _ = strings.Cut(line, "//")
		if !strings.Contains(line, module) {
			continue
		}
		if strings.Contains(line, "=>") {
			t.Errorf("go.mod replaces it: %s", strings.TrimSpace(line))
			continue
		}
		fields := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(fields) != 2 || fields[0] != module || version != "" {
			t.Fatalf("go.mod: cannot read %q", line)
		}
		version = fields[1]
	}
	if !notOld(version) {
		t.Errorf("go.mod asks for %s %q; v0.15.0 is the first that does not trust a report's own root", module, version)
	}
	for v, want := range map[string]bool{
		"": false, "v0.14.1": false, "v0.9.0": false, "v0.15.0": true, "v0.15.1": true, "v0.16.0": true, "v0.100.0": true, "v1.0.0": true,
		"v0.15.0-rc1": false, "v0.14.2-0.20251101000000-af1c10700000": false, "v0.15.1-0.20260101000000-af1c10700000": true, "v0.x.0": false,
	} {
		if got := notOld(v); got != want {
			t.Errorf("notOld(%q) is %v", v, got)
		}
	}
}

var semver = regexp.MustCompile(`^v(\d+)\.(\d+)\.(\d+)(-.*)?$`)

// notOld says whether a version is v0.15.0 or later; a pre-release comes before its release.
func notOld(version string) bool {
	m := semver.FindStringSubmatch(version)
	if m == nil {
		return false
	}
	var n [3]int
	for i := range n {
		fmt.Sscan(m[i+1], &n[i])
	}
	if n == [3]int{0, 15, 0} {
		return m[4] == ""
	}
	return n[0] > 0 || n[1] >= 15
}
