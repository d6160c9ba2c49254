package launcher

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/snplaunch/snplaunch/guest/guestyaml"
	"github.com/snplaunch/snplaunch/snp"
)

// Invocation is how a QEMU was started.
type Invocation struct {
	Name string // "QEMU", or "QEMU B" for the one that runs a guest of the software host
	Args []string
}

// launchRecord is launch.json: the pages that were computed and, where the
// software host heard them, those that were launched.
type launchRecord struct {
	Computed []snp.Update `json:"computed"`
	Launched []snp.Update `json:"launched,omitempty"`
}

// Save writes everything that is needed to look into a run to a new folder, and
// gives its path: the result, the description, the command that repeats the
// run, how each QEMU was started and what it said, the guest's console, the
// launch page by page, report and certificates. No key is among it. parent is
// made where it is missing; the folder appears whole or not at all. command
// is the program's own command line.
func (r *Result) Save(parent, name string, command string) (string, error) {
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return "", fmt.Errorf("keeping the run's artefacts: %w", err)
	}
	tmp, err := os.MkdirTemp(parent, ".run-")
	if err != nil {
		return "", fmt.Errorf("keeping the run's artefacts: %w", err)
	}
	dir := filepath.Join(parent, name)
	err = r.writeArtefacts(tmp, command)
	if err == nil {
		err = os.Rename(tmp, dir)
	}
	if err != nil {
		return "", errors.Join(fmt.Errorf("keeping the run's artefacts: %w", err), os.RemoveAll(tmp))
	}
	return dir, nil
}

func (r *Result) writeArtefacts(dir, command string) error {
	write := func(name string, b []byte) error {
		if len(b) == 0 {
			return nil
		}
		return os.WriteFile(filepath.Join(dir, name), b, 0o600)
	}
	asJSON := func(name string, v any) error {
		b, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			return err
		}
		return write(name, append(b, '\n'))
	}
	var yaml []byte
	if r.guest != nil {
		var err error
		if yaml, err = guestyaml.Marshal(r.guest); err != nil {
			return err
		}
	}
	var qemu strings.Builder
	for _, q := range r.QEMU {
		fmt.Fprintf(&qemu, "%s:", q.Name)
		for _, a := range q.Args {
			fmt.Fprintf(&qemu, "\n  %q", a)
		}
		qemu.WriteString("\n")
	}
	return errors.Join(
		asJSON("result.json", r),
		write("command", []byte(command+"\n")),
		write("guest.yaml", yaml),
		write("qemu.txt", []byte(qemu.String())),
		write("qemu-stderr.log", []byte(r.Stderr)),
		write("qemu-trace.log", []byte(r.trace)),
		write("console.log", []byte(r.Console)),
		asJSON("launch.json", launchRecord{r.computed, r.launched}),
		write("report.bin", r.Report),
		write("certificates.bin", r.Certificates),
	)
}

// abandoned is the age at which a folder that no Save has finished is nobody's.
const abandoned = time.Hour

// KeepNewest removes the oldest folders of parent, by name, until n are left,
// and what an interrupted Save left behind.
func KeepNewest(parent string, n int) error {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return err
	}
	var names []string
	var errs []error
	for _, e := range entries {
		switch {
		case !e.IsDir():
		case strings.HasPrefix(e.Name(), ".run-"):
			if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > abandoned {
				errs = append(errs, os.RemoveAll(filepath.Join(parent, e.Name())))
			}
		default:
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	for _, name := range names[:max(0, len(names)-n)] {
		errs = append(errs, os.RemoveAll(filepath.Join(parent, name)))
	}
	return errors.Join(errs...)
}
