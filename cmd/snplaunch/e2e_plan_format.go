package main

import (
	"bytes"
	"flag"
	"fmt"
	"slices"
	"strings"

	"github.com/snplaunch/snplaunch/e2e"
	"github.com/snplaunch/snplaunch/e2e/ci"
	"github.com/snplaunch/snplaunch/internal/suggest"
)

// planFormat are the flags of `e2e plan` that hand shards to a system which runs them.
type planFormat struct {
	name   string
	shards int
	o      ci.Options
}

// formatsOf says for which formats a flag of planFormat means something.
var formatsOf = map[string][]string{
	"shards": ci.Formats, "image": {"gitlab", "k8s-job"}, "tags": {"gitlab"},
	"devices": {"k8s-job"}, "node-selector": {"k8s-job"}, "host-devices": {"k8s-job"}, "claim": {"k8s-job"},
}

func addPlanFormatFlags(fs *flag.FlagSet) *planFormat {
	f := &planFormat{}
	list := func(into *[]string) func(string) error {
		return func(v string) error {
			for _, word := range strings.Split(v, ",") {
				if word == "" {
					return fmt.Errorf("%q has an empty name", v)
				}
				*into = append(*into, word)
			}
			return nil
		}
	}
	fs.StringVar(&f.name, "format", "", "`github-matrix|gitlab|k8s-job`: print what runs the matrix in shards, as a system for that takes it: the matrix of a job of GitHub Actions, a child pipeline of GitLab, an indexed Job of Kubernetes")
	fs.IntVar(&f.shards, "shards", 1, "`N`: into how many parts --format divides the matrix")
	fs.StringVar(&f.o.Image, "image", "", "`IMAGE`: of the container that runs a shard (gitlab, k8s-job)")
	fs.Func("tags", "`TAG,…`: of the runners (gitlab)", list(&f.o.Tags))
	fs.Func("devices", "`NAME,…`: resources that a pod asks its device plugin for (k8s-job; default: devices.kubevirt.io/sev,devices.kubevirt.io/kvm)", list(&f.o.Devices))
	fs.Func("node-selector", "`LABEL=VALUE`: of the nodes (k8s-job; default: those on which Node Feature Discovery has found SNP); may be given several times", func(v string) error {
		label, value, ok := strings.Cut(v, "=")
		if !ok || label == "" {
			return fmt.Errorf("%q is no LABEL=VALUE", v)
		}
		if f.o.NodeSelector == nil {
			f.o.NodeSelector = map[string]string{}
		}
		f.o.NodeSelector[label] = value
		return nil
	})
	fs.BoolVar(&f.o.HostDevices, "host-devices", false, "take /dev/sev and /dev/kvm from the node, in a privileged container (k8s-job; without a device plugin)")
	fs.StringVar(&f.o.Claim, "claim", "", "`NAME`: of the PersistentVolumeClaim that takes the results (k8s-job)")
	return f
}

// check finds flags that do not go together.
func (f *planFormat) check(fs *flag.FlagSet, s *selectionFlags, asJSON bool) error {
	if f.name != "" && !slices.Contains(ci.Formats, f.name) {
		return usageError("--format %q is no format of a plan (%s)", f.name, suggest.Remedy(f.name, ci.Formats))
	}
	var err error
	fs.Visit(func(set *flag.Flag) {
		if fits, ours := formatsOf[set.Name]; ours && err == nil && !slices.Contains(fits, f.name) {
			err = usageError("--%s is for --format %s", set.Name, strings.Join(fits, ", "))
		}
	})
	switch {
	case err != nil || f.name == "":
		return err
	case asJSON:
		return usageError("--json and --format are two forms of a plan; choose one")
	case s.shard.Of > 0:
		return usageError("--format is for all shards of a matrix: give --shards %d instead of --shard %s", s.shard.Of, s.shard)
	case f.shards < 1:
		return usageError("--shards %d: at least one", f.shards)
	case len(f.o.Devices) > 0 && f.o.HostDevices:
		return usageError("--devices asks a device plugin, --host-devices is for nodes without one; choose one")
	}
	s.shard = e2e.Shard{Number: 1, Of: f.shards} // each cell is told whose it is
	return nil
}

func (f *planFormat) write(e *env, p *planned, s *selectionFlags) error {
	if f.shards > len(p.plan.All) {
		return usageError("--shards %d: there are %d cells", f.shards, len(p.plan.All))
	}
	out := ci.Plan{Name: p.matrix.Name, Matrix: p.matrix.Path, Select: s.words, Shards: make([]ci.Shard, f.shards)}
	if *s.backend != "auto" {
		out.Backend = *s.backend
	}
	for _, c := range p.plan.All {
		shard := &out.Shards[c.Shard-1]
		shard.Cells++
		shard.Cost += c.Cost
	}
	var text bytes.Buffer
	if err := ci.Write(&text, f.name, out, f.o); err != nil {
		return &exitError{exitUsage, err} // it lacks a flag
	}
	_, err := e.stdout.Write(text.Bytes())
	return err
}
