package diagnose

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"unicode"
)

// finishLine is what a log is searched for here.
const finishLine = "qemu-system-x86_64: SNP_LAUNCH_FINISH ret=-5 fw_error=11 'Bad measurement'"

func read(t testing.TB, log string) []Finding {
	t.Helper()
	found, err := ReadLog(strings.NewReader(log))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// The same line in the clothes that logs give it.
func TestReadLogThroughQuoting(t *testing.T) {
	const want = "SNP_LAUNCH_FINISH ret=-5 fw_error=11 'Bad measurement'"
	for name, log := range map[string]string{
		"alone":              finishLine,
		"colours":            "\x1b[0;31mqemu-system-x86_64: SNP_LAUNCH_\x1b[1mFINISH\x1b[0m ret=-5 fw_error=11 'Bad measurement'\x1b[0m\n",
		"colours in JSON":    `{"log":"\u001b[31mqemu: SNP_LAUNCH_FINISH ret=-5 fw_error=11 'Bad measurement'\u001b[0m\r\n","stream":"stderr"}`,
		"journald":           "Nov 03 08:15:42 epyc7 libvirtd[712]: 2026-11-03T08:15:42.123456Z " + finishLine + "\n",
		"containerd":         `time="2026-11-03T08:15:42.123456789Z" level=info msg="` + finishLine + `" name=containerd-shim-v2 pid=712 qemuPid=745 sandbox=0f1e`,
		"GitHub Actions":     "2026-11-03T08:15:42.1234567Z ##[error]" + finishLine + "\r\n",
		"GitLab":             "section_start:1762157742:step_script\r\x1b[0K\x1b[0;m" + finishLine + "\n",
		"kubectl, two lines": `{"message":"exit 1\nqemu-system-x86_64: SNP_LAUNCH_FINISH ret=-5 fw_error=11 \u0027Bad measurement\u0027\nbye"}`,
		"web page":           "<pre>qemu-system-x86_64: SNP_LAUNCH_FINISH ret=-5 fw_error=11 &#39;Bad measurement&#39;</pre>",
		"word processor":     "qemu-system-x86_64: SNP_LAUNCH_FINISH\u00a0ret=-5 fw_error=11 ‘Bad measurement’",
		"quoted mail":        "> > " + finishLine,
		"after a progress":   "10%\r50%\r100%\r" + finishLine + "\r\n",
		"title":              "\x1b]0;vm1\x07" + finishLine,
		"in capitals before": strings.Repeat("A", 300_000) + finishLine,
	} {
		found := read(t, "first line\n"+log)
		if len(found) != 1 || found[0].ID != "finish-measurement" || found[0].Message != want || found[0].Line != 2 {
			t.Errorf("%s: got %+v", name, found)
		}
	}
}

// Root causes come before what they lead to, whatever the order of the lines.
func TestReadLogOrder(t *testing.T) {
	const log = "qemu: failed to initialize kvm: Operation not permitted\n" +
		"qemu: -accel kvm: vm-type SEV-SNP not supported by KVM\n" +
		"noise\n" + finishLine + "\n" + finishLine + "\n"
	found := read(t, log)
	var got []string
	for _, f := range found {
		got = append(got, f.ID)
	}
	if want := "kvm-no-snp finish-measurement kvm-init"; strings.Join(got, " ") != want {
		t.Fatalf("got %q, want %q", got, want)
	}
	if f := found[1]; f.Line != 4 || f.Count != 2 || f.Consequence || !found[2].Consequence {
		t.Errorf("got %+v", found)
	}
}

// endless gives a log of some length without holding it.
func endless(lines int, line string) io.Reader {
	return io.MultiReader(&repeat{[]byte(line), lines, 0}, strings.NewReader(finishLine))
}

type repeat struct {
	line []byte
	left int
	at   int
}

func (r *repeat) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.line[r.at:])
	if r.at += n; r.at == len(r.line) {
		r.at, r.left = 0, r.left-1
	}
	return n, nil
}

// 100 MiB in lines hold little memory, and so do logs of one line and of nothing but
// failures.
func TestReadLogInBoundedMemory(t *testing.T) {
	for name, c := range map[string]struct {
		size int
		line string
	}{
		"lines":    {100 << 20, "[  12.345678] usb 1-1: new high-speed USB device number 7 using xhci_hcd\n"},
		"one line": {40 << 20, strings.Repeat("0123456789abcdef", 64)},
		"failures": {40 << 20, "qemu: SNP_LAUNCH_START ret=-22 fw_error=0 ''\n" + strings.Repeat("x", 900) + "\n"},
	} {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		found, err := ReadLog(endless(c.size/len(c.line), c.line))
		runtime.ReadMemStats(&after)
		if err != nil || len(found) == 0 || found[len(found)-1].ID != "finish-measurement" {
			t.Errorf("%s: %v, %+v", name, err, found)
		}
		if grown := int64(after.Sys) - int64(before.Sys); grown > 16<<20 {
			t.Errorf("%s: %d MiB more are held", name, grown>>20)
		}
	}
}

