package supervise

import (
	"encoding/binary"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// interpret runs a classic BPF program as the kernel does (Linux
// Documentation/networking/filter.rst), for the instructions used here.
func interpret(t *testing.T, prog []unix.SockFilter, data []byte) uint32 {
	t.Helper()
	var a uint32
	for pc := 0; pc < len(prog); pc++ {
		in := prog[pc]
		switch in.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			a = binary.LittleEndian.Uint32(data[in.K:])
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			a &= in.K
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			if a == in.K {
				pc += int(in.Jt)
			} else {
				pc += int(in.Jf)
			}
		case unix.BPF_RET | unix.BPF_K:
			return in.K
		default:
			t.Fatalf("instruction %d has the unexpected code %#x", pc, in.Code)
		}
	}
	t.Fatal("the program ran over its end")
	return 0
}

func TestFilterNotifiesWhatMattersAndNothingElse(t *testing.T) {
	type call struct {
		name     string
		arch, nr uint32
		args     [6]uint64
		held     string // by: q our own QEMU, p a private view, t a trapped one
	}
	x := uint32(archX8664)
	calls := []call{
		{"openat O_RDWR|O_CLOEXEC", x, unix.SYS_OPENAT, [6]uint64{0, 0, unix.O_RDWR | unix.O_CLOEXEC}, "qpt"},
		{"openat flags 0", x, unix.SYS_OPENAT, [6]uint64{}, "t"},
		{"openat O_RDONLY|O_CLOEXEC", x, unix.SYS_OPENAT, [6]uint64{0, 0, unix.O_CLOEXEC}, "t"},
		{"openat O_WRONLY", x, unix.SYS_OPENAT, [6]uint64{0, 0, unix.O_WRONLY}, ""},
		{"openat O_RDWR|O_CREAT, as of sh's <>", x, unix.SYS_OPENAT, [6]uint64{0, 0, unix.O_RDWR | unix.O_CREAT}, "t"},
		{"openat O_RDWR|O_CREAT|O_EXCL", x, unix.SYS_OPENAT, [6]uint64{0, 0, unix.O_RDWR | unix.O_CREAT | unix.O_EXCL}, ""},
		{"openat O_TMPFILE|O_RDWR", x, unix.SYS_OPENAT, [6]uint64{0, 0, unix.O_RDWR | unix.O_TMPFILE}, ""},
		{"openat O_DIRECTORY", x, unix.SYS_OPENAT, [6]uint64{0, 0, unix.O_DIRECTORY}, ""},
		{"openat O_PATH", x, unix.SYS_OPENAT, [6]uint64{0, 0, unix.O_PATH}, ""},
		{"open O_RDWR", x, unix.SYS_OPEN, [6]uint64{0, unix.O_RDWR}, "qpt"},
		{"open O_RDONLY|O_CLOEXEC", x, unix.SYS_OPEN, [6]uint64{0, unix.O_CLOEXEC}, "t"},
		{"open O_WRONLY|O_CREAT|O_TRUNC", x, unix.SYS_OPEN, [6]uint64{0, unix.O_WRONLY | unix.O_CREAT | unix.O_TRUNC}, ""},
		{"openat2", x, unix.SYS_OPENAT2, [6]uint64{}, "t"},
		{"ioctl KVM_RUN", x, unix.SYS_IOCTL, [6]uint64{3, 0xAE80}, "qpt"},
		{"ioctl KVM_SET_USER_MEMORY_REGION2", x, unix.SYS_IOCTL, [6]uint64{3, 0x40A0AE49}, "qpt"},
		{"ioctl SEV_ISSUE_CMD", x, unix.SYS_IOCTL, [6]uint64{3, sevIssueCommand}, "qpt"},
		{"ioctl CDROMEJECT", x, unix.SYS_IOCTL, [6]uint64{3, 0x5309}, ""},
		{"ioctl of type S and number 0 in another direction", x, unix.SYS_IOCTL, [6]uint64{3, 0x80105300}, ""},
		{"ioctl TCGETS", x, unix.SYS_IOCTL, [6]uint64{3, 0x5401}, ""},
		{"stat", x, unix.SYS_STAT, [6]uint64{}, "t"},
		{"lstat", x, unix.SYS_LSTAT, [6]uint64{}, "t"},
		{"fstat", x, unix.SYS_FSTAT, [6]uint64{}, ""},
		{"newfstatat of a path", x, unix.SYS_NEWFSTATAT, [6]uint64{0, 0, 0, unix.AT_SYMLINK_NOFOLLOW}, "t"},
		{"newfstatat of an open file", x, unix.SYS_NEWFSTATAT, [6]uint64{3, 0, 0, unix.AT_EMPTY_PATH}, ""},
		{"statx of a path", x, unix.SYS_STATX, [6]uint64{0, 0, 0, unix.STATX_ALL}, "t"},
		{"statx of an open file", x, unix.SYS_STATX, [6]uint64{3, 0, unix.AT_EMPTY_PATH, unix.STATX_ALL}, ""},
		{"access", x, unix.SYS_ACCESS, [6]uint64{}, "t"},
		{"faccessat", x, unix.SYS_FACCESSAT, [6]uint64{}, "t"},
		{"faccessat2", x, unix.SYS_FACCESSAT2, [6]uint64{}, "t"},
		{"execve", x, unix.SYS_EXECVE, [6]uint64{}, "pt"},
		{"execveat", x, unix.SYS_EXECVEAT, [6]uint64{}, "pt"},
		{"read", x, unix.SYS_READ, [6]uint64{}, ""},
		{"ioctl of a 32-bit program", 0x40000003, unix.SYS_IOCTL, [6]uint64{3, 0xAE80}, ""},
	}
	for name, s := range map[string]selection{"q": selectQEMU, "p": selectPrivate, "t": selectTrapped} {
		prog := filter(s)
		for _, c := range calls {
			data := make([]byte, 64)
			binary.LittleEndian.PutUint32(data[dataNR:], c.nr)
			binary.LittleEndian.PutUint32(data[dataArch:], c.arch)
			for i, a := range c.args {
				binary.LittleEndian.PutUint64(data[dataArgs+8*i:], a)
			}
			want := uint32(retAllow)
			if strings.Contains(c.held, name) {
				want = retNotify
			}
			if got := interpret(t, prog, data); got != want {
				t.Errorf("filter %s, %s: it gives %#x, want %#x", name, c.name, got, want)
			}
		}
	}
}

