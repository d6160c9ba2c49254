package main

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/measure"
	"github.com/snplaunch/snplaunch/vmsa"
)

// matrixFlags are --matrix and the flags that take several values with it. Which
// of the two they take is only known when all flags have been read, so until
// then their arguments are kept.
type matrixFlags struct {
	on    bool
	kept  []keptArgument
	vcpus []int
	cpus  []string
	words []uint64 // SEV_FEATURES
	axes  measure.Axes
}

type keptArgument struct {
	flag  string
	value flag.Value // takes it where it is a single value
	arg   string
}

// keeper stands for a flag until then.
type keeper struct {
	flag.Value
	name string
	m    *matrixFlags
}

func (k keeper) Set(s string) error {
	k.m.kept = append(k.m.kept, keptArgument{k.name, k.Value, s})
	return nil
}

// addMatrixFlags goes after all other flags.
func addMatrixFlags(fs *flag.FlagSet) *matrixFlags {
	m := &matrixFlags{}
	fs.BoolVar(&m.on, "matrix", false, "measure all combinations of what these flags then take: --vcpus 1,2,4,8-16, --vcpu-type all or MODEL,MODEL…, --guest-features several times or with ; between; --output-format table|json|csv")
	for _, name := range []string{"vcpus", "vcpu-type", "cpu", "guest-features"} {
		f := fs.Lookup(name)
		f.Value = keeper{f.Value, name, m}
	}
	return m
}

// settle hands over what was kept: to the flags, or with --matrix to m, and one
// value of each to the flags.
func (m *matrixFlags) settle() error {
	for _, k := range m.kept {
		first := k.arg
		var err error
		if m.on {
			first, err = m.several(k.flag, k.arg)
		}
		if err == nil {
			err = k.value.Set(first)
		}
		if err != nil && !m.on && strings.ContainsAny(k.arg, ",;-") {
			err = fmt.Errorf("%w (several values need --matrix)", err)
		}
		if err != nil {
			return usageError("measure: invalid value %q for flag -%s: %w; `snplaunch measure --help` lists the flags", k.arg, k.flag, err)
		}
	}
	return nil
}

// several reads several values and gives one that stands for them where the
// guest is described by a single one: of vCPU counts the largest.
func (m *matrixFlags) several(name, arg string) (one string, err error) {
	switch name {
	case "vcpus":
		counts, err := parseCounts(arg)
		if err != nil {
			return "", err
		}
		m.vcpus = append(m.vcpus, counts...)
		slices.Sort(m.vcpus)
		m.vcpus = slices.Compact(m.vcpus)
		return strconv.Itoa(m.vcpus[len(m.vcpus)-1]), nil
	case "guest-features":
		for _, word := range strings.Split(arg, ";") {
			v, err := vmsa.ParseFeatures(strings.TrimSpace(word))
			if err != nil {
				return "", err
			}
			if !slices.Contains(m.words, v) {
				m.words = append(m.words, v)
			}
		}
		return fmt.Sprintf("0x%x", m.words[0]), nil
	default:
		for _, model := range splitModels(arg) {
			if !slices.Contains(m.cpus, model) {
				m.cpus = append(m.cpus, model)
			}
		}
		return m.cpus[0], nil
	}
}

// maxCounts bounds how many vCPU counts one argument can stand for, so that a slip
// of the finger does not take all memory; what a guest can have is judged later.
const maxCounts = 1 << 16

// parseCounts reads "1-64" or "1,2,4,8-16".
func parseCounts(s string) ([]int, error) {
	var out []int
	for _, part := range strings.Split(s, ",") {
		low, high, isRange := strings.Cut(part, "-")
		from, err := parseCount(low)
		to := from
		if err == nil && isRange {
			to, err = parseCount(high)
		}
		switch {
		case err != nil:
			return nil, fmt.Errorf("%q is neither a number of vCPUs from 1 to %d nor a range such as 1-64", part, maxCounts)
		case to < from:
			return nil, fmt.Errorf("the range %s ends before it begins", part)
		}
		for n := from; n <= to; n++ {
			out = append(out, n)
		}
	}
	return out, nil
}

