package e2e_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/snplaunch/snplaunch/host"
)

// place is a folder that any user may use, with the files of a guest and a
// script that launches it as one writes it for hardware.
type place struct {
	dir      string
	firmware string
	kernel   string
	qemu     string // the script; $TAG goes into the guest's command line, arguments to QEMU
}

// aPlace makes one. Kernel and firmware are copied: a cache is its owner's alone.
func aPlace(t testing.TB) place {
	t.Helper()
	p := parts(t)
	dir, err := os.MkdirTemp("", "snplaunch-place-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	at := place{dir, filepath.Join(dir, "OVMF.fd"), filepath.Join(dir, "vmlinuz"), filepath.Join(dir, "qemu.sh")}
	for to, from := range map[string]string{at.firmware: p.Firmware.Path, at.kernel: p.Kernel.Path} {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	at.script(t, "qemu.sh", fmt.Sprintf(`exec %s -nodefaults -display none -no-reboot -enable-kvm -cpu EPYC-v4 -smp 2 -m 256M \
  -machine q35,confidential-guest-support=sev0,memory-backend=ram1 \
  -object memory-backend-memfd,id=ram1,size=256M,share=true,prealloc=false \
  -object sev-snp-guest,id=sev0,cbitpos=51,reduced-phys-bits=1,kernel-hashes=on \
  -bios %s -kernel %s -append "tag=$TAG" "$@"
`, p.QEMU.Path, at.firmware, at.kernel))
	return at
}

// script writes a shell script into the place.
func (p place) script(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// digest is what measure says about the guest of the script with a tag.
func (p place) digest(t testing.TB, tag string, vcpus int) string {
	t.Helper()
	cmd, _ := command(t, "measure", "measure", "--ovmf", p.firmware, "--kernel", p.kernel, "--append", "tag="+tag, "--vcpus", strconv.Itoa(vcpus), "--vcpu-type", "EPYC-v4")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

var launchDigest = regexp.MustCompile(`launch digest ([0-9a-f]{96}) \(SIMULATED\)`)

// launched gives the digests that sim exec told, sorted.
func launched(stderr string) (out []string) {
	for _, m := range launchDigest.FindAllStringSubmatch(stderr, -1) {
		out = append(out, m[1])
	}
	slices.Sort(out)
	return out
}

// simViews are the ways in which sim exec can show its devices to this user.
func simViews() []string {
	if os.Geteuid() == 0 {
		return []string{"private", "trapped"}
	}
	return []string{"trapped"}
}

// However a QEMU is started, it is launched as it is measured, and nothing of it is
// left when sim exec ends.
func TestForeignLaunchers(t *testing.T) {
	at := aPlace(t)
	amd := at.script(t, "amdsev.sh", fmt.Sprintf(`# Looks at the host as AMD's launch script does, and tells what it finds.
modprobe cpuid 2>/dev/null
[ -c /dev/sev ] && [ -w /dev/kvm ] || { echo "no SEV device" >&2; exit 1; }
for p in sev sev_es sev_snp; do grep -qx '[Y1]' /sys/module/kvm_amd/parameters/$p || { echo "kvm_amd has no $p" >&2; exit 1; }; done
ebx=$(dd if=/dev/cpu/0/cpuid ibs=16 count=32 skip=134217728 2>/dev/null | tail -c 16 | od -An -t u4 -j 4 -N 4)
opts="-enable-kvm -cpu EPYC-v4 -machine q35 -smp 2,maxcpus=255 -m 256M,slots=5,maxmem=2304M -no-reboot -nodefaults -nographic"
opts="$opts -machine memory-encryption=sev0,vmport=off -object memory-backend-memfd,id=ram1,size=256M,share=true,prealloc=false -machine memory-backend=ram1"
opts="$opts -object sev-snp-guest,id=sev0,policy=0x30000,cbitpos=$((ebx & 63)),reduced-phys-bits=1,kernel-hashes=on"
opts="$opts -bios %s -kernel %s -append tag=amd -monitor none"
eval "%s $opts" 2>&1 | tee amdsev.log
`, at.firmware, at.kernel, parts(t).QEMU.Path))
	for _, c := range []struct {
		name string
		line string // for sh; $Q is the script, the folder is the current one
		tags []string
		root bool
	}{
		{"pipeline", `echo | TAG=one $Q 2>&1 | tee log | cat`, []string{"one"}, false},
		{"setsid and nohup", `TAG=one setsid -f nohup $Q </dev/null >log 2>&1`, []string{"one"}, false},
		{"daemonized", `TAG=one $Q -daemonize -pidfile pid`, []string{"one"}, false},
		{"sandboxed", `TAG=one $Q -sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny`, []string{"one"}, false},
		{"left by its parent", `(TAG=one $Q &); exit 0`, []string{"one"}, false},
		{"two at once", `TAG=one $Q & TAG=two $Q & wait`, []string{"one", "two"}, false},
		{"one after the other", `TAG=one $Q; TAG=two $Q`, []string{"one", "two"}, false},
		{"process and mount namespaces", `TAG=one unshare -mpf --mount-proc $Q`, []string{"one"}, true},
		{"user namespace", `TAG=one unshare -U $Q`, []string{"one"}, false},
		{"another user", `TAG=one $Q -run-with user=nobody`, []string{"one"}, true},
		{"AMD's way", amd, []string{"amd"}, false},
		{"virtme-ng's way", `: <>/dev/kvm; TAG=one $Q -name "vng" -machine accel=kvm:tcg -cpu host,topoext=on -cpu EPYC-v4 -no-user-config`, []string{"one"}, false},
	} {
		var want []string
		for _, tag := range c.tags {
			want = append(want, at.digest(t, tag, 2))
		}
		slices.Sort(want)
		for _, view := range simViews() {
			t.Run(c.name+"/"+view, func(t *testing.T) {
				if c.root && os.Geteuid() != 0 {
					t.Skip("takes root")
				}
				cmd, _ := simExecCommand(t, []string{"--view", view}, []string{"sh", "-c", c.line})
				cmd.Env = append(cmd.Env, "Q="+at.qemu)
				cmd.Dir = at.dir
				var stderr bytes.Buffer
				cmd.Stderr = &stderr
				if err := cmd.Run(); err != nil {
					t.Fatalf("%v\n%s", err, stderr.String())
				}
				if got := launched(stderr.String()); !slices.Equal(got, want) {
					t.Errorf("launched %q, measured %q\n%s", got, want, stderr.String())
				}
				if l := gone(t, t.Name()); l != nil {
					t.Errorf("processes are left: %q", l)
				}
			})
		}
	}
}

// An ordinary user needs nothing for it: no root, no group, no device.
func TestForeignLaunchByAnOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("all the other tests are this one") // they run as an ordinary user then
	}
	at := aPlace(t)
	want := []string{at.digest(t, "one", 2)}
	makeRoots(t)
	data := filepath.Join(at.dir, "data")
	asNobody := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobodyID, Gid: nobodyID}, Pdeathsig: syscall.SIGKILL}
	giveRoots(t, data)
	for _, view := range []string{"trapped", "private"} {
		t.Run(view, func(t *testing.T) {
			cmd, _ := simExecCommand(t, []string{"--view", view}, []string{"sh", "-c", `[ $(id -u) != 0 ] && test -c /dev/sev && TAG=one $Q`})
			cmd.Env = append(cmd.Env, "Q="+at.qemu, "XDG_DATA_HOME="+data, "TMPDIR="+at.dir)
			cmd.Dir, cmd.SysProcAttr = at.dir, asNobody
			out, err := cmd.CombinedOutput()
			if view == "private" && !userNamespaces() {
				t.Skip("this kernel gives ordinary users no namespaces, so there is no private view for them")
			}
			if got := launched(string(out)); err != nil || !slices.Equal(got, want) {
				t.Errorf("launched %q, measured %q: %v\n%s", got, want, err, out)
			}
		})
	}
}

