package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/snplaunch/snplaunch/host"
	"github.com/snplaunch/snplaunch/images"
	"github.com/snplaunch/snplaunch/internal/shell"
	"github.com/snplaunch/snplaunch/launcher"
)

func runVerb(e *env, args []string) (err error) {
	fs := e.flags("run", "[guest.yaml] [flags] [-- COMMAND…]\n\nLaunches a guest, has it attest, and compares what the firmware reports with what was computed. Parts that are not named come from the cache that `snplaunch setup` fills.")
	gf := addGuestFlags(fs)
	gf.addLaunchFlags(fs)
	gf.addDeviceFlags(fs)
	backend := fs.String("backend", "auto", "`auto|snp|sim`: this machine's Secure Processor or the software SNP host")
	hardware := fs.Bool("require-hardware", false, "fail where the launch would be simulated")
	qemu := fs.String("qemu", "", "`FILE`: qemu-system-x86_64")
	force := fs.Bool("force", false, "launch although something stands in the way, to see what QEMU and the firmware say of it")
	dryRun := fs.Bool("dry-run", false, "the same as --print command")
	form := fs.String("print", "", "`command|libvirt|qemu-config`: launch nothing, but print the QEMU command, a libvirt domain, or a file for -readconfig")
	asJSON := fs.Bool("json", false, "print the result as an object")
	exitGuest := fs.Bool("exit-guest", false, "exit with the guest command's code")
	quiet := fs.Bool("quiet", false, "do not show the guest's console")
	cf := addCertFlags(fs)
	bundleFile := fs.String("bundle", "", "`FILE`: write the evidence of a match there, for report verify --bundle; it holds the description with the command's environment")
	timestamps := fs.Bool("timestamps", false, "show when the guest wrote each line of its console, in seconds since the run began")
	verbose := fs.Bool("verbose", false, "say of each stage how long it took")
	interactive := fs.Bool("interactive", false, "connect this terminal to the guest's serial console; without a command, to a shell there (Ctrl-] q ends it, Ctrl-] ? helps)")
	keep := fs.String("keep", "failed", "`failed|always|never`: which runs leave a folder with all that is needed to look into them")
	artefacts := fs.String("artefacts", "", "`DIR`: where those folders are made (default: snplaunch/runs in your state folder, the newest 20)")
	idPassword, authorPassword := addPasswordFlags(fs, "", "the ID key"), addPasswordFlags(fs, "author-", "the author key")
	file, command, err := parse(fs, args, 1)
	if err != nil {
		return err
	}
	var res *launcher.Result
	if *asJSON {
		// Who reads an object gets one, however early the run ends.
		defer func() {
			if err != nil && res == nil {
				err = errors.Join(err, e.json(&stopped{launcher.VerdictNotLaunched, launcher.OutcomeNotLaunched, &launcher.Failure{Message: err.Error()}}))
			}
		}()
	}
	if err := errors.Join(idPassword.check(), authorPassword.check()); err != nil {
		return err
	}
	if *dryRun && *form == "" {
		*form = "command"
	}
	if !slices.Contains([]string{"", "command", "libvirt", "qemu-config"}, *form) {
		return usageError("--print %q is none of command, libvirt, qemu-config", *form)
	}
	if !slices.Contains([]string{"failed", "always", "never"}, *keep) {
		return usageError("--keep %q is none of failed, always, never", *keep)
	}
	if *interactive && (*asJSON || *timestamps || *quiet) {
		return usageError("run: --interactive shows the guest's console as it is, so it goes with none of --json, --quiet, --timestamps")
	}
	if *bundleFile != "" {
		dir := filepath.Dir(*bundleFile)
		if st, err := os.Stat(dir); err != nil || !st.IsDir() {
			return usageError("--bundle %s: there is no folder %s (make it first)", *bundleFile, dir)
		}
	}
	machine := host.Probe(e.ctx, host.Root{})
	chosen, reason, err := host.Choose(*backend, machine)
	// A command can be printed for another machine than this one.
	var obstacles *host.ObstacleError
	if err != nil && !(*form != "" && errors.As(err, &obstacles)) {
		return err
	}
	if *hardware && chosen != launcher.BackendSNP {
		return fmt.Errorf("--require-hardware: this machine would simulate the launch (%s)", reason)
	}
	asking, cancel := e.ctx, context.CancelFunc(func() {})
	if gf.timeout > 0 {
		asking, cancel = context.WithTimeout(e.ctx, gf.timeout)
	}
	defer cancel()
	found, err := images.Find(asking, images.Options{QEMU: *qemu})
	if err != nil {
		return err
	}
	if found.QEMU.Path == "" {
		return errors.New("there is no QEMU 10 or later here; run `snplaunch setup`, or name one with --qemu")
	}
	if *form == "" && !*force {
		go host.AskQEMU(asking, found.QEMU.Path) // its answer is there when the launch is looked at
	}
	gf.note = func(s string) { fmt.Fprintln(e.stderr, "snplaunch: note: "+s) }
	g, err := gf.guest(e.ctx, file, true)
	if err != nil {
		return err
	}
	if len(command) > 0 {
		g.Command = command
	}
	for _, r := range g.PolicyRemarks() {
		fmt.Fprintln(e.stderr, "snplaunch: warning: "+r)
	}
	data, err := launcher.DefaultDataDir()
	if err != nil {
		return err
	}
	password := func(path string) ([]byte, error) {
		if path == g.IDBlock.AuthorKey && path != g.IDBlock.IDKey {
			return authorPassword.of(e, path)()
		}
		return idPassword.of(e, path)()
	}
	finder, err := cf.finder(e)
	if err != nil {
		return err
	}
	o := launcher.Options{KeyPassword: password, Backend: chosen, QEMU: found.QEMU.Path, CBitPos: int(host.CBitPos()), DataDir: data, Conditions: machine.Conditions(), Force: *force,
		Stdout: e.stdout, Stderr: e.stderr, Certs: finder, Tool: "snplaunch " + versionName()}
	if *form != "" {
		return e.print(g, o, *form)
	}
	if *asJSON {
		o.Stdout = e.stderr
	}
	talk := newConversation(e, !*quiet || *interactive, *verbose)
	o.Progress, o.Ended = talk.say, talk.ended
	// Before the launch keys and files are read; from there on there are QEMU, and what
	// is kept of the run.
	o.Began = func(stage string) {
		hold()
		talk.began(stage)
	}
	switch {
	case *interactive:
		res, err = runInteractive(e, g, o)
	default:
		console := newConsole(e.stderr, *timestamps, e.dim(e.stderr))
		if !*quiet {
			o.Console = console
		}
		res, err = launcher.Run(e.ctx, g, o)
		console.finish()
	}
	talk.end()
	if err != nil {
		return err
	}
	if failed := runOutcome(res, false) != nil || cf.checkRun(res) != nil; *keep == "always" || *keep == "failed" && failed {
		e.keepArtefacts(res, *artefacts)
	}
	if *asJSON {
		enc := json.NewEncoder(e.stdout)
		enc.SetIndent("", "  ")
		if err := enc.Encode(res); err != nil {
			return err
		}
	} else {
		fmt.Fprint(e.stdout, res.Table())
	}
	evidence := e.evidence(res, *bundleFile)
	if err := runOutcome(res, *exitGuest); err != nil {
		return err
	}
	if err := cf.checkRun(res); err != nil {
		return err
	}
	return evidence
}

