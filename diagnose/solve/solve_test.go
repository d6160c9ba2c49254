package solve_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/diagnose/solve"
	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/measure"
	"github.com/snplaunch/snplaunch/ovmf/ovmftest"
	"github.com/snplaunch/snplaunch/snp"
)

// file writes a file of a test's own.
func file(t testing.TB, name string, contents []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, contents, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// synthetic is a guest of made-up files.
func synthetic(t testing.TB) *guest.Guest {
	g := guest.Default()
	g.Firmware = file(t, "OVMF.fd", ovmftest.AmdSev().Build())
	kernel := make([]byte, 0x300)
	copy(kernel[0x202:], "HdrS")
	g.Kernel = file(t, "vmlinuz", kernel)
	g.Initrd = file(t, "initrd", []byte("initrd"))
	g.Append = "console=ttyS0 panic=-1 root=/dev/vda ro"
	g.VCPUs = 4
	return &g
}

// digest measures a guest as its owner would.
func digest(t testing.TB, g *guest.Guest, opt measure.Options) snp.LaunchDigest {
	t.Helper()
	in, err := g.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	r, err := measure.MeasureWith(g, in, opt)
	if err != nil {
		t.Fatal(err)
	}
	return r.LaunchDigest
}

// ask solves a digest for a guest.
func ask(t testing.TB, g *guest.Guest, q solve.Question, o solve.Options) *solve.Answer {
	t.Helper()
	in, err := g.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	q.Guest, q.Inputs = g, in
	a, err := solve.Solve(context.Background(), q, o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestSentence(t *testing.T) {
	g := synthetic(t)
	other := *g
	other.CPU, other.KernelHashes = "EPYC-Milan", false
	a := ask(t, g, solve.Question{Digest: digest(t, &other, measure.Options{}), Source: solve.IDBlock}, solve.Options{})
	const want = "Your ID block was made for 4 vCPUs of EPYC-Milan with kernel hashes off; you launch 4 of EPYC-v4 with them on."
	if len(a.Explanations) != 1 || a.Explanations[0].Sentence != want {
		t.Errorf("got %+v, want %s", a.Explanations, want)
	}
}

// A digest that is of nothing known is said to be unexplained, with what was tried.
func TestUnexplained(t *testing.T) {
	g := synthetic(t)
	g.Kernel, g.Initrd, g.Append, g.VCPUs = "", "", "", 1
	a := ask(t, g, solve.Question{Digest: snp.LaunchDigest{1, 2, 3}}, solve.Options{})
	if a.Explained || !a.Complete || a.Tried < 1e6 {
		t.Errorf("%+v", a)
	}
	for _, want := range []string{"Nothing that was tried explains the digest 0102030000000000…: ", "vcpus (511)", "guest_features (", "vmm (3)", "every two of them together"} {
		if !strings.Contains(a.Unexplained(), want) {
			t.Errorf("%s lacks %q", a.Unexplained(), want)
		}
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	in, err := g.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	a, err = solve.Solve(ended, solve.Question{Digest: snp.LaunchDigest{1, 2, 3}, Guest: g, Inputs: in}, solve.Options{})
	if err != nil || a.Complete || !strings.Contains(a.Unexplained(), "as far as the time allowed") {
		t.Errorf("%+v, %v", a, err)
	}
}
