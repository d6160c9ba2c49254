package diagnose

import (
	"errors"
	"strings"
	"testing"
	"unicode"

	"github.com/snplaunch/snplaunch/snp"
)

var explainTests = []struct {
	word string
	kind string // of the first explanation
	says []string
}{
	{"fw_error=11", "firmware status", []string{"BAD_MEASUREMENT", "11 (0xb)", "not looked at yet"}},
	{"policy: 0x30000", "guest policy", []string{"bit 17: must be set"}},
	{"tcb 0xd315000000000004", "TCB version", []string{"microcode 211"}},
	{"fw_error=0x7", "firmware status", []string{"POLICY_FAILURE", "the launch digest is the one in the ID block"}},
	{"fw_error=-1", "firmware status", []string{"NO_FW_CALL"}},
	// QEMU's header calls 0x28 INVALID_PAGE_SIZE and 0x29 INVALID_PAGE_STATE; the firmware has them at 0x19 and 0x1a.
	{"fw_error=25", "firmware status", []string{"INVALID_PAGE_SIZE", "unknown error", "the firmware's"}},
	{"fw_error=26", "firmware status", []string{"INVALID_PAGE_STATE"}},
	{"fw_error=0x28", "firmware status", []string{"SHUTDOWN_INCOMPLETE"}},
	{"fw_error=0x35", "firmware status", []string{"no name here"}},
	{"status=SEV_RET_BAD_SIGNATURE", "firmware status", []string{"10 (0xa)", "key algorithms are right"}},
	{"BAD_MEASUREMENT", "firmware status", []string{"11 (0xb)"}},
	{"ret=-5", "return value", []string{"EIO", "fw_error=0"}},
	{"ret=0", "return value", []string{"success"}},
	{"-22", "return value", []string{"EINVAL", "never asked"}},
	{"ENOTTY", "return value", []string{"errno 25", "ret=-25"}},
	{"errno=ENOTSUP", "return value", []string{"EOPNOTSUP", "errno 95"}},
	{"ESRCH", "return value", []string{"errno 3"}},
	{"policy=0x30000", "guest policy", []string{"bit 16 (SMT): the host may", "bit 17: must be set"}},
	{"0x30000", "guest policy", []string{"ABI 0.0"}},
	{"policy=0x5", "guest policy", []string{"ABI 0.5", "bit 17 clear", "SEV-ES"}},
	{"policy=0x3bf0137", "guest policy", []string{"ABI 1.55", "DEBUG", "SINGLE_SOCKET", "CXL_ALLOW", "CIPHERTEXT_HIDING_DRAM", "PAGE_SWAP_DISABLE"}},
	{"policy=0x8000000000030000", "guest policy", []string{"0x8000000000000000 are reserved"}},
	{"tcb=0xd315000000000004", "TCB version", []string{"Milan and Genoa", "boot loader 4, TEE 0, SNP firmware 21, microcode 211", "On Turin", "reserved there"}},
	{"tcb:turin=0x0900000005020304", "TCB version of Turin", []string{"FMC 4, boot loader 3, TEE 2, SNP firmware 5, microcode 9"}},
	{"tcb:genoa=0x4815000000000009", "TCB version of Milan or Genoa", []string{"SNP firmware 21, microcode 72"}},
	{"0xd315000000000004", "TCB version", []string{"microcode 211"}},
	{"platform_info=0x27", "report's PLATFORM_INFO", []string{"SMT is on", "ALIAS_CHECK_COMPLETE"}},
	{"platform-info=0", "report's PLATFORM_INFO", []string{"no bit is set"}},
	{"platform_info=0x100", "report's PLATFORM_INFO", []string{"0x100 have no name"}},
	{"signer_info=5", "report's signer information", []string{"VLEK", "AUTHOR_KEY_EN"}},
	{"flags=0x1e", "report's signer information", []string{"nobody", "MASK_CHIP_KEY"}},
	{"features=0x21", "SEV_FEATURES", []string{"DebugSwap", "debug_swap"}},
	{"features=DebugSwap,SecureTSC", "SEV_FEATURES", []string{"0x221"}},
	{"features=0", "SEV_FEATURES", []string{"no SNP guest"}},
	{"sig=0xa00f11", "CPU signature", []string{"family 25, model 1, stepping 1", "EPYC-Milan"}},
	{"0x800f12", "CPU signature", []string{"EPYC"}},
	{"7255371f-3a3b-4b04-927b-1da6efa8d454", "GUID", []string{"SEV_HASH_TABLE_RV", "table entry"}},
	{"7CB8BDC9-F8EB-4F34-AAEA-3EE4AF6516A1", "GUID", []string{"DXEFV", "firmware volume"}},
	{"guid=b5ae312c-bc8a-43b1-9c62-ebb826dd5d07", "GUID", []string{"Grub", "firmware file"}},
	{"section=16", "SEV metadata section", []string{"SNP_KERNEL_HASHES", "NORMAL page"}},
	{"section=7", "SEV metadata section", []string{"ZERO pages"}},
	{"SNP_SECRETS", "SEV metadata section", []string{"type 2"}},
	{"page=3", "page type", []string{"ZERO"}},
	{"UNMEASURED", "page type", []string{"Page type 4"}},
	{"KVM_SEV_INIT2", "command", []string{"command 22"}},
	{"snp_launch_finish", "command", []string{"launch digest, policy, key algorithms, signatures"}},
	{"0xc008aeba", "command", []string{"KVM_MEMORY_ENCRYPT_OP"}},
	{"0x1:0x2", "termination request", []string{"Linux", "PVALIDATE"}},
	{"0x2:0x9", "termination request", []string{"another guest", "no reason that is known"}},
	{strings.Repeat("ab", 48), "digest", []string{"48 bytes", "launch digest"}},
	{"sha=" + strings.Repeat("ab", 32), "digest", []string{"SHA-256"}},
	{"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "digest", []string{"32 bytes"}},
	{"finish-policy", "failure", []string{"the policy in the ID block is not"}},
	{"id=RMP-not-reserved", "failure", []string{"BIOS"}},
}

func TestExplain(t *testing.T) {
	for _, tc := range explainTests {
		got, err := Explain(tc.word)
		if err != nil || len(got) == 0 || got[0].Kind != tc.kind {
			t.Errorf("%s: got %+v, %v, want %s", tc.word, got, err, tc.kind)
			continue
		}
		for _, s := range tc.says {
			if !strings.Contains(strings.ToLower(got[0].Text), strings.ToLower(s)) {
				t.Errorf("%s: %q lacks %q", tc.word, got[0].Text, s)
			}
		}
	}
}

// A bare number may mean several things.
func TestExplainEveryMeaning(t *testing.T) {
	got, err := Explain("0x21")
	var kinds []string
	for _, x := range got {
		kinds = append(kinds, x.Kind)
	}
	if want := "firmware status, SEV_FEATURES"; err != nil || strings.Join(kinds, ", ") != want {
		t.Errorf("got %q, %v, want %s", kinds, err, want)
	}
}

// What is not known is answered with what is near.
func TestExplainUnknown(t *testing.T) {
	for word, want := range map[string]string{
		"BAD_MESUREMENT":                       `"BAD_MESUREMENT" is not known (did you mean BAD_MEASUREMENT?)`,
		"fw_eror=11":                           "fw_error=11",
		"section=SNP_SECRET":                   "section=SNP_SECRETS",
		"fw_error=BAD_SIGN":                    `"fw_error=BAD_SIGN" is not known`,
		"finish-polcy":                         "finish-policy",
		"foo":                                  "say what it is",
		"":                                     "say what it is",
		"policy=many":                          `"policy=many" is not known`,
		"ret=-99999":                           "not known",
		"00000000-0000-0000-0000-000000000001": "not known",
	} {
		got, err := Explain(word)
		var unknown *UnknownWordError
		if got != nil || !errors.As(err, &unknown) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %+v, %v, want %q", word, got, err, want)
		}
	}
}

