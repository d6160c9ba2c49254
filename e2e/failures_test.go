package e2e_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/launcher"
	"github.com/snplaunch/snplaunch/snp"
)

func contains(s, sub string) bool { return strings.Contains(s, sub) }

// lockedBuffer collects what a guest's command writes.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Offsets in ID auth: the first byte of each r (see snp.IDAuth).
const (
	idBlockSigOffset = 0x040
	idKeySigOffset   = 0x680
)

// These launches fail, each with what QEMU prints on hardware, the firmware's
// status by name and advice, and nothing is left of them.
func TestLaunchesThatMustFail(t *testing.T) {
	idKey, authorKey := keyFiles(t)
	for _, c := range []struct {
		name    string
		change  func(*guest.Guest)
		hooks   launcher.Hooks
		message string // QEMU's
		command string
		ret     int
		status  snp.Status
		says    string // in the message for the user
	}{
		{
			name:    "ID block over another digest",
			hooks:   launcher.Hooks{IDBlock: func(b *snp.IDBlock) { b.LD[0] ^= 1 }},
			message: "SNP_LAUNCH_FINISH ret=-5 fw_error=11 'Bad measurement'",
			command: "SNP_LAUNCH_FINISH", ret: -5, status: snp.StatusBadMeasurement,
			says: "The ID block was made for ",
		},
		{
			name:    "ID block with another policy",
			says:    "made for policy 0xb0000",
			hooks:   launcher.Hooks{IDBlock: func(b *snp.IDBlock) { b.Policy |= snp.PolicyDebug }},
			message: "SNP_LAUNCH_FINISH ret=-5 fw_error=7 'Policy is not allowed'",
			command: "SNP_LAUNCH_FINISH", ret: -5, status: snp.StatusPolicyFailure,
		},
		{
			name:    "flipped bit in the ID block's signature",
			hooks:   launcher.Hooks{SignedIDBlock: func(_, auth []byte) { auth[idBlockSigOffset] ^= 1 }},
			message: "SNP_LAUNCH_FINISH ret=-5 fw_error=10 'Bad signature'",
			command: "SNP_LAUNCH_FINISH", ret: -5, status: snp.StatusBadSignature,
		},
		{
			name:    "flipped bit in the author's signature",
			change:  func(g *guest.Guest) { g.IDBlock.IDKey, g.IDBlock.AuthorKey = idKey, authorKey },
			hooks:   launcher.Hooks{SignedIDBlock: func(_, auth []byte) { auth[idKeySigOffset] ^= 1 }},
			message: "SNP_LAUNCH_FINISH ret=-5 fw_error=10 'Bad signature'",
			command: "SNP_LAUNCH_FINISH", ret: -5, status: snp.StatusBadSignature,
		},
		{
			name:    "unknown key algorithm",
			hooks:   launcher.Hooks{SignedIDBlock: func(_, auth []byte) { auth[0] = 2 }},
			message: "SNP_LAUNCH_FINISH ret=-5 fw_error=22 'Invalid parameter'",
			command: "SNP_LAUNCH_FINISH", ret: -5, status: snp.StatusInvalidParam,
		},
		{
			name:    "policy that KVM refuses",
			change:  func(g *guest.Guest) { g.Policy = snp.PolicySMT },
			message: "sev_snp_launch_start: SNP_LAUNCH_START ret=-22 fw_error=0 ''",
			command: "SNP_LAUNCH_START", ret: -22, status: snp.StatusSuccess,
			says: "never asked",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := openFiles(t)
			g := aGuest(t)
			if c.change != nil {
				c.change(g)
			}
			o := options(t)
			o.Hooks = c.hooks
			res := launch(t, g, o)
			if res.Verdict != launcher.VerdictLaunchFailed || res.Error == nil {
				t.Fatalf("verdict %s, error %+v; want %s", res.Verdict, res.Error, launcher.VerdictLaunchFailed)
			}
			f := res.Error
			if !contains(res.Stderr, c.message) {
				t.Errorf("QEMU said\n%s\nwant %q", res.Stderr, c.message)
			}
			if f.Command != c.command || f.Ret != c.ret || f.FWError != int(c.status) {
				t.Errorf("error is %s ret=%d fw_error=%d, want %s ret=%d fw_error=%d", f.Command, f.Ret, f.FWError, c.command, c.ret, int(c.status))
			}
			if c.status != 0 && f.FWStatus != c.status.String() {
				t.Errorf("fw_status %q, want %s", f.FWStatus, c.status)
			}
			if f.Advice == "" || !contains(f.Message, c.says) {
				t.Errorf("message %q, advice %q; want advice, and a message that says %q", f.Message, f.Advice, c.says)
			}
			nothingLeft(t, before)
		})
	}
}

// nothingLeft sees that no process and no open file of a launch has stayed.
func nothingLeft(t *testing.T, before map[string]int) {
	t.Helper()
	if l := left(t); l != nil {
		t.Errorf("processes are left: %q", l)
	}
	after := openFiles(t)
	for _, kind := range []string{"socket", "/memfd"} {
		if after[kind] > before[kind] {
			t.Errorf("%d descriptors of kind %s, %d before the launch", after[kind], kind, before[kind])
		}
	}
}

// These launches succeed; what is wrong is caught afterwards.
func TestTamperingThatIsCaughtAfterTheLaunch(t *testing.T) {
	other := filepath.Join(t.TempDir(), "other.cpio")
	initrd, err := os.ReadFile(aGuest(t).Initrd)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(other, append(initrd, 0, 0, 0, 0), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		hooks   launcher.Hooks
		verdict launcher.Verdict
		says    []string
	}{
		{"another initrd than measured", launcher.Hooks{Booted: func(g *guest.Guest) { g.Initrd = other }}, launcher.VerdictFirmwareRefused, []string{"initrd entry", other}},
		{"report over another nonce", launcher.Hooks{ExpectNonce: func(n *snp.ReportData) { n[0] ^= 1 }}, launcher.VerdictReportInvalid, []string{"REPORT_DATA"}},
		{"one bit of the measurement", launcher.Hooks{Report: func(b []byte) { b[0x90] ^= 1 }}, launcher.VerdictReportInvalid, []string{"signature"}},
		{"one bit of the signature", launcher.Hooks{Report: func(b []byte) { b[snp.ReportSignedSize] ^= 1 }}, launcher.VerdictReportInvalid, []string{"signature"}},
		{"simulated report for one who trusts AMD only", launcher.Hooks{TrustAMDOnly: true}, launcher.VerdictReportInvalid, []string{"simulated"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := openFiles(t)
			o := options(t)
			o.Hooks = c.hooks
			res := launch(t, aGuest(t), o)
			if res.Verdict != c.verdict || res.Error == nil {
				t.Fatalf("verdict %s, error %+v; want %s", res.Verdict, res.Error, c.verdict)
			}
			for _, s := range c.says {
				if !contains(strings.ToLower(res.Error.Message), strings.ToLower(s)) {
					t.Errorf("message %q does not speak of %q", res.Error.Message, s)
				}
			}
			t.Logf("%d ms: %s", res.DurationMS["total"], res.Error.Message)
			nothingLeft(t, before)
		})
	}
}
