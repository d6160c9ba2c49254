package launcher

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/snplaunch/snplaunch/agent"
	"github.com/snplaunch/snplaunch/guest"
)

// modern makes a virtio device one that an SNP guest can use: it shares memory with
// its devices through bounce buffers, which only drivers use that were told of an IOMMU.
const modern = "disable-legacy=on,iommu_platform=on"

// deviceArguments are those of what is not measured.
//
// On the software host two QEMUs have the same devices, and only one of them runs the
// guest. The other is idle: it has each device with nothing behind it, so that no disk is
// opened twice and no port bound twice; it has neither vsock, GDB stub nor the
// description's further arguments, as nothing can stand for what they reach.
func deviceArguments(g *guest.Guest, p plumbing) []string {
	var args []string
	for i, d := range g.Disks {
		args = append(args, diskArguments(d, fmt.Sprintf("disk%d", i), g.Kernel == "", i, p.idle)...)
	}
	args = append(args, networkArguments(g.Network, p.idle)...)
	if g.FirmwareLog != "" {
		sink := "file,id=firmware-log,path=" + commas(g.FirmwareLog)
		if p.idle {
			sink = "null,id=firmware-log"
		}
		args = append(args, "-chardev", sink, "-device", "isa-debugcon,iobase=0x402,chardev=firmware-log")
	}
	if p.idle {
		return args
	}
	if g.VsockCID != 0 {
		device := fmt.Sprintf("vhost-vsock-pci,guest-cid=%d,%s", g.VsockCID, modern)
		if p.vsock > 0 {
			device += fmt.Sprintf(",vhostfd=%d", p.vsock)
		}
		args = append(args, "-device", device)
	}
	if port, ok := g.GDBPort(); ok {
		args = append(args, "-gdb", fmt.Sprintf("tcp:127.0.0.1:%d", port))
	} else if g.GDB != "" {
		args = append(args, "-gdb", "unix:"+commas(g.GDB)+",server=on,wait=off")
	}
	return append(args, g.QEMUArgs...)
}

// block is a node of QEMU's block layer (-blockdev).
type block struct {
	Driver   string `json:"driver"`
	NodeName string `json:"node-name,omitempty"`
	ReadOnly bool   `json:"read-only,omitempty"`
	File     *block `json:"file,omitempty"`
	Filename string `json:"filename,omitempty"`
	// For null-co.
	Size       int64 `json:"size,omitempty"`
	ReadZeroes bool  `json:"read-zeroes,omitempty"`
}

// idleDiskBytes is the size of the disks of a QEMU that runs nothing.
const idleDiskBytes = 1 << 20

func diskArguments(d guest.Disk, node string, boots bool, index int, idle bool) []string {
	format := d.Format
	if format == "" {
		format = guest.DiskRaw
	}
	b := block{Driver: string(format), NodeName: node, ReadOnly: d.ReadOnly, File: &block{Driver: "file", ReadOnly: d.ReadOnly, Filename: d.File}}
	if idle {
		b = block{Driver: "null-co", NodeName: node, ReadOnly: d.ReadOnly, Size: idleDiskBytes, ReadZeroes: true}
	}
	text, err := json.Marshal(b) // no path breaks it, while a comma ends one in QEMU's other form
	if err != nil {
		panic(err) // a struct of strings, numbers and booleans can be written
	}
	device := "virtio-blk-pci,drive=" + node + "," + modern
	if d.Serial != "" {
		device += ",serial=" + d.Serial
	}
	if boots {
		device += ",bootindex=" + strconv.Itoa(index)
	}
	return []string{"-blockdev", string(text), "-device", device}
}

// userAddress is the guest's in QEMU's user network: the one that forwards lead to.
var userAddress = netip.AddrFrom4([4]byte{10, 0, 2, 15})

func networkArguments(n guest.Network, idle bool) []string {
	if n.Mode != guest.NetworkUser {
		return nil
	}
	net := "user,id=net0"
	if n.Restrict {
		net += ",restrict=on"
	}
	for _, f := range n.Forwards {
		if idle {
			break
		}
		protocol := "tcp"
		if f.UDP {
			protocol = "udp"
		}
		net += fmt.Sprintf(",hostfwd=%s:%s:%d-:%d", protocol, f.HostAddr(), f.HostPort, f.GuestPort)
	}
	// Without its ROM: code from outside would run in the guest that nobody measured.
	return []string{"-netdev", net, "-device", fmt.Sprintf("virtio-net-pci,netdev=net0,mac=%s,romfile=,%s", agent.NetworkMAC(userAddress), modern)}
}

// memoryArguments say what the guest's memory is made of, and the property of the
// machine that goes with it.
func memoryArguments(g *guest.Guest) (args []string, machine string) {
	if g.MemoryBackend != guest.MemoryMemfd {
		return nil, ""
	}
	return []string{"-object", fmt.Sprintf("memory-backend-memfd,id=ram0,size=%dM,share=on", g.MemoryMiB)}, ",memory-backend=ram0"
}

// commas keeps commas in a value from ending it.
func commas(s string) string { return strings.ReplaceAll(s, ",", ",,") }
