package launcher

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/snplaunch/snplaunch/agent"
	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/sim/guestdev"
	"github.com/snplaunch/snplaunch/snp"
)

// signedBlock is the ID block and its authentication, as QEMU is given them.
type signedBlock struct {
	block, auth      []byte
	authorKeyEnabled bool
	idKey, authorKey snp.KeyDigest
}

// plumbing says what QEMU's ports are connected to: the number of an
// inherited socket, or 0 for nothing.
type plumbing struct {
	qmp, console, agent, sevGuest int
	// simPort adds the port of the simulated device. A guest with a real
	// Secure Processor has none.
	simPort bool
	// vsock is an open /dev/vhost-vsock that has the guest's context identifier; 0: QEMU
	// opens one.
	vsock int
	// idle is for a QEMU in which nothing will run: its devices have nothing behind them.
	idle bool
	// interactive is for a person who pastes the command: the guest starts at once and
	// has its console on the terminal.
	interactive bool
}

// reducedPhysBits is what SNP takes from the guest's physical address width.
// QEMU asks for 1 to 63; it is not measured.
const reducedPhysBits = 1

// snpArguments is the command line, without the program, that launches the
// guest with SNP.
func snpArguments(g *guest.Guest, id *signedBlock, cbitpos int, p plumbing) []string {
	object := []string{"sev-snp-guest", "id=sev0", "cbitpos=" + strconv.Itoa(cbitpos), "reduced-phys-bits=" + strconv.Itoa(reducedPhysBits),
		"policy=" + g.Policy.String()}
	if g.UsesKernelHashes() {
		object = append(object, "kernel-hashes=on")
	}
	if len(g.GuestVisibleWorkarounds) > 0 {
		var gosvw [16]byte // QEMU takes no fewer, whatever its message says
		copy(gosvw[:], g.GuestVisibleWorkarounds)
		object = append(object, "guest-visible-workarounds="+base64.StdEncoding.EncodeToString(gosvw[:]))
	}
	if g.HostDataSet {
		object = append(object, "host-data="+base64.StdEncoding.EncodeToString(g.HostData[:]))
	}
	if g.VCEKDisabled {
		object = append(object, "vcek-disabled=on")
	}
	if id != nil {
		object = append(object, "id-block="+base64.StdEncoding.EncodeToString(id.block), "id-auth="+base64.StdEncoding.EncodeToString(id.auth))
		if id.authorKeyEnabled {
			object = append(object, "author-key-enabled=on")
		}
	}
	_, memory := memoryArguments(g)
	args := []string{
		"-machine", "q35,smm=off,confidential-guest-support=sev0" + memory,
		"-accel", "kvm",
		"-object", strings.Join(object, ","),
	}
	return append(args, commonArguments(g, p)...)
}

// tcgArguments is the command line that runs the same guest without SNP, with
// the hashes page put where SNP_LAUNCH_UPDATE would have put it.
func tcgArguments(g *guest.Guest, hashesFD int, hashesGPA uint64, p plumbing) []string {
	_, memory := memoryArguments(g)
	args := []string{
		"-machine", "q35,smm=off" + memory,
		"-accel", "tcg",
	}
	if hashesFD > 0 {
		args = append(args, "-device", fmt.Sprintf("loader,file=%s,addr=0x%x,force-raw=on", inherited(hashesFD), hashesGPA))
	}
	return append(args, commonArguments(g, p)...)
}

// commonArguments is what both have: the guest itself.
func commonArguments(g *guest.Guest, p plumbing) []string {
	args := []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-cpu", g.CPU,
		"-smp", strconv.Itoa(g.VCPUs),
		"-m", strconv.Itoa(g.MemoryMiB) + "M",
		"-bios", g.Firmware,
	}
	memory, _ := memoryArguments(g)
	args = append(args, memory...)
	if g.Kernel != "" {
		args = append(args, "-kernel", g.Kernel)
		if g.Initrd != "" {
			args = append(args, "-initrd", g.Initrd)
		}
		if g.Append != "" {
			args = append(args, "-append", g.Append)
		}
	}
	args = append(args, "-device", "virtio-serial-pci,"+modern)
	port := func(id string, fd int, name string) {
		if fd > 0 {
			args = append(args, "-chardev", fmt.Sprintf("socket,id=%s,fd=%d", id, fd))
		} else {
			args = append(args, "-chardev", "null,id="+id)
		}
		if name != "" {
			args = append(args, "-device", fmt.Sprintf("virtserialport,chardev=%s,name=%s", id, name))
		}
	}
	port("agent", p.agent, agent.PortName)
	if p.simPort {
		port("sevguest", p.sevGuest, guestdev.PortName)
	}
	if p.interactive {
		args = append(args, "-serial", "mon:stdio")
	} else {
		port("console", p.console, "")
		port("qmp", p.qmp, "")
		args = append(args, "-serial", "chardev:console", "-mon", "chardev=qmp,mode=control", "-S")
	}
	return append(args, deviceArguments(g, p)...)
}
