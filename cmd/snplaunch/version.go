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
	v := version
	if v == "" {
		v = "devel"
		if info, ok := debug.ReadBuildInfo(); ok {
			for _, s := range info.Settings {
				if s.Key == "vcs.revision" {
					v = "devel-" + s.Value[:min(12, len(s.Value))]
				}
			}
		}
	}
	fmt.Fprintf(e.stdout, "snplaunch %s %s %s/%s\n", v, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return nil
}