func parseCount(s string) (int, error) {
	n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 32)
	if err == nil && (n < 1 || n > maxCounts) {
		err = strconv.ErrRange
	}
	return int(n), err
}

// splitModels reads a list of models. What follows a comma and is a property, as
// in EPYC,family=25, belongs to the model before it.
func splitModels(s string) []string {
	if strings.EqualFold(s, "all") {
		var out []string
		for _, m := range vmsa.Models() {
			out = append(out, m.Name)
		}
		return out
	}
	var out []string
	for _, part := range strings.Split(s, ",") {
		if len(out) > 0 && (strings.Contains(part, "=") || strings.HasPrefix(part, "+") || strings.HasPrefix(part, "-")) {
			out[len(out)-1] += "," + part
			continue
		}
		out = append(out, strings.TrimSpace(part))
	}
	return out
}

// formats lists what --output-format may say, the default first.
func (m *matrixFlags) formats() []string {
	if m.on {
		return []string{"table", "json", "csv"}
	}
	return []string{"hex", "base64"}
}

// combine settles what is combined. Where a flag was not given, it is the
// guest's own. What is wrong with further values joins r's obstacles.
func (m *matrixFlags) combine(r *measured, gf *guestFlags) error {
	if !m.on {
		return nil
	}
	if len(m.cpus) > 1 && (gf.cpu.sig != nil || gf.cpu.family != nil) {
		return usageError("a signature stands for one kind of vCPU, but --vcpu-type names %d; give one of them", len(m.cpus))
	}
	if m.axes.VCPUs = m.vcpus; len(m.vcpus) == 0 {
		m.axes.VCPUs = []int{r.guest.VCPUs}
	}
	if m.axes.Features = m.words; len(m.words) == 0 {
		m.axes.Features = []uint64{r.GuestFeatures}
	}
	guests := []guest.Guest{*r.guest}
	for _, name := range m.cpus[min(1, len(m.cpus)):] {
		one := *r.guest
		one.CPU, one.CPUSig = name, nil
		if err := resolveHost(&one, func(s string) { r.notes = append(r.notes, s) }); err != nil {
			return fmt.Errorf("--vcpu-type: %w", err)
		}
		guests = append(guests, one)
	}
	for i := range guests {
		cpu, err := measure.MatrixCPUOf(&guests[i], r.options)
		if err != nil {
			return fmt.Errorf("--vcpu-type: %w", err)
		}
		m.axes.CPUs = append(m.axes.CPUs, cpu)
	}
	for _, features := range m.words {
		one := *r.guest
		one.GuestFeatures = features
		obstacles, err := one.ValidateMeasure()
		if err != nil {
			return err
		}
		for _, o := range obstacles {
			if !slices.ContainsFunc(r.Obstacles, func(have error) bool { return have.Error() == o.Error() }) {
				r.Obstacles = append(r.Obstacles, o)
			}
		}
	}
	return nil
}

// matrixOutput is the JSON form of `measure --matrix`; its cells are written one
// by one.
type matrixOutput struct {
	Mode           string            `json:"mode"`
	HostKernel     hostKernelOutput  `json:"host_kernel"`
	APReset        string            `json:"ap_reset,omitempty"`
	FirmwareSHA256 string            `json:"firmware_sha256,omitempty"`
	KernelHashes   map[string]string `json:"kernel_hashes"`
	Notes          []string          `json:"notes,omitempty"`
	Warnings       []string          `json:"warnings,omitempty"`
}

type matrixCell struct {
	VCPUs         int    `json:"vcpus"`
	CPU           string `json:"cpu"`
	CPUSig        string `json:"cpu_sig"`
	GuestFeatures string `json:"guest_features"`
	LaunchDigest  string `json:"launch_digest"`
}

// cellWriter writes cells in one format.
type cellWriter struct {
	begin func() error
	cell  func(matrixCell) error
	end   func() error
}

