package main

import (
	"errors"
	"fmt"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/snplaunch/snplaunch/host"
	"github.com/snplaunch/snplaunch/sim/kvm"
	"github.com/snplaunch/snplaunch/sim/psp"
	"github.com/snplaunch/snplaunch/sim/supervise"
)

func simVerb(e *env, args []string) error {
	if len(args) == 0 {
		return usageError("sim: say what: `snplaunch sim exec -- COMMAND…` or `snplaunch sim root`")
	}
	switch args[0] {
	case "exec":
		return simExec(e, args[1:])
	case "root":
		return simRoot(e, args[1:])
	}
	return usageError("sim: %q is neither exec nor root", args[0])
}

// simRoot prints the fingerprint that report verify --trust-simulated takes.
func simRoot(e *env, args []string) error {
	fs := e.flags("sim root", "\n\nPrints the SHA-256 of this user's simulated root certificate (ARK), as `report verify --trust-simulated` takes it.")
	if _, _, err := parse(fs, args, 0); err != nil {
		return err
	}
	dir, err := dataDir()
	if err != nil {
		return err
	}
	ca, err := psp.LoadOrCreateCA(dir, nil)
	if err != nil {
		return err
	}
	fmt.Fprintln(e.stdout, ca.Fingerprint())
	return nil
}

// simExec runs any command on the software SNP host. Its exit status is the
// command's.
func simExec(e *env, args []string) error {
	fs := e.flags("sim exec", "[--fault F]... [--hold] -- COMMAND…\n\nRuns a command that starts QEMU, itself or through others, on the software SNP host. stderr tells the launch digest.")
	hold := fs.Bool("hold", false, "leave launched guests waiting in KVM_RUN instead of shutting them down")
	var faults []kvm.Fault
	fs.Func("fault", "let something go wrong, as in SNP_LAUNCH_UPDATE:3=INVALID_PAGE_STATE; may be given again", func(s string) error {
		f, err := kvm.ParseFault(s)
		faults = append(faults, f)
		return err
	})
	_, command, err := parse(fs, args, 0)
	if err != nil {
		return err
	}
	if len(command) == 0 {
		return usageError("sim exec: name the command after --")
	}
	own := func(err error) error { return &exitError{exitOwn, err} }
	path, err := exec.LookPath(command[0])
	if err != nil {
		return own(fmt.Errorf("sim exec: %w", err))
	}
	dir, err := dataDir()
	if err != nil {
		return own(err)
	}
	say := func(format string, args ...any) { fmt.Fprintf(e.stderr, "snplaunch: "+format+"\n", args...) }
	ca, err := psp.LoadOrCreateCA(dir, func() { say("making a root key for the software SNP host (once per user)") })
	if err != nil {
		return own(err)
	}
	platform, err := psp.New(psp.DefaultConfig(), ca)
	if err != nil {
		return own(err)
	}
	machine := kvm.NewHost(platform, kvm.Options{Hold: *hold, Faults: faults, Observe: func(ev kvm.Event) {
		switch {
		case ev.Kind == kvm.EventFinish && ev.Errno == 0:
			say("launch digest %s (SIMULATED)", ev.Guest.LaunchDigest())
		case ev.Kind == kvm.EventFinish && ev.Guest != nil:
			say("SIMULATED launch refused: %s; launch digest %s", outcome(ev), ev.Guest.LaunchDigest())
		case ev.Errno != 0:
			say("SIMULATED launch refused: %s", outcome(ev))
		}
	}})
	position := int(host.CBitPos())
	// The guard's children are found by the filter; the command itself is
	// started through it too.
	p, err := supervise.StartForeign(path, command, supervise.Config{Host: machine, CBitPos: position, Logf: say})
	if err != nil {
		return own(err)
	}
	// The terminal's signals reach the command by themselves; a SIGTERM that
	// was meant for it is passed on. This process stays until all have ended.
	signal.Ignore(syscall.SIGINT, syscall.SIGQUIT)
	go func() {
		<-e.ctx.Done()
		p.Signal(syscall.SIGTERM)
	}()
	status, err := p.Wait()
	if err != nil {
		return own(fmt.Errorf("sim exec: %w", err))
	}
	if status != 0 {
		return &exitError{status, errors.New("")}
	}
	return nil
}

// outcome says how a command ended.
func outcome(ev kvm.Event) string {
	if ev.Status == 0 {
		return fmt.Sprintf("errno %d (%s), the firmware was not asked", ev.Errno, syscall.Errno(ev.Errno))
	}
	return fmt.Sprintf("errno %d (%s), firmware status %d %s", ev.Errno, syscall.Errno(ev.Errno), int32(ev.Status), ev.Status)
}
