package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snplaunch/snplaunch/ovmf/ovmftest"
)

// someImages writes a synthetic firmware and a kernel, and gives the flags for them.
func someImages(t *testing.T) []string {
	t.Helper()
	dir := t.TempDir()
	firmware, kernel := filepath.Join(dir, "firmware"), filepath.Join(dir, "kernel")
	for path, data := range map[string][]byte{firmware: ovmftest.AmdSev().Build(), kernel: []byte("kernel")} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return []string{"--ovmf", firmware, "--kernel", kernel, "--append", "console=ttyS0"}
}

// one is the launch digest of those with one EPYC-v4, by
// measure/testdata/recipe.py.
const one = "6af5ab7e0a6e7cd80ce6d81b62a580867aeedf8db1ae2621b350823752b921fd10ace14a5b71df870e1f9e1e1ffd4700"

// program runs a command line.
func program(args ...string) (stdout, stderr string, code int) {
	var out, err bytes.Buffer
	code = dispatch(&env{ctx: context.Background(), stdin: strings.NewReader(""), stdout: &out, stderr: &err}, args)
	return out.String(), err.String(), code
}

// answer runs measure with some more flags, which must succeed.
func answer(t *testing.T, flags []string, more ...string) string {
	t.Helper()
	out, stderr, code := program(slices.Concat([]string{"measure"}, flags, more)...)
	if code != exitOK || strings.Count(stderr, "\n") != strings.Count(stderr, "snplaunch: note: ") {
		t.Fatalf("measure %s: exit code %d, stderr %q", strings.Join(more, " "), code, stderr)
	}
	return out
}

func TestVerbose(t *testing.T) {
	flags := someImages(t)
	for _, c := range []struct {
		more []string
		want string
	}{
		{nil, one + "\n"},
		// The words are sev-snp-measure's.
		{[]string{"--verbose"}, "Calculated SEV_SNP guest measurement: " + one + "\n"},
		{[]string{"-v", "--output-format", "base64"}, "Calculated SEV_SNP guest measurement: avWrfgpufNgM5tgbYqWAhnru342xriYhs1CCN1K5If0QrOFKW3Hfhw4fnh4f/UcA\n"},
	} {
		if got := answer(t, flags, c.more...); got != c.want {
			t.Errorf("%v: got %q, want %q", c.more, got, c.want)
		}
	}
}

func TestExplain(t *testing.T) {
	flags := someImages(t)
	lines := strings.Split(answer(t, flags, "--explain", "--vcpus", "3"), "\n")
	for n, want := range map[int]string{
		1:  "0x0000ffff0000  16     NORMAL   differ             1f94fb21793cba43…  firmware page",
		8:  "0x000000810000  1      NORMAL   ",
		9:  "kernel sha256 KERNEL",
		12: "VMSA of vCPU 0 (BSP), start 0xfffffff0, RDX 0x800f12, SEV_FEATURES 0x1 (SNPActive)",
		13: "VMSA of vCPUs 1 to 2 (AP), start 0x80b004, ",
		14: "host kernel 6.11+ (Linux 6.11 and later): SEV_FEATURES 0x1 (SNPActive), FPU reset state",
		15: "66 pages, launch digest ",
	} {
		want = strings.ReplaceAll(want, "KERNEL", fmt.Sprintf("%x", sha256.Sum256([]byte("kernel"))))
		if n >= len(lines) || !strings.Contains(lines[n], want) {
			t.Errorf("line %d lacks %q in\n%s", n, want, strings.Join(lines, "\n"))
		}
	}
	// The first vCPU's running digest is the launch digest with one vCPU.
	if !strings.Contains(lines[12], "  "+one[:16]+"…  ") {
		t.Errorf("%s lacks %s", lines[12], one[:16])
	}
	whole := answer(t, flags, "--explain", "--verbose")
	if !strings.Contains(whole, "  "+one+"  VMSA of vCPU 0") || strings.Contains(whole, "…") {
		t.Errorf("--verbose does not print digests whole:\n%s", whole)
	}
	// A line for each page, three for the hashes, a heading and the last two.
	if n := strings.Count(answer(t, flags, "--explain", "--pages"), "\n"); n != 64+3+3 {
		t.Errorf("--pages prints %d lines", n)
	}
}

