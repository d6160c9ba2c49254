package e2e_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-sev-guest/abi"
	spb "github.com/google/go-sev-guest/proto/sevsnp"
	"github.com/google/go-sev-guest/validate"
	"github.com/google/go-sev-guest/verify"
	"github.com/u-root/mkuimage/cpio"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"github.com/snplaunch/snplaunch/internal/lacks"
	"github.com/snplaunch/snplaunch/launcher"
	"github.com/snplaunch/snplaunch/report"
)

// The clients' nonce, 64 bytes.
var clientNonce = func() []byte {
	b := make([]byte, 64)
	for i := range b {
		b[i] = byte(i*3 + 1)
	}
	return b
}()

// clientScript runs in the guest: every client in turn, with the nonce as its
// argument. What the last one writes is binary.
const clientScript = `set -e
echo == goclient
/clients/goclient -self_throttle_duration=0s -nonce $1
echo == sevguest
/clients/sevguest $1
echo == attest report
/clients/attest -outform textproto -inform hex -in $1
echo == attest extended
/clients/attest -extended -outform textproto -inform hex -in $1
echo == attest VMPL 1
/clients/attest -vmpl 1 -outform textproto -inform hex -in $1
echo == attest binary
/clients/attest -extended -inform hex -in $1
`

// buildClients builds the programs that ask for reports in the guest, into a
// folder: a client in C on the kernel's header, a program on go-sev-guest's
// client, and go-sev-guest's own attest.
func buildClients(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	build := func(name string, args ...string) {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("building %s: %v\n%s", name, err, out)
		}
	}
	needC(t)
	build("sevguest", "gcc", "-static", "-O1", "-Wall", "-Wextra", "-Werror", "-o", filepath.Join(dir, "sevguest"), "testdata/sevguest/sevguest.c")
	build("goclient", "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", filepath.Join(dir, "goclient"), "./testdata/goclient")
	build("attest", "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", filepath.Join(dir, "attest"), "github.com/google/go-sev-guest/tools/attest")
	return dir
}

