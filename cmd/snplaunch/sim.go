package main

import (
	"errors"
	"flag"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"github.com/snplaunch/snplaunch/diagnose/record"
	"github.com/snplaunch/snplaunch/host"
	"github.com/snplaunch/snplaunch/launcher"
	"github.com/snplaunch/snplaunch/sim/kvm"
	"github.com/snplaunch/snplaunch/sim/psp"
	"github.com/snplaunch/snplaunch/sim/supervise"
)

// simRoot prints the fingerprint that report verify --trust-simulated takes.
func simRoot(e *env, args []string) error {
	fs := e.flags("sim root", "[--platform P]\n\nPrints the SHA-256 of this user's simulated root certificate (ARK), as `report verify --trust-simulated` takes it.")
	name := fs.String("platform", "genoa", "the processor, whose product line has its own root: "+strings.Join(psp.Platforms(), ", "))
	if _, _, err := parse(fs, args, 0); err != nil {
		return err
	}
	config, err := psp.ParsePlatform(*name)
	if err != nil {
		return usageError("sim root: --platform: %v", err)
	}
	ca, err := simulatedRoot(nil)
	if err != nil {
		return err
	}
	fmt.Fprintln(e.stdout, ca.FingerprintOf(config.Product))
	return nil
}

// simExec runs any command on the software SNP host. Its exit status is the
// command's.
func simExec(e *env, args []string) error {
	fs := e.flags("sim exec", "[--platform P] [--kernel-profile K] [--cpuid-check on|off] [--fault F]... [--report FILE] [--record FILE] [--view private|trapped] [--stats] [--hold] -- COMMAND…\n\n"+
		"Runs a command that starts QEMU, itself or through others, on the software SNP host. stderr tells the launch digest.")
	var o simOptions
	fs.StringVar(&o.platform, "platform", "genoa", "the `processor`: "+strings.Join(psp.Platforms(), ", "))
	fs.StringVar(&o.profile, "kernel-profile", kvm.DefaultProfile, "the host's `kernel`: "+strings.Join(kvm.Profiles(), ", "))
	fs.StringVar(&o.cpuidCheck, "cpuid-check", "on", "`off`: take CPUID pages of every CPU model, whatever the processor is")
	fs.Func("fault", "let something go wrong: a `FAULT` as in SNP_LAUNCH_UPDATE:3=INVALID_PAGE_STATE; may be given again", func(s string) error {
		o.faults = append(o.faults, s)
		return nil
	})
	report := fs.String("report", "", "write every launch to `FILE`: one JSON object a line")
	recordTo := fs.String("record", "", "write a record of all launches to `FILE`, as `snplaunch record` makes it")
	pages := fs.Bool("pages", false, "with --record: keep the bytes of every page too")
	hold := fs.Bool("hold", false, "leave launched guests waiting in KVM_RUN instead of shutting them down")
	view := fs.String("view", "", "how the command sees the host's devices: private (mounts of its own, for root; others get a user namespace) or trapped (system calls answered); by default private for root, trapped for others")
	stats := fs.Bool("stats", false, "say at the end how many system calls were held, and for how long")
	_, command, err := parse(fs, args, 0)
	// Without the two dashes the command's flags are taken for ours.
	if err != nil && (errors.Is(err, flag.ErrHelp) || slices.Contains(args, "--")) {
		return err
	}
	if len(command) == 0 {
		return usageError("sim exec: name the command after --, as in `snplaunch sim exec -- qemu-system-x86_64 …`")
	}
	config, options, err := o.parse()
	if err != nil {
		return usageError("sim exec: %v", err)
	}
	own := func(err error) error { return &exitError{exitOwn, err} }
	path, err := exec.LookPath(command[0])
	if err != nil {
		return own(fmt.Errorf("sim exec: %w", err))
	}
	say := func(format string, args ...any) { fmt.Fprintf(e.stderr, "snplaunch: "+format+"\n", args...) }
	ca, err := simulatedRoot(func() { say("making a root key for the software SNP host (once per user)") })
	if err != nil {
		return own(err)
	}
	platform, err := psp.New(config, ca)
	if err != nil {
		return own(err)
	}
	launches, err := newLaunchLog(*report)
	if err != nil {
		return own(fmt.Errorf("sim exec: --report: %w", err))
	}
	recording, err := newRecording(*recordTo, record.Options{Source: record.SourceSoftware, Command: command, Pages: *pages, Logf: say})
	if err != nil {
		return own(fmt.Errorf("sim exec: --record: %w", err))
	}
	options.Hold = *hold
	options.Observe = func(ev kvm.Event) {
		launches.hear(ev)
		recording.observe(ev)
		switch {
		case ev.Kind == kvm.EventFinish && ev.Errno == 0:
			say("launch digest %s (SIMULATED)", ev.Guest.LaunchDigest())
		case ev.Kind == kvm.EventFinish && ev.Guest != nil:
			say("SIMULATED launch refused: %s; launch digest %s", outcome(ev), ev.Guest.LaunchDigest())
		case syscall.Errno(ev.Errno) == syscall.EAGAIN: // QEMU makes the call again
			say("SIMULATED call failed: %s", outcome(ev))
		case ev.Errno != 0:
			say("SIMULATED launch refused: %s", outcome(ev))
		}
	}
	machine := kvm.NewHost(platform, options)
	status, cost, err := supervised(path, command, supervise.Config{
		Host: machine, CBitPos: int(host.CBitPos()), View: supervise.View(*view), Logf: say,
		Listener: recording.listener(),
	})
	if *stats {
		printStats(e.stderr, cost)
	}
	if err != nil {
		return own(fmt.Errorf("sim exec: %w", err))
	}
	if err := launches.failed(); err != nil {
		return own(fmt.Errorf("sim exec: --report: %w", err))
	}
	if err := recording.finish(); err != nil {
		return own(fmt.Errorf("sim exec: --record: %w", err))
	}
	if status != 0 {
		return &exitError{status, errors.New("")}
	}
	return nil
}

