package host

import (
	"fmt"
	"math"
	"strconv"

	"github.com/snplaunch/snplaunch/guest"
)

// GuestOf gives what of a QEMU command line without its program is measured before any
// vCPU: the files, whether their hashes are, and the memory they must fit into. The rest is
// guest.Default's.
func GuestOf(args []string) *guest.Guest {
	l := readArguments(args)
	g := guest.Default()
	g.Firmware, g.Kernel, g.Initrd = l.bios, l.kernel, l.initrd
	g.KernelHashes = l.values["kernel-hashes"] == "on" || l.values["kernel-hashes"] == "true"
	if l.memoryMiB > 0 {
		g.MemoryMiB = l.memoryMiB
	}
	return &g
}

// checkCBitPos holds cbitpos against what QEMU reads from CPUID. Both properties of
// the object's base are asked for by KVM's part of it, target/i386/sev.c.
func (c Conditions) checkCBitPos(l *arguments) Check {
	k := Check{ID: "launch-cbitpos", Name: "C-bit position", Reason: "there is no object to have one"}
	if len(l.objects) == 0 {
		return k
	}
	remedy := "give the object the host's, as `snplaunch doctor --verbose` shows it"
	if c.CBitPosKnown {
		remedy = fmt.Sprintf("say cbitpos=%d", c.CBitPos)
	}
	text, given := l.common["cbitpos"]
	got, err := strconv.ParseUint(text, 0, 32)
	k.Reason = fmt.Sprint(got)
	switch {
	case given && err != nil:
		k.Verdict, k.Reason, k.Remedy = Obstacle, fmt.Sprintf("%q is no number", text), remedy
	case l.common["reduced-phys-bits"] == "":
		k.Verdict, k.Reason, k.Remedy = Obstacle, "QEMU wants reduced-phys-bits beside it, and there is none", "add reduced-phys-bits=1"
	case !c.CBitPosKnown || got == uint64(c.CBitPos) && (given || got == 0):
	default:
		if !given {
			k.Reason = "none, which is 0"
		}
		k.Verdict, k.Reason, k.Remedy = Obstacle, fmt.Sprintf("%s, and QEMU demands this machine's, which is %d", k.Reason, c.CBitPos), remedy
		if c.CBitPosFitted && given {
			k.Verdict, k.Remedy = Warning, remedy+"; `snplaunch sim exec` puts it right by itself"
		}
	}
	return k
}

// vcpusOf reads -smp: how many vCPUs there are and for how many there is room, as
// hw/core/machine-smp.c fills in what is left out; 0 where that is no number.
func vcpusOf(first string, options map[string]string) (cpus, most int) {
	if first == "" {
		first = options["cpus"]
	}
	number := func(s string) int {
		if s == "" {
			return 0
		}
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return -1
		}
		return n
	}
	product := 1
	for _, k := range []string{"drawers", "books", "sockets", "dies", "clusters", "modules", "cores", "threads"} {
		switch n := number(options[k]); {
		case n < 0 || n > math.MaxInt32/product:
			return 0, 0
		case n > 0:
			product *= n
		}
	}
	cpus, most = number(first), number(options["maxcpus"])
	if cpus < 0 || most < 0 {
		return 0, 0
	}
	if cpus == 0 && most == 0 {
		return product, product
	}
	if cpus == 0 {
		cpus = most
	}
	return cpus, max(cpus, most)
}

// checkVCPUs looks for vCPUs that could only come later: only those that are there at
// SNP_LAUNCH_FINISH have a measured save area.
func (l *arguments) checkVCPUs() Check {
	c := Check{ID: "launch-vcpus", Name: "vCPUs", Reason: fmt.Sprint(l.vcpus)}
	switch {
	case l.vcpus == 0:
		c.Verdict, c.Reason = Unknown, "-smp is not understood"
	case l.maxVCPUs > l.vcpus:
		c.Verdict = Warning
		c.Reason = fmt.Sprintf("%d vCPUs, and room for %d: those that are not there at the launch are not measured, can never come later, and Linux may stop at the start of its other vCPUs", l.vcpus, l.maxVCPUs)
		c.Remedy = fmt.Sprintf("drop maxcpus, and give -smp %d or -smp %d", l.vcpus, l.maxVCPUs)
	}
	return c
}
