package report_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/report"
	"github.com/snplaunch/snplaunch/snp"
)

// numbered is a report in which every field has a value of its own, put at the
// specification's offsets by hand.
func numbered(version uint32) []byte {
	b := make([]byte, reportBytes)
	le := binary.LittleEndian
	fill := func(at, n int, v byte) {
		for i := range n {
			b[at+i] = v
		}
	}
	le.PutUint32(b[0x000:], version)
	le.PutUint32(b[0x004:], 7)
	le.PutUint64(b[0x008:], 0x30000|0x0137) // ABI 1.55
	fill(0x010, 16, 0xF1)
	fill(0x020, 16, 0x1A)
	le.PutUint32(b[0x030:], 2)
	le.PutUint32(b[0x034:], 1)
	le.PutUint64(b[0x038:], 0x4815000000000309)
	le.PutUint64(b[0x040:], 1|4|1<<5)
	le.PutUint32(b[0x048:], 1|1<<2) // AUTHOR_KEY_EN, VLEK
	fill(0x050, 64, 0xDA)
	fill(0x090, 48, 0x3E)
	fill(0x0C0, 32, 0x40)
	fill(0x0E0, 48, 0x1D)
	fill(0x110, 48, 0xA0)
	fill(0x140, 32, 0x4D)
	fill(0x160, 32, 0xFF)
	le.PutUint64(b[0x180:], 0x4714000000000208)
	if version >= 3 {
		b[0x188], b[0x189], b[0x18A] = 0x19, 0x11, 1
	}
	fill(0x1A0, 64, 0x5A)
	le.PutUint64(b[0x1E0:], 0x4613000000000107)
	b[0x1E8], b[0x1E9], b[0x1EA] = 25, 55, 1
	b[0x1EC], b[0x1ED], b[0x1EE] = 24, 54, 1
	le.PutUint64(b[0x1F0:], 0x4512000000000006)
	if version >= 5 {
		le.PutUint64(b[0x1F8:], 0x11)
		le.PutUint64(b[0x200:], 0x22)
	}
	return b
}

func TestShow(t *testing.T) {
	for _, version := range []uint32{2, 3, 5} {
		r, err := snp.ParseReport(numbered(version))
		if err != nil {
			t.Fatal(err)
		}
		want := [][2]string{
			{"VERSION", string('0' + rune(version))},
			{"GUEST_SVN", "7"},
			{"POLICY", "0x30137 (ABI 1.55, SMT)"},
			{"FAMILY_ID", strings.Repeat("f1", 16)},
			{"IMAGE_ID", strings.Repeat("1a", 16)},
			{"VMPL", "2"},
			{"SIGNATURE_ALGO", "1 (ECDSA P-384 with SHA-384)"},
			{"CURRENT_TCB", "0x4815000000000309 (boot loader 9, TEE 3, SNP 21, microcode 72)"},
			{"PLATFORM_INFO", "0x25 SMT_EN ECC_EN ALIAS_CHECK_COMPLETE"},
			{"AUTHOR_KEY_EN", "true"},
			{"MASK_CHIP_KEY", "false"},
			{"SIGNING_KEY", "VLEK"},
			{"REPORT_DATA", strings.Repeat("da", 64)},
			{"MEASUREMENT", strings.Repeat("3e", 48)},
			{"HOST_DATA", strings.Repeat("40", 32)},
			{"ID_KEY_DIGEST", strings.Repeat("1d", 48)},
			{"AUTHOR_KEY_DIGEST", strings.Repeat("a0", 48)},
			{"REPORT_ID", strings.Repeat("4d", 32)},
			{"REPORT_ID_MA", strings.Repeat("ff", 32)},
			{"REPORTED_TCB", "0x4714000000000208 (boot loader 8, TEE 2, SNP 20, microcode 71)"},
		}
		if version >= 3 {
			want = append(want, [2]string{"CPUID family, model, stepping", "0x19, 0x11, 0x1 (Genoa)"})
		}
		want = append(want, [][2]string{
			{"CHIP_ID", strings.Repeat("5a", 64)},
			{"COMMITTED_TCB", "0x4613000000000107 (boot loader 7, TEE 1, SNP 19, microcode 70)"},
			{"CURRENT firmware", "1.55.25"},
			{"COMMITTED firmware", "1.54.24"},
			{"LAUNCH_TCB", "0x4512000000000006 (boot loader 6, TEE 0, SNP 18, microcode 69)"},
		}...)
		if version >= 5 {
			want = append(want, [][2]string{{"LAUNCH_MIT_VECTOR", "0x11"}, {"CURRENT_MIT_VECTOR", "0x22"}}...)
		}
		fields := report.Fields(r)
		if len(fields) != len(want) {
			t.Errorf("version %d: %d fields, want %d", version, len(fields), len(want))
		}
		for i := range min(len(fields), len(want)) {
			if fields[i] != (report.Field{Name: want[i][0], Value: want[i][1]}) {
				t.Errorf("version %d: field %d is %v, want %v", version, i, fields[i], want[i])
			}
		}
		var out bytes.Buffer
		if err := report.Show(&out, r); err != nil {
			t.Fatal(err)
		}
		text := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		if len(text) != len(want) {
			t.Fatalf("version %d: Show writes %d lines, want %d", version, len(text), len(want))
		}
		for i, line := range text {
			if !strings.HasPrefix(line, want[i][0]+" ") || !strings.HasSuffix(line, "  "+want[i][1]) {
				t.Errorf("version %d: line %q, want %v", version, line, want[i])
			}
		}
		if got := r.Bytes(); !bytes.Equal(got, numbered(version)) {
			t.Errorf("version %d: written back otherwise than read", version)
		}
	}
}

// Values that no report should have are shown, not hidden.
func TestShowOfOddValues(t *testing.T) {
	r := &snp.Report{Version: 5, SigningKey: 5, SignatureAlgo: 9, VMPL: 0xFFFFFFFF, Policy: 1 << 40, PlatformInfo: 1<<7 | 1<<6 | 1<<63, MaskChipKey: true,
		CPUFamily: 0x1A, CPUModel: 2, ReportedTCB: 0x4800000004030201}
	got := map[string]string{}
	for _, f := range report.Fields(r) {
		got[f.Name] = f.Value
	}
	for name, want := range map[string]string{
		"SIGNING_KEY": "5 (reserved)", "SIGNATURE_ALGO": "9 (reserved)", "VMPL": "0xffffffff (no guest's)",
		"PLATFORM_INFO": "0x80000000000000c0 TIO_EN", "MASK_CHIP_KEY": "true",
		"POLICY":                        "0x10000000000 (ABI 0.0, bit 17 clear, which no firmware accepts, reserved bits 0x10000000000)",
		"REPORTED_TCB":                  "0x4800000004030201 (FMC 1, boot loader 2, TEE 3, SNP 4, microcode 72)",
		"CPUID family, model, stepping": "0x1a, 0x02, 0x0 (Turin)",
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	r.SigningKey, r.CPUFamily = 7, 0x17
	for _, f := range report.Fields(r) {
		if f.Name == "SIGNING_KEY" && f.Value != "none" {
			t.Errorf("SIGNING_KEY 7 is %q, want none", f.Value)
		}
		if strings.HasPrefix(f.Name, "CPUID") && f.Value != "0x17, 0x02, 0x0" {
			t.Errorf("unknown processor is shown as %q", f.Value)
		}
	}
}
