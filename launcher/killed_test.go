package launcher

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/internal/childgroup"
)

// What ended a QEMU is told whenever it is asked, not only when the ask happens to win.
func TestKilledIsToldEveryTime(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	childgroup.Of(cmd)
	p, err := startPlain(cmd)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	v := &vm{process: p}
	for i := range 200 {
		if s := v.killed(); !strings.HasPrefix(s, "QEMU was ended by signal 9 (SIGKILL)") {
			t.Fatalf("asked for the %dth time: %q", i+1, s)
		}
	}
}