// withPrograms gives an initrd that has programs of a folder under /clients. The
// kernel unpacks archives that follow each other.
func withPrograms(t *testing.T, initrd, dir string, names ...string) string {
	t.Helper()
	out, err := os.ReadFile(initrd)
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	z := gzip.NewWriter(&archive)
	w := cpio.Newc.Writer(z)
	records := []cpio.Record{cpio.Directory("clients", 0o755), cpio.StaticFile("clients/all", clientScript, 0o644)}
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, cpio.StaticRecord(data, cpio.Info{Name: "clients/" + name, Mode: cpio.S_IFREG | 0o755}))
	}
	if err := errors.Join(cpio.WriteRecords(w, records), cpio.WriteTrailer(w), z.Close()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "initrd-"+strings.Join(names, "-"))
	if err := os.WriteFile(path, append(out, archive.Bytes()...), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// needC wants a C compiler with static libc and the kernel's headers, which
// scripts/test installs where it may.
func needC(t *testing.T) {
	t.Helper()
	cmd := exec.Command("gcc", "-static", "-include", "linux/sev-guest.h", "-x", "c", "-", "-o", filepath.Join(t.TempDir(), "probe"))
	cmd.Stdin = strings.NewReader("int main(void) { return 0; }\n")
	out, err := cmd.CombinedOutput()
	if err == nil {
		return
	}
	lacks.End(t, fmt.Sprintf("this test compiles a client in C, statically, and cannot: %v\n%s\ninstall gcc, libc6-dev and linux-libc-dev", err, out))
}

// inGuest boots a guest and gives what its command wrote.
func inGuest(t *testing.T, initrd string, command ...string) (*launcher.Result, []byte) {
	g := aGuest(t)
	g.Initrd, g.Command = initrd, command
	var stdout, stderr lockedBuffer
	o := options(t)
	o.Stdout, o.Stderr = &stdout, &stderr
	res, err := launcher.Run(context.Background(), g, o)
	if err != nil {
		t.Error(err)
		return nil, nil
	}
	if res.Verdict != launcher.VerdictMatch || res.GuestExit == nil || *res.GuestExit != 0 {
		t.Errorf("%v: verdict %s, exit %v, %+v\nstdout: %.2000q\nstderr: %s\nconsole:\n%s",
			command, res.Verdict, res.GuestExit, res.Error, stdout.String(), stderr.String(), res.Console)
		return nil, nil
	}
	t.Logf("%s: %d ms", command[:2], res.DurationMS["total"])
	return res, []byte(stdout.String())
}

// Clients that know nothing of this project find a device and a configfs-tsm in
// the guest that do what Linux's do. Three guests are booted: one runs all
// clients, and another one, with another measurement, is booted twice.
func TestUnmodifiedClients(t *testing.T) {
	initrd, dir := parts(t).Initrd.Path, buildClients(t)
	large := withPrograms(t, initrd, dir, "sevguest", "goclient", "attest")
	small := withPrograms(t, initrd, dir, "sevguest")
	nonce := hex.EncodeToString(clientNonce)
	var first, other, again *launcher.Result
	var all, otherOut, againOut []byte
	var wg sync.WaitGroup
	wg.Go(func() { first, all = inGuest(t, large, "sh", "/clients/all", nonce) })
	wg.Go(func() {
		other, otherOut = inGuest(t, small, "/clients/sevguest", "--give-up")
		again, againOut = inGuest(t, small, "/clients/sevguest", "--give-up")
	})
	wg.Wait()
	if t.Failed() {
		return
	}
	if first.Computed == other.Computed || other.Computed != again.Computed {
		t.Fatalf("measurements %s, %s and %s: want the last two alike", first.Computed, other.Computed, again.Computed)
	}
	goclient, rest := section(t, all, "goclient", "sevguest")
	sevguest, rest := section(t, rest, "sevguest", "attest report")
	attestReport, rest := section(t, rest, "attest report", "attest extended")
	attestExtended, rest := section(t, rest, "attest extended", "attest VMPL 1")
	attestLevel, rest := section(t, rest, "attest VMPL 1", "attest binary")

	v := newClientVerifier(t, first)
	steps := goSteps(t, goclient)
	c := parseSteps(t, sevguest)
	t.Run("go-sev-guest", func(t *testing.T) {
		v.quote(t, append(steps["device"], first.Certificates...), 0)
		v.quote(t, steps["device, extended"], 0)
		for _, way := range []string{"ioctl", "configfs"} {
			v.quote(t, steps[way], 0)
			v.quote(t, steps[way+", VMPL 2"], 2)
		}
		if got := string(steps["provider"]); got != "*client.LinuxConfigFsQuoteProvider" {
			t.Errorf("of the two ways it chose %s, want configfs as under a real driver", got)
		}
	})
	t.Run("attest", func(t *testing.T) {
		r := &spb.Report{}
		unmarshal(t, attestReport, r)
		v.attestation(t, &spb.Attestation{Report: r, CertificateChain: v.chain}, 0)
		a := &spb.Attestation{}
		unmarshal(t, attestExtended, a)
		v.attestation(t, a, 0)
		unmarshal(t, attestLevel, r)
		v.attestation(t, &spb.Attestation{Report: r, CertificateChain: v.chain}, 1)
		v.quote(t, rest, 0)
	})
	t.Run("C", func(t *testing.T) { checkC(t, v, c) })
	otherSteps, againSteps := parseSteps(t, otherOut), parseSteps(t, againOut)
	t.Run("keys", func(t *testing.T) {
		key := c["key"].data
		for name, k := range map[string][]byte{"go-sev-guest": steps["key"], "go-sev-guest, asked again": steps["key again"]} {
			if !bytes.Equal(k, key) {
				t.Errorf("%s got key %x, the client in C %x", name, k, key)
			}
		}
		if len(key) != 32 || bytes.Equal(key, make([]byte, 32)) {
			t.Errorf("derived key %x", key)
		}
		if bytes.Equal(otherSteps["key"].data, key) {
			t.Error("guests of different measurements have the same key")
		}
		if !bytes.Equal(otherSteps["key"].data, againSteps["key"].data) {
			t.Error("a guest that is booted again has another key")
		}
	})
	t.Run("the driver gives up", func(t *testing.T) {
		for _, s := range []clientSteps{otherSteps, againSteps} {
			s.want(t, "refused", "result=-1 errno=EIO exitinfo2=16", "")
			s.want(t, "after", "result=-1 errno=ENOTTY exitinfo2=1122334455667788", "")
			s.want(t, "tsm-after", "result=-1 errno=ENOTTY", "")
		}
	})
}

// section cuts the output of one client out of all.
func section(t *testing.T, all []byte, name, next string) (out, rest []byte) {
	t.Helper()
	out, rest, ok := bytes.Cut(bytes.TrimPrefix(all, []byte("== "+name+"\n")), []byte("== "+next+"\n"))
	if !ok {
		t.Fatalf("no output of %s before that of %s in %.300q", name, next, all)
	}
	return out, append([]byte("== "+next+"\n"), rest...)
}

func goSteps(t *testing.T, out []byte) map[string][]byte {
	t.Helper()
	var steps map[string]struct {
		Data  []byte
		Error string
	}
	if err := json.Unmarshal(out, &steps); err != nil {
		t.Fatalf("output of goclient: %v in %.300q", err, out)
	}
	data := map[string][]byte{}
	for name, s := range steps {
		if s.Error != "" {
			t.Errorf("%s: %s", name, s.Error)
		}
		data[name] = s.Data
	}
	return data
}

func unmarshal(t *testing.T, text []byte, m proto.Message) {
	t.Helper()
	if err := prototext.Unmarshal(text, m); err != nil {
		t.Fatalf("output of attest: %v in %.300q", err, text)
	}
}

// cStep is one line of the client in C.
type cStep struct {
	outcome string
	data    []byte
}

type clientSteps map[string]cStep

func parseSteps(t *testing.T, out []byte) clientSteps {
	t.Helper()
	steps := clientSteps{}
	for line := range strings.Lines(string(out)) {
		name, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		outcome, data, _ := strings.Cut(rest, "data=")
		b, err := hex.DecodeString(data)
		if err != nil {
			t.Fatalf("output of sevguest: %v in %.200q", err, line)
		}
		steps[name] = cStep{strings.TrimSpace(outcome), b}
	}
	return steps
}

// want compares one step; data is what it starts with, in hexadecimal.
func (s clientSteps) want(t *testing.T, name, outcome, data string) {
	t.Helper()
	got, ok := s[name]
	if !ok || got.outcome != outcome || !strings.HasPrefix(hex.EncodeToString(got.data), data) {
		t.Errorf("%s: %s, data %.64x; want %s and %s…", name, got.outcome, got.data, outcome, data)
	}
}

// checkC compares what the client in C saw with what Linux 6.12's driver and
// configfs do.
func checkC(t *testing.T, v *clientVerifier, c clientSteps) {
	const good = "result=0 errno=0 exitinfo2=1122334455667788" // untouched on success
	c.want(t, "report", good, "")
	c.want(t, "report-vmpl3", good, "")
	c.want(t, "report-vmpl4", good, "16000000") // INVALID_PARAM in the payload
	c.want(t, "report-key3", good, "27000000")  // INVALID_KEY in the payload
	c.want(t, "extended-size", "result=-1 errno=EIO exitinfo2=100000000 certs_len="+v.room, "")
	c.want(t, "extended-odd", "result=-1 errno=EINVAL exitinfo2=ff certs_len=100", "")
	c.want(t, "extended-large", "result=-1 errno=EINVAL exitinfo2=ff certs_len=20480", "")
	c.want(t, "extended-small", "result=-1 errno=EIO exitinfo2=100000000 certs_len="+v.room, "")
	c.want(t, "extended", good+" certs_len="+v.room, "")
	c.want(t, "version0", "result=-1 errno=EINVAL exitinfo2=1122334455667788", "")
	c.want(t, "no-request", "result=-1 errno=EINVAL exitinfo2=ff", "")
	c.want(t, "no-response", "result=-1 errno=EINVAL exitinfo2=ff", "")
	c.want(t, "bad-request", "result=-1 errno=EFAULT exitinfo2=1122334455667788", "")
	c.want(t, "unknown", "result=-1 errno=ENOTTY exitinfo2=ff", "")
	c.want(t, "bad-struct", "result=-1 errno=EFAULT", "")
	c.want(t, "key", good, "")
	c.want(t, "key-again", good, hex.EncodeToString(c["key"].data))
	c.want(t, "key-vmpl4", good, "16000000")
	v.quote(t, append(bytes.Clone(c["report"].data), v.certs...), 0)
	v.quote(t, append(bytes.Clone(c["report-vmpl3"].data), v.certs...), 3)
	v.quote(t, append(bytes.Clone(c["extended"].data), c["certificates"].data...), 0)

	c.want(t, "tsm-mkdir", "result=0 errno=0", "")
	c.want(t, "tsm-provider", "result=10 errno=0", hex.EncodeToString([]byte("sev_guest\n")))
	c.want(t, "tsm-floor", "result=2 errno=0", hex.EncodeToString([]byte("0\n")))
	c.want(t, "tsm-outblob-early", "result=-1 errno=EINVAL", "")
	c.want(t, "tsm-inblob-read", "result=-1 errno=EACCES", "")
	c.want(t, "tsm-outblob-write", "result=-1 errno=EACCES", "")
	c.want(t, "tsm-inblob-65", "result=-1 errno=EFBIG", "")
	c.want(t, "tsm-inblob-63", "result=63 errno=0", "")
	c.want(t, "tsm-outblob-63", "result=-1 errno=EINVAL", "")
	c.want(t, "tsm-privlevel-4", "result=-1 errno=EINVAL", "")
	c.want(t, "tsm-inblob", "result=64 errno=0", "")
	c.want(t, "tsm-outblob", "result=1184 errno=0", "")
	c.want(t, "tsm-privlevel", "result=2 errno=0", "")
	c.want(t, "tsm-outblob-vmpl2", "result=1184 errno=0", "")
	// The inblob of 65 bytes counts: its close stored an empty one.
	c.want(t, "tsm-generation", "result=2 errno=0", hex.EncodeToString([]byte("4\n")))
	c.want(t, "tsm-rmdir", "result=0 errno=0", "")
	v.quote(t, append(bytes.Clone(c["tsm-outblob"].data), v.certs...), 0)
	v.quote(t, append(bytes.Clone(c["tsm-outblob-vmpl2"].data), c["tsm-auxblob"].data...), 2)
	aux := c["tsm-auxblob"].data
	if rest, ok := bytes.CutPrefix(c["certificates"].data, aux); !ok || len(aux) == 0 || len(bytes.Trim(rest, "\x00")) != 0 {
		t.Errorf("auxblob has %d bytes and is not the table of the extended report without the zeros at its end", len(aux))
	}
}

// clientVerifier holds what clients got against what was launched, with
// go-sev-guest and the roots of the software host.
type clientVerifier struct {
	certs       []byte // the certificate table
	chain       *spb.CertificateChain
	room        string // bytes of whole pages that the table takes
	roots       report.Roots
	measurement []byte
}

func newClientVerifier(t *testing.T, res *launcher.Result) *clientVerifier {
	t.Helper()
	chain, err := report.ParseCertTable(res.Certificates)
	if err != nil {
		t.Fatal(err)
	}
	roots, err := report.SimulatedRoots(chain.ARK, chain.ASK)
	if err != nil {
		t.Fatal(err)
	}
	table := new(abi.CertTable)
	if err := table.Unmarshal(res.Certificates); err != nil {
		t.Fatal(err)
	}
	return &clientVerifier{
		certs: res.Certificates, chain: table.Proto(), roots: roots, measurement: res.Computed[:],
		room: fmt.Sprint((len(res.Certificates) + 4095) / 4096 * 4096),
	}
}

// quote verifies a report that a certificate table follows.
func (v *clientVerifier) quote(t *testing.T, raw []byte, vmpl int) {
	t.Helper()
	a, err := abi.ReportCertsToProto(bytes.TrimPrefix(raw, []byte("== attest binary\n")))
	if err != nil {
		t.Errorf("%d bytes are no report with certificates: %v", len(raw), err)
		return
	}
	v.attestation(t, a, vmpl)
}

func (v *clientVerifier) attestation(t *testing.T, a *spb.Attestation, vmpl int) {
	t.Helper()
	if err := verify.SnpAttestation(a, &verify.Options{TrustedRoots: v.roots, DisableCertFetching: true, Now: time.Now()}); err != nil {
		t.Errorf("verify: %v", err)
	}
	if err := validate.SnpAttestation(a, &validate.Options{
		GuestPolicy: abi.SnpPolicy{SMT: true}, PlatformInfo: &abi.SnpPlatformInfo{SMTEnabled: true},
		ReportData: clientNonce, Measurement: v.measurement, VMPL: &vmpl,
	}); err != nil {
		t.Errorf("validate: %v", err)
	}
}
