package guestyaml

import (
	"fmt"
	"io/fs"
	"strconv"

	"go.yaml.in/yaml/v3"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/internal/strictyaml"
	"github.com/snplaunch/snplaunch/snp"
	"github.com/snplaunch/snplaunch/vmsa"
)

// fields lists the keys in the order in which Marshal writes them.
func fields(g *guest.Guest, dir string) []strictyaml.Field {
	b, n, t := &g.IDBlock, &g.Network, &g.Timeouts
	text := strictyaml.Text[string]
	path := func(k string, p *string) strictyaml.Field { return strictyaml.Path(k, p, dir) }
	return []strictyaml.Field{
		text("name", &g.Name).With(strictyaml.Schema{"pattern": `^([0-9A-Za-z_][-0-9A-Za-z._]{0,63})?$`}).
			Says("Name of the guest, for messages and file names."),

		strictyaml.Must(path("firmware", &g.Firmware)).Like("OVMF.amdsev.fd").
			Says("OVMF image of one piece. Without it and without a kernel `run` takes both from the cache that `snplaunch setup` fills. Measured."),
		path("kernel", &g.Kernel).Like("vmlinuz").
			Says("Kernel (a bzImage or a UKI) that QEMU hands to the firmware. Without one the firmware boots what it finds. Measured with `kernel_hashes`."),
		path("initrd", &g.Initrd).Like("initrd.img").
			Says("Initial RAM disk. Measured with `kernel_hashes`."),
		text("append", &g.Append).Like("console=ttyS0").
			Says("Kernel command line, taken to the byte. Measured with `kernel_hashes`."),
		strictyaml.SHA256("firmware_sha256", &g.FirmwareSHA256).
			Says("What the SHA-256 of `firmware` must be. `snplaunch lock` writes it."),
		strictyaml.SHA256("kernel_sha256", &g.KernelSHA256).
			Says("What the SHA-256 of `kernel` must be; in place of the file it suffices to measure, not to launch. `snplaunch lock` writes it."),
		strictyaml.SHA256("initrd_sha256", &g.InitrdSHA256).
			Says("The same for `initrd`."),
		strictyaml.SHA256("append_sha256", &g.AppendSHA256).
			Says("The same for `append` with its NUL byte."),

		strictyaml.Must(strictyaml.Decimal("vcpus", &g.VCPUs)).With(strictyaml.Schema{"minimum": 1, "maximum": 4096}).
			Says("Number of vCPUs. Measured."),
		strictyaml.Must(text("cpu", &g.CPU)).Like("EPYC-v4", "EPYC-Milan", "EPYC-Genoa", "host").
			Says("CPU model as QEMU's `-cpu` takes it, properties after commas; `host` means that of this machine. Its signature is measured."),
		signature("cpu_sig", &g.CPUSig).Like("0x800f12").
			Says("CPU signature (EAX of CPUID function 1) that is measured. Without `cpu` a model that has it is chosen."),
		strictyaml.Must(strictyaml.Decimal("memory_mib", &g.MemoryMiB)).With(strictyaml.Schema{"minimum": 16, "maximum": 1 << 24}).
			Says("Guest memory in MiB. Not measured."),
		strictyaml.Boolean("kernel_hashes", &g.KernelHashes).
			Says("Whether kernel, initrd and command line are measured. The AmdSev build of OVMF boots no kernel without it."),
		text("host_kernel", &g.HostKernel).Like("6.11+", "6.12", "amd-6.8").
			Says("Kernel of the host, which decides `guest_features` and the initial FPU state: a profile, a version, or what `uname -r` prints there."),
		features("guest_features", &g.GuestFeatures).Like("0x1", "SNPActive,DebugSwap").
			Says("SEV_FEATURES of every vCPU, as a number or by names. QEMU cannot choose them: the host's kernel does. Measured."),

		strictyaml.Must(strictyaml.Number("policy", &g.Policy, "0x%x", 64)).Like("0x30000").
			Says("Guest policy. Not in the digest, but in the report and in the ID block."),
		hostData("host_data", g).
			Says("32 bytes that the report repeats, in hexadecimal digits."),
		strictyaml.Mapping("id_block",
			strictyaml.Choice("mode", &b.Mode, guest.IDBlockSign, guest.IDBlockNone, guest.IDBlockFiles).
				Says("`sign`: made and signed for this launch; `none`: launched without one; `files`: made elsewhere."),
			path("id_key", &b.IDKey).
				Says("Key that signs the ID block, P-384 in PEM. Without it a key is made for one run and never stored."),
			path("author_key", &b.AuthorKey).
				Says("Key that signs the ID key. Without it there is no author key."),
			strictyaml.Fixed("family_id", b.FamilyID[:]).
				Says("16 bytes that the report repeats, in hexadecimal digits."),
			strictyaml.Fixed("image_id", b.ImageID[:]).
				Says("16 bytes that the report repeats, in hexadecimal digits."),
			strictyaml.Number("guest_svn", &b.GuestSVN, "%d", 32).
				Says("Security version of the guest, which the report repeats."),
			path("id_block_file", &b.IDBlockFile).
				Says("For mode `files`: the ID block, raw or base64."),
			path("id_auth_file", &b.IDAuthFile).
				Says("For mode `files`: its ID auth, raw or base64."),
		).Says("The ID block, by which the firmware refuses to start anything else."),
		strictyaml.Boolean("vcek_disabled", &g.VCEKDisabled).
			Says("Whether no report may be signed with the VCEK."),
		strictyaml.Bytes("guest_visible_workarounds", &g.GuestVisibleWorkarounds, 16).
			Says("GOSVW of SNP_LAUNCH_START: at most 16 bytes, in hexadecimal digits."),

		strictyaml.List("disks", &g.Disks, func(d *guest.Disk) []strictyaml.Field {
			return []strictyaml.Field{
				strictyaml.Must(path("file", &d.File)).Says("The disk's file."),
				strictyaml.Choice("format", &d.Format, guest.DiskRaw, guest.DiskQCOW2).
					Says("Format of the file; raw where it is not given. It is never guessed."),
				strictyaml.Boolean("read_only", &d.ReadOnly).
					Says("Whether the guest may only read it. Several guests can then have the same file."),
				text("serial", &d.Serial).With(strictyaml.Schema{"pattern": `^[-0-9A-Za-z._]{0,20}$`}).
					Says("Serial number, by which the guest finds the disk: `/sys/block/*/serial`."),
			}
		}).Says("Disks of the guest, by virtio-blk, in this order. Not measured."),
		strictyaml.Mapping("network",
			strictyaml.Choice("mode", &n.Mode, guest.NetworkUser, guest.NetworkNone).
				Says("`user`: QEMU's own network, which needs no privileges; the guest is 10.0.2.15, the host 10.0.2.2. `none`: no network. Where the key `network` is there, but not this one, it is `user`."),
			strictyaml.Parsed("forwards", &n.Forwards,
				strictyaml.Schema{"type": "string", "pattern": `^(tcp:|udp:)?([^ ]+:)?([1-9][0-9]{0,4}|auto):[1-9][0-9]{0,4}$`}, `["2222:22"]`,
				guest.ParseForward, guest.Forward.String).Like([]any{"2222:22", "auto:80", "udp:0.0.0.0:5353:53"}).
				Says("Ports of the host that lead to ports of the guest, `[tcp:|udp:][ADDR:]HOST:GUEST`. ADDR is 127.0.0.1 where it is not given; the host's port can be `auto`, a free one that `run` tells."),
			strictyaml.Boolean("restrict", &n.Restrict).
				Says("Whether the guest is kept from reaching the host and the world; forwards lead to it all the same."),
		).Says("The guest's network; none where the key is missing. Not measured."),
		vsock("vsock", &g.VsockCID).Like(42, "auto").
			Says("Context identifier of the guest's vsock, 3 to 4294967294, or `auto` for a free one that `run` tells. Needs /dev/vhost-vsock."),
		gdb("gdb", g, dir).Like(1234, "gdb.sock").
			Says("Where QEMU's GDB stub listens: a TCP port of 127.0.0.1, or the path of a Unix socket."),
		path("firmware_log", &g.FirmwareLog).Like("ovmf.log").
			Says("File that the firmware's debug console (port 0x402) is written to."),
		strictyaml.Choice("memory_backend", &g.MemoryBackend, guest.MemoryDefault, guest.MemoryMemfd).
			Says("`memfd`: memory that is shared, as devices outside of QEMU (vhost-user) want it. Otherwise QEMU's own."),
		strictyaml.Words("qemu_args", &g.QEMUArgs).Like([]any{"-device", "virtio-rng-pci,disable-legacy=on,iommu_platform=on"}).
			Says("More arguments for the QEMU that runs the guest, after all others. Those that change what is measured or contradict another key are refused."),

		strictyaml.Mapping("files",
			strictyaml.List("in", &g.Files.In, func(f *guest.FileIn) []strictyaml.Field {
				return []strictyaml.Field{
					strictyaml.Must(path("host", &f.Host)).Says("The file on the host."),
					strictyaml.Must(text("guest", &f.Guest)).With(strictyaml.Schema{"pattern": "^/."}).Says("Where it goes in the guest, with its whole path. Folders are made."),
					mode("mode", &f.Mode).Like("0755").Says("Its permission bits there, in octal; those that it has on the host where they are not given."),
				}
			}).Says("Files that are copied into the guest before its command is run."),
			strictyaml.List("out", &g.Files.Out, func(f *guest.FileOut) []strictyaml.Field {
				return []strictyaml.Field{
					strictyaml.Must(text("guest", &f.Guest)).With(strictyaml.Schema{"pattern": "^/."}).Says("The file in the guest, with its whole path."),
					strictyaml.Must(path("host", &f.Host)).Says("Where it goes on the host."),
				}
			}).Says("Files that are copied out of the guest when its command has ended, whatever its exit code."),
		).Says("Files that the agent copies. Not measured."),
		strictyaml.Words("command", &g.Command).Like([]any{"uname", "-a"}).
			Says("What is run in the guest, a word an item; without it the guest only attests. Not measured."),
		strictyaml.Pairs("env", &g.Env).
			Says("Environment of the command, beside what the agent has."),
		strictyaml.Duration("timeout", &g.Timeout).Like("90s").
			Says("How long the whole run may take; 0: three minutes."),
		strictyaml.Mapping("timeouts",
			strictyaml.Duration("launch", &t.Launch).Says("Until SNP_LAUNCH_FINISH has succeeded."),
			strictyaml.Duration("firmware", &t.Firmware).Says("From there until the kernel's first sign."),
			strictyaml.Duration("kernel", &t.Kernel).Says("From there until the agent says hello."),
			strictyaml.Duration("agent", &t.Agent).Says("From there until the guest has sent its report."),
			strictyaml.Duration("command", &t.Command).Says("From there until the command has ended."),
		).Says("How long each stage may take; 0: as long as the whole run."),
	}
}

