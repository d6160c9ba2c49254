package e2e_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/guest/guestyaml"
	"github.com/snplaunch/snplaunch/launcher"
	"github.com/snplaunch/snplaunch/report"
	"github.com/snplaunch/snplaunch/report/bundle"
	"github.com/snplaunch/snplaunch/report/certs"
	"github.com/snplaunch/snplaunch/sim/psp"
)

// ended is what a program came to.
type ended struct {
	stdout, stderr string
	code           int
}

// runProgram runs snplaunch with the tests' simulated root and a cache of its own for
// certificates.
func runProgram(t testing.TB, dir string, args ...string) ended {
	t.Helper()
	cmd := exec.Command(snplaunch(t), args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+filepath.Dir(dataFolder), "XDG_STATE_HOME="+dir)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return ended{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// The evidence of a run verifies from its one file, and only for one who trusts the
// simulated root; a run that is no match has none.
func TestRunEvidence(t *testing.T) {
	g := aGuest(t)
	g.VCPUs = 2
	o := options(t)
	o.Tool = "snplaunch of a test"
	res := launch(t, g, o)
	if res.Verdict != launcher.VerdictMatch {
		t.Fatalf("%s: %+v", res.Verdict, res.Error)
	}
	b, err := res.Bundle()
	if err != nil {
		t.Fatal(err)
	}
	data := must(b.Bytes())(t)
	read := must(bundle.Read(data))(t)
	v, err := read.Verify(report.Options{Roots: report.AMDRoots(), TrustSimulated: res.Trusted})
	if err != nil {
		t.Fatal(err)
	}
	s := v.Statement
	if s.LaunchDigest != res.Computed || s.Tool != o.Tool || s.QEMU != res.QEMUVersion || !s.Simulated || v.Report.ReportData != *res.ReportData || len(s.Commands) != 2 || s.Heard == nil {
		t.Errorf("%+v", s)
	}
	for i, path := range []string{g.Firmware, g.Kernel, g.Initrd} {
		if sum := sha256.Sum256(must(os.ReadFile(path))(t)); s.Inputs[i].SHA256 != sum {
			t.Errorf("%s has the SHA-256 %x, and %x in the bundle", path, sum, s.Inputs[i].SHA256)
		}
	}
	if _, err := read.Verify(report.Options{Roots: report.AMDRoots()}); !errors.Is(err, report.ErrSimulated) {
		t.Errorf("with AMD's roots: %v", err)
	}

	dir := t.TempDir()
	file := filepath.Join(dir, "run.bundle")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	r := runProgram(t, dir, "report", "verify", "--bundle", file, "--trust-simulated", res.Trusted)
	for _, want := range []string{"SIMULATED", "good: signature and chain (Genoa)", res.Computed.String(), "folded again", "vCPUs: 2", "by snplaunch of a test"} {
		if r.code != 0 || !strings.Contains(r.stdout, want) {
			t.Errorf("%+v; want %q", r, want)
		}
	}
	if r := runProgram(t, dir, "report", "verify", "--bundle", file); r.code != 1 || !strings.Contains(r.stderr, "the report is simulated") || r.stdout != "" {
		t.Errorf("%+v", r)
	}

	o.LaunchOnly = true
	if _, err := launch(t, g, o).Bundle(); !errors.Is(err, launcher.ErrNoEvidence) {
		t.Errorf("of a launch without a guest: %v", err)
	}
}

// A certificate that was revoked makes a run fail, by a list that is named, and its date
// is part of the answer where nothing was.
func TestRunWithRevocationList(t *testing.T) {
	g := aGuest(t)
	o := options(t)
	ca := must(psp.LoadOrCreateCA(dataFolder, nil))(t)
	p := must(psp.New(psp.DefaultConfig(), ca))(t)
	write := func(data []byte) string {
		path := filepath.Join(t.TempDir(), "list.crl")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	product := p.Config().Product
	o.Certs = &certs.Finder{Offline: true, Lists: []string{write(must(ca.RevocationList(product))(t))}}
	res := launch(t, g, o)
	if res.Verdict != launcher.VerdictMatch || len(res.RevocationLists) != 1 || !strings.Contains(res.Table(), "revocation  nothing revoked, by the list of ARK-Genoa of ") {
		t.Errorf("%s: %+v\n%s", res.Verdict, res.Error, res.Table())
	}
	if b := must(res.Bundle())(t); len(b.RevocationLists) != 1 {
		t.Errorf("%d lists in the bundle", len(b.RevocationLists))
	}
	revoked := must(ca.RevocationList(product, must(x509.ParseCertificate(p.Certificates().ASK))(t).SerialNumber))(t)
	o.Certs = &certs.Finder{Offline: true, Lists: []string{write(revoked)}}
	res = launch(t, g, o)
	if res.Verdict != launcher.VerdictReportInvalid || !strings.Contains(res.Error.Message, "revoked: the SEV-Genoa certificate") {
		t.Errorf("%s: %+v", res.Verdict, res.Error)
	}
	if _, err := res.Bundle(); !errors.Is(err, launcher.ErrNoEvidence) {
		t.Errorf("a bundle of it: %v", err)
	}
	// A list that was asked for and is not there fails the run, which leaves its folder,
	// with what QEMU said although the report is good.
	dir := t.TempDir()
	r := runProgram(t, dir, "run", "--quiet", "--require-crl", "--offline", "--artefacts", filepath.Join(dir, "kept"),
		"--qemu-arg", "-global", "--qemu-arg", "no-such-device.x=1", "--", "true")
	folders := must(filepath.Glob(filepath.Join(dir, "kept", "*")))(t)
	if r.code != 1 || !strings.Contains(r.stderr, "--require-crl: the report is good") || len(folders) != 1 {
		t.Fatalf("%+v, %q", r, folders)
	}
	for _, name := range []string{"command", "guest.yaml", "result.json", "qemu-stderr.log"} {
		if st, err := os.Stat(filepath.Join(folders[0], name)); err != nil || st.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The way of those who cannot compute the digest: launch without an ID block, take the
// measurement from the report, make the ID block of it, launch with that; and the report
// says which inputs it vouches for.
func TestLearnFirst(t *testing.T) {
	dir := t.TempDir()
	g := aGuest(t)
	description := filepath.Join(dir, "guest.yaml")
	if err := os.WriteFile(description, must(guestyaml.Marshal(g))(t), 0o600); err != nil {
		t.Fatal(err)
	}
	first := runProgram(t, dir, "run", description, "--no-id-block", "--quiet", "--json", "--keep", "always", "--artefacts", filepath.Join(dir, "kept"))
	var res launcher.Result
	if err := json.Unmarshal([]byte(first.stdout), &res); err != nil || first.code != 0 || res.IDKeyDigest != nil || res.ReportData == nil {
		t.Fatalf("%v: %+v", err, first)
	}
	nonce := res.ReportData.String()
	kept := must(filepath.Glob(filepath.Join(dir, "kept", "*")))(t)
	if len(kept) != 1 {
		t.Fatalf("%q", kept)
	}
	// The folder has report and certificate table apart; together they are an extended report.
	extended := filepath.Join(dir, "extended.bin")
	raw := must(os.ReadFile(filepath.Join(kept[0], "report.bin")))(t)
	if err := os.WriteFile(extended, append(raw, must(os.ReadFile(filepath.Join(kept[0], "certificates.bin")))(t)...), 0o600); err != nil {
		t.Fatal(err)
	}
	root := strings.TrimSpace(runProgram(t, dir, "sim", "root").stdout)
	key := filepath.Join(dir, "id.pem")
	if r := runProgram(t, dir, "idblock", "keygen", key); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	create := func(more ...string) ended {
		return runProgram(t, dir, append([]string{"idblock", "create", "--from-report", filepath.Join(kept[0], "report.bin"), "--certs", filepath.Join(kept[0], "certificates.bin"), "--id-key", key, "--out-block", filepath.Join(dir, "block"), "--out-auth", filepath.Join(dir, "auth")}, more...)...)
	}
	for name, c := range map[string]struct {
		code int
		says string
		args []string
	}{
		"no nonce":         {2, "--nonce HEX", []string{"--trust-simulated", root}},
		"another nonce":    {1, "REPORT_DATA is ", []string{"--trust-simulated", root, "--nonce", "00"}},
		"AMD's roots":      {1, "the report is simulated", []string{"--nonce", nonce}},
		"both":             {2, "--unverified takes any report", []string{"--nonce", nonce, "--unverified"}},
		"another policy":   {1, "the firmware would refuse one of the two", []string{"--trust-simulated", root, "--nonce", nonce, "--policy", "0xb0000"}},
		"two measurements": {2, "both name what is signed", []string{"--measurement", res.Computed.String()}},
	} {
		if r := create(c.args...); r.code != c.code || !strings.Contains(r.stderr, c.says) {
			t.Errorf("%s: %+v; want %d, %q", name, r, c.code, c.says)
		}
		if _, err := os.Stat(filepath.Join(dir, "block")); err == nil {
			t.Fatalf("%s: there is an ID block all the same", name)
		}
	}
	r := create("--trust-simulated", root, "--nonce", nonce)
	if r.code != 0 || strings.Contains(r.stderr, "warning") {
		t.Fatalf("%+v", r)
	}
	block := must(os.ReadFile(filepath.Join(dir, "block")))(t)
	if r := create("--unverified"); r.code != 0 || !strings.Contains(r.stderr, "nothing says that a chip made this report") || !bytes.Equal(block, must(os.ReadFile(filepath.Join(dir, "block")))(t)) {
		t.Errorf("%+v", r)
	}
	second := runProgram(t, dir, "run", description, "--id-block", filepath.Join(dir, "block"), "--id-auth", filepath.Join(dir, "auth"), "--quiet", "--bundle", "evidence.json")
	if second.code != 0 || !strings.Contains(second.stdout, "verdict     match") {
		t.Errorf("%+v", second)
	}
	if st, err := os.Stat(filepath.Join(dir, "evidence.json")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
	if r := runProgram(t, dir, "report", "verify", "--bundle", "evidence.json", "--trust-simulated", root); r.code != 0 || !strings.Contains(r.stdout, "folded again") {
		t.Errorf("%+v", r)
	}

	// What the report vouches for, of the description and of another one.
	r = runProgram(t, dir, "report", "verify", extended, description, "--trust-simulated", root, "--nonce", nonce)
	for _, input := range []string{g.Firmware, g.Kernel, g.Initrd} {
		sum := fmt.Sprintf("sha256 %x", sha256.Sum256(must(os.ReadFile(input))(t)))
		if vouched, _, _ := strings.Cut(r.stdout, "It does not vouch for:"); r.code != 0 || !strings.Contains(vouched, sum) {
			t.Errorf("%+v; want that it vouches for %s", r, sum)
		}
	}
	g.VCPUs++
	if err := os.WriteFile(description, must(guestyaml.Marshal(g))(t), 0o600); err != nil {
		t.Fatal(err)
	}
	r = runProgram(t, dir, "report", "show", extended, description)
	if r.code != 0 || !strings.Contains(r.stdout, "vouches for:\n  policy: ") || !strings.Contains(r.stdout, "It does not vouch for:\n  firmware: ") {
		t.Errorf("%+v", r)
	}
	if r = runProgram(t, dir, "report", "verify", extended, description, "--trust-simulated", root); r.code != 1 || !strings.Contains(r.stderr, "MEASUREMENT is ") {
		t.Errorf("%+v", r)
	}
}
