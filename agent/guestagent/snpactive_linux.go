package guestagent

import (
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// snpActive says whether the kernel gives any sign that SEV-SNP protects this
// guest. Any one is enough: a wrong "yes" refuses the simulated device, a
// wrong "no" would let it answer for a real one.
//
// The signs of Linux 6.12 (arch/x86/coco/sev, arch/x86/mm/mem_encrypt.c): the
// platform device that the driver binds to, the directory that shows the VMPL,
// the CPU flag, and the line about memory encryption in the kernel's log.
func snpActive() bool {
	return snpActiveIn("/", readKernelLog())
}

func snpActiveIn(root, kernelLog string) bool {
	for _, p := range []string{"sys/bus/platform/devices/sev-guest", "sys/devices/system/cpu/sev"} {
		if _, err := os.Stat(filepath.Join(root, p)); err == nil {
			return true
		}
	}
	info, _ := os.ReadFile(filepath.Join(root, "proc/cpuinfo"))
	for line := range strings.Lines(string(info)) {
		name, flags, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(name) != "flags" {
			continue
		}
		for _, f := range strings.Fields(flags) {
			if f == "sev_snp" {
				return true
			}
		}
		break // the same for every processor
	}
	for line := range strings.Lines(kernelLog) {
		if strings.Contains(line, "Memory Encryption Features active") && strings.Contains(line, "SEV-SNP") {
			return true
		}
	}
	return false
}

// readKernelLog gives the kernel's log, or nothing where it may not be read.
func readKernelLog() string {
	const readAll = 3 // SYSLOG_ACTION_READ_ALL
	buf := make([]byte, 256<<10)
	n, err := unix.Klogctl(readAll, buf)
	if err != nil {
		return ""
	}
	return string(buf[:n])
}
