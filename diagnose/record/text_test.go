package record_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/diagnose/record"
	"github.com/snplaunch/snplaunch/snp"
)

// What QEMU 10.0.2 and 11.1.3 write with -trace 'kvm_sev*' (the e2e tests have them
// write it), as it stands in a log with other lines.
const trace = `qemu-system-x86_64: warning: something else
3138@1795615987.890121:kvm_sev_init 
3138@1795615987.890424:kvm_sev_snp_launch_start policy 0x30000 gosvw (null)
3138@1795615987.890500:kvm_sev_change_state uninit -> launch-update
3139@1795615987.890121:kvm_sev_init 
3138@1795615987.990500:kvm_sev_snp_launch_update src 0x7f4649400000 gpa 0xffc00000 len 0x400000 (Normal page)
3138@1795615987.990501:kvm_sev_snp_launch_update src 0x7f463480d000 gpa 0x80e000 len 0x1000 (Cpuid page)
3139@1795615988.000000:kvm_sev_snp_launch_start policy 0x10000 gosvw AAECAwQFBgcICQoLDA0ODw==
qemu-system-x86_64: sev_snp_launch_start: SNP_LAUNCH_START ret=-22 fw_error=0 ''
3138@1795615988.100000:kvm_sev_snp_launch_finish id_block (null) id_auth (null) host_data AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
3138@1795615988.100001:kvm_sev_change_state launch-update -> running
`