func TestExplainJSON(t *testing.T) {
	var got struct {
		LaunchDigest string `json:"launch_digest"`
		Pages        []struct {
			Index                        int
			Type, Contents, Source, What string
			Running                      string `json:"running_digest"`
			GPA, Length                  uint64
			Details                      []string
		}
		SaveAreas []struct {
			First  int `json:"first_vcpu"`
			Last   int `json:"last_vcpu"`
			Fields []struct {
				Offset, Size      int
				Name, Value, What string
			}
		} `json:"save_areas"`
	}
	if err := json.Unmarshal([]byte(answer(t, someImages(t), "--explain", "--explain-vmsa", "--json", "--vcpus", "3")), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Pages) != 66 || len(got.SaveAreas) != 2 {
		t.Fatalf("%d pages and %d save areas", len(got.Pages), len(got.SaveAreas))
	}
	for i, p := range got.Pages {
		if p.Index != i || p.What == "" || p.Length != 4096 || len(p.Running) != 96 || len(p.Contents) != 96 {
			t.Errorf("page %d: %+v", i, p)
		}
	}
	if p := got.Pages[62]; len(p.Details) != 3 || p.Type != "NORMAL" || p.GPA != 0x810000 {
		t.Errorf("hashes page: %+v", p)
	}
	if got.Pages[63].Running != one || got.Pages[65].Running != got.LaunchDigest {
		t.Errorf("running digests %s and %s", got.Pages[63].Running, got.Pages[65].Running)
	}
	if a := got.SaveAreas[1]; a.First != 1 || a.Last != 2 || a.Fields[0].Name != "ES" {
		t.Errorf("second save area: %+v", a)
	}
}

func TestExplainVMSA(t *testing.T) {
	out := answer(t, someImages(t), "--explain-vmsa", "--vcpus", "3")
	for _, want := range []string{"VMSA of vCPU 0\n", "\nVMSA of vCPUs 1 to 2\n", "the vCPU starts at 0xfffffff0\n", "the vCPU starts at 0x80b004\n", "All other bytes are zero.\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
}

func TestDumpVMSA(t *testing.T) {
	flags := someImages(t)
	here := t.TempDir()
	t.Chdir(here)
	plain := answer(t, flags, "--vcpus", "3")
	for flag, dir := range map[string]string{"--dump-vmsa": here, "--dump-vmsa=new/folder": filepath.Join(here, "new", "folder"), "--dump-vmsa=./true": filepath.Join(here, "true")} {
		for range 2 { // files that are there are written over
			if got := answer(t, flags, "--vcpus", "3", flag); got != plain {
				t.Errorf("%s changes the answer: %q", flag, got)
			}
		}
		var names []string
		files, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if st, err := os.Stat(f); err != nil {
				t.Fatal(err)
			} else if st.Mode().IsRegular() {
				names = append(names, fmt.Sprint(filepath.Base(f), " ", st.Size()))
			}
		}
		if got := strings.Join(names, ", "); got != "vmsa0.bin 4096, vmsa1.bin 4096, vmsa2.bin 4096" {
			t.Errorf("%s leaves %s", flag, got)
		}
	}
	first, err := os.ReadFile("vmsa0.bin")
	if err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile("vmsa1.bin")
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(first, second) {
		t.Error("the first and the second vCPU have one save area")
	}
	answer(t, flags, "--dump-vmsa=false")
	for _, bad := range []string{"--dump-vmsa=", "--dump-vmsa=vmsa0.bin"} {
		if _, stderr, code := program(append([]string{"measure", bad}, flags...)...); code == exitOK || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: exit code %d, %q", bad, code, stderr)
		}
	}
}

