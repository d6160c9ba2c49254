package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/snplaunch/snplaunch/diagnose/record"
	"github.com/snplaunch/snplaunch/sim/kvm"
	"github.com/snplaunch/snplaunch/sim/supervise"
)

// recordVerb runs a command on this machine as it is and notes what it launches.
// Its exit status is the command's.
func recordVerb(e *env, args []string) error {
	fs := e.flags("record", "[-o FILE] [--pages] [--stats] -- COMMAND…\n\n"+
		"Runs a command that starts QEMU, itself or through others, on this machine as it is, and notes what QEMU passes to the kernel to launch "+
		"SNP guests, and how that ends. Nothing is changed or answered. `snplaunch diagnose FILE` explains the record, `snplaunch sim replay FILE` repeats it.")
	out := fs.String("o", "launch.record", "the record's `FILE`")
	pages := fs.Bool("pages", false, "keep the bytes of every page that is launched, not only their digests")
	stats := fs.Bool("stats", false, "say at the end how many system calls were held, and for how long")
	_, command, err := parse(fs, args, 0)
	if err != nil && (errors.Is(err, flag.ErrHelp) || slices.Contains(args, "--")) {
		return err
	}
	if len(command) == 0 {
		return usageError("record: name the command after --, as in `snplaunch record -- qemu-system-x86_64 …`")
	}
	if *out == "" {
		return usageError("record: -o names no file")
	}
	own := func(err error) error { return &exitError{exitOwn, fmt.Errorf("record: %w", err)} }
	path, err := exec.LookPath(command[0])
	if err != nil {
		return own(err)
	}
	say := func(format string, args ...any) { fmt.Fprintf(e.stderr, "snplaunch: "+format+"\n", args...) }
	recording, err := newRecording(*out, record.Options{Source: record.SourceKernel, Command: command, Pages: *pages, Logf: say})
	if err != nil {
		return own(err)
	}
	status, cost, err := supervised(path, command, supervise.Config{CBitPos: -1, Logf: say, Listener: recording.listener()})
	if *stats {
		printStats(e.stderr, cost)
	}
	if err := errors.Join(err, recording.finish()); err != nil {
		return own(err)
	}
	recording.summarise(say)
	if status != 0 {
		return &exitError{status, errors.New("")}
	}
	return nil
}

// recording is a record that is being made. A nil one does nothing.
type recording struct {
	path    string
	to      *record.Recorder
	written int // launches in the file
	file    *record.File
	err     error
}

// newRecording begins with an empty record in the file, so that one that cannot be
// written is told before anything is launched. Without a path it gives nil.
func newRecording(path string, o record.Options) (*recording, error) {
	if path == "" {
		return nil, nil
	}
	o.Tool, o.Version = "snplaunch "+versionName(), askVersion
	r := &recording{path: path, to: record.NewRecorder(o)}
	return r, r.write(r.to.SoFar())
}

func (r *recording) write(f *record.File) error {
	var b bytes.Buffer
	if err := f.Write(&b); err != nil {
		return err
	}
	r.written = len(f.Launches)
	return writeTogether(namedFile{r.path, b.Bytes()})
}

// listener gives what hears for the record; nil for none.
func (r *recording) listener() supervise.Listener {
	if r == nil {
		return nil
	}
	return r
}

// Requests implements supervise.Listener.
func (r *recording) Requests() []uint32 { return record.Requests() }

// Hear implements supervise.Listener.
func (r *recording) Hear(h supervise.Heard) {
	r.to.Hear(record.Heard{Process: h.Process, Thread: h.Thread, NR: h.NR, Args: h.Args, Read: h.Read, Link: h.Link, Same: h.Same})
}

// Taken implements supervise.Listener.
func (r *recording) Taken(made bool) { r.to.Taken(made) }

// Ended implements supervise.Listener. The file has what is over, should this process be killed.
func (r *recording) Ended(process int) {
	r.to.Ended(process)
	if f := r.to.SoFar(); len(f.Launches) > r.written {
		r.err = errors.Join(r.err, r.write(f))
	}
}

// observe takes what the software host says.
func (r *recording) observe(ev kvm.Event) {
	if r == nil {
		return
	}
	said, ends := ev.Record()
	if !ends {
		return
	}
	r.to.Observed(record.Host{
		Product: said.Product, Firmware: said.Firmware, KernelProfile: said.KernelProfile, Command: said.Command,
		Errno: said.Errno, FWError: said.FirmwareStatus, LaunchDigest: said.LaunchDigest,
	})
}

// finish writes the whole record, once the command and all that it started have ended.
func (r *recording) finish() error {
	if r == nil {
		return nil
	}
	r.file = r.to.File()
	return errors.Join(r.err, r.write(r.file))
}

// summarise says what was recorded.
func (r *recording) summarise(say func(string, ...any)) {
	if len(r.file.Launches) == 0 {
		others := ""
		if r.file.OtherVMs > 0 {
			others = fmt.Sprintf(" (but %d of other VMs)", r.file.OtherVMs)
		}
		say("no launch of an SNP guest was heard%s; %s says so", others, r.path)
		return
	}
	for i := range r.file.Launches {
		l := &r.file.Launches[i]
		how := "no launch command was heard"
		if at := l.Last(); at >= 0 {
			how = commandName(l.Calls[at].With) + ": " + l.Calls[at].Result.Describe()
		}
		say("launch %d, %s: %s", i+1, counted(len(l.VCPUs), "vCPU"), how)
	}
	say("recorded in %s; `snplaunch diagnose %s` explains it", r.path, r.path)
}

// versions are what programs have answered to --version, by their arguments.
var versions sync.Map

// askVersion asks a program for its version, if it is a QEMU by name: it starts the same
// file once more, for that alone. A QEMU that a dynamic loader was told to run is started in
// the same way.
func askVersion(p record.Program) string {
	isQEMU := func(path string) bool { return strings.HasPrefix(filepath.Base(path), "qemu") }
	line := []string{p.Path}
	if !isQEMU(p.Path) {
		at := slices.IndexFunc(p.Args, func(a string) bool { return filepath.IsAbs(a) && isQEMU(a) })
		if at < 0 || !strings.HasPrefix(filepath.Base(p.Path), "ld-") {
			return ""
		}
		line = slices.Clone(p.Args[:at+1])
	}
	key := strings.Join(line, "\x00")
	if known, ok := versions.Load(key); ok {
		return known.(string)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, line[0], append(line[1:], "--version")...).Output()
	if err != nil {
		return ""
	}
	said, _, _ := strings.Cut(string(out), "\n")
	versions.Store(key, said)
	return said
}