// newCellWriter gives the writer for a format. head is what JSON says beside the cells.
func newCellWriter(w *bufio.Writer, format string, a *measure.Axes, head *matrixOutput) *cellWriter {
	switch format {
	case "json":
		first := true
		return &cellWriter{
			begin: func() error {
				raw, err := json.Marshal(head)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(w, "%s,\"cells\":[", raw[:len(raw)-1])
				return err
			},
			cell: func(c matrixCell) error {
				raw, err := json.Marshal(c)
				if err != nil {
					return err
				}
				separator := ",\n"
				if first {
					first, separator = false, "\n"
				}
				w.WriteString(separator)
				_, err = w.Write(raw)
				return err
			},
			end: func() error { _, err := w.WriteString("\n]}\n"); return err },
		}
	case "csv":
		c := csv.NewWriter(w)
		record := make([]string, 5)
		return &cellWriter{
			begin: func() error { return c.Write([]string{"vcpus", "cpu", "cpu_sig", "guest_features", "launch_digest"}) },
			cell: func(x matrixCell) error {
				record[0], record[1], record[2], record[3], record[4] = strconv.Itoa(x.VCPUs), x.CPU, x.CPUSig, x.GuestFeatures, x.LaunchDigest
				return c.Write(record)
			},
			end: func() error { c.Flush(); return c.Error() },
		}
	default:
		// Columns are as wide as their widest value, which the axes tell beforehand.
		cpu, features := len("CPU"), len("FEATURES")
		for _, c := range a.CPUs {
			cpu = max(cpu, len(c.Name))
		}
		for _, f := range a.Features {
			features = max(features, len(fmt.Sprintf("0x%x", f)))
		}
		row := func(vcpus, name, sig, word, digest string) error {
			_, err := fmt.Fprintf(w, "%5s  %-*s  %-10s  %-*s  %s\n", vcpus, cpu, name, sig, features, word, digest)
			return err
		}
		return &cellWriter{
			begin: func() error { return row("VCPUS", "CPU", "SIGNATURE", "FEATURES", "LAUNCH DIGEST") },
			cell: func(x matrixCell) error {
				return row(strconv.Itoa(x.VCPUs), x.CPU, x.CPUSig, x.GuestFeatures, x.LaunchDigest)
			},
			end: func() error { return nil },
		}
	}
}

// print measures and prints all cells.
func (m *matrixFlags) print(p *measurePrinter, r *measured) error {
	a := &m.axes
	cells, err := measure.Matrix(r.Result, *a)
	if err != nil {
		return fmt.Errorf("--matrix: %w", err)
	}
	all, err := p.object(r)
	if err != nil {
		return err
	}
	format := p.format
	if p.asJSON {
		format = "json"
	}
	w := bufio.NewWriter(p.stdout)
	out := newCellWriter(w, format, a, &matrixOutput{all.Mode, all.HostKernel, all.APReset, all.FirmwareSHA256, all.KernelHashes, all.Notes, all.Warnings})
	if err := out.begin(); err != nil {
		return err
	}
	bar := p.progressBar("digests", a.Cells())
	defer bar.end()
	const look = 1024 // cells between looks at the clock
	done := 0
	var x matrixCell
	var last measure.Cell // the first with the CPU and features that x has
	for c := range cells {
		if done%look == 0 {
			if err := p.ctx.Err(); err != nil {
				return fmt.Errorf("--matrix was interrupted after %d of %d digests: %w", done, a.Cells(), err)
			}
			bar.at(done, time.Now())
		}
		done++
		if done == 1 || c.CPU != last.CPU || c.Features != last.Features {
			last = c
			x.CPU, x.CPUSig, x.GuestFeatures = c.CPU.Name, fmt.Sprintf("0x%08x", c.CPU.Signature), fmt.Sprintf("0x%x", c.Features)
		}
		x.VCPUs, x.LaunchDigest = c.VCPUs, c.LaunchDigest.String()
		if err := out.cell(x); err != nil {
			return err
		}
	}
	if err := out.end(); err != nil {
		return err
	}
	return w.Flush()
}