// TestMatrix holds each cell against a measurement of its own, in every format.
func TestMatrix(t *testing.T) {
	flags := someImages(t)
	type cell struct {
		VCPUs    int `json:"vcpus"`
		CPU      string
		Sig      string `json:"cpu_sig"`
		Features string `json:"guest_features"`
		Digest   string `json:"launch_digest"`
	}
	var want []cell
	for _, cpu := range [][2]string{{"EPYC-Genoa", "0x00a10f10"}, {"EPYC-v4", "0x00800f12"}} {
		for _, features := range []string{"0x1", "0x221", "0x21"} {
			for _, n := range []int{1, 2, 3, 6} {
				digest := answer(t, flags, "--vcpus", fmt.Sprint(n), "--vcpu-type", cpu[0], "--guest-features", features)
				want = append(want, cell{n, cpu[0], cpu[1], features, strings.TrimSpace(digest)})
			}
		}
	}
	matrix := []string{"--matrix", "--vcpus", "6,1-3", "--vcpu-type", "EPYC-Genoa,EPYC-v4", "--guest-features", "0x1;debugswap,securetsc", "--guest-features", "0x21"}
	format := func(name string) string {
		return answer(t, flags, append(slices.Clone(matrix), "--output-format", name)...)
	}

	var object struct {
		Mode         string
		Firmware     string            `json:"firmware_sha256"`
		KernelHashes map[string]string `json:"kernel_hashes"`
		Cells        []cell
	}
	if err := json.Unmarshal([]byte(format("json")), &object); err != nil {
		t.Fatal(err)
	}
	if object.Mode != "snp" || len(object.Firmware) != 64 || len(object.KernelHashes) != 3 {
		t.Errorf("JSON says beside its cells: %+v", object)
	}
	rows, err := csv.NewReader(strings.NewReader(format("csv"))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	table := strings.Split(strings.TrimSpace(format("table")), "\n")
	if len(object.Cells) != len(want) || len(rows) != len(want)+1 || len(table) != len(want)+1 {
		t.Fatalf("%d cells, %d rows of CSV, %d of the table; want %d cells", len(object.Cells), len(rows), len(table), len(want))
	}
	for i, w := range want {
		line := fmt.Sprint(w.VCPUs, " ", w.CPU, " ", w.Sig, " ", w.Features, " ", w.Digest)
		if object.Cells[i] != w {
			t.Errorf("JSON %d: %+v, want %+v", i, object.Cells[i], w)
		}
		if got := strings.Join(rows[i+1], " "); got != line {
			t.Errorf("CSV %d: %s, want %s", i, got, line)
		}
		if got := strings.Join(strings.Fields(table[i+1]), " "); got != line {
			t.Errorf("table %d: %s, want %s", i, got, line)
		}
	}
	if got := answer(t, flags, matrix...); got != strings.Join(table, "\n")+"\n" {
		t.Error("without --output-format it is not a table")
	}

	// What is not given is the guest's own.
	if out := answer(t, flags, "--matrix"); strings.Count(out, "\n") != 2 || !strings.Contains(out, "    1  EPYC-v4  0x00800f12  0x1       "+one) {
		t.Errorf("a matrix of one cell:\n%s", out)
	}
	if out := answer(t, flags, "--matrix", "--vcpu-type", "all", "--output-format", "csv"); strings.Count(out, "\n") < 6 || !strings.Contains(out, "\n1,EPYC-Turin,0x00b00f00,0x1,") {
		t.Errorf("all models:\n%s", out)
	}
	if out := answer(t, flags, "--matrix", "--vcpu-sig", "0xa10f10", "--output-format", "csv"); !strings.HasSuffix(out, "\n1,EPYC-Genoa,0x00a10f10,0x1,"+want[0].Digest+"\n") {
		t.Errorf("a signature:\n%s", out)
	}
	if out := answer(t, flags, "--matrix", "--vmm-type", "ec2", "--vcpu-type", "EPYC-Milan,EPYC-v4", "--output-format", "csv"); strings.Count(out, ",0x00000600,") != 2 {
		t.Errorf("EC2:\n%s", out)
	}
}

func TestMatrixMistakes(t *testing.T) {
	flags := someImages(t)
	for _, c := range []struct {
		more []string
		code int
		want string
	}{
		{[]string{"--matrix", "--vcpus", "0-3"}, exitUsage, `"0-3" is neither`},
		{[]string{"--matrix", "--vcpus", "1,,2"}, exitUsage, `"" is neither`},
		{[]string{"--matrix", "--vcpus", "1-99999999"}, exitUsage, `"1-99999999" is neither`},
		{[]string{"--matrix", "--vcpus", "5-4"}, exitUsage, "ends before it begins"},
		{[]string{"--matrix", "--vcpus", "1-5000"}, exitNo, "5000"},
		{[]string{"--matrix", "--vcpu-type", "EPYC,EPIC"}, exitNo, "did you mean EPYC?"},
		{[]string{"--matrix", "--guest-features", "1;bogus"}, exitUsage, "bogus"},
		{[]string{"--matrix", "--vcpu-type", "EPYC,EPYC-v4", "--vcpu-sig", "0x800f12"}, exitUsage, "a signature stands for one kind"},
		{[]string{"--matrix", "--output-format", "xml"}, exitUsage, "table, json, csv"},
		{[]string{"--vcpus", "1-3"}, exitUsage, "several values need --matrix"},
		{[]string{"--output-format", "csv"}, exitUsage, "hex, base64"},
	} {
		stdout, stderr, code := program(slices.Concat([]string{"measure"}, flags, c.more)...)
		if code != c.code || stdout != "" || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%v: exit code %d, stdout %q, stderr %q; want %d and %q", c.more, code, stdout, stderr, c.code, c.want)
		}
	}
}

