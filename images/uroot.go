package images

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/u-root/mkuimage/cpio"

	"github.com/snplaunch/snplaunch/internal/childgroup"
)

// urootCommands are the programs of u-root in the guest, as one binary; they
// are listed in commands.go too.
var urootCommands = strings.Fields(`
	cat cp date dd dmesg echo false find free grep head hexdump id insmod ip
	kill ln ls lsmod mkdir mknod mount mv poweroff printenv ps pwd rm rmmod shasum
	sleep sync tail touch true umount uname wc`)

// shellDir is the guest's shell, a command of this repository in the same
// binary.
const shellDir = "images/sh"

func (s *source) commandsKey() string {
	return hashParts("u-root", initrdFormat, s.goVersion, s.commandsHash, strings.Join(urootCommands, " "))
}

// busybox gives u-root's part of the initrd. It takes u-root's builder half a
// minute, so the result is kept by the versions it was made from.
func (b *initrdBuild) busybox(ctx context.Context, s *source, tmp string) ([]cpio.Record, error) {
	path := b.cache.path("initrd", "uroot-"+s.commandsKey()[:16]+".cpio")
	if _, ok := b.cache.known(path); !ok {
		b.progress("building u-root's commands for the guest (about half a minute, once)")
		out := filepath.Join(tmp, "uroot.cpio")
		if err := s.buildBusybox(ctx, out, tmp); err != nil {
			return nil, err
		}
		if _, err := b.cache.add(out, path); err != nil {
			return nil, err
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("u-root's commands: %w", err)
	}
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(data)))
	if err != nil {
		return nil, fmt.Errorf("u-root's commands in %s: %w", path, err)
	}
	return records, nil
}

// buildBusybox runs mkuroot, as a program of its own: see there.
func (s *source) buildBusybox(ctx context.Context, out, tmp string) error {
	work, err := os.MkdirTemp(tmp, "u-root")
	if err != nil {
		return err
	}
	args := []string{"run", "-trimpath", "-buildvcs=false", "./images/mkuroot",
		"-o", out, "-tmp", work, "-goroot", s.goRoot, "-shell", modulePath + "/" + shellDir}
	cmd := exec.CommandContext(ctx, "go", append(args, urootCommands...)...)
	cmd.Dir = s.dir
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	childgroup.Of(cmd)
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("building u-root's commands for the initrd: %w\n%s", err, lastLines(&said))
	}
	return nil
}

func lastLines(r io.Reader) string {
	b, _ := io.ReadAll(r)
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-10):], "\n")
}