func TestParseTrace(t *testing.T) {
	f, err := record.ParseTrace(strings.NewReader(strings.ReplaceAll(trace, "\n", "\r\n")))
	if err != nil || len(f.Launches) != 2 || f.Source != record.SourceTrace {
		t.Fatalf("%v, %+v", err, f)
	}
	good, bad := &f.Launches[0], &f.Launches[1]
	if !good.Launched() || len(good.Calls) != 5 || good.Calls[4].With.(*record.Finish).HostData != (snp.HostData{1}) {
		t.Errorf("%+v", good)
	}
	if u := good.Calls[2].With.(*record.Update); u.Type != snp.PageNormal || u.GPA != 0xffc00000 || u.Length != 0x400000 || u.Contents != nil || good.Calls[2].Result.From != record.FromTrace {
		t.Errorf("%+v", u)
	}
	s := bad.Calls[1].With.(*record.Start)
	if r := bad.Calls[1].Result; bad.Launched() || s.Policy != 0x10000 || s.GOSVW[15] != 15 || r.Errno != 22 || r.From != record.FromStderr {
		t.Errorf("%+v", bad)
	}
	for text, want := range map[string]string{
		"":                                  "-trace 'kvm_sev*'",
		"kvm_sev_snp_launch_start policy 1": "line 1: kvm_sev_snp_launch_start: its values are not as QEMU writes them",
		"kvm_sev_init \nkvm_sev_snp_launch_update src 0x0 gpa 0x0 len 0x1000 (Great page)": "line 2",
		"kvm_sev_snp_launch_finish id_block ? id_auth (null) host_data (null)":             "base64",
	} {
		if _, err := record.ParseTrace(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// dump writes a save area as print_hex_dump_debug does (16 bytes a row, DUMP_PREFIX_NONE, no text).
func dump(page []byte, prefix string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%skvm_amd: Virtual Machine Save Area (VMSA):\n", prefix)
	for row := range slices.Chunk(page[:0x670], 16) {
		fmt.Fprintf(&b, "%s% x\n", prefix, row)
	}
	return b.String()
}

func TestParseSaveAreaDumps(t *testing.T) {
	page := make([]byte, snp.PageSize)
	for i := range 0x670 {
		page[i] = byte(i * 7)
	}
	for _, prefix := range []string{"", "[ 1234.567890] ", "Nov 25 13:00:00 host kernel: [ 1234.567890] ", "<7>[    1.000000] "} {
		log := "noise\n" + dump(page, prefix) + prefix + "kvm: something\n" + dump(page, prefix)
		// Another part of the kernel speaks between two rows.
		at := strings.Index(log, fmt.Sprintf("% x", page[0x100:0x110]))
		log = log[:at-len(prefix)] + prefix + "usb 1-1: new device number 3\n" + log[at-len(prefix):]
		got, err := record.ParseSaveAreaDumps(strings.NewReader(strings.ReplaceAll(log, "\n", "\r\n")))
		if err != nil || len(got) != 2 || got[0].Line != 2 {
			t.Fatalf("%q: %v, %d dumps", prefix, err, len(got))
		}
		for _, d := range got {
			if !slices.Equal(d.Page[:], page) {
				t.Errorf("%q: another page", prefix)
			}
			if m := d.Measured(); m[0x2ef] != page[0x2ef] || m[0x2f0] != 0 || m[0x2ff] != 0 || m[0x300] != page[0x300] {
				t.Errorf("%q: TSC scale and offset are measured, or more is not", prefix)
			}
		}
		lines := strings.SplitAfter(dump(page, prefix), "\n")
		if _, err := record.ParseSaveAreaDumps(strings.NewReader(strings.Join(slices.Delete(lines, 40, 41), ""))); err == nil || !strings.Contains(err.Error(), "1632 bytes, not 1648") {
			t.Errorf("%q: a dump that lacks a row: %v", prefix, err)
		}
	}
	if _, err := record.ParseSaveAreaDumps(strings.NewReader("00 01 02\n")); err == nil || !strings.Contains(err.Error(), "dynamic_debug") {
		t.Errorf("no dump: %v", err)
	}
}

func TestParseReport(t *testing.T) {
	const ld = `"launch_digest":"` + "111111111111111111111111111111111111111111111111" + "111111111111111111111111111111111111111111111111" + `"`
	zero := `"` + strings.Repeat("0", 96) + `"`
	line := `{"simulated":true,"product":"Genoa","command":"SNP_LAUNCH_FINISH","errno":5,"firmware_status":11,` + ld + `,"policy":"0x30000","updates":[` +
		`{"type":"ZERO","gpa":"0x1000","length":4096,"contents":` + zero + `},{"type":"ZERO","gpa":"0x2000","length":4096,"contents":` + zero + `},` +
		`{"type":"NORMAL","gpa":"0x3000","length":4096,"contents":` + zero + `}],"vmsas":[],"id_block":null}`
	f, err := record.ParseReport([]byte(line + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	l := f.Launches[0]
	if last := l.Calls[l.Last()]; len(l.Calls) != 4 || l.Launched() || last.Result.FWError != 11 || l.Calls[1].With.(*record.Update).Length != 8192 || l.Host.LaunchDigest == nil {
		t.Errorf("%+v", l)
	}
	for _, bad := range []string{`{"simulated":`, `{"simulated":true,"policy":"x"}`, `{"simulated":true,"updates":[{"type":"ZERO","gpa":"1","length":4096}]}`} {
		if _, err := record.ParseReport([]byte(bad)); err == nil || !strings.Contains(err.Error(), "line 1") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func FuzzParseTrace(f *testing.F) {
	f.Add(trace)
	f.Fuzz(func(t *testing.T, text string) {
		if r, err := record.ParseTrace(strings.NewReader(text)); err == nil {
			if _, err := record.Parse(written(t, r)); err != nil {
				t.Fatalf("the record of it is refused: %v", err)
			}
		}
	})
}

func FuzzParseSaveAreaDumps(f *testing.F) {
	f.Add(dump(make([]byte, snp.PageSize), "[ 1.0] "))
	f.Fuzz(func(t *testing.T, text string) {
		dumps, err := record.ParseSaveAreaDumps(strings.NewReader(text))
		if (err == nil) != (len(dumps) > 0) {
			t.Fatalf("%d dumps, %v", len(dumps), err)
		}
	})
}

func FuzzParseReport(f *testing.F) {
	f.Add(`{"simulated":true,"command":"SNP_LAUNCH_START","errno":22,"policy":"0x0","updates":[],"vmsas":[]}`)
	f.Fuzz(func(t *testing.T, text string) {
		if r, err := record.ParseReport([]byte(text)); err == nil {
			if _, err := record.Parse(written(t, r)); err != nil {
				t.Fatalf("the record of it is refused: %v", err)
			}
		}
	})
}
