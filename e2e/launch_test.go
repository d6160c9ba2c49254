package e2e_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/idblock"
	"github.com/snplaunch/snplaunch/launcher"
	"github.com/snplaunch/snplaunch/snp"
)

// cell is one combination of what a launch can have.
type cell struct {
	vcpus    int
	cpu      string
	hashes   bool
	identity string // "none", "id", "author"
	hostData bool
}

func (c cell) String() string {
	return fmt.Sprintf("%d-%s-hashes_%v-%s-hostdata_%v", c.vcpus, c.cpu, c.hashes, c.identity, c.hostData)
}

var (
	cellVCPUs      = []int{1, 2, 4, 8}
	cellCPUs       = []string{"EPYC-v4", "EPYC-Milan-v2", "EPYC-Genoa"}
	cellIdentities = []string{"none", "id", "author"}
	cellBools      = []bool{true, false}
)

// allCells are all 144 combinations.
func allCells() []cell {
	var out []cell
	for _, n := range cellVCPUs {
		for _, cpu := range cellCPUs {
			for _, h := range cellBools {
				for _, id := range cellIdentities {
					for _, d := range cellBools {
						out = append(out, cell{n, cpu, h, id, d})
					}
				}
			}
		}
	}
	return out
}

// keyFiles makes the owner's two keys.
func keyFiles(t testing.TB) (id, author string) {
	t.Helper()
	dir := t.TempDir()
	id, author = filepath.Join(dir, "id.pem"), filepath.Join(dir, "author.pem")
	for _, path := range []string{id, author} {
		key, err := idblock.GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		if err := idblock.WriteKey(path, key); err != nil {
			t.Fatal(err)
		}
	}
	return id, author
}

// guestOf describes the guest of a cell.
func (c cell) guest(t testing.TB, idKey, authorKey string) *guest.Guest {
	g := aGuest(t)
	g.VCPUs, g.CPU = c.vcpus, c.cpu
	if !c.hashes {
		withoutHashes(t, g)
	}
	switch c.identity {
	case "none":
		g.IDBlock.Mode = guest.IDBlockNone
	case "author":
		g.IDBlock.AuthorKey = authorKey
		fallthrough
	case "id":
		g.IDBlock.IDKey = idKey
		g.IDBlock.FamilyID, g.IDBlock.ImageID, g.IDBlock.GuestSVN = snp.FamilyID{1, 2}, snp.ImageID{3, 4}, 7
	}
	if c.hostData {
		for i := range g.HostData {
			g.HostData[i] = byte(i + 1)
		}
		g.HostDataSet = true
	}
	return g
}

// Every combination is launched through QEMU's whole SNP path, and the software
// host, which hears only QEMU's ioctls, must come to the digest that measure
// computed from the description. With an ID block its firmware also compares.
func TestEveryCombinationLaunchesAsComputed(t *testing.T) {
	idKey, authorKey := keyFiles(t)
	parts(t)
	started := time.Now()
	cells := make(chan cell)
	digests := map[snp.LaunchDigest]cell{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range runtime.NumCPU() {
		wg.Go(func() {
			for c := range cells {
				o := options(t)
				o.LaunchOnly = true
				res, err := launcher.Run(t.Context(), c.guest(t, idKey, authorKey), o)
				switch {
				case err != nil:
					t.Errorf("%s: %v", c, err)
					continue
				case res.Verdict != launcher.VerdictMatch:
					t.Errorf("%s: verdict %s: %+v\n%s", c, res.Verdict, res.Error, res.Stderr)
					continue
				case res.Launched == nil || *res.Launched != res.Computed:
					t.Errorf("%s: launched %v, computed %s", c, res.Launched, res.Computed)
				}
				mu.Lock()
				// Identity and host data are not measured; the rest is.
				measured := cell{vcpus: c.vcpus, cpu: c.cpu, hashes: c.hashes}
				if other, have := digests[res.Computed]; have && other != measured {
					t.Errorf("%v and %v have the same digest", other, measured)
				}
				digests[res.Computed] = measured
				mu.Unlock()
			}
		})
	}
	n := 0
	for _, c := range allCells() {
		cells <- c
		n++
	}
	close(cells)
	wg.Wait()
	t.Logf("%d launches in %.1f s, %d different digests", n, time.Since(started).Seconds(), len(digests))
	if n != 144 || len(digests) != 24 && !t.Failed() {
		t.Errorf("%d cells with %d different digests, want 144 with 24", n, len(digests))
	}
	if l := left(t); l != nil {
		t.Errorf("processes are left: %q", l)
	}
}

// The digests that sev-snp-measure and an independent script gave for these
// very files. Packages move on: other files are measured all the same, by
// everything else in this package.
func TestKnownDigestsOfDebianFiles(t *testing.T) {
	const (
		firmware = "3e4fd0b3fe3b"
		kernel   = "fadf27c45284"
	)
	p := parts(t)
	if sum := sha256Prefix(t, p.Firmware.Path); sum != firmware {
		t.Logf("the firmware found here (%s) is not that of ovmf-amdsev 2026.08+ds-2: no known digest", sum)
		return
	}
	if sum := sha256Prefix(t, p.Kernel.Path); sum != kernel {
		t.Logf("the kernel found here (%s) is not vmlinuz-6.12.95+deb12-cloud-amd64: no known digest", sum)
		return
	}
	for n, want := range map[int]string{
		1: "2cd3cb7ef667c9daf74e53002961657837dc4d729cd3191b29b8b982952ef68898ede8b7610b1acae9089b3da120ae27",
		2: "de6d0dca483049b35a22738fc217cf7e163fa30be38bcc3e12f3ac97994803e157d045ee784f1580523e2adfa2cd4641",
	} {
		g := aGuest(t)
		g.Initrd, g.Append, g.VCPUs = "", "console=ttyS0", n
		o := options(t)
		o.LaunchOnly = true
		res := launch(t, g, o)
		if res.Computed.String() != want || res.Launched == nil || res.Launched.String() != want {
			t.Errorf("%d vCPUs: computed %s, launched %v, want %s", n, res.Computed, res.Launched, want)
		}
	}
}

func sha256Prefix(t testing.TB, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}
