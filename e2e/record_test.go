package e2e_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/snplaunch/snplaunch/diagnose/record"
	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/idblock"
	"github.com/snplaunch/snplaunch/internal/lacks"
	"github.com/snplaunch/snplaunch/measure"
	"github.com/snplaunch/snplaunch/snp"
)

// with adds properties to the sev-snp-guest of a command line.
func with(line []string, properties string) []string {
	line = slices.Clone(line)
	for i, a := range line {
		if strings.HasPrefix(a, "sev-snp-guest,") {
			line[i] += properties
		}
	}
	return line
}

// bare is the guest that plainQEMU launches.
func bare(t testing.TB, vcpus int) *measure.Result {
	t.Helper()
	g := aGuest(t)
	g.Kernel, g.Initrd, g.Append, g.KernelHashes, g.VCPUs, g.CPU = "", "", "", false, vcpus, "EPYC-v4"
	return computed(t, g)
}

func computed(t testing.TB, g *guest.Guest) *measure.Result {
	t.Helper()
	in, err := g.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	r, err := measure.Measure(g, in)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// recordOf runs a command under sim exec and reads the record and the report of it.
func recordOf(t testing.TB, flags []string, line []string) (path string, f *record.File, said []launchRecord, stderr string) {
	t.Helper()
	dir := t.TempDir()
	path, report := filepath.Join(dir, "record"), filepath.Join(dir, "report")
	stderr, _ = simExec(t, append([]string{"--record", path, "--report", report}, flags...), line)
	return path, readRecord(t, path), readReport(t, report), stderr
}

func readRecord(t testing.TB, path string) *record.File {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := record.Parse(b)
	if err != nil {
		t.Fatalf("%v\n%.2000s", err, b)
	}
	return f
}

// replayed is what sim replay --json prints of the only launch of a record.
type replayed struct {
	Command      string
	Errno        int
	FWError      int    `json:"fw_error"`
	LaunchDigest string `json:"launch_digest"`
	Unchecked    []string
	Different    []string
}

func replay(t testing.TB, path string, flags ...string) (r replayed, status int) {
	t.Helper()
	cmd, _ := command(t, t.Name(), append([]string{"sim", "replay", "--json", path}, flags...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("sim replay: %v\n%s%s", err, out, stderr.String())
	}
	return r, cmd.ProcessState.ExitCode()
}

// Launches of the real QEMU that succeed and that fail, each for a reason of its own: what the
// recorder infers is what the host that answered knows, and replayed without QEMU the
// launch has the same digest and the same result.
func TestRecordAndReplay(t *testing.T) {
	r := bare(t, 2)
	key, err := idblock.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	blob := func(change func(*snp.IDBlock), damage func(auth []byte)) string {
		b := snp.IDBlock{LD: r.LaunchDigest, Version: snp.IDBlockVersion, Policy: snp.PolicyDefault}
		change(&b)
		auth, err := idblock.Sign(&b, key, key)
		if err != nil {
			t.Fatal(err)
		}
		raw, page := b.Bytes(), auth.Bytes()
		damage(page)
		return ",author-key-enabled=on,id-block=" + base64.StdEncoding.EncodeToString(raw[:]) + ",id-auth=" + base64.StdEncoding.EncodeToString(page)
	}
	as := func(*snp.IDBlock) {}
	whole := func([]byte) {}
	for _, c := range []struct {
		name       string
		properties string
		flags      []string
		cpu        string
		command    string
		errno      int
		status     snp.Status
	}{
		{name: "no ID block", command: "SNP_LAUNCH_FINISH"},
		{name: "ID block and host data", properties: blob(as, whole) + ",host-data=" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32)), command: "SNP_LAUNCH_FINISH"},
		{name: "another digest", properties: blob(func(b *snp.IDBlock) { b.LD[0] ^= 1 }, whole), command: "SNP_LAUNCH_FINISH", errno: 5, status: snp.StatusBadMeasurement},
		{name: "another policy", properties: blob(func(b *snp.IDBlock) { b.Policy |= snp.PolicyDebug }, whole), command: "SNP_LAUNCH_FINISH", errno: 5, status: snp.StatusPolicyFailure},
		{name: "ID block's signature", properties: blob(as, func(p []byte) { p[idBlockSigOffset] ^= 1 }), command: "SNP_LAUNCH_FINISH", errno: 5, status: snp.StatusBadSignature},
		{name: "author's signature", properties: blob(as, func(p []byte) { p[idKeySigOffset] ^= 1 }), command: "SNP_LAUNCH_FINISH", errno: 5, status: snp.StatusBadSignature},
		{name: "key algorithm", properties: blob(as, func(p []byte) { p[0] = 2 }), command: "SNP_LAUNCH_FINISH", errno: 5, status: snp.StatusInvalidParam},
		{name: "policy that KVM refuses", properties: ",policy=0x10000", command: "SNP_LAUNCH_START", errno: 22},
		{name: "policy that the firmware refuses", properties: ",policy=0x30138", command: "SNP_LAUNCH_START", errno: 5, status: snp.StatusPolicyFailure},
		{name: "CPUID page", cpu: "EPYC-v1", flags: []string{}, command: "SNP_LAUNCH_UPDATE", errno: 5, status: snp.StatusInvalidParam},
		{name: "another kernel", flags: []string{"--kernel-profile", "amd-6.6"}, command: "SNP_LAUNCH_FINISH"},
	} {
		for _, qemu := range []string{parts(t).QEMU.Path, nextQEMU(t)} {
			t.Run(c.name+" "+filepath.Base(filepath.Dir(qemu)), func(t *testing.T) {
				cpu := c.cpu
				line := plainQEMU(t, qemu, "EPYC-v4", "-smp", "2")
				if cpu != "" {
					// Before pc-q35-9.1 the first models say what the firmware refuses.
					line = plainQEMU(t, qemu, cpu, "-smp", "2")
					for i, a := range line {
						line[i] = strings.Replace(a, "q35,", "pc-q35-9.0,", 1)
					}
				}
				path, f, said, stderr := recordOf(t, c.flags, with(line, c.properties))
				if len(f.Launches) != 1 || len(said) != 1 || f.Source != record.SourceSoftware {
					t.Fatalf("%d launches recorded, %d reported\n%s", len(f.Launches), len(said), stderr)
				}
				l, host := &f.Launches[0], said[0]
				last := l.Calls[l.Last()]
				if host.Command != c.command || host.Errno != c.errno || last.With.Name() != c.command || last.Result.Errno != c.errno ||
					last.Result.FWError != int(c.status) || last.Result.From == record.FromNothing || last.Result.From == record.FromHost {
					t.Errorf("the host says %s errno %d, the record %s %+v; want %s errno %d status %d\n%s", host.Command, host.Errno, last.With.Name(), last.Result, c.command, c.errno, c.status, stderr)
				}
				if l.Launched() != (c.errno == 0) || !strings.Contains(l.Program.Version, "QEMU emulator version") || (l.End.Exit == nil || (*l.End.Exit == 0) != (c.errno == 0)) {
					t.Errorf("launched %v, program %q, end %+v", l.Launched(), l.Program.Version, l.End)
				}
				got, status := replay(t, path)
				if status != 0 || got.Command != c.command || got.Errno != c.errno || got.FWError != int(c.status) || got.LaunchDigest != host.Digest || len(got.Different)+len(got.Unchecked) != 0 {
					t.Errorf("replayed: status %d, %+v; the host had %s", status, got, host.Digest)
				}
				if c.errno == 0 && c.flags == nil && got.LaunchDigest != r.LaunchDigest.String() {
					t.Errorf("replayed %s, computed %s", got.LaunchDigest, r.LaunchDigest)
				}
				explainsItself(t, path, c.errno)
			})
		}
	}
}

