package main

import (
	"encoding/hex"
	"fmt"

	"github.com/snplaunch/snplaunch/measure"
)

func hashesVerb(e *env, args []string) error {
	fs := e.flags("hashes", "[guest.yaml] [flags]\n\nPrints the SHA-256 values that the kernel-hashes table holds.")
	gf := addGuestFlags(fs)
	asJSON := fs.Bool("json", false, "print an object")
	file, _, err := parse(fs, args, 1)
	if err != nil {
		return err
	}
	g, err := gf.guest(e.ctx, file, false)
	if err != nil {
		return err
	}
	t, err := measure.HashTable(g)
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