// What is unusual about any value is said before the digests.
func TestMatrixWarnings(t *testing.T) {
	flags := slices.Concat([]string{"measure"}, someImages(t), []string{"--matrix", "--guest-features", "1;2;0x41"})
	out, stderr, code := program(flags...)
	if code != exitOK || strings.Count(out, "\n") != 4 || strings.Count(stderr, "snplaunch: warning: ") != 1 || !strings.Contains(stderr, "0x2 (vTOM): bit 0 (SNPActive) is clear") {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, out, stderr)
	}
	if _, _, code := program(append(flags, "--strict")...); code != exitNo {
		t.Errorf("--strict: exit code %d", code)
	}
}

// On GCE the address of the save areas depends on the processor.
func TestMatrixGCE(t *testing.T) {
	flags := append(someImages(t), "--vmm-type", "gce", "--vcpus", "2")
	milan, genoa := strings.TrimSpace(answer(t, flags, "--vcpu-type", "EPYC-Milan")), strings.TrimSpace(answer(t, flags, "--vcpu-type", "EPYC-Genoa"))
	if milan == genoa {
		t.Fatal("both processors have one digest")
	}
	want := "vcpus,cpu,cpu_sig,guest_features,launch_digest\n2,EPYC-Milan,0x00000600,0x1," + milan + "\n2,EPYC-Genoa,0x00000600,0x1," + genoa + "\n"
	if got := answer(t, flags, "--matrix", "--vcpu-type", "EPYC-Milan,EPYC-Genoa", "--output-format", "csv"); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

// The other modes, each in its own words.
func TestExplainModes(t *testing.T) {
	flags := someImages(t)
	for _, c := range []struct {
		more []string
		want []string
	}{
		{[]string{"--mode", "seves", "--explain", "--vcpus", "3"}, []string{"65536  firmware image\n", "176    hashes table\n", "         kernel sha256 ", "4096   VMSA of vCPU 0 (BSP), start", "8192   VMSA of vCPUs 1 to 2 (AP), start", "SHA-256 over all of them "}},
		{[]string{"--mode", "sev", "--explain"}, []string{"65536  firmware image\n", "SHA-256 over all of them "}},
		{[]string{"--mode", "seves", "-v"}, []string{"Calculated SEV_ES guest measurement: "}},
		{[]string{"--mode", "sev", "-v"}, []string{"Calculated SEV guest measurement: "}},
		{[]string{"--mode", "snp:ovmf-hash", "--explain"}, []string{"16     NORMAL  differ    1f94fb21793cba43…  firmware page", "16 pages, launch digest 1f94fb21793cba43"}},
		{[]string{"--mode", "snp:ovmf-hash", "-v"}, []string{"1f94fb21793cba43f7fff1"}},
		{[]string{"--mode", "seves", "--explain", "--json"}, []string{`"parts": [`, `"what": "hashes table"`}},
	} {
		out := answer(t, flags, c.more...)
		for _, want := range c.want {
			if !strings.Contains(out, want) {
				t.Errorf("%v: %q is not in\n%s", c.more, want, out)
			}
		}
	}
	for _, bad := range [][]string{{"--mode", "sev", "--dump-vmsa"}, {"--mode", "sev", "--explain-vmsa"}, {"--mode", "seves", "--matrix"}, {"--mode", "snp:ovmf-hash", "--matrix"}} {
		if out, stderr, code := program(slices.Concat([]string{"measure"}, flags, bad)...); code != exitNo || out != "" || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%v: exit code %d, %q, %q", bad, code, out, stderr)
		}
	}
	// From the digest for one vCPU, only the other save areas are left.
	out, stderr, code := program("measure", "--one-vcpu-digest", one, "--ap-reset", "0x80b004", "--vcpus", "3", "--explain")
	if code != exitOK || !strings.Contains(out, "VMSA of vCPUs 1 to 2 (AP), start 0x80b004") ||
		!strings.HasSuffix(out, "2 pages, launch digest "+answer(t, flags, "--vcpus", "3")) {
		t.Errorf("exit code %d\n%s%s", code, out, stderr)
	}
}

func TestMatrixInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var out, stderr bytes.Buffer
	code := dispatch(&env{ctx: ctx, stdout: &out, stderr: &stderr}, slices.Concat([]string{"measure"}, someImages(t), []string{"--matrix", "--vcpus", "1-64"}))
	if code != exitNo || !strings.Contains(stderr.String(), "interrupted after 0 of 64 digests") {
		t.Errorf("exit code %d, %q", code, stderr.String())
	}
}

func TestSplitModels(t *testing.T) {
	for arg, want := range map[string][]string{
		"EPYC":                                  {"EPYC"},
		"EPYC, EPYC-Milan":                      {"EPYC", "EPYC-Milan"},
		"EPYC,family=25,+avx,EPYC-Rome,-x2apic": {"EPYC,family=25,+avx", "EPYC-Rome,-x2apic"},
		"family=25":                             {"family=25"},
	} {
		if got := splitModels(arg); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", arg, got, want)
		}
	}
}

func TestProgress(t *testing.T) {
	var out bytes.Buffer
	start := time.Unix(1000, 0)
	p := newProgress(&out, "digests", 4000, start)
	p.at(0, start)
	p.at(100, start.Add(499*time.Millisecond))
	if out.Len() > 0 {
		t.Errorf("a bar within the first half second: %q", out.String())
	}
	p.at(1000, start.Add(time.Second))
	p.at(1001, start.Add(1099*time.Millisecond)) // too soon
	p.at(3000, start.Add(3*time.Second))
	p.end()
	want := "\r\x1b[K[#######.......................] 1000 of 4000 digests, 3 s left" +
		"\r\x1b[K[######################........] 3000 of 4000 digests, 1 s left" +
		"\r\x1b[K"
	if out.String() != want {
		t.Errorf("got %q\nwant %q", out.String(), want)
	}

	out.Reset()
	p = newProgress(&out, "digests", 4000, start)
	p.at(0, start.Add(time.Second))
	if want := "\r\x1b[K[" + strings.Repeat(".", 30) + "] 0 of 4000 digests, ? left"; out.String() != want {
		t.Errorf("got %q\nwant %q", out.String(), want)
	}

	var none *progress
	none.at(1, start)
	none.end()
	if (&env{stderr: &out, stdout: &out}).progressBar("digests", 1) != nil {
		t.Error("a bar where there is no terminal")
	}
}
