package guestyaml_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/guest/guestyaml"
	"github.com/snplaunch/snplaunch/snp"
)

const full = `# every key
name: demo
firmware: fw/OVMF.amdsev.fd
kernel: /boot/vmlinuz
initrd: ../initrd.img
append: " console=ttyS0 quiet "
vcpus: 4
cpu: EPYC-Milan-v2
cpu_sig: 0xa00f11
firmware_sha256: 6923f4f8c1a9e2dd2fa23d0a1c9d5b1c7e2f3a4b5c6d7e8f9a0b1c2d3e4f5a6b
kernel_sha256: 6923f4f8c1a9e2dd2fa23d0a1c9d5b1c7e2f3a4b5c6d7e8f9a0b1c2d3e4f5a6b
initrd_sha256: aSP0+MGp4t0voj0KHJ1bHH4vOktcbX6PmgscLT5PWms=
append_sha256: "0000000000000000000000000000000000000000000000000000000000000001"
host_kernel: amd-6.6
memory_mib: 2048
kernel_hashes: false
guest_features: 0x21
policy: 0xb0000
host_data: "0000000000000000000000000000000000000000000000000000000000000001"
id_block:
  mode: sign
  id_key: id.pem
  author_key: author.pem
  family_id: "01000000000000000000000000000000"
  image_id: "02000000000000000000000000000000"
  guest_svn: 7
vcek_disabled: true
guest_visible_workarounds: "0102"
disks:
  - file: root.qcow2
    format: qcow2
    serial: root
  - file: /srv/data.img
    read_only: true
network:
  mode: user
  forwards: ["2222:22", "udp:0.0.0.0:auto:53"]
  restrict: true
vsock: 42
gdb: gdb.sock
firmware_log: ovmf.log
memory_backend: memfd
qemu_args: [-device, virtio-rng-pci]
files:
  in:
    - host: tool
      guest: /bin/tool
      mode: 0755
  out:
    - guest: /tmp/result
      host: out/result
command: [sh, -c, "echo hi"]
env:
  LANG: C
  DEBUG: 1
timeout: 90s
timeouts:
  launch: 10s
  firmware: 20s
  kernel: 30s
  agent: 40s
  command: 1m
`

