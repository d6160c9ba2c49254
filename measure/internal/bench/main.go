// Command bench times whole processes against each other on the same files:
// snplaunch, the bare hasher and, where they are there, other tools that compute
// launch digests. scripts/bench builds what it needs and starts it.
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

func main() {
	var c config
	flag.IntVar(&c.rounds, "n", 15, "`N`: rounds; in each, every command runs once")
	flag.StringVar(&c.snplaunch, "snplaunch", "", "`FILE`: the program to measure")
	flag.StringVar(&c.bare, "bare", "", "`FILE`: the bare hasher")
	flag.StringVar(&c.firmware, "ovmf", "", "`FILE`: firmware")
	flag.StringVar(&c.kernel, "kernel", "", "`FILE`: kernel")
	flag.Int64Var(&c.initrdMiB, "initrd-mib", 64, "`MIB`: size of the initrd, which is made for this run")
	peers := []*peer{{name: "sev-snp-measure"}, {name: "snpguest"}}
	for _, p := range peers {
		flag.Var(p, p.name, "`COMMAND`: how to call it, words separated by blanks; else it is looked for in PATH")
	}
	flag.Parse()
	for _, p := range peers {
		p.find()
	}
	if err := c.run(os.Stdout, peers); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type config struct {
	rounds                            int
	snplaunch, bare, firmware, kernel string
	initrdMiB                         int64
}

// peer is another tool.
type peer struct {
	name    string
	command []string // empty: not there
}

func (p *peer) String() string { return strings.Join(p.command, " ") }

// Set takes the command; an empty one means the same as none.
func (p *peer) Set(s string) error {
	p.command = strings.Fields(s)
	return nil
}

func (p *peer) find() {
	if path, err := exec.LookPath(p.name); err == nil && len(p.command) == 0 {
		p.command = []string{path}
	}
}

// call gives the peer's command line for a measurement.
func (p *peer) call(args []string) []string {
	verb := []string{"--mode", "snp"}
	if p.name == "snpguest" {
		verb = []string{"generate", "measurement"}
	}
	return slices.Concat(p.command, verb, args)
}

func (c *config) run(out io.Writer, peers []*peer) error {
	for _, path := range []string{c.snplaunch, c.bare, c.firmware, c.kernel} {
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("something to run or to hash is missing: %w", err)
		}
	}
	if c.rounds < 1 {
		return errors.New("-n must be at least 1")
	}
	dir, err := os.MkdirTemp("", "snplaunch-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	initrd := filepath.Join(dir, "initrd")
	if err := random(initrd, c.initrdMiB<<20); err != nil {
		return err
	}

	guest := []string{"--vcpus", "4", "--vcpu-type", "EPYC-v4", "--ovmf", c.firmware}
	boot := slices.Concat(guest, []string{"--kernel", c.kernel, "--initrd", initrd, "--append", "console=ttyS0"})
	features := make([]string, 16)
	for i := range features {
		features[i] = fmt.Sprintf("0x%x", i<<1|1)
	}
	const cells = 512 * 6 * 16
	for _, b := range []struct {
		title string
		runs  []command
		peers []string // the arguments with which peers take part
	}{
		{fmt.Sprintf("firmware, kernel and an initrd of %d MiB, 4 vCPUs", c.initrdMiB), []command{
			{"snplaunch", slices.Concat([]string{c.snplaunch, "measure"}, boot)},
			{"bare hasher", []string{c.bare, c.firmware, c.kernel, initrd}},
		}, boot},
		{"firmware only, 4 vCPUs", []command{
			{"snplaunch", slices.Concat([]string{c.snplaunch, "measure"}, guest)},
			{"bare hasher", []string{c.bare, c.firmware}},
			{"snplaunch version", []string{c.snplaunch, "version"}},
		}, guest},
		{fmt.Sprintf("matrix of 512 vCPU counts, 6 models and 16 words of features: %d digests, with their CSV", cells), []command{
			{"snplaunch", []string{c.snplaunch, "measure", "--ovmf", c.firmware, "--matrix", "--vcpus", "1-512", "--vcpu-type", "all", "--guest-features", strings.Join(features, ";"), "--output-format", "csv"}},
			{"bare chains", []string{c.bare, "-chain", fmt.Sprint(cells)}},
		}, nil},
	} {
		for _, p := range peers {
			if b.peers != nil && len(p.command) > 0 {
				b.runs = append(b.runs, command{p.name, p.call(b.peers)})
			}
		}
		fmt.Fprintf(out, "%s\n", b.title)
		if err := compare(out, b.runs, c.rounds); err != nil {
			return err
		}
	}
	for _, p := range peers {
		if len(p.command) == 0 {
			fmt.Fprintf(out, "%s is not there, so it took no part.\n", p.name)
		}
	}
	return nil
}

// random makes a file of bytes that do not repeat.
func random(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, rand.NewChaCha8([32]byte{}), size)
	return errors.Join(err, f.Close())
}