// Every name that is offered is explained, by itself and behind its key, and every status has a
// meaning.
func TestExplainEveryName(t *testing.T) {
	kinds := map[string]bool{}
	for _, tc := range explainTests {
		kinds[tc.kind] = true
	}
	for _, r := range readings {
		if !kinds[r.kind] {
			t.Errorf("no test for a %s", r.kind)
		}
		for _, name := range r.names() {
			if got, err := Explain(name); err != nil || len(got) == 0 {
				t.Errorf("%s: %v", name, err)
			}
			if got, err := Explain(r.keys[0] + "=" + name); err != nil || len(got) != 1 || got[0].Kind != r.kind || got[0].Source == "" {
				t.Errorf("%s=%s: %+v, %v", r.keys[0], name, got, err)
			}
		}
	}
	for n := snp.StatusNoFWCall; n <= snp.StatusShutdownIncomplete; n++ {
		if _, ok := statuses[n]; !ok && !strings.HasPrefix(n.String(), "status ") {
			t.Errorf("%s has no meaning", n)
		}
	}
}

func FuzzExplain(f *testing.F) {
	for _, tc := range explainTests {
		f.Add(tc.word)
	}
	f.Fuzz(func(t *testing.T, word string) {
		got, err := Explain(word)
		if (err == nil) == (len(got) == 0) {
			t.Errorf("%+v, %v", got, err)
		}
		if err != nil && (!strings.Contains(err.Error(), "not known") || strings.ContainsFunc(err.Error(), unicode.IsControl) && !strings.ContainsFunc(word, unicode.IsControl)) {
			t.Errorf("%q", err)
		}
		for _, x := range got {
			if x.Text == "" || x.Source == "" || strings.Contains(x.Text, "$") || strings.ContainsFunc(x.Text, unicode.IsControl) {
				t.Errorf("%+v", x)
			}
		}
	})
}