func fullGuest(dir string) guest.Guest {
	sig := uint32(0xA00F11)
	sum := [32]byte{0x69, 0x23, 0xf4, 0xf8, 0xc1, 0xa9, 0xe2, 0xdd, 0x2f, 0xa2, 0x3d, 0x0a, 0x1c, 0x9d, 0x5b, 0x1c,
		0x7e, 0x2f, 0x3a, 0x4b, 0x5c, 0x6d, 0x7e, 0x8f, 0x9a, 0x0b, 0x1c, 0x2d, 0x3e, 0x4f, 0x5a, 0x6b}
	one := [32]byte{31: 1}
	g := guest.Guest{
		Name: "demo", Firmware: filepath.Join(dir, "fw/OVMF.amdsev.fd"), Kernel: "/boot/vmlinuz", Initrd: filepath.Join(dir, "../initrd.img"),
		Append: " console=ttyS0 quiet ", VCPUs: 4, CPU: "EPYC-Milan-v2", CPUSig: &sig, MemoryMiB: 2048,
		FirmwareSHA256: &sum, KernelSHA256: &sum, InitrdSHA256: &sum, AppendSHA256: &one,
		HostKernel: "amd-6.6", GuestFeatures: 0x21, Policy: snp.PolicyDefault | snp.PolicyDebug, HostDataSet: true,
		IDBlock: guest.IDBlock{Mode: guest.IDBlockSign, IDKey: filepath.Join(dir, "id.pem"), AuthorKey: filepath.Join(dir, "author.pem"),
			FamilyID: snp.FamilyID{1}, ImageID: snp.ImageID{2}, GuestSVN: 7},
		VCEKDisabled: true, GuestVisibleWorkarounds: []byte{1, 2},
		Disks: []guest.Disk{
			{File: filepath.Join(dir, "root.qcow2"), Format: guest.DiskQCOW2, Serial: "root"},
			{File: "/srv/data.img", ReadOnly: true},
		},
		Network: guest.Network{Mode: guest.NetworkUser, Restrict: true, Forwards: []guest.Forward{
			{HostPort: 2222, GuestPort: 22}, {UDP: true, Addr: netip.IPv4Unspecified(), GuestPort: 53},
		}},
		VsockCID: 42, GDB: filepath.Join(dir, "gdb.sock"), FirmwareLog: filepath.Join(dir, "ovmf.log"),
		MemoryBackend: guest.MemoryMemfd, QEMUArgs: []string{"-device", "virtio-rng-pci"},
		Files: guest.Files{
			In:  []guest.FileIn{{Host: filepath.Join(dir, "tool"), Guest: "/bin/tool", Mode: 0o755}},
			Out: []guest.FileOut{{Guest: "/tmp/result", Host: filepath.Join(dir, "out/result")}},
		},
		Command: []string{"sh", "-c", "echo hi"}, Env: []string{"LANG=C", "DEBUG=1"}, Timeout: 90 * time.Second,
		Timeouts: guest.Timeouts{Launch: 10 * time.Second, Firmware: 20 * time.Second, Kernel: 30 * time.Second, Agent: 40 * time.Second, Command: time.Minute},
	}
	g.HostData[31] = 1
	return g
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "guest.yaml")
	if err := os.WriteFile(path, []byte(full), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := guestyaml.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := fullGuest(dir); !reflect.DeepEqual(got, want) {
		t.Errorf("\n got %+v\nwant %+v", got, want)
	}
	// append_sha256 is not that of append.
	if err := got.Validate(); err == nil || !strings.Contains(err.Error(), "append_sha256: 0000") {
		t.Error(err)
	}
	if _, err := guestyaml.Load(filepath.Join(dir, "none.yaml")); err == nil || !strings.Contains(err.Error(), "none.yaml") {
		t.Errorf("missing file: %v", err)
	}
	if err := os.WriteFile(path, []byte(strings.Repeat("#", 1<<20+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := guestyaml.Load(path); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("a large file: %v", err)
	}
}

// TestEveryField wants each field of a Guest to be set by the full document,
// so that a field without a key is noticed.
func TestEveryField(t *testing.T) {
	g, err := guestyaml.Parse([]byte(full), "guest.yaml")
	if err != nil {
		t.Fatal(err)
	}
	// These are not in the full document, because they exclude others in it.
	skip := map[string]bool{"KernelHashes": true, "IDBlock.IDBlockFile": true, "IDBlock.IDAuthFile": true}
	var walk func(reflect.Value, string)
	walk = func(v reflect.Value, prefix string) {
		for i := range v.NumField() {
			name := prefix + v.Type().Field(i).Name
			switch {
			case v.Field(i).Kind() == reflect.Struct && strings.HasPrefix(v.Field(i).Type().PkgPath(), "github.com/snplaunch/"):
				walk(v.Field(i), name+".")
			case v.Field(i).Kind() == reflect.Slice && v.Field(i).Type().Elem().Kind() == reflect.Struct:
				union := reflect.New(v.Field(i).Type().Elem()).Elem()
				for item := range v.Field(i).Len() {
					for field := range union.NumField() {
						if from := v.Field(i).Index(item).Field(field); !from.IsZero() {
							union.Field(field).Set(from)
						}
					}
				}
				walk(union, name+"[].")
			case v.Field(i).IsZero() && !skip[name]:
				t.Errorf("%s is not set", name)
			}
		}
	}
	walk(reflect.ValueOf(g), "")
	files, err := guestyaml.Parse([]byte("id_block: {mode: files, id_block_file: b, id_auth_file: a}"), "/d/guest.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if files.IDBlock != (guest.IDBlock{Mode: guest.IDBlockFiles, IDBlockFile: "/d/b", IDAuthFile: "/d/a"}) {
		t.Errorf("got %+v", files.IDBlock)
	}
}

func TestDefaults(t *testing.T) {
	got, err := guestyaml.Parse([]byte("firmware: f\nid_block: {}\n"), "guest.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := guest.Default()
	want.Firmware = "f"
	if !reflect.DeepEqual(got, want) {
		t.Errorf("\n got %+v\nwant %+v", got, want)
	}
}

// TestTogether: keys that say something about another one.
func TestTogether(t *testing.T) {
	for _, c := range []struct {
		text     string
		features uint64
		cpu      string
	}{
		{"host_kernel: amd-6.7", 0x21, "EPYC-v4"},
		{"host_kernel: 7.2", 1, "EPYC-v4"},
		{"host_kernel: amd-6.7\nguest_features: debugswap", 0x21, "EPYC-v4"},
		{"guest_features: 0x3", 3, "EPYC-v4"},
		{"cpu_sig: 0xa10f10", 1, "EPYC-Genoa"},
		{"cpu_sig: 0xa10f10\ncpu: EPYC-Genoa-v2", 1, "EPYC-Genoa-v2"},
		{"cpu_sig: 1", 1, "EPYC-v4,family=0,model=0,stepping=1"},
		{"cpu_sig: 0x80000000", 1, ""},
	} {
		g, err := guestyaml.Parse([]byte(c.text+"\n"), "g.yaml")
		if err != nil || g.GuestFeatures != c.features || g.CPU != c.cpu {
			t.Errorf("%q: features 0x%x, cpu %q, %v", c.text, g.GuestFeatures, g.CPU, err)
		}
	}
}

// TestHostDataGiven: zero host data that is given differs from none.
func TestHostDataGiven(t *testing.T) {
	zero := "host_data: \"" + strings.Repeat("0", 64) + "\"\n"
	got, err := guestyaml.Parse([]byte(zero), "g")
	if err != nil || !got.HostDataSet {
		t.Errorf("%v, %v", got.HostDataSet, err)
	}
	text, err := guestyaml.Marshal(&got)
	if err != nil || !strings.Contains(string(text), "host_data: ") {
		t.Errorf("%v\n%s", err, text)
	}
}

func TestMarshal(t *testing.T) {
	want := fullGuest("/srv")
	text, err := guestyaml.Marshal(&want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := guestyaml.Parse(text, "/elsewhere/guest.yaml")
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("\n got %+v\nwant %+v\n%s", got, want, text)
	}
	small := guest.Default()
	small.Firmware = "/f"
	text, err = guestyaml.Marshal(&small)
	if err != nil {
		t.Fatal(err)
	}
	if want := "firmware: /f\nvcpus: 1\ncpu: EPYC-v4\nmemory_mib: 512\npolicy: 0x30000\n"; string(text) != want {
		t.Errorf("\n got %s\nwant %s", text, want)
	}
}

// mistakes are descriptions that are refused, with what is said of them.
var mistakes = map[string]string{
	"":                                       "the file is empty",
	"# nothing\n":                            "the file is empty",
	"- a\n":                                  "g.yaml:1: the description is not a mapping",
	"word\n":                                 "g.yaml:1: the description is not a mapping",
	"firmware: f\nkernal: k\n":               "g.yaml:2: unknown key kernal (did you mean kernel?)",
	"firmware: f\nid_block:\n  mod: x\n":     "g.yaml:3: unknown key id_block.mod (did you mean mode?)",
	"firmware: f\nfirmware: g\n":             "g.yaml:2: key firmware is given twice (first in line 1)",
	"firmware: f\n---\nfirmware: g\n":        "a second document begins",
	"firmware: [f]\n":                        "g.yaml:1: firmware: a single value is wanted",
	"firmware:\n":                            "g.yaml:1: firmware: the value is missing",
	"vcpus: two\n":                           `g.yaml:1: vcpus: "two" is not a decimal number`,
	"vcpus: 0x2\n":                           `"0x2" is not a decimal number`,
	"vcpus: 4294967296\n":                    "not a decimal number of 32 bits",
	"policy: -1\n":                           `"-1" is not a number of 64 bits`,
	"cpu_sig: 0x100000000\n":                 "is not a number of 32 bits",
	"cpu_sig: 1\ncpu: EPYC\n":                "g.yaml:1: cpu_sig is 0x1, but cpu EPYC has the signature 0x800f12",
	"host_kernel: 5.4\n":                     "older than any",
	"host_kernel: linux\n":                   "host kernel \"linux\" is unknown",
	"guest_features: 21\n":                   "write 0x21",
	"guest_features: debugswop\n":            "did you mean DebugSwap?",
	"kernel_sha256: 00\n":                    "want 64 hexadecimal digits or 44 characters of base64",
	"colour: red\n":                          "use one of name, firmware, kernel,",
	"kernel_hashes: yes\n":                   `"yes" is neither true nor false`,
	"host_data: 00\n":                        "host_data: got 1 bytes, want 32 (64 hexadecimal digits)",
	"host_data: zz\n":                        "not made of pairs of hexadecimal digits",
	"id_block: {family_id: 0}\n":             "id_block.family_id: the value is not made of pairs",
	"id_block: none\n":                       "g.yaml:1: id_block is not a mapping",
	"command: ls\n":                          "a list is wanted",
	"command: [[ls]]\n":                      "a single value is wanted",
	"timeout: 90\n":                          `"90" is not a duration`,
	"? [a]\n: b\n":                           "a key is not a word",
	"name: &a x\nappend: *a\n":               "g.yaml:2: append is an alias",
	"name: \"a\n":                            "g.yaml: yaml: ",
	"append: !!binary \"?\"\n":               "not base64",
	"firmware: f\nvcpus: x\npolicy: y\n":     "g.yaml:3: policy: ",
	"vcpus: x\nfirmware: f\nunknown: 1\n":    "g.yaml:3: unknown key unknown",
	"guest_visible_workarounds: \"012\"\n":   "not made of pairs",
	"disks: a.img\n":                         "g.yaml:1: disks is not a list",
	"disks:\n  - a.img\n":                    "g.yaml:2: disks[0] is not a mapping",
	"disks:\n  - file: a\n    fromat: raw\n": "g.yaml:3: unknown key disks[0].fromat (did you mean format?)",
	"disks: [&a {file: x}, *a]\n":            "disks[1] is not a mapping",
	"network: user\n":                        "network is not a mapping",
	"network: {forwards: [22]}\n":            `network.forwards: "22" is no port forward: there is one port`,
	"network: {forwards: [\"0:22\"]}\n":      `"0" is neither a port nor auto`,
	"network: {forwards: [\"x:1:22\"]}\n":    `"x" is not an IPv4 address`,
	"network: {forwards: [\"1:70000\"]}\n":   `"70000" is not a port`,
	"vsock: 2\n":                             `vsock: "2" is no context identifier of a guest`,
	"files: {in: [{mode: 999}]}\n":           `files.in[0].mode: "999" is not a mode`,
	"env: [A=b]\n":                           "env: a mapping is wanted",
	"env: {A: [b]}\n":                        "env: A: a single value is wanted",
	"env: {A: b, A: c}\n":                    "env: A is given twice",
	"env: {A=B: c}\n":                        `env: "A=B" cannot be a name`,
	"timeouts: {boot: 1s}\n":                 "unknown key timeouts.boot",
}

func TestErrors(t *testing.T) {
	for text, want := range mistakes {
		_, err := guestyaml.Parse([]byte(text), "g.yaml")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q\n got %v\nwant %s", text, err, want)
		}
	}
	_, err := guestyaml.Parse([]byte("vcpus: x\npolicy: y\n"), "g.yaml")
	if err == nil || strings.Count(err.Error(), "g.yaml:") != 2 {
		t.Errorf("want both findings, got %v", err)
	}
}

// FuzzParse: what is read can be written and read again, unchanged.
func FuzzParse(f *testing.F) {
	f.Add([]byte(full))
	f.Add([]byte("firmware: f\n"))
	f.Add([]byte("append: !!binary gIE=\ncommand: ['', ~, \"\\0\"]\n"))
	f.Add([]byte("disks: [{}]\nnetwork: {mode: ''}\ngdb: 1234\nvsock: auto\nenv: {'': a}\n"))
	f.Add([]byte("id_block: {mode: files, id_block_file: b, id_auth_file: a}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		g, err := guestyaml.Parse(data, "/d/guest.yaml")
		if err != nil {
			return
		}
		text, err := guestyaml.Marshal(&g)
		if err != nil {
			t.Fatalf("%+v: %v", g, err)
		}
		again, err := guestyaml.Parse(text, "/d/guest.yaml")
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if !reflect.DeepEqual(again, g) {
			t.Fatalf("%s\nfirst  %+v\nsecond %+v", text, g, again)
		}
	})
}