// stopped is what run --json prints of a run that came to an end before it launched
// anything. Its fields are those of launcher.Result.
type stopped struct {
	Verdict launcher.Verdict  `json:"verdict"`
	Outcome launcher.Outcome  `json:"outcome"`
	Error   *launcher.Failure `json:"error"`
}

// keptRuns is how many folders the state folder holds.
const keptRuns = 20

// keepArtefacts says where it has put them. That they cannot be kept does not
// change the outcome of the run.
func (e *env) keepArtefacts(res *launcher.Result, parent string) {
	say := func(format string, args ...any) { fmt.Fprintf(e.stderr, "snplaunch: "+format+"\n", args...) }
	ours := parent == ""
	if ours {
		var err error
		if parent, err = stateDir(); err != nil {
			say("%v", err)
			return
		}
	}
	command := shell.Quote(append([]string{"snplaunch"}, os.Args[1:]...)...)
	name := fmt.Sprintf("%s-%d-%s", time.Now().UTC().Format("20060102T150405Z"), os.Getpid(), endOf(res))
	dir, err := res.Save(parent, name, command)
	if err != nil {
		say("%v", err)
		return
	}
	if ours {
		if err := launcher.KeepNewest(parent, keptRuns); err != nil {
			say("%v", err)
		}
	}
	say("command, logs, launch and reports of this run: %s\nsnplaunch: again: %s", dir, command)
}

// stateDir is where the folders of failed runs are, by the XDG base directory
// specification.
func stateDir() (string, error) {
	if d := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "snplaunch", "runs"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("there is no folder to keep the run's artefacts in: %w; set HOME or XDG_STATE_HOME, or give --artefacts", err)
	}
	return filepath.Join(home, ".local", "state", "snplaunch", "runs"), nil
}

// endOf is in a word how a run ended: the verdict, or what happened after a match.
func endOf(res *launcher.Result) string {
	if res.Verdict == launcher.VerdictMatch {
		return string(res.Outcome)
	}
	return string(res.Verdict)
}

// runOutcome turns a result into the end of the program.
func runOutcome(res *launcher.Result, exitGuest bool) error {
	if res.Verdict != launcher.VerdictMatch || res.Error != nil {
		f := res.Error
		if f == nil {
			return &exitError{exitNo, fmt.Errorf("%s", res.Verdict)}
		}
		var b strings.Builder
		fmt.Fprintf(&b, "%s: %s", endOf(res), f.Message)
		if f.FWStatus != "" {
			fmt.Fprintf(&b, "\nfirmware status %d is %s", f.FWError, f.FWStatus)
		}
		if f.Advice != "" {
			fmt.Fprintf(&b, "\nwhat to do: %s", f.Advice)
		}
		return &exitError{exitNo, errors.New(b.String())}
	}
	if res.GuestExit != nil && *res.GuestExit != 0 {
		code := exitNo
		if exitGuest {
			code = *res.GuestExit
		}
		return &exitError{code, fmt.Errorf("the guest's command ended with exit code %d", *res.GuestExit)}
	}
	return nil
}
