package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// libvirtDomain is what a user of libvirt writes; cbitpos and reducedPhysBits
// are libvirt's to find out.
const libvirtDomain = `<domain type='kvm'>
  <name>snp</name>
  <memory unit='MiB'>512</memory>
  <vcpu>2</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <loader type='rom' stateless='yes'>%s</loader>
    <kernel>%s</kernel>
    <cmdline>tag=libvirt</cmdline>
  </os>
  <features><acpi/><apic/></features>
  <cpu mode='custom' match='exact' check='none'><model fallback='forbid'>EPYC-v4</model></cpu>
  <on_reboot>destroy</on_reboot>
  <memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>
  <devices><emulator>%s</emulator></devices>
  <launchSecurity type='sev-snp' kernelHashes='yes'><policy>0x00030000</policy></launchSecurity>
</domain>
`

// libvirt defines, starts, asks and destroys an SNP domain in a session
// without privileges, and starts it as measure says.
func TestLibvirt(t *testing.T) {
	at := aPlace(t)
	libvirtSession(t, at, fmt.Appendf(nil, libvirtDomain, at.firmware, at.kernel, parts(t).QEMU.Path), at.digest(t, "libvirt", 2))
}

// What run --print libvirt prints, libvirt takes, and launches as measured: with the ID
// block that was signed, which the firmware checks, and devices that it has elements
// for and others.
func TestPrintLibvirt(t *testing.T) {
	at := aPlace(t)
	disk := filepath.Join(at.dir, "disk.img")
	if err := os.WriteFile(disk, make([]byte, 1<<20), 0o666); err != nil {
		t.Fatal(err)
	}
	cmd, _ := command(t, "print", "run", "--backend", "sim", "--print", "libvirt", "--ovmf", at.firmware, "--kernel", at.kernel, "--append", "tag=printed",
		"--vcpus", "2", "--qemu", parts(t).QEMU.Path, "--disk", disk+",read-only,serial=one", "--forward", "auto:22", "--memory-backend", "memfd",
		"--host-data", strings.Repeat("5a", 32))
	domain, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"<idBlock>", "<idAuth>", "<hostData>WlpaWlpa", `kernelHashes="yes"`, "<serial>one</serial>", "hostfwd=tcp:127.0.0.1:0-:22"} {
		if !strings.Contains(string(domain), want) {
			t.Errorf("the domain has no %s:\n%s", want, domain)
		}
	}
	libvirtSession(t, at, domain, at.digest(t, "printed", 2))
}

// libvirtSession takes a domain named snp, of policy 0x30000, through a session.
func libvirtSession(t *testing.T, at place, domain []byte, want string) {
	t.Helper()
	usr := libvirtUsr(t)
	makeRoots(t)
	data := filepath.Join(at.dir, "data")
	script, err := os.ReadFile("testdata/libvirt.sh")
	if err != nil {
		t.Fatal(err)
	}
	at.script(t, "session.sh", string(script))
	if err := os.WriteFile(filepath.Join(at.dir, "snp.xml"), domain, 0o644); err != nil {
		t.Fatal(err)
	}
	// The unpacked files are laid over the machine's for this session alone.
	// Root then becomes nobody; others need a user namespace to mount, and one
	// more not to be its root, for whom libvirt would be a system's.
	unshare, become := []string{"-m"}, fmt.Sprintf("setpriv --reuid %d --regid %[1]d --clear-groups --inh-caps=-all", nobodyID)
	if os.Geteuid() == 0 {
		giveRoots(t, data)
	} else {
		unshare, become, data = []string{"-Urm"}, fmt.Sprintf("unshare -U --map-user=%d --map-group=%[1]d", nobodyID), filepath.Dir(dataFolder)
	}
	for _, dir := range []string{"run", "home"} {
		if err := os.Mkdir(filepath.Join(at.dir, dir), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(at.dir, dir), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	cmd, _ := command(t, t.Name())
	cmd.Path, cmd.Args = "/usr/bin/unshare", append(append([]string{"unshare"}, unshare...), "sh", "-c",
		`mount -t overlay overlay -o lowerdir="$1":/usr /usr && exec `+become+` "$0" sim exec --hold -- ./session.sh`, snplaunch(t), usr)
	home := filepath.Join(at.dir, "home") // a libvirt of another user keeps nothing in the folders of this one
	cmd.Env = append(cmd.Env, "HOME="+home, "XDG_CACHE_HOME="+filepath.Join(home, "cache"), "XDG_CONFIG_HOME="+filepath.Join(home, "config"),
		"XDG_RUNTIME_DIR="+filepath.Join(at.dir, "run"), "XDG_DATA_HOME="+data, "TMPDIR="+at.dir)
	cmd.Dir = at.dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	// sim exec waits for daemons that a broken session leaves behind.
	stop := time.AfterFunc(3*time.Minute, func() { _ = cmd.Process.Kill() })
	defer stop.Stop()
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s%s", err, stdout.String(), stderr.String())
	}
	if got := launched(stderr.String()); !slices.Equal(got, []string{want}) {
		t.Errorf("launched %q, measured %s\n%s", got, want, stderr.String())
	}
	var said []string
	for line := range strings.Lines(stdout.String()) {
		if line = strings.TrimSpace(line); line != "" {
			said = append(said, line)
		}
	}
	if len(said) != 5 {
		t.Fatalf("the session said\n%s%s", stdout.String(), stderr.String())
	}
	var sev struct {
		Return struct {
			State     string `json:"state"`
			Type      string `json:"sev-type"`
			SNPPolicy uint64 `json:"snp-policy"`
		} `json:"return"`
	}
	if err := json.Unmarshal([]byte(said[2]), &sev); err != nil || sev.Return.State != "running" || sev.Return.Type != "sev-snp" || sev.Return.SNPPolicy != 0x30000 {
		t.Errorf("query-sev: %s, %v", said[2], err)
	}
	// The measurement of an SNP guest is not the host's to read, says QEMU.
	if got := []string{said[0], said[1], said[3], said[4]}; !slices.Equal(got, []string{"1", "running", "no launch security info", "shut off"}) {
		t.Errorf("the session said %q", got)
	}
	if !strings.Contains(stderr.String(), "SEV launch measurement is not available") {
		t.Errorf("domlaunchsecinfo failed for another reason:\n%s", stderr.String())
	}
	if l := gone(t, t.Name()); l != nil {
		t.Errorf("processes are left: %q", l)
	}
}
