package launcher

import (
	"strings"
	"testing"
)

func TestCauseFromTheConsole(t *testing.T) {
	const denied = "BdsDxe: failed to load Boot0002 \"Grub Bootloader\" from Fv(7CB8BDC9-F8EB-4F34-AAEA-3EE4AF6516A1)/FvFile(B5AE312C-BC8A-43B1-9C62-EBB826DD5D07): Not Found\r\n"
	for _, tc := range []struct {
		verdict         Verdict
		console, stderr string
		says            string
	}{
		{VerdictTimeout, denied, "", "AmdSev build"},
		{VerdictFirmwareRefused, "\x1b[2J" + denied, "", "AmdSev build"},
		{VerdictNotAttested, "Linux version 6.12", "KVM: unknown exit reason 24\n", "Likely: KVM left the guest"},
		{VerdictTimeout, "Linux version 6.12", "", ""},
		{VerdictMismatch, denied, "", ""},
		{VerdictReportInvalid, denied, "", ""},
	} {
		r := &Result{Verdict: tc.verdict, Console: tc.console, Stderr: tc.stderr, Error: &Failure{Message: "before", Advice: "old"}}
		r.settle(false)
		if changed := r.Error.Message != "before"; changed != (tc.says != "") || !strings.Contains(r.Error.Message, tc.says) || changed == (r.Error.Advice == "old") {
			t.Errorf("%s, %q: got %+v", tc.verdict, tc.console, r.Error)
		}
	}
	r := &Result{Verdict: VerdictTimeout, Console: denied}
	if r.settle(false); r.Error != nil {
		t.Errorf("got %+v", r.Error)
	}
}