// simulatedRoot gives this user's root of the software SNP host; making hears that it
// is made, which takes seconds.
func simulatedRoot(making func()) (*psp.CA, error) {
	dir, err := launcher.DefaultDataDir()
	if err != nil {
		return nil, err
	}
	return psp.LoadOrCreateCA(dir, making)
}

// simOptions are the flags that say which machine the command meets.
type simOptions struct {
	platform, profile, cpuidCheck string
	faults                        []string
}

func (o *simOptions) parse() (psp.Config, kvm.Options, error) {
	var options kvm.Options
	config, err := psp.ParsePlatform(o.platform)
	if err != nil {
		return config, options, fmt.Errorf("--platform: %w", err)
	}
	switch o.cpuidCheck {
	case "on":
	case "off":
		config.CPUIDCheck = false
	default:
		return config, options, fmt.Errorf("--cpuid-check is on or off, not %q", o.cpuidCheck)
	}
	if options.Profile, err = kvm.ParseProfile(o.profile); err != nil {
		return config, options, fmt.Errorf("--kernel-profile: %w", err)
	}
	for _, s := range o.faults {
		f, err := kvm.ParseFault(s)
		if err != nil {
			return config, options, err
		}
		options.Faults = append(options.Faults, f)
	}
	return config, options, nil
}

// outcome says how a command ended.
func outcome(ev kvm.Event) string {
	e := syscall.Errno(ev.Errno)
	if ev.Status == 0 && (e == syscall.ETIMEDOUT || e == syscall.EBUSY) {
		return fmt.Sprintf("errno %d (%s), the firmware did not answer", ev.Errno, e)
	}
	if ev.Status == 0 {
		return fmt.Sprintf("errno %d (%s), the firmware was not asked", ev.Errno, syscall.Errno(ev.Errno))
	}
	return fmt.Sprintf("errno %d (%s), firmware status %d %s", ev.Errno, syscall.Errno(ev.Errno), int32(ev.Status), ev.Status)
}
