package supervise

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/sim/kvm"
)

// ear writes down what it hears.
type ear struct {
	heard, ended []string
	links        []string
	pending      string
}

func (e *ear) Requests() []uint32 { return []uint32{createVM} }

func (e *ear) Hear(h Heard) {
	switch h.NR {
	case unix.SYS_IOCTL:
		e.links = append(e.links, h.Link(int(h.Args[0])))
		e.pending = fmt.Sprintf("ioctl 0x%x", h.Request)
		if same, known := h.Same(int(h.Args[0]), int(h.Args[0])); known && !same {
			e.pending = "a file that is not itself"
		}
	case unix.SYS_WRITE:
		b := make([]byte, h.Args[2])
		if h.Read(h.Args[1], b) == nil {
			e.pending = "said " + strings.TrimSpace(string(b))
		}
	case unix.SYS_EXIT_GROUP:
		e.pending = fmt.Sprintf("exit %d", h.Args[0])
	}
}

func (e *ear) Taken(made bool) {
	if made {
		e.heard = append(e.heard, e.pending)
	}
}

func (e *ear) Ended(process int) { e.ended = append(e.ended, fmt.Sprint(process)) }

// The same is heard whoever answers: a software host, or the kernel itself.
func TestListener(t *testing.T) {
	line := []string{"sh", "-c", `echo two >/dev/null; "$0" ` + helperWord + ` none 2>/dev/null; exit 5`, self(t)}
	want := []string{`said no helper "none"`, "exit 101", "exit 5"}
	h, _ := machine(t, kvm.Options{})
	for name, host := range map[string]*kvm.Host{"software host": h, "kernel": nil} {
		e, said := &ear{}, &log{}
		f, err := StartForeign("/bin/sh", line, Config{Host: host, CBitPos: 51, View: ViewTrapped, Logf: said.add, Listener: e})
		if err != nil {
			t.Fatal(err)
		}
		if status := wait(t, f); status != 5 || !slices.Equal(e.heard, want) || len(e.ended) != 1 {
			t.Errorf("%s: status %d, heard %q, ended %q\n%s", name, status, e.heard, e.ended, said)
		}
	}
}

// Only what a listener asks for is heard of ioctls, on the software host too, where more is held.
func TestListenerHearsWhatItAsksFor(t *testing.T) {
	h, _ := machine(t, kvm.Options{})
	e, said := &ear{}, &log{}
	args := []string{self(t), helperWord, "guest"}
	f, err := StartForeign(args[0], args, Config{Host: h, CBitPos: 51, View: ViewTrapped, Logf: said.add, Listener: e})
	if err != nil {
		t.Fatal(err)
	}
	if status := wait(t, f); status != 0 || !slices.Equal(e.heard, []string{"ioctl 0xae01", "exit 0"}) || !strings.HasPrefix(e.links[0], "/memfd:snplaunch-kvm") {
		t.Errorf("status %d, heard %q of %q\n%s", status, e.heard, e.links, said)
	}
}
