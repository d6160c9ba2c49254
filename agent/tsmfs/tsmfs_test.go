package tsmfs

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// maker is a Provider whose reports tell what they were asked for, and how
// many there were before.
type maker struct {
	mu    sync.Mutex
	made  int
	aux   []byte
	errno syscall.Errno
}

func (m *maker) NewReport(inblob []byte, privlevel uint32) ([]byte, []byte, syscall.Errno) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.errno != 0 {
		return nil, nil, m.errno
	}
	m.made++
	return fmt.Appendf(nil, "report %d over %q at %d", m.made, inblob, privlevel), m.aux, 0
}

const entryPath = "tsm/report/a"

// withEntry gives a file system with one entry.
func withEntry(t testing.TB, p Provider) *kernel {
	t.Helper()
	k := newKernel(t, p)
	if errno := k.mkdir(entryPath); errno != 0 {
		t.Fatal(errno)
	}
	return k
}

func (k *kernel) wantText(attribute, want string) {
	k.t.Helper()
	if got, errno := k.get(entryPath + "/" + attribute); errno != 0 || got != want {
		k.t.Errorf("%s reads %q, %v; want %q", attribute, got, errno, want)
	}
}

func (k *kernel) wantRead(attribute string, want syscall.Errno) {
	k.t.Helper()
	if got, errno := k.get(entryPath + "/" + attribute); errno != want {
		k.t.Errorf("%s reads %q, %v; want %v", attribute, got, errno, want)
	}
}

func (k *kernel) wantWrite(attribute, content string, want syscall.Errno) {
	k.t.Helper()
	if errno := k.put(entryPath+"/"+attribute, content); errno != want {
		k.t.Errorf("writing %.20q to %s: %v, want %v", content, attribute, errno, want)
	}
}

// Names, permissions and sizes as in Linux 6.12 at VMPL0.
func TestAttributes(t *testing.T) {
	k := withEntry(t, &maker{})
	for _, c := range []struct {
		name string
		mode uint32
		size uint64
	}{
		{"generation", 0o444, 4096},
		{"provider", 0o444, 4096},
		{"privlevel", 0o200, 4096},
		{"privlevel_floor", 0o444, 4096},
		{"inblob", 0o200, 0},
		{"outblob", 0o444, 0},
		{"auxblob", 0o444, 0},
	} {
		_, attr, errno := k.walk(entryPath + "/" + c.name)
		if errno != 0 || attr.Mode != syscall.S_IFREG|c.mode || attr.Size != c.size {
			t.Errorf("%s: %v, mode %o, %d bytes; want %o, %d", c.name, errno, attr.Mode, attr.Size, c.mode, c.size)
		}
	}
	for _, name := range []string{"manifestblob", "service_provider", "service_guid", "service_manifest_version"} {
		if _, _, errno := k.walk(entryPath + "/" + name); errno != syscall.ENOENT {
			t.Errorf("%s: %v; it is there only under an SVSM", name, errno)
		}
	}
	k.wantText("provider", "sev_guest\n")
	k.wantText("privlevel_floor", "0\n")
	k.wantText("generation", "0\n")
}

func TestReport(t *testing.T) {
	m := &maker{aux: []byte("certificates")}
	k := withEntry(t, m)
	k.wantRead("outblob", syscall.EINVAL)
	k.wantRead("auxblob", syscall.EINVAL)
	k.wantWrite("inblob", "nonce", 0)
	k.wantText("generation", "1\n")
	k.wantText("auxblob", "certificates")
	k.wantText("outblob", `report 1 over "nonce" at 0`)
	k.wantText("outblob", `report 1 over "nonce" at 0`)
	k.wantWrite("privlevel", "2", 0)
	k.wantText("generation", "2\n")
	k.wantText("outblob", `report 2 over "nonce" at 2`)
	m.aux = nil
	k.wantWrite("inblob", "other", 0)
	k.wantText("auxblob", "")
	k.wantText("outblob", `report 3 over "other" at 2`)
}

