package guestagent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// IsInit says whether this process is the init of a machine: process 1, started
// by the kernel as /init (a container's first process has another name).
func IsInit() bool { return os.Getpid() == 1 && os.Args[0] == "/init" }

// RunAsInit runs the agent as init and powers the machine off. It never
// returns.
func RunAsInit() {
	err := asInit()
	if err != nil {
		fmt.Fprintf(os.Stderr, "snp-agent: %v\n", err)
	}
	powerOff()
}

func asInit() (err error) {
	// A panic in process 1 would be a panic of the kernel, whose reason the
	// host does not see.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	notes := append(mountAll(), loadDrivers("/sys", ModulesDir)...)
	notes = append(notes, startNetwork()...)
	os.Setenv("PATH", "/bbin:/bin:/usr/bin:/sbin:/usr/sbin")
	os.Setenv("HOME", "/")
	// As a login gives it; without, id knows no name for the group.
	if err := unix.Setgroups([]int{0}); err != nil {
		notes = append(notes, os.NewSyscallError("setgroups", err).Error())
	}
	err = serve(notes)
	if errors.Is(err, errNoPort) {
		fmt.Fprintf(os.Stderr, "snp-agent: %v\n", err)
		return shell()
	}
	return err
}

// mountAll mounts what the agent and the usual commands need and gives a note
// for each that failed.
func mountAll() (notes []string) {
	for _, m := range []struct {
		source, target, fstype string
		flags                  uintptr
	}{
		{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{"sysfs", "/sys", "sysfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID},
		{"tmpfs", "/tmp", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV},
	} {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			notes = append(notes, err.Error())
			continue
		}
		if err := unix.Mount(m.source, m.target, m.fstype, m.flags, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			notes = append(notes, fmt.Sprintf("mounting %s: %v", m.target, err))
		}
	}
	return notes
}

// shell runs the initrd's shell on the console, for somebody who booted the
// initrd by hand.
func shell() error {
	for _, p := range []string{"/bin/sh", "/bbin/sh"} {
		if _, err := os.Stat(p); err != nil {
			continue
		}
		fmt.Fprintln(os.Stderr, "snp-agent: starting a shell; the machine powers off when it ends")
		proc, err := os.StartProcess(p, []string{filepath.Base(p)}, &os.ProcAttr{
			Dir: "/", Env: os.Environ(), Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		})
		if err != nil {
			return fmt.Errorf("starting the shell: %w", err)
		}
		_, err = reap(proc.Pid)
		return err
	}
	return errors.New("nobody to talk to, and this initrd has no shell")
}

// reap waits for process pid as init must: processes whose parents have ended
// are collected on the way.
func reap(pid int) (unix.WaitStatus, error) {
	for {
		var st unix.WaitStatus
		got, err := unix.Wait4(-1, &st, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, fmt.Errorf("waiting for process %d: %w", pid, err)
		case got == pid && (st.Exited() || st.Signaled()):
			return st, nil
		}
	}
}

// powerOff never returns.
func powerOff() {
	unix.Sync()
	for {
		if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
			fmt.Fprintf(os.Stderr, "snp-agent: powering off: %v\n", err)
		}
		time.Sleep(time.Second)
	}
}
