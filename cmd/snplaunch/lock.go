package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/guest/guestyaml"
	"github.com/snplaunch/snplaunch/hashes"
	"github.com/snplaunch/snplaunch/internal/strictyaml"
)

func lockVerb(e *env, args []string) error {
	fs := e.flags("lock", "guest.yaml [flags]\n\nWrites the SHA-256 of firmware, kernel and initrd into the description, so that another file is refused in their place. Comments and order stay.")
	check := fs.Bool("check", false, "write nothing; exit with 1 where a file has no pin or differs from it")
	file, _, err := parse(fs, args, 1)
	if err != nil {
		return err
	}
	if len(file) == 0 {
		return usageError("lock: name the description, e.g. guest.yaml")
	}
	data, err := strictyaml.File(file[0], "guest description")
	if err != nil {
		return err
	}
	path, err := filepath.EvalSymlinks(file[0]) // the file itself is replaced, not a link to it
	if err != nil {
		return err
	}
	g, err := guestyaml.Parse(data, file[0])
	if err != nil {
		return err
	}
	pins, err := pinsOf(&g)
	if err != nil {
		return err
	}
	var changed []error
	for _, p := range pins {
		switch {
		case p.old == nil:
			changed = append(changed, fmt.Errorf("%s has the SHA-256 %x, and the description no %s", p.path, p.SHA256, p.Key))
		case *p.old != p.SHA256:
			changed = append(changed, fmt.Errorf("%s has the SHA-256 %x, but %s is %x", p.path, p.SHA256, p.Key, *p.old))
		}
	}
	switch {
	case len(changed) == 0:
		fmt.Fprintf(e.stderr, "snplaunch: %s: %d pins hold\n", file[0], len(pins))
		return nil
	case *check:
		return &exitError{exitNo, errors.Join(changed...)}
	}
	var all []guestyaml.Pin
	for _, p := range pins {
		all = append(all, p.Pin)
	}
	out, err := guestyaml.SetPins(data, file[0], all)
	if err != nil {
		return err
	}
	if again, err := os.ReadFile(path); err != nil || !bytes.Equal(again, data) {
		return fmt.Errorf("%s changed while its files were hashed (run lock again)", file[0])
	}
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	if err := writeWithMode(st.Mode().Perm(), namedFile{path, out}); err != nil {
		return err
	}
	for _, c := range changed {
		fmt.Fprintf(e.stderr, "snplaunch: %v\n", c)
	}
	fmt.Fprintf(e.stderr, "snplaunch: %s: %d pins written\n", file[0], len(changed))
	return nil
}

// foundPin is what a file's pin is to be, beside what it is.
type foundPin struct {
	guestyaml.Pin
	path string
	old  *[32]byte
}

// pinsOf hashes the files that a description names. A command line is in the
// description itself; its digest is kept right where there is one.
func pinsOf(g *guest.Guest) ([]foundPin, error) {
	var out []foundPin
	for _, f := range []struct {
		of, path string
		old      *[32]byte
	}{{"firmware", g.Firmware, g.FirmwareSHA256}, {"kernel", g.Kernel, g.KernelSHA256}, {"initrd", g.Initrd, g.InitrdSHA256}} {
		if f.path == "" {
			continue
		}
		in, err := guest.OpenInput(f.path)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", f.of, f.path, err)
		}
		sum, err := in.SHA256()
		if err := errors.Join(err, in.File.Close()); err != nil {
			return nil, err
		}
		out = append(out, foundPin{guestyaml.Pin{Of: f.of, Key: f.of + "_sha256", SHA256: sum}, f.path, f.old})
	}
	if g.Append != "" && g.AppendSHA256 != nil {
		sum, err := hashes.Cmdline(g.Append)
		if err != nil {
			return nil, err
		}
		out = append(out, foundPin{guestyaml.Pin{Of: "append", Key: "append_sha256", SHA256: sum}, "append", g.AppendSHA256})
	}
	if len(out) == 0 {
		return nil, errors.New("the description names no file that could be pinned (name firmware, kernel or initrd)")
	}
	return out, nil
}
