// Package ci hands the shards of a matrix to the systems that run them: as the
// matrix of a GitHub Actions job, as a child pipeline of GitLab, as an indexed
// Job of Kubernetes. Start with Write.
//
// Nothing here plans: which cells a shard has is decided by every shard for
// itself, alike, from the matrix.
package ci

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/snplaunch/snplaunch/internal/shell"
	"github.com/snplaunch/snplaunch/internal/suggest"
)

// Plan is a matrix, divided.
type Plan struct {
	Name    string   // of the matrix
	Matrix  string   // its file, as the machines that run it find it
	Backend string   // "snp" or "sim"; empty: each machine's own choice
	Select  []string // words of `e2e run` that say which cells are meant; empty: all
	Shards  []Shard
}

// Shard is a part of a matrix.
type Shard struct {
	Cells int
	Cost  time.Duration // what it is thought to take
}

// Options say what the machines are like.
type Options struct {
	Image        string   // container image that has snplaunch, QEMU and what guests are made of
	Tags         []string // of GitLab's runners
	Devices      []string // Kubernetes: resource names of the device plugin that gives /dev/sev and /dev/kvm
	NodeSelector map[string]string
	HostDevices  bool   // Kubernetes: take /dev/sev and /dev/kvm from the node instead, in a privileged container
	Claim        string // Kubernetes: the PersistentVolumeClaim that takes the results
}

// Kubernetes' names for a node that launches SNP guests, where nothing else is
// said: the device plugin of KubeVirt, and the label of Node Feature Discovery.
var (
	defaultDevices  = []string{"devices.kubevirt.io/sev", "devices.kubevirt.io/kvm"}
	defaultSelector = map[string]string{"feature.node.kubernetes.io/cpu-security.sev.snp.enabled": "true"}
)

// Formats lists what Write writes.
var Formats = []string{"github-matrix", "gitlab", "k8s-job"}

// Write writes a plan in one of Formats.
func Write(w io.Writer, format string, p Plan, o Options) error {
	if len(p.Shards) == 0 {
		return fmt.Errorf("the plan of %s has no shards", p.Matrix)
	}
	switch format {
	case "github-matrix":
		return github(w, p)
	case "gitlab":
		return gitlab(w, p, o)
	case "k8s-job":
		return kubernetes(w, p, o)
	}
	return fmt.Errorf("%q is no format of a plan (%s)", format, suggest.Remedy(format, Formats))
}

// run is the command that runs a shard, for a shell. Number and file are
// written as that shell takes them.
func (p Plan) run(number, file string, more ...string) string {
	words := []string{"snplaunch", "e2e", "run", shell.Quote(p.Matrix), "--shard", fmt.Sprintf(`"%s/%d"`, number, len(p.Shards)), "--results", file}
	if p.Backend != "" {
		words = append(words, "--backend", shell.Quote(p.Backend))
	}
	for _, w := range p.Select {
		words = append(words, shell.Quote(w))
	}
	return strings.Join(append(words, more...), " ")
}

func minutes(d time.Duration) int { return int(math.Ceil(d.Minutes())) }

// maxGitHub is how many jobs GitHub Actions makes of one matrix.
const maxGitHub = 256

// github writes one line, for $GITHUB_OUTPUT and then fromJSON in
// strategy.matrix.
func github(w io.Writer, p Plan) error {
	if len(p.Shards) > maxGitHub {
		return fmt.Errorf("%d shards: a matrix of GitHub Actions has at most %d jobs", len(p.Shards), maxGitHub)
	}
	type job struct {
		Shard   string `json:"shard"` // "3/8"
		Number  int    `json:"number"`
		Cells   int    `json:"cells"`
		Minutes int    `json:"minutes"` // rounded up
	}
	var m struct {
		Include []job `json:"include"`
	}
	for i, s := range p.Shards {
		m.Include = append(m.Include, job{fmt.Sprintf("%d/%d", i+1, len(p.Shards)), i + 1, s.Cells, minutes(s.Cost)})
	}
	return json.NewEncoder(w).Encode(m)
}

func encode(w io.Writer, comment string, v any) error {
	if _, err := io.WriteString(w, comment); err != nil {
		return err
	}
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(v); err != nil {
		return err
	}
	return enc.Close()
}