const nobodyID = 65534

// userNamespaces says whether this kernel lets nobody mount in a namespace of
// their own, asking util-linux rather than the supervisor.
func userNamespaces() bool {
	cmd := exec.Command("unshare", "-Urm", "mount", "-t", "tmpfs", "none", "/tmp")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobodyID, Gid: nobodyID}}
	return cmd.Run() == nil
}

// makeRoots sees to the simulated roots of these tests.
func makeRoots(t testing.TB) {
	t.Helper()
	cmd, _ := simExecCommand(t, nil, []string{"true"})
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// giveRoots gives nobody a copy of the simulated roots, as making them takes seconds.
func giveRoots(t testing.TB, data string) {
	t.Helper()
	own := filepath.Join(data, "snplaunch")
	if err := os.MkdirAll(own, 0o755); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dataFolder, "*.pem"))
	if err != nil || len(files) == 0 {
		t.Fatalf("the simulated roots: %q, %v", files, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(own, filepath.Base(f))
		if err := os.WriteFile(to, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(to, nobodyID, nobodyID); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{data, own} {
		if err := os.Chown(d, nobodyID, nobodyID); err != nil {
			t.Fatal(err)
		}
	}
}

// Supervision holds few calls and takes little memory, however large the guest.
func TestWhatSupervisionHolds(t *testing.T) {
	qemu := func(vcpus, mib int) []string {
		m := strconv.Itoa(mib) + "M"
		return plainQEMU(t, parts(t).QEMU.Path, "EPYC-v4", "-smp", strconv.Itoa(vcpus), "-m", m,
			"-object", "memory-backend-memfd,id=ram2,share=true,size="+m, "-machine", "memory-backend=ram2")
	}
	count := regexp.MustCompile(`(?m)^\s*(\d+)\s+(\d+)\s.*\s(\S+)$`)
	memory := regexp.MustCompile(`memory at most ([0-9.]+) MiB`)
	for _, c := range []struct {
		vcpus, mib, most int
		view             string
	}{
		{8, 512, 675, "private"}, {1, 16 << 10, 290, "private"}, {8, 512, 785, "trapped"},
	} {
		if !slices.Contains(simViews(), c.view) {
			continue
		}
		t.Run(fmt.Sprintf("%d vCPUs, %d MiB, %s", c.vcpus, c.mib, c.view), func(t *testing.T) {
			stderr, err := simExec(t, []string{"--stats", "--view", c.view}, qemu(c.vcpus, c.mib))
			if err != nil {
				t.Fatalf("%v\n%s", err, stderr)
			}
			calls := map[string]int{}
			for _, m := range count.FindAllStringSubmatch(stderr, -1) {
				calls[m[3]], _ = strconv.Atoi(m[1])
			}
			// How often QEMU leaves KVM_RUN for a signal and comes back is the machine's affair.
			if n := calls["all"] - calls["KVM_RUN"]; n <= 0 || n > c.most {
				t.Errorf("%d calls were held beside KVM_RUN, want at most %d\n%s", n, c.most, stderr)
			}
			if n := calls["openat"]; c.view == "private" && n > 3 {
				t.Errorf("%d opens were held, want 3: KVM, SEV and SGX", n)
			}
			m := memory.FindStringSubmatch(stderr)
			if m == nil {
				t.Fatalf("memory is not told:\n%s", stderr)
			}
			if mib, err := strconv.ParseFloat(m[1], 64); err != nil || mib == 0 || mib > 40 {
				t.Errorf("%s MiB, want at most 40", m[1])
			}
		})
	}
}

// A QEMU that is not readable runs, but not on the software host, and that is told.
func TestUnreadableQEMU(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("takes a program of another user")
	}
	at := aPlace(t)
	makeRoots(t)
	data := filepath.Join(at.dir, "data")
	giveRoots(t, data)
	b, err := os.ReadFile(parts(t).QEMU.Path)
	if err != nil {
		t.Fatal(err)
	}
	qemu := filepath.Join(at.dir, "qemu-system-x86_64")
	if err := os.WriteFile(qemu, b, 0o711); err != nil {
		t.Fatal(err)
	}
	cmd, _ := simExecCommand(t, nil, plainQEMU(t, qemu, "EPYC-v4", "-bios", at.firmware))
	cmd.Env = append(cmd.Env, "XDG_DATA_HOME="+data, "TMPDIR="+at.dir)
	cmd.Dir = at.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobodyID, Gid: nobodyID}, Pdeathsig: syscall.SIGKILL}
	out, _ := cmd.CombinedOutput()
	if !regexp.MustCompile(`process \d+ \(qemu-system-x86\) cannot be read .* make the program readable \(chmod a\+r\)`).Match(out) {
		t.Errorf("it is not told:\n%s", out)
	}
	if len(launched(string(out))) != 0 {
		t.Errorf("it was launched all the same:\n%s", out)
	}
}

// cbitpos of other machines is put right, also by a program that is not the first thread.
func TestForeignCBitPos(t *testing.T) {
	foreign := 47
	if host.CBitPos() == 47 {
		foreign = 51
	}
	at := aPlace(t)
	want := at.digest(t, "", 2)
	for _, position := range []string{strconv.Itoa(foreign), fmt.Sprintf("%#x", foreign)} {
		script, err := os.ReadFile(at.qemu)
		if err != nil {
			t.Fatal(err)
		}
		other := at.script(t, "other.sh", strings.Replace(strings.TrimPrefix(string(script), "#!/bin/sh\n"), "cbitpos=51", "cbitpos="+position, 1))
		stderr, err := simExec(t, nil, []string{other})
		if err != nil || !slices.Equal(launched(stderr), []string{want}) || !strings.Contains(stderr, `cbitpos of "cbitpos=`+position+`" does not fit`) {
			t.Errorf("cbitpos=%s: %v, want %s\n%s", position, err, want, stderr)
		}
	}
}
