package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/snplaunch/snplaunch/guest/guestyaml"
	"github.com/snplaunch/snplaunch/images"
	"github.com/snplaunch/snplaunch/internal/shell"
)

// schemaFile is what init --with-schema writes beside a description.
const schemaFile = "guest.schema.json"

func initVerb(e *env, args []string) error {
	flags := e.flags("init", "[FILE] [flags]\n\nWrites a description with comments, guest.yaml where no file is named, filled in with the parts that are found on this machine.")
	force := flags.Bool("force", false, "write over a file that is there")
	withSchema := flags.Bool("with-schema", false, "write "+schemaFile+" beside it, and name it for editors in the first line")
	file, _, err := parse(flags, args, 1)
	if err != nil {
		return err
	}
	path := "guest.yaml"
	if len(file) > 0 {
		path = file[0]
	}
	set, err := images.Find(e.ctx, images.Options{})
	if err != nil {
		return err
	}
	files := []namedFile{{path, []byte(initial(set, *withSchema))}}
	if *withSchema {
		text, err := guestyaml.Schema()
		if err != nil {
			return err
		}
		files = append(files, namedFile{filepath.Join(filepath.Dir(path), schemaFile), text})
	}
	for _, f := range files {
		if _, err := os.Lstat(f.path); err == nil && !*force {
			return fmt.Errorf("%s is there already (name another file, or give --force)", f.path)
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := writeTogether(files...); err != nil {
		return err
	}
	for _, m := range set.Missing() {
		fmt.Fprintln(e.stderr, "snplaunch: note: "+m)
	}
	fmt.Fprintf(e.stderr, "snplaunch: wrote %s; `snplaunch run %s` launches it\n", path, shell.Quote(path))
	return nil
}

// initial is a description to begin with. What is not found is left to run, which looks
// again.
func initial(set *images.Set, schema bool) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	part := func(key string, a images.Artifact, missing string) {
		if a.Path == "" {
			line("# %s: %s", key, missing)
			return
		}
		line("%s: %s", key, strconv.Quote(a.Path))
	}
	if schema {
		line("# yaml-language-server: $schema=./%s", schemaFile)
	}
	line("# A guest of snplaunch. What is commented out shows its default, or an example.")
	line("# Relative paths are relative to the folder of this file.")
	line("")
	line("# What is measured. `snplaunch lock` pins the files by their SHA-256,")
	line("# `snplaunch measure` prints the launch digest.")
	part("firmware", set.Firmware, "OVMF.amdsev.fd")
	kernel, initrd := set.Kernel, set.Initrd
	if kernel.Path == "" || initrd.Path == "" { // one without the other boots no guest
		kernel, initrd = images.Artifact{}, images.Artifact{}
	}
	part("kernel", kernel, "vmlinuz")
	part("initrd", initrd, "initrd.img")
	line("append: %s", images.DefaultAppend)
	line("vcpus: 1")
	line("cpu: EPYC-v4 # or EPYC-Milan, EPYC-Genoa…; host is this machine's")
	line("# kernel_hashes: true")
	line("# host_kernel: 6.12 # what the host runs, where it is older than 6.11")
	line("")
	line("# What is not in the digest, but in the report or the ID block.")
	line("policy: 0x30000 # SMT allowed, no debugging")
	line("# host_data: %q", strings.Repeat("0", 64))
	line("# id_block:")
	line("#   mode: sign # or none, or files")
	line("#   id_key: id.pem # without it a key is made for each run")
	line("#   author_key: author.pem")
	line("#   family_id: %q", strings.Repeat("0", 32))
	line("#   image_id: %q", strings.Repeat("0", 32))
	line("#   guest_svn: 0")
	line("")
	line("# What is not measured.")
	line("memory_mib: 512")
	line("# disks:")
	line("#   - file: disk.qcow2")
	line("#     format: qcow2")
	line("#     read_only: true")
	line("# network:")
	line("#   forwards: [\"2222:22\"] # HOST:GUEST; auto:22 for a free port")
	line("# vsock: auto")
	line("# files:")
	line("#   in:")
	line("#     - {host: tool, guest: /bin/tool, mode: \"0755\"}")
	line("#   out:")
	line("#     - {guest: /tmp/result, host: result}")
	line("# command: [uname, -a]")
	line("# env:")
	line("#   LANG: C")
	line("# timeout: 3m")
	return b.String()
}