// What a log makes up is kept only so far.
func TestReadLogBoundsWhatItFinds(t *testing.T) {
	var b bytes.Buffer
	for i := range 20_000 {
		b.WriteString("SNP_LAUNCH_UPDATE ret=-" + strings.Repeat("1", i%9+1) + " fw_error=" + strings.Repeat("2", i/9%9+1) + "\n")
		b.WriteString("SNP_LAUNCH_UPDATE ret=-" + string(rune('0'+i%10)) + string(rune('0'+i/10%10)) + string(rune('0'+i/100%10)) + string(rune('0'+i/1000%10)) + " fw_error=1\n")
	}
	if found := read(t, b.String()); len(found) != mostResults {
		t.Errorf("%d findings, want %d", len(found), mostResults)
	}
}

func TestReadLogReadsToTheEnd(t *testing.T) {
	broken := errors.New("broken")
	if _, err := ReadLog(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if found, err := ReadLog(iotest.OneByteReader(strings.NewReader("\n\n" + finishLine))); err != nil || len(found) != 1 || found[0].Line != 3 {
		t.Errorf("got %+v, %v", found, err)
	}
	if found, err := ReadLog(iotest.DataErrReader(strings.NewReader(finishLine))); err != nil || len(found) != 1 {
		t.Errorf("got %+v, %v", found, err)
	}
}

// What the firmware had found right follows from the order of its checks.
func TestProven(t *testing.T) {
	for fw, want := range map[string]string{
		"11": "over.", "7": "and the launch digest is the one in the ID block.", "22": "and the policy is the one in the ID block.",
		"10": "and the key algorithms are known.", "26": "", "1": "",
	} {
		found := read(t, "SNP_LAUNCH_FINISH ret=-5 fw_error="+fw)
		if len(found) != 1 || !strings.HasSuffix(found[0].Proven, want) || (found[0].Proven == "") != (want == "") {
			t.Errorf("fw_error=%s: got %+v", fw, found)
		}
	}
	if found := read(t, "SNP_LAUNCH_FINISH ret=-22 fw_error=0 ''"); found[0].Proven != "" {
		t.Errorf("the firmware was not asked, and yet %q", found[0].Proven)
	}
}

// Every expression has words without which it cannot match, or a long log would
// take long.
func TestLiterals(t *testing.T) {
	for _, w := range newScan(catalogue()...).watched {
		if shortest(w.literals) < 4 {
			t.Errorf("%s: %q", w.re(), w.literals)
		}
	}
	for expression, want := range map[string]string{
		`a(?:bc|de)f`: "bc de", `(?i)abc`: "", `x*abcd?`: "abc", `(abc)+`: "abc", `(?:abc|.)`: "", `(?:abc){2}`: "abc", `(`: "",
	} {
		if got := strings.Join(literals(expression), " "); got != want {
			t.Errorf("%s: got %q, want %q", expression, got, want)
		}
	}
}

func FuzzReadLog(f *testing.F) {
	for _, tc := range parseTests {
		f.Add(tc.stderr)
	}
	f.Add(`{"log":"\u001b[31mx\r\n","y":"\"SNP_LAUNCH_START ret=-5 fw_error=7\""}`)
	f.Add("\x1b]0;t\x07\x1b[")
	f.Fuzz(func(t *testing.T, log string) {
		found := read(t, log)
		lines := strings.Count(log, "\n") + 1
		for _, x := range found {
			if x.Line < 1 || x.Line > lines || x.Count < 1 || x.Count > lines {
				t.Errorf("%+v in %d lines", x, lines)
			}
			for _, s := range []string{x.Message, x.Cause, x.Advice} {
				if s == "" || strings.ContainsFunc(s, unicode.IsControl) {
					t.Errorf("empty, or control characters: %+v", x)
				}
			}
		}
		// How it is read makes no difference.
		again, err := ReadLog(iotest.HalfReader(strings.NewReader(log)))
		if err != nil || len(again) != len(found) {
			t.Fatalf("%v, %d findings, %d before", err, len(again), len(found))
		}
		for i := range found {
			if again[i] != found[i] {
				t.Errorf("got %+v, was %+v", again[i], found[i])
			}
		}
	})
}
