package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

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
	defer hold()()
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