type command struct {
	name string
	argv []string
}

// figures are those of one run.
type figures struct {
	wall, cpu time.Duration
	peak      int64 // KiB
	digest    string
}

// launchDigest is the first one in a tool's output.
var launchDigest = regexp.MustCompile(`\b(?:0x)?([0-9a-f]{96})\b`)

// head keeps the beginning of an output and lets the rest go: this program must
// stay small, because a process that it starts is born with its peak memory.
type head struct{ kept []byte }

func (h *head) Write(p []byte) (int, error) {
	const limit = 4 << 10
	h.kept = append(h.kept, p[:min(len(p), limit-len(h.kept))]...)
	return len(p), nil
}

func (c *command) run() (figures, error) {
	var stdout, stderr head
	cmd := exec.Command(c.argv[0], c.argv[1:]...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	start := time.Now()
	err := cmd.Run()
	f := figures{wall: time.Since(start)}
	if err != nil {
		return f, fmt.Errorf("%s: %w\n%s", strings.Join(c.argv, " "), err, stderr.kept)
	}
	f.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	f.peak = cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss
	if m := launchDigest.FindSubmatch(stdout.kept); m != nil {
		f.digest = string(m[1])
	}
	return f, nil
}

// compare runs all commands in turn, round by round after one that does not
// count, and prints medians. Ratios are those within a round, first command to
// this one, so that a machine whose speed drifts does not matter.
func compare(out io.Writer, commands []command, rounds int) error {
	all := make([][]figures, len(commands))
	for round := range rounds + 1 {
		for i := range commands {
			f, err := commands[i].run()
			if err != nil {
				return err
			}
			if round > 0 {
				all[i] = append(all[i], f)
			}
		}
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\twall ms\tcpu ms\tpeak MiB\twall ratio\tcpu ratio\t")
	for i, c := range commands {
		own, first := all[i], all[0]
		ratio := func(of func(figures) time.Duration) string {
			if i == 0 {
				return "-"
			}
			var rs []float64
			for n := range own {
				rs = append(rs, float64(of(first[n]))/float64(max(of(own[n]), 1)))
			}
			return fmt.Sprintf("%.2f", median(rs))
		}
		wall := func(f figures) time.Duration { return f.wall }
		cpu := func(f figures) time.Duration { return f.cpu }
		fmt.Fprintf(w, "%s\t%.1f\t%.1f\t%.1f\t%s\t%s\t\n", c.name, ms(own, wall), ms(own, cpu), median(column(own, func(f figures) float64 { return float64(f.peak) / 1024 })), ratio(wall), ratio(cpu))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for i, c := range commands[1:] {
		if theirs, ours := all[i+1][0].digest, all[0][0].digest; theirs != "" && ours != "" && !strings.HasPrefix(c.name, "bare") && theirs != ours {
			fmt.Fprintf(out, "%s has another digest: %s, snplaunch %s\n", c.name, theirs, ours)
		}
	}
	_, err := fmt.Fprintln(out)
	return err
}

func ms(fs []figures, of func(figures) time.Duration) float64 {
	return median(column(fs, func(f figures) float64 { return float64(of(f)) / float64(time.Millisecond) }))
}

func column(fs []figures, of func(figures) float64) []float64 {
	var out []float64
	for _, f := range fs {
		out = append(out, of(f))
	}
	return out
}

func median[T cmp.Ordered](v []T) T {
	v = slices.Clone(v)
	slices.Sort(v)
	return v[len(v)/2]
}
