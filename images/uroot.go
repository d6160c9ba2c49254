package images

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/u-root/gobusybox/src/pkg/golang"
	"github.com/u-root/mkuimage/cpio"
	"github.com/u-root/mkuimage/uimage"
	"github.com/u-root/uio/llog"
)

// urootCommands are the programs of u-root in the guest, as one binary; they
// are listed in commands.go too.
var urootCommands = strings.Fields(`
	cat cp date dd dmesg echo false find free gosh grep head hexdump id insmod ip
	kill ln ls lsmod mkdir mknod mount mv poweroff printenv ps pwd rm rmmod shasum
	sleep sync tail touch true umount uname wc`)

// shellTags builds u-root's shell without the line editor, which loses input
// on a serial line and is a third of its size.
const shellTags = "goshsmall"

func (s *source) commandsKey() string {
	return hashParts("u-root", initrdFormat, s.goVersion, s.sumHash, shellTags, strings.Join(urootCommands, " "))
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

func (s *source) buildBusybox(ctx context.Context, out, tmp string) error {
	packages := make([]string, len(urootCommands))
	for i, c := range urootCommands {
		packages[i] = "github.com/u-root/u-root/cmds/core/" + c
	}
	archive, err := cpio.ArchiveFromRecords(baseRecords())
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp(tmp, "u-root")
	if err != nil {
		return err
	}
	var said bytes.Buffer
	log := llog.New(slog.LevelWarn, llog.WritePrintf(&said))
	done := make(chan error, 1)
	go func() {
		done <- uimage.Create(log,
			uimage.WithReplaceEnv(golang.Default(
				golang.DisableCGO(), golang.WithGOOS("linux"), golang.WithGOARCH("amd64"),
				golang.WithGOROOT(s.goRoot), golang.WithWorkingDir(s.dir), golang.WithBuildTag(shellTags))),
			uimage.WithTempDir(work),
			uimage.WithSkipLDD(),
			uimage.WithBaseArchive(archive),
			uimage.WithBusyboxCommands(packages...),
			uimage.WithShell("gosh"),
			uimage.WithCPIOOutput(out),
		)
	}()
	select {
	case err = <-done:
	case <-ctx.Done():
		return ctx.Err() // the builder takes no context; it ends on its own
	}
	if err != nil {
		return fmt.Errorf("building u-root's commands for the initrd: %w\n%s", err, lastLines(&said))
	}
	return nil
}

func lastLines(r io.Reader) string {
	b, _ := io.ReadAll(r)
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-10):], "\n")
}