// signature is a CPU signature, or none.
func signature(k string, p **uint32) strictyaml.Field {
	var v uint32
	f := strictyaml.Number(k, &v, "0x%x", 32)
	set := f.Set
	f.Set = func(n *yaml.Node) error {
		if err := set(n); err != nil {
			return err
		}
		*p = &v
		return nil
	}
	f.Get = func() *yaml.Node {
		if *p == nil {
			return strictyaml.Plain("null")
		}
		return strictyaml.Plain(fmt.Sprintf("0x%x", **p))
	}
	return f
}

// features is SEV_FEATURES, as a number or by names.
func features(k string, p *uint64) strictyaml.Field {
	f := strictyaml.Value(k, strictyaml.Schema{"type": []any{"integer", "string"}, "minimum": 0},
		func(s string) (err error) {
			*p, err = vmsa.ParseFeatures(s)
			return err
		}, nil)
	f.Get = func() *yaml.Node { return strictyaml.Plain(fmt.Sprintf("0x%x", *p)) }
	return f
}

func hostData(k string, g *guest.Guest) strictyaml.Field {
	f := strictyaml.Fixed(k, g.HostData[:])
	set := f.Set
	f.Set = func(n *yaml.Node) error {
		err := set(n)
		g.HostDataSet = err == nil
		return err
	}
	f.Get = func() *yaml.Node {
		if !g.HostDataSet && g.HostData == (snp.HostData{}) {
			return strictyaml.Plain("null")
		}
		return strictyaml.Str(g.HostData.String())
	}
	return f
}

