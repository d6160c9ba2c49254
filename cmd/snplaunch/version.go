package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// version is set by release builds (-ldflags "-X main.version=…").
var version = ""

func versionVerb(e *env, args []string) error {
	fs := e.flags("version", "")
	if _, _, err := parse(fs, args, 0); err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "snplaunch %s %s %s/%s\n", versionName(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return nil
}

// versionName is the version of this program.
func versionName() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return "devel-" + s.Value[:min(12, len(s.Value))]
			}
		}
	}
	return "devel"
}
