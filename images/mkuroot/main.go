// Command mkuroot builds u-root's part of the guest's initrd: commands of
// u-root and a shell as one binary, in an archive for package images to add to. Package
// images runs it with `go run`: u-root's builder needs Go and snplaunch's
// sources anyway, and so it need not be in every program that uses package
// images.
package main

import (
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path"

	"github.com/u-root/gobusybox/src/pkg/golang"
	"github.com/u-root/mkuimage/uimage"
	"github.com/u-root/uio/llog"
)

func main() {
	out := flag.String("o", "", "`FILE` to write the archive to")
	tmp := flag.String("tmp", "", "`FOLDER` for what is in between")
	goRoot := flag.String("goroot", "", "`FOLDER` of the Go that compiles")
	shell := flag.String("shell", "", "`PACKAGE` of the command that /bin/sh is")
	flag.Parse()
	if err := build(*out, *tmp, *goRoot, *shell, flag.Args()); err != nil {
		fmt.Fprintf(os.Stderr, "mkuroot: %v\n", err)
		os.Exit(1)
	}
}

func build(out, tmp, goRoot, shell string, commands []string) error {
	packages := make([]string, len(commands))
	for i, c := range commands {
		packages[i] = "github.com/u-root/u-root/cmds/core/" + c
	}
	packages = append(packages, shell)
	return uimage.Create(llog.New(slog.LevelWarn, llog.WritePrintf(os.Stderr)),
		uimage.WithReplaceEnv(golang.Default(
			golang.DisableCGO(), golang.WithGOOS("linux"), golang.WithGOARCH("amd64"),
			golang.WithGOROOT(goRoot))),
		uimage.WithTempDir(tmp),
		uimage.WithSkipLDD(),
		uimage.WithBusyboxCommands(packages...),
		uimage.WithShell(path.Base(shell)),
		uimage.WithCPIOOutput(out),
	)
}