// explainsItself sees that diagnose says what a record is of, and why it failed.
func explainsItself(t *testing.T, path string, errno int) {
	t.Helper()
	cmd, _ := command(t, t.Name(), "diagnose", path)
	out, err := cmd.CombinedOutput()
	if err != nil || !contains(string(out), "SIMULATED") || contains(string(out), "what to do") != (errno != 0) {
		t.Errorf("diagnose: %v\n%s", err, out)
	}
}

// A record says the same each time, and nothing of it depends on where a program's
// memory lies; several QEMUs give several launches. With --pages it has their bytes.
func TestRecordsAreReproducible(t *testing.T) {
	qemu := strings.Join(plainQEMU(t, parts(t).QEMU.Path, "EPYC-v4"), " ")
	line := []string{"sh", "-c", qemu + "; " + qemu + " -smp 4; true"}
	first, f, said, _ := recordOf(t, nil, line)
	second, _, _, _ := recordOf(t, nil, line)
	a, err1 := os.ReadFile(first)
	b, err2 := os.ReadFile(second)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Errorf("two records of one command differ")
	}
	if len(f.Launches) != 2 || len(f.Launches[1].VCPUs) != 4 || said[1].Digest != bare(t, 4).LaunchDigest.String() {
		t.Fatalf("%d launches", len(f.Launches))
	}
	if len(f.Pages) > 2 {
		t.Errorf("%d pages are kept without --pages", len(f.Pages))
	}
	whole, g, _, _ := recordOf(t, []string{"--pages"}, line)
	firmware, err := os.ReadFile(parts(t).Firmware.Path)
	if err != nil {
		t.Fatal(err)
	}
	u := firmwareUpdate(t, &g.Launches[0])
	for i, d := range u.Contents {
		page := g.Pages[d]
		if page == nil {
			page = make([]byte, snp.PageSize)
		}
		if !bytes.Equal(page, firmware[i*snp.PageSize:(i+1)*snp.PageSize]) {
			t.Fatalf("page %d of the firmware has other bytes", i)
		}
	}
	if _, status := replay(t, whole, "--launch", "2"); status != 0 {
		t.Error("a record with pages does not replay")
	}
	// Another host than the recorded one gives another digest, and that is said.
	r, status := replay(t, first, "--launch", "1", "--kernel-profile", "amd-6.6")
	if status != 1 || len(r.Different) != 1 || !contains(r.Different[0], said[0].Digest) {
		t.Errorf("status %d, %+v", status, r)
	}
}