// vsock is a context identifier or auto.
func vsock(k string, p *uint32) strictyaml.Field {
	f := strictyaml.Value(k, strictyaml.Schema{"type": []any{"integer", "string"}, "minimum": 3, "maximum": uint32(guest.VsockAuto - 1), "pattern": "^(auto|[1-9][0-9]*)$"},
		func(s string) (err error) {
			*p, err = guest.ParseVsockCID(s)
			return err
		}, nil)
	f.Get = func() *yaml.Node {
		switch *p {
		case 0:
			return strictyaml.Plain("null")
		case guest.VsockAuto:
			return strictyaml.Plain("auto")
		}
		return strictyaml.Plain(strconv.FormatUint(uint64(*p), 10))
	}
	return f
}

// gdb is a port or the path of a socket.
func gdb(k string, g *guest.Guest, dir string) strictyaml.Field {
	f := strictyaml.Path(k, &g.GDB, dir)
	asPath := f.Set
	f.Set = func(n *yaml.Node) error {
		s, err := strictyaml.Scalar(n)
		if err != nil {
			return err
		}
		other := guest.Guest{GDB: s}
		if _, ok := other.GDBPort(); ok {
			g.GDB = s
			return nil
		}
		return asPath(n)
	}
	get := f.Get
	f.Get = func() *yaml.Node {
		if _, ok := g.GDBPort(); ok {
			return strictyaml.Plain(g.GDB)
		}
		return get()
	}
	return f.With(strictyaml.Schema{"type": []any{"integer", "string"}, "minimum": 1, "maximum": 65535})
}

// mode is permission bits in octal.
func mode(k string, p *fs.FileMode) strictyaml.Field {
	f := strictyaml.Value(k, strictyaml.Schema{"type": []any{"integer", "string"}, "minimum": 0, "maximum": 777, "pattern": "^(0o)?[0-7]{1,4}$"},
		func(s string) (err error) {
			*p, err = guest.ParseMode(s)
			return err
		}, nil)
	f.Get = func() *yaml.Node {
		if *p == 0 {
			return strictyaml.Plain("null")
		}
		return strictyaml.Str(fmt.Sprintf("%04o", uint32(*p)))
	}
	return f
}