// Entries do not share anything.
func TestTwoEntries(t *testing.T) {
	k := withEntry(t, &maker{})
	if errno := k.mkdir("tsm/report/b"); errno != 0 {
		t.Fatal(errno)
	}
	k.wantWrite("inblob", "a's", 0)
	if got, errno := k.get("tsm/report/b/outblob"); errno != syscall.EINVAL {
		t.Errorf("b/outblob reads %q, %v", got, errno)
	}
	if got, _ := k.get("tsm/report/b/generation"); got != "0\n" {
		t.Errorf("b/generation reads %q", got)
	}
}

func TestProviderFails(t *testing.T) {
	m := &maker{errno: syscall.ENXIO}
	k := withEntry(t, m)
	k.wantWrite("inblob", "x", 0)
	k.wantRead("outblob", syscall.ENXIO)
	k.wantRead("auxblob", syscall.ENXIO)
	m.errno = 0
	k.wantText("outblob", `report 1 over "x" at 0`)
	// A report of earlier inputs is no report.
	m.errno = syscall.EIO
	k.wantWrite("inblob", "y", 0)
	k.wantRead("outblob", syscall.EIO)
}

// A file that is open keeps what was read first; one that is opened after a
// write gives a new report.
func TestReadDuringWrite(t *testing.T) {
	k := withEntry(t, &maker{})
	k.wantWrite("inblob", "1", 0)
	d, errno := k.open(entryPath+"/outblob", syscall.O_RDONLY)
	if errno != 0 {
		t.Fatal(errno)
	}
	first, _ := d.read(10)
	k.wantWrite("inblob", "2", 0)
	rest, errno := d.read(100)
	if got := string(first) + string(rest); errno != 0 || got != `report 1 over "1" at 0` {
		t.Errorf("the open file reads %q, %v", got, errno)
	}
	k.wantText("outblob", `report 2 over "2" at 0`)
}

func TestPrivlevel(t *testing.T) {
	k := withEntry(t, &maker{})
	for content, want := range map[string]syscall.Errno{
		"0": 0, "3": 0, "3\n": 0, "+1": 0, "0x2": 0, "0X3": 0, "03": 0, "1\x00garbage": 0,
		"4": syscall.EINVAL, "10": syscall.EINVAL, "-1": syscall.EINVAL, "": syscall.EINVAL, "\n": syscall.EINVAL,
		"1 ": syscall.EINVAL, " 1": syscall.EINVAL, "1\n\n": syscall.EINVAL, "++1": syscall.EINVAL, "08": syscall.EINVAL,
		"0x": syscall.EINVAL, "0x+1": syscall.EINVAL, "1_0": syscall.EINVAL, "one": syscall.EINVAL,
		"4294967296": syscall.ERANGE, "99999999999999999999": syscall.ERANGE,
	} {
		before, _ := k.get(entryPath + "/generation")
		k.wantWrite("privlevel", content, want)
		after, _ := k.get(entryPath + "/generation")
		if changed := before != after; changed != (want == 0) {
			t.Errorf("writing %q: generation went from %q to %q", content, before, after)
		}
	}
}

// The inblob is collected from all writes and takes effect at the close.
func TestInblobInPieces(t *testing.T) {
	k := withEntry(t, &maker{})
	d, errno := k.open(entryPath+"/inblob", syscall.O_WRONLY)
	if errno != 0 {
		t.Fatal(errno)
	}
	d.write([]byte("ab"))
	d.offset = 4
	d.write([]byte("ef"))
	k.wantText("generation", "0\n")
	if errno := d.close(); errno != 0 {
		t.Error(errno)
	}
	k.wantText("generation", "1\n")
	k.wantText("outblob", `report 1 over "ab\x00\x00ef" at 0`)
	// Opened and closed: nothing was written.
	if d, errno = k.open(entryPath+"/inblob", syscall.O_WRONLY); errno != 0 {
		t.Fatal(errno)
	}
	d.close()
	k.wantText("generation", "1\n")
}