func firmwareUpdate(t *testing.T, l *record.Launch) *record.Update {
	t.Helper()
	for _, c := range l.Calls {
		if u, is := c.With.(*record.Update); is && u.GPA+u.Length == 1<<32 {
			return u
		}
	}
	t.Fatal("no update with the firmware")
	return nil
}

// QEMU's own trace, read where ours cannot be run: as the record has it, and with the
// firmware at hand the contents, too.
func TestQEMUTrace(t *testing.T) {
	p := parts(t)
	for _, qemu := range []string{p.QEMU.Path, nextQEMU(t)} {
		for _, more := range [][]string{nil, {"-msg", "timestamp=on"}} {
			line := plainQEMU(t, qemu, "EPYC-v4", append([]string{"-trace", "kvm_sev*"}, more...)...)
			line = with(line, ",host-data="+base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{9}, 32)))
			_, f, _, stderr := recordOf(t, nil, line)
			traced, err := record.ParseTrace(strings.NewReader(stderr))
			if err != nil || len(traced.Launches) != 1 {
				t.Fatalf("%v\n%s", err, stderr)
			}
			if got, want := commandsOf(&traced.Launches[0]), commandsOf(&f.Launches[0]); !slices.Equal(got, want) || !traced.Launches[0].Launched() {
				t.Errorf("%s: the trace tells\n%s\nthe record\n%s", qemu, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			dir := t.TempDir()
			log, out := filepath.Join(dir, "log"), filepath.Join(dir, "record")
			if err := os.WriteFile(log, []byte(stderr), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd, _ := command(t, t.Name(), "diagnose", "--trace", log, "--record-out", out, p.Firmware.Path)
			if said, err := cmd.CombinedOutput(); err != nil || !contains(string(said), "does not tell what the pages held") {
				t.Fatalf("%v\n%s", err, said)
			}
			filled := readRecord(t, out)
			if !slices.Equal(firmwareUpdate(t, &filled.Launches[0]).Contents, firmwareUpdate(t, &f.Launches[0]).Contents) {
				t.Error("the firmware's pages are not filled in as they were recorded")
			}
		}
	}
}

// A kernel's dump of a save area (Linux sev_es_sync_vmsa: the first 0x670 bytes in rows of
// 16), here of what the software host launched: its digest is the one that is computed, and
// a register that differs is named.
func TestSaveAreaDump(t *testing.T) {
	_, _, said, _ := recordOf(t, nil, plainQEMU(t, parts(t).QEMU.Path, "EPYC-v4", "-smp", "2"))
	var dump strings.Builder
	for _, v := range said[0].VMSAs {
		dump.WriteString("[  100.000001] kvm_amd: Virtual Machine Save Area (VMSA):\n")
		for row := range slices.Chunk(v.Bytes[:0x670], 16) {
			fmt.Fprintf(&dump, "[  100.000002] % x\n", row)
		}
	}
	dir := t.TempDir()
	log := filepath.Join(dir, "dmesg")
	if err := os.WriteFile(log, []byte(dump.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for cpu, different := range map[string]string{"EPYC-v4": "", "EPYC-Milan": "RDX is 0x0000000000800f12, computed 0x0000000000a00f11"} {
		description := filepath.Join(dir, cpu+".yaml")
		text := fmt.Sprintf("firmware: %s\nvcpus: 2\ncpu: %s\nkernel_hashes: false\n", parts(t).Firmware.Path, cpu)
		if err := os.WriteFile(description, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd, _ := command(t, t.Name(), "diagnose", "--vmsa-dump", log, description)
		out, err := cmd.CombinedOutput()
		if (err == nil) != (different == "") || !contains(string(out), different) {
			t.Errorf("%s: %v\n%s", cpu, err, out)
		}
		for _, p := range bare(t, 2).Pages[len(bare(t, 2).Pages)-2:] {
			if !contains(string(out), "contents "+p.Contents.String()) {
				t.Errorf("no save area with contents %s\n%s", p.Contents, out)
			}
		}
	}
}

// commandsOf lists the launch commands of a launch, as far as a trace tells them.
func commandsOf(l *record.Launch) (out []string) {
	for _, c := range l.Calls {
		switch w := c.With.(type) {
		case *record.Init:
			out = append(out, w.Name())
		case *record.Start:
			out = append(out, fmt.Sprintf("%s %v %x", w.Name(), w.Policy, w.GOSVW))
		case *record.Update:
			out = append(out, fmt.Sprintf("%s %v %x %x", w.Name(), w.Type, w.GPA, w.Length))
		case *record.Finish:
			out = append(out, fmt.Sprintf("%s %x %x %v", w.Name(), w.IDBlock, w.IDAuth, w.HostData))
		}
	}
	return out
}

// ordinary builds a program that does what supervision might disturb.
func ordinary(t *testing.T) string {
	t.Helper()
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		lacks.End(t, "gcc is missing: apt-get install gcc libc6-dev")
	}
	path := filepath.Join(t.TempDir(), "ordinary")
	if out, err := exec.Command(gcc, "-O1", "-Wall", "-pthread", "-o", path, "testdata/ordinary.c", "-lrt").CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	return path
}

// A command that is recorded does what it does without: the same words, exit status
// and signals, with the same limits, descriptors and dispositions.
func TestRecordingChangesNothing(t *testing.T) {
	program := ordinary(t)
	for _, how := range []string{
		`"$@"`,
		`exec "$@" 5</dev/null 7>/dev/null`,
		`ulimit -n 200; umask 027; exec "$@" die`,
		`trap '' HUP INT; exec "$@" </dev/null`,
		`"$@" 2>&1 >/dev/null | cat; exit 3`,
	} {
		run := func(line ...string) (string, string, int) {
			cmd := exec.Command("sh", append([]string{"-c", how, "sh"}, line...)...)
			cmd.Env = append(os.Environ(), "ORDINARY=as ever")
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
				t.Fatal(err)
			}
			status := cmd.ProcessState.ExitCode()
			if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signaled() {
				status = 128 + int(ws.Signal())
			}
			return withoutOurs(stdout.String()), withoutOurs(stderr.String()), status
		}
		out, words, status := run(program)
		recorded, recordedWords, recordedStatus := run(snplaunch(t), "record", "-o", filepath.Join(t.TempDir(), "record"), "--", program)
		if recorded != out || recordedWords != words || recordedStatus != status {
			t.Errorf("%s\nrecorded: status %d\n%s%.300s\nwithout: status %d\n%s%.300s", how, recordedStatus, recorded, recordedWords, status, out, words)
		}
		if !contains(words+out, "said 199") && !contains(words+out, "thread 7") {
			t.Errorf("the program has not come to its end:\n%s%s", out, words)
		}
	}
}

// withoutOurs leaves out what snplaunch itself has said.
func withoutOurs(s string) string {
	var out []string
	for line := range strings.Lines(s) {
		if !strings.HasPrefix(line, "snplaunch: ") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}

// An ordinary QEMU is recorded, under TCG and where there is one on the real /dev/kvm:
// its guest says what it says without.
func TestRecordingAnOrdinaryQEMU(t *testing.T) {
	p := parts(t)
	accels := []string{"tcg"}
	if f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0); err == nil {
		f.Close()
		accels = append(accels, "kvm")
	}
	for _, accel := range accels {
		line := []string{p.QEMU.Path, "-nodefaults", "-no-user-config", "-display", "none", "-m", "64M", "-accel", accel, "-cpu", "qemu64", "-S",
			"-chardev", "stdio,id=q", "-mon", "chardev=q,mode=control"}
		const asked = `{"execute":"qmp_capabilities"}{"execute":"query-cpus-fast"}{"execute":"query-kvm"}{"execute":"quit"}`
		run := func(line []string) (string, string) {
			cmd := exec.Command(line[0], line[1:]...)
			cmd.Stdin = strings.NewReader(asked)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%s: %v\n%s", accel, err, stderr.String())
			}
			var answers []string
			for line := range strings.Lines(string(out)) {
				if !strings.Contains(line, "timestamp") && !strings.Contains(line, "thread-id") {
					answers = append(answers, line)
				}
			}
			return strings.Join(answers, ""), stderr.String()
		}
		path := filepath.Join(t.TempDir(), "record")
		want, _ := run(line)
		got, stderr := run(append([]string{snplaunch(t), "record", "-o", path, "--"}, line...))
		if got != want || len(want) == 0 || !contains(stderr, "no launch of an SNP guest was heard") {
			t.Errorf("%s: recorded\n%s\nwithout\n%s\n%s", accel, got, want, stderr)
		}
		f := readRecord(t, path)
		if others := map[string]int{"tcg": 0, "kvm": 1}[accel]; f.OtherVMs != others || len(f.Launches) != 0 {
			t.Errorf("%s: %d other VMs, %d launches", accel, f.OtherVMs, len(f.Launches))
		}
	}
}

// Whoever is killed, nothing of a recording stays, and the record is whole, of what
// had ended.
func TestKillingARecording(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		mark := fmt.Sprintf("killrecord-%d", sig)
		path := filepath.Join(t.TempDir(), "record")
		cmd, _ := command(t, mark, append([]string{"record", "-o", path, "--"}, sleepers...)...)
		killSleepers(t, cmd, mark, sig)
		readRecord(t, path)
	}
}

// What recording costs is told by --stats; a launch of a 4 MiB firmware is held a few
// milliseconds longer.
func BenchmarkRecordedLaunch(b *testing.B) {
	line := plainQEMU(b, parts(b).QEMU.Path, "EPYC-v4", "-smp", "8")
	for _, c := range []struct {
		name  string
		flags []string
	}{{"sim", nil}, {"sim-record", []string{"--record"}}, {"sim-record-pages", []string{"--pages", "--record"}}} {
		b.Run(c.name, func(b *testing.B) {
			flags := c.flags
			if flags != nil {
				flags = append(slices.Clone(flags), filepath.Join(b.TempDir(), "record"))
			}
			for b.Loop() {
				if stderr, err := simExec(b, flags, line); err != nil {
					b.Fatalf("%v\n%s", err, stderr)
				}
			}
		})
	}
}