func TestFitCBitPos(t *testing.T) {
	for _, c := range []struct {
		in       string
		position int
		want     string
		fails    bool
	}{
		{"sev-snp-guest,id=sev0,cbitpos=51,reduced-phys-bits=1", 0, "sev-snp-guest,id=sev0,cbitpos= 0,reduced-phys-bits=1", false},
		{"sev-snp-guest,id=sev0,cbitpos=51", 47, "sev-snp-guest,id=sev0,cbitpos=47", false},
		{"sev-snp-guest,cbitpos=51", 51, "sev-snp-guest,cbitpos=51", false},
		{`{"qom-type":"sev-snp-guest","id":"s","cbitpos":51,"reduced-phys-bits":1}`, 0, `{"qom-type":"sev-snp-guest","id":"s","cbitpos": 0,"reduced-phys-bits":1}`, false},
		{`{"qom-type": "sev-snp-guest", "cbitpos": 51}`, 7, `{"qom-type": "sev-snp-guest", "cbitpos":  7}`, false},
		{"sev-snp-guest,cbitpos=5", 51, "sev-snp-guest,cbitpos=5", true},
		{"sev-snp-guest,cbitpos=0x33", 51, "sev-snp-guest,cbitpos=0x33", false},
		{"sev-snp-guest,cbitpos=0x33", 8, "sev-snp-guest,cbitpos=   8", false},
		{"sev-snp-guest,cbitpos=0x2F", 0, "sev-snp-guest,cbitpos=   0", false},
		{"console=ttyS0 cbitpos=51", 0, "console=ttyS0 cbitpos=51", false}, // not QEMU's object
		{"", 0, "", false},
	} {
		got, changed, err := FitCBitPos(c.in, c.position)
		if (err != nil) != c.fails {
			t.Errorf("FitCBitPos(%q, %d): error %v, want one: %v", c.in, c.position, err, c.fails)
		}
		if got != c.want || len(got) != len(c.in) {
			t.Errorf("FitCBitPos(%q, %d) = %q, want %q", c.in, c.position, got, c.want)
		}
		if changed != (got != c.in) {
			t.Errorf("FitCBitPos(%q, %d) says changed %v", c.in, c.position, changed)
		}
	}
}

func FuzzFitCBitPos(f *testing.F) {
	f.Add("sev-snp-guest,cbitpos=51", 0)
	f.Add(`{"qom-type":"sev-snp-guest","cbitpos":51}`, 63)
	f.Fuzz(func(t *testing.T, s string, position int) {
		position &= 63
		got, changed, err := FitCBitPos(s, position)
		if len(got) != len(s) {
			t.Fatalf("length changed from %d to %d", len(s), len(got))
		}
		if (changed || err != nil) && !strings.Contains(s, "cbitpos") {
			t.Fatal("changed an argument that has no cbitpos")
		}
		if err == nil {
			if again, changed, err := FitCBitPos(got, position); err != nil || changed && again != got {
				t.Fatalf("not stable: %q, then %q, %v", got, again, err)
			}
		}
	})
}
