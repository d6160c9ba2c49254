package e2e_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/launcher"
)

// emptyQCOW2 is a qcow2 file of version 2 with one MiB of zeros: header, refcount table,
// refcount block and L1 table, a cluster each (QEMU's docs/interop/qcow2.rst).
func emptyQCOW2() []byte {
	const cluster = 1 << 16
	b := make([]byte, 4*cluster)
	be := binary.BigEndian
	copy(b, "QFI\xfb")
	be.PutUint32(b[4:], 2)
	be.PutUint32(b[20:], 16)        // cluster_bits
	be.PutUint64(b[24:], 1<<20)     // size
	be.PutUint32(b[36:], 1)         // l1_size
	be.PutUint64(b[40:], 3*cluster) // l1_table_offset
	be.PutUint64(b[48:], 1*cluster) // refcount_table_offset
	be.PutUint32(b[56:], 1)         // refcount_table_clusters
	be.PutUint64(b[cluster:], 2*cluster)
	for i := range 4 {
		be.PutUint16(b[2*cluster+2*i:], 1)
	}
	return b
}

// A guest has every device that its description names: it reads one disk, writes
// another of another format, answers on a forwarded port, and stands in GDB's hand. The
// QEMU of the software host that only launches has opened none of it.
func TestDevices(t *testing.T) {
	dir := t.TempDir()
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", filepath.Join(dir, "echo"), "./testdata/echo")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	file := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	raw := file("a,b.img", append([]byte("read by the guest\n"), make([]byte, 1<<16-18)...))
	qcow := file("b.qcow2", emptyQCOW2())

	g := aGuest(t)
	g.Initrd = withPrograms(t, g.Initrd, dir, "echo")
	g.Disks = []guest.Disk{{File: raw, ReadOnly: true, Serial: "first"}, {File: qcow, Format: guest.DiskQCOW2, Serial: "second"}}
	g.Network = guest.Network{Mode: guest.NetworkUser, Forwards: []guest.Forward{{GuestPort: 7}, {UDP: true, GuestPort: 7}}}
	g.GDB, g.FirmwareLog = filepath.Join(dir, "gdb,1.sock"), filepath.Join(dir, "ovmf,1.log")
	g.MemoryBackend, g.QEMUArgs = guest.MemoryMemfd, []string{"-device", "virtio-rng-pci,disable-legacy=on,iommu_platform=on"}
	g.Command = []string{"sh", "-c", `cat /sys/block/vda/serial /sys/block/vdb/serial; echo
head -c 18 /dev/vda
cat /sys/block/vda/ro /sys/block/vdb/ro
echo written by the guest >/dev/vdb; sync
grep -l 0x0004 /sys/bus/virtio/devices/*/device | wc -l
/clients/echo 10.0.2.15:7`}

	reached := make(chan error, 1)
	var stdout, stderr lockedBuffer
	o := options(t)
	o.Stdout, o.Stderr = &stdout, &stderr
	o.Progress = func(s string) {
		var port, to int
		if n, _ := fmt.Sscanf(s, "port %d of 127.0.0.1 leads to port %d", &port, &to); n == 2 && len(reached) == 0 {
			select {
			case reached <- nil:
				go func() { reached <- reach(g.GDB, port) }()
			default:
			}
		}
	}
	res := launch(t, g, o)
	<-reached
	if res.Verdict != launcher.VerdictMatch || res.GuestExit == nil || *res.GuestExit != 0 {
		t.Fatalf("verdict %s, exit %v, %+v\n%s%s\n%s", res.Verdict, res.GuestExit, res.Error, stdout.String(), stderr.String(), res.Console)
	}
	if err := <-reached; err != nil {
		t.Error(err)
	}
	if want := "firstsecond\nread by the guest\n1\n0\n1\n"; stdout.String() != want {
		t.Errorf("the guest wrote %q, want %q\n%s", stdout.String(), want, stderr.String())
	}
	if got, err := os.ReadFile(raw); err != nil || !bytes.HasPrefix(got, []byte("read by the guest")) {
		t.Errorf("the read-only disk: %.20q, %v", got, err)
	}
	if got, err := os.ReadFile(qcow); err != nil || !bytes.Contains(got, []byte("written by the guest")) {
		t.Errorf("the qcow2 disk holds nothing of what was written: %v", err)
	}
	if _, err := os.Stat(g.FirmwareLog); err != nil {
		t.Error(err)
	}
	if len(res.Forwards) != 2 || !strings.HasSuffix(res.Forwards[0], ":7") || strings.Contains(res.Forwards[0], "auto") || !strings.HasPrefix(res.Forwards[1], "udp:127.0.0.1:") {
		t.Errorf("forwards %q", res.Forwards)
	}
	for _, q := range res.QEMU {
		devices := func(word string) int {
			return len(slices.DeleteFunc(slices.Clone(q.Args), func(a string) bool { return !strings.Contains(a, word) }))
		}
		touches := devices(dir)+devices("hostfwd") > 0
		if idle := q.Name == "QEMU"; touches == idle {
			t.Errorf("%s: %q", q.Name, q.Args)
		}
		if devices("virtio-blk-pci") != 2 || devices("virtio-net-pci") != 1 || devices("isa-debugcon") != 1 || devices("memory-backend-memfd") != 1 {
			t.Errorf("%s has not the same devices: %q", q.Name, q.Args)
		}
	}
}

// reach asks GDB's stub for the guest's state, lets the guest go on, and talks to the
// echo behind a port of the host.
func reach(gdb string, port int) error {
	stub, err := net.Dial("unix", gdb)
	if err != nil {
		return err
	}
	defer stub.Close()
	if err := stub.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	answer := make([]byte, 512)
	for _, packet := range []struct{ send, want string }{{"$?#3f", "$T"}, {"+$D#44", "$OK"}} {
		if _, err := io.WriteString(stub, packet.send); err != nil {
			return err
		}
		var said []byte
		for !bytes.Contains(said, []byte("#")) {
			n, err := stub.Read(answer)
			if err != nil {
				return fmt.Errorf("the GDB stub said %q: %w", said, err)
			}
			said = append(said, answer[:n]...)
		}
		if !bytes.Contains(said, []byte(packet.want)) {
			return fmt.Errorf("the GDB stub answers %q to %s", said, packet.send)
		}
	}
	// QEMU takes the connection before anybody listens in the guest, and ends it then.
	for range 600 {
		if said, err := talk(port, "hello"); err == nil && said == "hello" {
			_, err = talk(port, "bye")
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("nobody answers behind port %d", port)
}

func talk(port int, word string) (string, error) {
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, word); err != nil {
		return "", err
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return "", err
	}
	said, err := io.ReadAll(conn)
	return string(said), err
}