func TestInblobTooLong(t *testing.T) {
	k := withEntry(t, &maker{})
	k.wantWrite("inblob", strings.Repeat("x", 64), 0)
	k.wantText("outblob", fmt.Sprintf("report 1 over %q at 0", strings.Repeat("x", 64)))
	// The write fails, and the close leaves an empty inblob, as in configfs.
	k.wantWrite("inblob", strings.Repeat("x", 65), syscall.EFBIG)
	k.wantText("generation", "2\n")
	k.wantRead("outblob", syscall.EINVAL)
}

// Even root gets no further than the attribute goes.
func TestOpenModes(t *testing.T) {
	k := withEntry(t, &maker{})
	for _, a := range attributes {
		for _, mode := range []uint32{syscall.O_RDONLY, syscall.O_WRONLY, syscall.O_RDWR} {
			var want syscall.Errno
			if mode == syscall.O_RDWR || (mode == syscall.O_WRONLY) != (a.mode() == 0o200) {
				want = syscall.EACCES
			}
			if _, errno := k.open(entryPath+"/"+a.name, mode); errno != want {
				t.Errorf("opening %s with mode %d: %v, want %v", a.name, mode, errno, want)
			}
		}
	}
}

func TestRemoval(t *testing.T) {
	k := withEntry(t, &maker{})
	k.wantWrite("inblob", "x", 0)
	filled, _ := k.open(entryPath+"/outblob", syscall.O_RDONLY)
	if b, errno := filled.read(6); errno != 0 || string(b) != "report" {
		t.Fatalf("%q, %v", b, errno)
	}
	unread, _ := k.open(entryPath+"/outblob", syscall.O_RDONLY)
	unwritten, _ := k.open(entryPath+"/privlevel", syscall.O_WRONLY)
	if errno := k.rmdir(entryPath); errno != 0 {
		t.Fatal(errno)
	}
	if _, _, errno := k.walk(entryPath); errno != syscall.ENOENT {
		t.Errorf("after rmdir: %v", errno)
	}
	if errno := k.rmdir(entryPath); errno != syscall.ENOENT {
		t.Errorf("rmdir again: %v", errno)
	}
	if b, errno := filled.read(2); errno != 0 || string(b) != " 1" {
		t.Errorf("what was read before goes on with %q, %v", b, errno)
	}
	if _, errno := unread.read(2); errno != syscall.ENOENT {
		t.Errorf("a first read: %v, want ENOENT", errno)
	}
	if _, errno := unwritten.write([]byte("1")); errno != syscall.ENOENT {
		t.Errorf("a write: %v, want ENOENT", errno)
	}
	// The name is free for another entry.
	if errno := k.mkdir(entryPath); errno != 0 {
		t.Fatal(errno)
	}
	k.wantText("generation", "0\n")
}

