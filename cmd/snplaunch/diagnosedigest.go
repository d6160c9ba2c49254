package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/snplaunch/snplaunch/diagnose/solve"
	"github.com/snplaunch/snplaunch/host"
	"github.com/snplaunch/snplaunch/idblock"
	"github.com/snplaunch/snplaunch/images"
	"github.com/snplaunch/snplaunch/snp"
)

// digestFlags ask what a digest was made of that is not a guest's own.
type digestFlags struct {
	gf   *guestFlags
	kind *measureFlags

	expected, idBlock, report string
	folders                   solve.Folders
	all                       bool
}

// digestInquiry looks for the description that a digest is of.
func digestInquiry(fs *flag.FlagSet) inquiry {
	d := &digestFlags{gf: addGuestFlags(fs), kind: addLaunchKindFlags(fs)}
	fs.StringVar(&d.expected, "expected", "", "`DIGEST`: the launch digest that was expected of the guest described by guest.yaml and flags; what was different is searched")
	fs.StringVar(&d.idBlock, "id-block", "", "`FILE`: the ID block that the guest was refused with; its digest is taken")
	fs.StringVar(&d.report, "report", "", "`FILE`: an attestation report, - for standard input; its measurement is taken, and nothing about it is verified")
	folder := func(name, usage string, to *[]string) {
		fs.Func(name, usage, func(s string) error {
			*to = append(*to, s)
			return nil
		})
	}
	folder("firmware-dir", "`DIR|FILE`: firmware and SVSM images that may have been used instead; may be given several times", &d.folders.Firmware)
	folder("kernel-dir", "`DIR|FILE`: kernels that may have been used instead; may be given several times", &d.folders.Kernels)
	folder("initrd-dir", "`DIR|FILE`: initrds that may have been used instead; may be given several times", &d.folders.Initrds)
	fs.BoolVar(&d.all, "all", false, "go on after the first explanation, and list larger ones, too")
	return inquiry{
		name:  "--expected, --id-block or --report with a guest",
		asked: func([]string) bool { return d.expected+d.idBlock+d.report != "" },
		run:   d.run,
	}
}

// digest gives the digest in question.
func (d *digestFlags) digest(e *env) (ld snp.LaunchDigest, source solve.Source, err error) {
	given := 0
	for _, s := range []string{d.expected, d.idBlock, d.report} {
		if s != "" {
			given++
		}
	}
	switch {
	case given > 1:
		return ld, source, usageError("diagnose: --expected, --id-block and --report each name a digest; give one of them")
	case d.expected != "":
		if ld, err = idblock.ParseLaunchDigest(d.expected); err != nil {
			return ld, source, usageError("--expected: %w", err)
		}
		return ld, solve.Expected, nil
	case d.idBlock != "":
		block, err := idblock.ReadBlock(d.idBlock)
		if err != nil {
			return ld, source, err
		}
		return block.LD, solve.IDBlock, nil
	}
	got, err := readReport(e, d.report)
	if err != nil {
		return ld, source, err
	}
	r, err := snp.ParseReport(got.Raw)
	if err != nil {
		return ld, source, err
	}
	return r.Measurement, solve.Report, nil
}

func (d *digestFlags) run(e *env, files []string, asJSON bool) error {
	if len(files) > 1 {
		return usageError("diagnose: %q is one argument too many; one file describes the guest", files[1])
	}
	ld, source, err := d.digest(e)
	if err != nil {
		return err
	}
	opt, err := d.kind.options()
	if err != nil {
		return err
	}
	d.gf.note = func(s string) { fmt.Fprintln(e.stderr, "snplaunch: note: "+s) }
	d.gf.noFirmware = d.kind.metadata != ""
	g, err := d.gf.guest(e.ctx, files, false)
	if err != nil {
		return err
	}
	in, err := d.kind.open(g, &opt)
	if err != nil {
		return err
	}
	defer in.Close()
	if opt.SVSM != nil {
		defer opt.SVSM.File.Close()
	}
	q := solve.Question{Digest: ld, Source: source, Guest: g, Inputs: in, Options: opt, Folders: d.folders}
	if sig, ok := host.CPUSignature(); ok {
		q.HostSignature = &sig
	}
	q.Folders.Beside(g)
	addCached(e.ctx, &q.Folders)
	var bar *progress
	o := solve.Options{All: d.all}
	if isTerminal(e.stderr) {
		o.Progress = func(p solve.Progress) {
			if bar == nil {
				bar = newProgress(e.stderr, "descriptions", 0, time.Now().Add(-progressAfter))
			}
			bar.total = int(max(p.Total, p.Tried, 1))
			bar.at(int(p.Tried), time.Now())
		}
	}
	defer hold()() // it ends by itself, and says how far it came
	a, err := solve.Solve(e.ctx, q, o)
	bar.end()
	if err != nil {
		return err
	}
	if !a.Explained && e.ctx.Err() != nil {
		return fmt.Errorf("diagnose was interrupted after %d descriptions: %w", a.Tried, context.Cause(e.ctx))
	}
	return printAnswer(e, a, asJSON)
}

// addCached names what `snplaunch setup` fetched, as it is often what was meant.
func addCached(ctx context.Context, f *solve.Folders) {
	set, err := images.Find(ctx, images.Options{PlainFirmware: true})
	if err != nil {
		return // there is no cache
	}
	add := func(to *[]string, path string) {
		if path != "" {
			*to = append(*to, path)
		}
	}
	add(&f.Firmware, set.Firmware.Path)
	add(&f.Firmware, set.GenericFirmware.Path)
	if set.PlainFirmware != nil {
		add(&f.Firmware, set.PlainFirmware.Path)
	}
	add(&f.Kernels, set.Kernel.Path)
	if set.Initrd.Path != "" {
		add(&f.Initrds, filepath.Dir(set.Initrd.Path))
	}
}

// digestAnswer is the answer as --json prints it.
type digestAnswer struct {
	*solve.Answer
	Unexplained string `json:"unexplained,omitempty"` // what was tried, in a sentence
	ElapsedMS   int64  `json:"elapsed_ms"`
}

func printAnswer(e *env, a *solve.Answer, asJSON bool) error {
	verdict := error(nil)
	unexplained := ""
	if !a.Explained {
		unexplained = a.Unexplained()
		verdict = &exitError{exitNo, errors.New(unexplained + " Name further files with --firmware-dir, --kernel-dir and --initrd-dir.")}
	}
	if asJSON {
		if err := e.json(digestAnswer{a, unexplained, a.Elapsed.Milliseconds()}); err != nil {
			return err
		}
		return verdict
	}
	for _, s := range a.Unread {
		fmt.Fprintln(e.stderr, "snplaunch: note: "+s)
	}
	for i, x := range a.Explanations {
		if i > 0 {
			fmt.Fprintln(e.stdout)
		}
		fmt.Fprintln(e.stdout, x.Sentence)
		printChanges(e, x.Changes)
		for _, other := range x.Also {
			fmt.Fprintln(e.stdout, "The same launch, and so the same digest, is:")
			printChanges(e, other)
		}
	}
	if a.Explained {
		fmt.Fprintf(e.stderr, "snplaunch: %d descriptions tried in %.1f s\n", a.Tried, a.Elapsed.Seconds())
	}
	return verdict
}

func printChanges(e *env, changes []solve.Change) {
	for _, c := range changes {
		fmt.Fprintf(e.stdout, "  %s: %s; described: %s\n", c.Dimension, c.Found, c.Described)
		if c.Note != "" && !strings.Contains(c.Found, c.Note) {
			fmt.Fprintf(e.stdout, "    (%s)\n", c.Note)
		}
	}
}
