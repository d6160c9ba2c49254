// Command startbench times how long a guest takes to its first user-space
// instruction: under `snplaunch run` on the software SNP host, and under a bare
// QEMU with the same accelerator, devices, firmware, kernel and initrd, turn by
// turn. scripts/bench builds what it needs and starts it.
package main

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"time"

	"github.com/snplaunch/snplaunch/images"
)

// firstWords are the kernel's last before it goes to user space.
const firstWords = "Run /init as init process"

// patience is how long one start may take.
const patience = 3 * time.Minute

func main() {
	rounds := flag.Int("n", 7, "`N`: rounds; in each, both start once")
	snplaunch := flag.String("snplaunch", "", "`FILE`: the program to measure")
	flag.Parse()
	parts, err := images.Find(context.Background(), images.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, "startbench:", err)
		os.Exit(1)
	}
	// The generic build of OVMF boots a kernel without a table of hashes, which a bare
	// QEMU has not.
	qemu, firmware, kernel, initrd := parts.QEMU.Path, parts.GenericFirmware.Path, parts.Kernel.Path, parts.Initrd.Path
	const cmdline = "console=ttyS0"
	ours := []string{*snplaunch, "run", "--backend", "sim", "--keep", "never", "--qemu", qemu, "--ovmf", firmware, "--kernel", kernel, "--initrd", initrd,
		"--append", cmdline, "--kernel-hashes=false"}
	bare := []string{qemu, "-machine", "q35,smm=off", "-accel", "tcg", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-cpu", "EPYC-v4", "-smp", "1", "-m", "512M", "-bios", firmware, "-kernel", kernel, "-initrd", initrd, "-append", cmdline,
		"-device", "virtio-serial-pci,disable-legacy=on,iommu_platform=on",
		"-chardev", "null,id=agent", "-device", "virtserialport,chardev=agent,name=a",
		"-chardev", "null,id=sevguest", "-device", "virtserialport,chardev=sevguest,name=b", "-serial", "stdio"}
	if err := run(os.Stdout, *rounds, ours, bare); err != nil {
		fmt.Fprintln(os.Stderr, "startbench:", err)
		os.Exit(1)
	}
}

func run(w io.Writer, rounds int, ours, bare []string) error {
	var ratios []float64
	var all [2][]time.Duration
	for n := range rounds {
		var took [2]time.Duration
		for i := range 2 {
			which := (n + i) % 2 // who goes first changes
			var err error
			if took[which], err = start([][]string{ours, bare}[which]); err != nil {
				return err
			}
			all[which] = append(all[which], took[which])
		}
		ratios = append(ratios, took[0].Seconds()/took[1].Seconds())
		fmt.Fprintf(w, "round %d: snplaunch run %.2f s, bare QEMU %.2f s, ratio %.3f\n", n+1, took[0].Seconds(), took[1].Seconds(), ratios[n])
	}
	slices.Sort(ratios)
	for i := range all {
		slices.Sort(all[i])
	}
	_, err := fmt.Fprintf(w, "to the first user-space instruction, medians of %d: snplaunch run %.2f s, bare QEMU %.2f s, ratio %.3f\n",
		rounds, all[0][rounds/2].Seconds(), all[1][rounds/2].Seconds(), ratios[rounds/2])
	return err
}

// start runs a command until its output has the kernel's words, and ends it.
func start(command []string) (time.Duration, error) {
	cmd := exec.Command(command[0], command[1:]...)
	r, w, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer r.Close()
	cmd.Stdout, cmd.Stderr = w, w
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	w.Close()
	// Both end by SIGINT in order.
	late := time.AfterFunc(patience, func() { _ = cmd.Process.Signal(os.Interrupt) })
	defer late.Stop()
	var said bytes.Buffer
	lines := bufio.NewScanner(io.TeeReader(r, &said))
	var took time.Duration
	for lines.Scan() {
		if took == 0 && bytes.Contains(lines.Bytes(), []byte(firstWords)) {
			took = time.Since(began)
			_ = cmd.Process.Signal(os.Interrupt)
		}
	}
	_ = cmd.Wait() // interrupted
	if took == 0 {
		return 0, fmt.Errorf("%s: no guest came to user space; it said\n%s", command[0], said.Bytes()[max(0, said.Len()-2000):])
	}
	return took, nil
}