// Nothing but entries can be made or removed.
func TestRefusals(t *testing.T) {
	k := withEntry(t, &maker{})
	for _, path := range []string{"tsm/x", entryPath + "/x"} {
		if errno := k.mkdir(path); errno != syscall.EPERM {
			t.Errorf("mkdir %s: %v, want EPERM", path, errno)
		}
	}
	if errno := k.rmdir("tsm/report"); errno != syscall.EPERM {
		t.Errorf("rmdir tsm/report: %v, want EPERM", errno)
	}
	report, _, _ := k.walk("tsm/report")
	entry, _, _ := k.walk(entryPath)
	var entryOut fuse.EntryOut
	var createOut fuse.CreateOut
	var attrOut fuse.AttrOut
	outblob, _, _ := k.walk(entryPath + "/outblob")
	for what, got := range map[string]fuse.Status{
		"unlink":  k.fs.Unlink(nil, &fuse.InHeader{NodeId: entry}, "inblob"),
		"mknod":   k.fs.Mknod(nil, &fuse.MknodIn{InHeader: fuse.InHeader{NodeId: report}}, "x", &entryOut),
		"symlink": k.fs.Symlink(nil, &fuse.InHeader{NodeId: report}, "a", "b", &entryOut),
		"link":    k.fs.Link(nil, &fuse.LinkIn{InHeader: fuse.InHeader{NodeId: report}, Oldnodeid: outblob}, "b", &entryOut),
		"rename":  k.fs.Rename(nil, &fuse.RenameIn{InHeader: fuse.InHeader{NodeId: report}, Newdir: report}, "a", "b"),
		"chmod": k.fs.SetAttr(nil, &fuse.SetAttrIn{SetAttrInCommon: fuse.SetAttrInCommon{
			InHeader: fuse.InHeader{NodeId: outblob}, Valid: fuse.FATTR_MODE, Mode: 0o666}}, &attrOut),
		"chmod of a folder": k.fs.SetAttr(nil, &fuse.SetAttrIn{SetAttrInCommon: fuse.SetAttrInCommon{
			InHeader: fuse.InHeader{NodeId: entry}, Valid: fuse.FATTR_MODE, Mode: 0o700}}, &attrOut),
	} {
		if got != fuse.EPERM {
			t.Errorf("%s: %v, want EPERM", what, got)
		}
	}
	if got := k.fs.Create(nil, &fuse.CreateIn{InHeader: fuse.InHeader{NodeId: report}}, "x", &createOut); got != fuse.EACCES {
		t.Errorf("create: %v, want EACCES", got)
	}
}

// Many programs at once each get the report over what they wrote.
func TestManyAtOnce(t *testing.T) {
	k := newKernel(t, &maker{})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 20 {
				path := fmt.Sprintf("tsm/report/%d", i)
				k.mkdir(path)
				k.put(path+"/inblob", fmt.Sprint("nonce of ", i))
				got, errno := k.get(path + "/outblob")
				if errno != 0 || !strings.HasSuffix(got, fmt.Sprintf("over \"nonce of %d\" at 0", i)) {
					t.Errorf("%d: %q, %v", i, got, errno)
				}
				k.rmdir(path)
			}
		})
	}
	wg.Wait()
}

// Whatever programs do, nothing ends the file system, generations only grow, and
// a report is over the inblob that was stored last.
func FuzzOperations(f *testing.F) {
	f.Add([]byte("\x01\x05\x10nonce of 16 byte\x02\x00\x04"))
	f.Add([]byte("\x01\x04\x012\x02\x00\x00\x03\x00\x00"))
	f.Fuzz(func(t *testing.T, script []byte) {
		k := withEntry(t, &maker{})
		var open []*descriptor
		take := func() int {
			if len(script) == 0 {
				return 0
			}
			b := script[0]
			script = script[1:]
			return int(b)
		}
		last := ""
		for len(script) > 0 {
			switch op, which, n := take(), take(), take(); op % 6 {
			case 0:
				if d, errno := k.open(entryPath+"/"+attributes[which%len(attributes)].name, uint32(n%3)); errno == 0 {
					open = append(open, d)
				}
			case 1:
				content := script[:min(n, len(script))]
				script = script[len(content):]
				k.put(entryPath+"/"+attributes[which%len(attributes)].name, string(content))
			case 2, 3:
				if len(open) == 0 {
					continue
				}
				d := open[which%len(open)]
				d.offset = uint64(n) << (which % 56)
				if op%6 == 2 {
					d.read(100)
				} else {
					d.write(bytes.Repeat([]byte{byte(n)}, which%80))
				}
			case 4:
				if len(open) > 0 {
					open[0].close()
					open = open[1:]
				}
			case 5:
				k.rmdir(entryPath)
				k.mkdir(entryPath)
				last = ""
			}
			now, errno := k.get(entryPath + "/generation")
			if errno != 0 || len(now) < len(last) || len(now) == len(last) && now < last {
				t.Fatalf("generation %q after %q, %v", now, last, errno)
			}
			last = now
			if got, errno := k.get(entryPath + "/outblob"); errno != 0 && errno != syscall.EINVAL || errno == 0 && !strings.HasPrefix(got, "report ") {
				t.Fatalf("outblob %q, %v", got, errno)
			}
		}
	})
}
