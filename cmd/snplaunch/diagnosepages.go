package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"

	"github.com/snplaunch/snplaunch/diagnose/pagediff"
	"github.com/snplaunch/snplaunch/diagnose/record"
	"github.com/snplaunch/snplaunch/measure"
	"github.com/snplaunch/snplaunch/snp"
)

// pagesInquiry lays two launches side by side.
func pagesInquiry(fs *flag.FlagSet) inquiry {
	first := fs.String("pages", "", "`A B`: two launches, page by page: a guest.yaml (what is computed), a record, what sim exec --report wrote, or launch.json of a run's artefacts; exit code 1 where they differ")
	return inquiry{
		name:  "--pages",
		alone: true,
		asked: func([]string) bool { return *first != "" },
		run: func(e *env, files []string, asJSON bool) error {
			if len(files) != 1 {
				return usageError("diagnose: --pages compares two launches; name both: --pages A B")
			}
			var sides [2]pagediff.Launch
			for i, path := range []string{*first, files[0]} {
				var err error
				if sides[i], err = readLaunch(e, path, i == 1); err != nil {
					return err
				}
			}
			d := pagediff.Compare(sides[0], sides[1])
			if asJSON {
				if err := e.json(d); err != nil {
					return err
				}
			} else {
				fmt.Fprintln(e.stdout, d)
			}
			if !d.Equal {
				return &exitError{code: exitNo}
			}
			return nil
		},
	}
}

// readLaunch reads one side. Of launch.json, which may have two, the launched
// one is taken where it is the second that is named or the only one.
func readLaunch(e *env, path string, second bool) (l pagediff.Launch, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return l, err
	}
	switch {
	case record.IsRecord(b) || record.IsReport(b):
		f, err := readAnyRecord(path)
		if err != nil {
			return l, err
		}
		if len(f.Launches) == 0 {
			return l, fmt.Errorf("%s has no launch of an SNP guest", path)
		}
		return pagediff.OfRecord(path, f, &f.Launches[len(f.Launches)-1]), nil
	case bytes.HasPrefix(bytes.TrimSpace(b), []byte("{")):
		var f struct{ Computed, Launched []snp.Update }
		if err := json.Unmarshal(b, &f); err != nil {
			return l, fmt.Errorf("%s: %w (give launch.json of a run's artefacts, a record, or a guest's description)", path, err)
		}
		if len(f.Computed)+len(f.Launched) == 0 {
			return l, fmt.Errorf("%s lists no pages (give launch.json of a run's artefacts, a record, or a guest's description)", path)
		}
		if len(f.Launched) > 0 && (second || len(f.Computed) == 0) {
			return pagediff.OfUpdates(path+" (launched)", f.Launched), nil
		}
		return pagediff.OfUpdates(path+" (computed)", f.Computed), nil
	}
	g, err := addGuestFlags(flag.NewFlagSet("", flag.ContinueOnError)).guest(e.ctx, []string{path}, false)
	if err != nil {
		return l, err
	}
	in, err := g.Open()
	if err != nil {
		return l, err
	}
	defer in.Close()
	r, err := measure.MeasureWith(g, in, measure.Options{})
	if err != nil {
		return l, err
	}
	return pagediff.Of(path, r, in.Firmware)
}
