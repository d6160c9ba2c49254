package main

import (
	"encoding/hex"
	"fmt"
	"io"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/hashes"
	"github.com/snplaunch/snplaunch/images"
)

func hashesVerb(e *env, args []string) error {
	fs := e.flags("hashes", "[guest.yaml] [flags]\n\nPrints the SHA-256 values that the kernel-hashes table holds.")
	gf := addGuestFlags(fs)
	asJSON := fs.Bool("json", false, "print an object")
	file, _, err := parse(fs, args, 1)
	if err != nil {
		return err
	}
	g, err := gf.guest(e.ctx, file, images.Options{}, false)
	if err != nil {
		return err
	}
	if g.Kernel == "" {
		return usageError("a kernel-hashes table is made for a kernel; name it with --kernel")
	}
	t, err := hashTable(g)
	if err != nil {
		return err
	}
	table := t.Bytes()
	if *asJSON {
		return e.json(map[string]string{"kernel": hex.EncodeToString(t.Kernel[:]), "initrd": hex.EncodeToString(t.Initrd[:]),
			"cmdline": hex.EncodeToString(t.Cmdline[:]), "table": hex.EncodeToString(table[:])})
	}
	fmt.Fprintf(e.stdout, "cmdline %x\ninitrd  %x\nkernel  %x\ntable   %x\n", t.Cmdline, t.Initrd, t.Kernel, table)
	return nil
}

// hashTable hashes a guest's kernel, initrd and command line; its firmware is
// not needed.
func hashTable(g *guest.Guest) (*hashes.Table, error) {
	readers := make([]io.Reader, 2)
	for i, path := range []string{g.Kernel, g.Initrd} {
		if path == "" {
			continue
		}
		in, err := guest.OpenInput(path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		defer in.File.Close()
		readers[i] = in.Reader()
	}
	return hashes.New(readers[0], readers[1], g.Append)
}
