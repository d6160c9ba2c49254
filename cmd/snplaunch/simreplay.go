package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/snplaunch/snplaunch/diagnose/record"
	"github.com/snplaunch/snplaunch/diagnose/replay"
	"github.com/snplaunch/snplaunch/sim/kvm"
	"github.com/snplaunch/snplaunch/sim/psp"
	"github.com/snplaunch/snplaunch/snp"
)

// replayed is what `sim replay --json` prints of a launch.
type replayed struct {
	Launch       int               `json:"launch"`
	Command      string            `json:"command"`
	Errno        int               `json:"errno"`
	FWError      int               `json:"fw_error"`
	LaunchDigest *snp.LaunchDigest `json:"launch_digest,omitempty"`
	Unchecked    []string          `json:"unchecked"`
	Different    []string          `json:"different"`
}

// simReplay makes the launches of a record once more, on the software SNP host.
// Its exit code says whether they came out as recorded.
func simReplay(e *env, args []string) error {
	fs := e.flags("sim replay", "FILE [--launch N] [--platform P] [--kernel-profile K] [--cpuid-check on|off] [--fault F]... [--json]\n\n"+
		"Makes the launches of a record once more on the software SNP host, without QEMU, and says whether the launch digest and the result are those that the record has. "+
		"What the record's own software host was is taken for granted, unless flags say otherwise.")
	var o simOptions
	fs.StringVar(&o.platform, "platform", "", "the `processor`: "+strings.Join(psp.Platforms(), ", ")+"; by default the recorded one, else genoa")
	fs.StringVar(&o.profile, "kernel-profile", "", "the host's `kernel`: "+strings.Join(kvm.Profiles(), ", ")+"; by default the recorded one, else "+kvm.DefaultProfile)
	fs.StringVar(&o.cpuidCheck, "cpuid-check", "on", "`off`: take CPUID pages of every CPU model, whatever the processor is")
	fs.Func("fault", "let something go wrong: a `FAULT` as in SNP_LAUNCH_FINISH=BAD_SIGNATURE; may be given again", func(s string) error {
		o.faults = append(o.faults, s)
		return nil
	})
	only := fs.Int("launch", 0, "only the launch of this `number`, from 1")
	asJSON := fs.Bool("json", false, "print one JSON object a launch")
	files, _, err := parse(fs, args, 1)
	if err != nil {
		return err
	}
	if len(files) != 1 {
		return usageError("sim replay: name the record, as `snplaunch record` has written it")
	}
	f, err := readRecord(files[0])
	if err != nil {
		return err
	}
	if *only < 0 || *only > len(f.Launches) {
		return usageError("sim replay: --launch %d: the record has %d launches", *only, len(f.Launches))
	}
	if len(f.Launches) == 0 {
		return fmt.Errorf("%s: no launch of an SNP guest was recorded", files[0])
	}
	ca, err := simulatedRoot(nil)
	if err != nil {
		return err
	}
	same := true
	for i := range f.Launches {
		if *only != 0 && *only != i+1 {
			continue
		}
		l := &f.Launches[i]
		host, err := o.replayHost(l, ca)
		if err != nil {
			return usageError("sim replay: %v", err)
		}
		r, err := replay.Launch(f, l, host)
		if err != nil {
			return fmt.Errorf("%s: launch %d: %w", files[0], i+1, err)
		}
		same = same && len(r.Different) == 0
		if *asJSON {
			out := replayed{i + 1, r.Command, r.Errno, r.FWError, r.LaunchDigest, append([]string{}, r.Unchecked...), append([]string{}, r.Different...)}
			if err := json.NewEncoder(e.stdout).Encode(out); err != nil {
				return err
			}
			continue
		}
		printReplay(e, i+1, l, r)
	}
	if !same {
		return &exitError{exitNo, errors.New("")}
	}
	return nil
}

// replayHost says which software host a launch is made on.
func (o simOptions) replayHost(l *record.Launch, ca *psp.CA) (func(func(kvm.Event)) *kvm.Host, error) {
	if o.platform == "" {
		o.platform = "genoa"
		if l.Host != nil {
			o.platform = l.Host.Product
		}
	}
	if o.profile == "" {
		o.profile = kvm.DefaultProfile
		if l.Host != nil {
			o.profile = l.Host.KernelProfile
		}
	}
	config, options, err := o.parse()
	if err != nil {
		return nil, err
	}
	platform, err := psp.New(config, ca)
	if err != nil {
		return nil, err
	}
	return func(observe func(kvm.Event)) *kvm.Host {
		options.Observe = observe
		return kvm.NewHost(platform, options)
	}, nil
}

// printReplay says what came of a launch, in a few lines.
func printReplay(e *env, n int, l *record.Launch, r *replay.Result) {
	p := func(name, format string, args ...any) {
		fmt.Fprintf(e.stdout, "%-11s %s\n", name, fmt.Sprintf(format, args...))
	}
	p("launch", "%d, %s, SIMULATED", n, counted(len(l.VCPUs), "vCPU"))
	here := &record.Result{Errno: r.Errno, FWError: r.FWError, From: record.FromHost}
	p("here", "%s %s", r.Command, here.Describe())
	at := l.Last()
	p("recorded", "%s %s", commandName(l.Calls[at].With), l.Calls[at].Result.Describe())
	if r.LaunchDigest != nil {
		p("digest", "%s", r.LaunchDigest)
	}
	for _, u := range r.Unchecked {
		p("unchecked", "%s", u)
	}
	for _, d := range r.Different {
		p("different", "%s", d)
	}
	if len(r.Different) == 0 {
		p("verdict", "same")
	} else {
		p("verdict", "different")
	}
}

// readRecord reads a record from a file.
func readRecord(path string) (*record.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := record.Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}
