package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// idblockVerbs are the second words of `snplaunch idblock`.
var idblockVerbs = []struct {
	name string
	run  func(*env, []string) error
}{
	{"create", idblockCreate},
	{"prepare", idblockPrepare},
	{"assemble", idblockAssemble},
	{"verify", idblockVerify},
	{"show", idblockShow},
	{"key-digest", idblockKeyDigest},
	{"keygen", idblockKeygen},
}

func idblockVerb(e *env, args []string) error {
	var names []string
	for _, v := range idblockVerbs {
		names = append(names, v.name)
	}
	if len(args) == 0 {
		return usageError("idblock: say what: %s", strings.Join(names, ", "))
	}
	for _, v := range idblockVerbs {
		if v.name == args[0] {
			return v.run(e, args[1:])
		}
	}
	return usageError("idblock: %q is none of %s", args[0], strings.Join(names, ", "))
}

// namedFile is what goes into a file.
type namedFile struct {
	path string
	data []byte
}

// writeTogether writes all files or none: under temporary names first, then
// renamed. It writes over what is there.
func writeTogether(files ...namedFile) error { return writeWithMode(0o644, files...) }

// writeWithMode is writeTogether for files of that mode.
func writeWithMode(mode os.FileMode, files ...namedFile) error {
	var made []string
	undo := func(err error) error {
		for _, m := range made {
			err = errors.Join(err, os.Remove(m))
		}
		return err
	}
	for _, f := range files {
		tmp, err := os.CreateTemp(filepath.Dir(f.path), "."+filepath.Base(f.path)+"-*")
		if err == nil {
			made = append(made, tmp.Name())
			_, err = tmp.Write(f.data)
			err = errors.Join(err, tmp.Chmod(mode), tmp.Close())
		}
		if err != nil {
			return undo(fmt.Errorf("writing %s: %w", f.path, err))
		}
	}
	for _, f := range files {
		if err := os.Rename(made[0], f.path); err != nil {
			return undo(err)
		}
		made = made[1:]
	}
	return nil
}
