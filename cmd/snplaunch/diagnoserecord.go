package main

import (
	"bytes"
	"crypto/sha512"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"

	"github.com/snplaunch/snplaunch/diagnose"
	"github.com/snplaunch/snplaunch/diagnose/pagediff"
	"github.com/snplaunch/snplaunch/diagnose/record"
	"github.com/snplaunch/snplaunch/diagnose/replay"
	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/hashes"
	"github.com/snplaunch/snplaunch/measure"
	"github.com/snplaunch/snplaunch/ovmf"
	"github.com/snplaunch/snplaunch/snp"
	"github.com/snplaunch/snplaunch/vmsa"
)

// recordInquiry explains a record of launches: of `snplaunch record`, of `sim exec
// --report`, or QEMU's trace.
func recordInquiry(fs *flag.FlagSet) inquiry {
	trace := fs.String("trace", "", "`FILE`: what QEMU wrote with -trace 'kvm_sev*', other lines among it; - reads standard input")
	out := fs.String("record-out", "", "with --trace: write it as a record to `FILE`; with a firmware, what its pages held is filled in")
	kind := func(files []string) bool {
		if len(files) == 0 {
			return false
		}
		head := make([]byte, 32)
		f, err := os.Open(files[0])
		if err != nil {
			return false
		}
		defer f.Close()
		n, _ := io.ReadFull(f, head)
		return record.IsRecord(head[:n]) || record.IsReport(head[:n])
	}
	return inquiry{
		name:  "a record, or --trace",
		asked: func(files []string) bool { return *trace != "" || kind(files) },
		run: func(e *env, files []string, asJSON bool) error {
			x := explainer{env: e, json: asJSON}
			f, err := (*record.File)(nil), error(nil)
			if *trace != "" {
				f, err = readTrace(e, *trace)
				x.name = *trace
			} else {
				f, err = readAnyRecord(files[0])
				x.name, files = files[0], files[1:]
			}
			if err != nil {
				return err
			}
			if err := x.compareWith(files); err != nil {
				return err
			}
			if *trace != "" {
				x.fillIn(f)
			}
			if *out != "" {
				if *trace == "" {
					return usageError("diagnose: --record-out goes with --trace")
				}
				var b bytes.Buffer
				f.Tool = "snplaunch " + versionName()
				if err := errors.Join(f.Write(&b), writeTogether(namedFile{*out, b.Bytes()})); err != nil {
					return err
				}
			}
			return x.explain(f)
		},
	}
}

// saveAreaInquiry explains the save areas that a kernel has printed.
func saveAreaInquiry(fs *flag.FlagSet) inquiry {
	path := fs.String("vmsa-dump", "", "`FILE`: a kernel log with kvm_amd's dumps of save areas in it; - reads standard input")
	return inquiry{
		name:  "--vmsa-dump",
		asked: func([]string) bool { return *path != "" },
		run: func(e *env, files []string, asJSON bool) error {
			return diagnoseSaveAreas(e, *path, files, asJSON)
		},
	}
}

// input opens a file, or standard input for "-".
func (e *env) input(path string) (io.ReadCloser, error) {
	if path == "-" {
		return io.NopCloser(e.stdin), nil
	}
	return os.Open(path)
}

func readTrace(e *env, path string) (*record.File, error) {
	in, err := e.input(path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	f, err := record.ParseTrace(in)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// readAnyRecord reads a record or a report.
func readAnyRecord(path string) (*record.File, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	read := record.Parse
	if record.IsReport(b) {
		read = record.ParseReport
	}
	f, err := read(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// explainer says what a record holds.
type explainer struct {
	env      *env
	json     bool
	name     string
	result   *measure.Result // of the description, where one is given
	firmware *ovmf.Image     // of a firmware alone, where that is given
	image    []measure.Page  // its pages
}

// compareWith takes what the launches are held against: a description, or a firmware image.
func (x *explainer) compareWith(files []string) error {
	if len(files) > 1 {
		return usageError("diagnose: %q is one argument too many; a record is held against one description or one firmware", files[1])
	}
	if len(files) == 0 {
		return nil
	}
	f, err := os.Open(files[0])
	if err != nil {
		return err
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.Size()%snp.PageSize == 0 && st.Size() > 0 {
		if img, err := ovmf.Parse(f, st.Size()); err == nil {
			x.firmware = img
			x.image, err = measure.FirmwarePages(f, img)
			return err
		}
	}
	x.result, _, err = measuredFrom(x.env, files)
	if x.result != nil {
		x.firmware, x.image = x.result.Image, x.result.Pages
	}
	return err
}

// measuredFrom measures what a description describes.
func measuredFrom(e *env, files []string) (*measure.Result, *guest.Guest, error) {
	g, err := addGuestFlags(flag.NewFlagSet("", flag.ContinueOnError)).guest(e.ctx, files, false)
	if err != nil {
		return nil, nil, err
	}
	in, err := g.Open()
	if err != nil {
		return nil, nil, err
	}
	defer in.Close()
	r, err := measure.MeasureWith(g, in, measure.Options{})
	return r, g, err
}

// fillIn gives a trace's launches the contents that the firmware's pages have.
func (x *explainer) fillIn(f *record.File) {
	known := map[uint64]snp.ContentDigest{}
	for _, p := range x.image {
		if p.Type == snp.PageNormal {
			known[p.GPA] = p.Contents
		}
	}
	for _, l := range f.Launches {
		for _, c := range l.Calls {
			u, is := c.With.(*record.Update)
			if !is || u.Type != snp.PageNormal || u.Contents != nil {
				continue
			}
			var contents []snp.ContentDigest
			for at := uint64(0); at < u.Length; at += snp.PageSize {
				d, have := known[u.GPA+at]
				if !have {
					contents = nil
					break
				}
				contents = append(contents, d)
			}
			u.Contents = contents
		}
	}
}

// explained is a launch as --json prints it.
type explained struct {
	Launch    int            `json:"launch"`
	Program   record.Program `json:"program"`
	Policy    string         `json:"policy,omitempty"`
	VCPUs     int            `json:"vcpus"`
	Commands  []explainedCmd `json:"commands"`
	Digest    string         `json:"launch_digest,omitempty"`
	DigestOf  string         `json:"launch_digest_from,omitempty"`
	Computed  string         `json:"computed_digest,omitempty"`
	Different []string       `json:"different"`
	Cause     string         `json:"cause,omitempty"`
	Advice    string         `json:"advice,omitempty"`
	ID        string         `json:"id,omitempty"` // of the catalogue's entry
}

type explainedCmd struct {
	Command string      `json:"command"`
	What    string      `json:"what,omitempty"`
	Errno   int         `json:"errno"`
	FWError int         `json:"fw_error"`
	From    record.From `json:"from"`
	result  *record.Result
}

// explain says what each launch was and how it ended.
func (x *explainer) explain(f *record.File) error {
	all := []explained{}
	different := false
	for i := range f.Launches {
		l := &f.Launches[i]
		y := x.launch(f, l, i+1)
		all = append(all, y)
		different = different || len(y.Different) > 0
	}
	if x.json {
		if err := x.env.json(map[string]any{"source": f.Source, "tool": f.Tool, "command": f.Command, "other_vms": f.OtherVMs, "launches": all}); err != nil {
			return err
		}
	} else {
		x.print(f, all)
	}
	if len(all) == 0 {
		return &exitError{exitNo, fmt.Errorf("%s has no launch of an SNP guest", x.name)}
	}
	if different {
		return &exitError{exitNo, errors.New("")}
	}
	return nil
}

func (x *explainer) launch(f *record.File, l *record.Launch, n int) explained {
	y := explained{Launch: n, Program: l.Program, VCPUs: len(l.VCPUs), Commands: []explainedCmd{}, Different: []string{}}
	for _, c := range l.Calls {
		if s, is := c.With.(*record.Start); is {
			y.Policy = s.Policy.Describe()
		}
		if c.Result != nil {
			y.Commands = append(y.Commands, explainedCmd{commandName(c.With), x.words(f, c.With), c.Result.Errno, c.Result.FWError, c.Result.From, c.Result})
		}
	}
	areas := l.SaveAreas
	digest, from := recordedDigest(l)
	if r := x.replay(f, l); r != nil {
		if digest == nil && l.Launched() {
			digest, from = r.LaunchDigest, "made once more on the software SNP host; the machine's own kernel may build save areas otherwise"
		}
		if r.Launch != nil && areas == nil {
			for _, v := range r.Launch.VMSAs {
				areas = append(areas, v.Bytes)
			}
		}
	}
	if digest != nil {
		y.Digest, y.DigestOf = digest.String(), from
	}
	if x.result != nil {
		y.Computed = x.result.LaunchDigest.String()
		y.Different = x.differences(f, l, areas)
	}
	if failure := diagnose.ParseQEMU(l.End.Stderr); failure != nil {
		y.ID, y.Cause, y.Advice = failure.ID, failure.Cause, failure.Advice
	}
	return y
}

// recordedDigest is the launch digest that a record itself tells, and whence.
func recordedDigest(l *record.Launch) (*snp.LaunchDigest, string) {
	if l.Host != nil && l.Host.LaunchDigest != nil {
		return l.Host.LaunchDigest, "the software SNP host, SIMULATED"
	}
	if l.Launched() {
		for _, c := range l.Calls {
			if finish, is := c.With.(*record.Finish); is && finish.IDBlock != nil {
				if b, err := snp.ParseIDBlock(finish.IDBlock); err == nil {
					return &b.LD, "the ID block, which the firmware accepted"
				}
			}
		}
	}
	return nil, ""
}

// replay makes a launch once more, where the record has what that takes.
func (x *explainer) replay(f *record.File, l *record.Launch) *replay.Result {
	ca, err := simulatedRoot(nil)
	if err != nil {
		return nil
	}
	host, err := simOptions{cpuidCheck: "off"}.replayHost(l, ca)
	if err != nil {
		return nil
	}
	r, err := replay.Launch(f, l, host)
	if err != nil {
		return nil // a trace or a report, which lack the registers
	}
	return r
}

// words say what a launch command brought.
func (x *explainer) words(f *record.File, with record.Payload) string {
	switch c := with.(type) {
	case *record.Update:
		return fmt.Sprintf("%s 0x%x, %s%s", c.Type, c.GPA, counted(int(c.Length/snp.PageSize), "page"), x.part(f, c))
	case *record.Start:
		return c.Policy.Describe()
	case *record.Finish:
		return finishWords(c)
	}
	return ""
}

// commandName names a launch command.
func commandName(with record.Payload) string {
	if o, is := with.(*record.Other); is {
		return o.Describe()
	}
	return with.Name()
}

// counted gives a number with what it is of.
func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func finishWords(c *record.Finish) string {
	words := "no ID block"
	if b, err := snp.ParseIDBlock(c.IDBlock); err == nil {
		words = fmt.Sprintf("ID block over %s, policy %s, guest SVN %d", b.LD, b.Policy, b.GuestSVN)
		if c.AuthorKey {
			words += ", with author key"
		}
	} else if c.IDBlockEnabled {
		words = "ID block enabled, but without one that could be read"
	}
	if c.HostData != (snp.HostData{}) {
		words += ", host data " + c.HostData.String()
	}
	return words
}

// part names the part of the firmware or of the launch that an update is.
func (x *explainer) part(f *record.File, u *record.Update) string {
	if len(u.Contents) == 1 {
		if page := f.Pages[u.Contents[0]]; page != nil && u.Type == snp.PageNormal {
			if t, offset, found := hashes.Find(page); found {
				return fmt.Sprintf(": hashes table at 0x%x; sha256 of kernel %x, initrd %x, command line %x", offset, t.Kernel, t.Initrd, t.Cmdline)
			}
		}
	}
	switch {
	case u.Type == snp.PageNormal && u.GPA+u.Length == 1<<32:
		return ": firmware image" + x.matches(u)
	case x.firmware != nil:
		for n, s := range x.firmware.Sections {
			if u.GPA >= uint64(s.GPA) && u.GPA < s.End() {
				return fmt.Sprintf(": metadata section %d, %s", n, s.Type)
			}
		}
	}
	return ""
}

// matches says whether an update has the pages of the firmware that was given.
func (x *explainer) matches(u *record.Update) string {
	if x.image == nil || u.Contents == nil {
		return ""
	}
	at := map[uint64]snp.ContentDigest{}
	for _, p := range x.image {
		at[p.GPA] = p.Contents
	}
	other := 0
	for i, d := range u.Contents {
		if at[u.GPA+uint64(i)*snp.PageSize] != d {
			other++
		}
	}
	if other == 0 {
		return ", the one given here"
	}
	return fmt.Sprintf(", not the one given here: %d pages of %d differ", other, len(u.Contents))
}

// differences holds a launch against the description: the first page that is another,
// and the registers of the first save areas.
func (x *explainer) differences(f *record.File, l *record.Launch, areas [][]byte) []string {
	computed, err := pagediff.Of("computed", x.result, nil)
	if err != nil {
		return []string{err.Error()}
	}
	isArea := func(p pagediff.Page) bool { return p.Type == snp.PageVMSA }
	vcpus := len(slices.DeleteFunc(slices.Clone(computed.Pages), func(p pagediff.Page) bool { return !isArea(p) }))
	launched := pagediff.OfRecord("launched", f, l)
	for _, side := range []*pagediff.Launch{&launched, &computed} {
		side.Pages = slices.DeleteFunc(side.Pages, isArea)
	}
	if !l.Launched() { // it ended before all were
		computed.Pages = computed.Pages[:min(len(computed.Pages), len(launched.Pages))]
	}
	out := []string{}
	switch d := pagediff.Compare(launched, computed); {
	case d.Equal:
	case d.PageA == nil || d.PageB == nil:
		out = append(out, fmt.Sprintf("%d pages were launched, %d were computed", len(launched.Pages), len(computed.Pages)))
	case d.PageA.Type != d.PageB.Type || d.PageA.GPA != d.PageB.GPA:
		out = append(out, fmt.Sprintf("page %d: %s 0x%x was launched; %s 0x%x was computed (%s)", d.Index+1, d.PageA.Type, d.PageA.GPA, d.PageB.Type, d.PageB.GPA, d.What))
	default:
		out = append(out, fmt.Sprintf("page %d, 0x%x: other contents than computed (%s)", d.Index+1, d.PageA.GPA, d.What))
		for _, field := range d.Fields {
			out = append(out, fmt.Sprintf("%s is %s, computed %s", field.Name, field.A, field.B))
		}
	}
	for vcpu, area := range areas[:min(len(areas), vcpus, 2)] { // the others are like the second
		if d := saveAreaDifferences(x.result, vcpu, area); len(d) > 0 {
			out = append(out, fmt.Sprintf("save area of vCPU %d: %s", vcpu, d[0]))
			out = append(out, d[1:]...)
		}
	}
	if len(areas) > 0 && len(areas) != vcpus {
		out = append(out, fmt.Sprintf("%d vCPUs were launched, %d were computed", len(areas), vcpus))
	}
	return out
}

// saveAreaDifferences lists the fields of a save area that are not as computed.
func saveAreaDifferences(r *measure.Result, vcpu int, page []byte) (out []string) {
	want, err := r.SaveArea(vcpu)
	if err != nil || len(page) != snp.PageSize {
		return nil
	}
	for _, d := range pagediff.Registers((*[snp.PageSize]byte)(page), want) {
		out = append(out, fmt.Sprintf("%s is %s, computed %s", d.Name, d.A, d.B))
	}
	return out
}

func (x *explainer) print(f *record.File, all []explained) {
	w := x.env.stdout
	source := map[record.Source]string{
		record.SourceKernel: "heard of on the machine's own kernel", record.SourceSoftware: "heard of on the software SNP host, SIMULATED",
		record.SourceTrace: "read from QEMU's trace", record.SourceReport: "read from what sim exec --report wrote, SIMULATED",
	}[f.Source]
	launches := counted(len(all), "launch")
	if len(all) != 1 {
		launches = fmt.Sprintf("%d launches", len(all))
	}
	fmt.Fprintf(w, "%s: %s, %s\n", x.name, launches, source)
	if f.Source == record.SourceTrace {
		fmt.Fprintln(w, "  "+record.TraceLacks)
	}
	for _, y := range all {
		fmt.Fprintf(w, "\nlaunch %d\n", y.Launch)
		line := func(name, text string) {
			if text != "" {
				fmt.Fprintf(w, "  %-10s %s\n", name, text)
			}
		}
		line("program", y.Program.Version)
		line("policy", y.Policy)
		if y.VCPUs > 0 {
			line("vCPUs", fmt.Sprint(y.VCPUs))
		}
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, c := range y.Commands {
			fmt.Fprintf(t, "  %s\t%s\t%s\n", c.Command, c.What, c.result.Describe())
		}
		t.Flush()
		if len(y.Commands) == 0 {
			line("commands", "none: the program gave up before it launched anything")
		}
		if y.Digest != "" {
			line("digest", y.Digest+" ("+y.DigestOf+")")
		}
		line("computed", y.Computed)
		for _, d := range y.Different {
			line("different", d)
		}
		line("cause", y.Cause)
		line("what to do", y.Advice)
	}
}

// diagnoseSaveAreas explains the save areas in a kernel log.
func diagnoseSaveAreas(e *env, path string, files []string, asJSON bool) error {
	in, err := e.input(path)
	if err != nil {
		return err
	}
	defer in.Close()
	dumps, err := record.ParseSaveAreaDumps(in)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	var r *measure.Result
	if len(files) > 1 {
		return usageError("diagnose: %q is one argument too many beside --vmsa-dump and a description", files[1])
	}
	if len(files) == 1 {
		if r, _, err = measuredFrom(e, files); err != nil {
			return err
		}
	}
	type area struct {
		Line      int          `json:"line"`
		Contents  string       `json:"contents"` // the digest that is measured
		Fields    []vmsa.Field `json:"fields"`
		Different []string     `json:"different"`
	}
	var all []area
	different := false
	for i, d := range dumps {
		a := area{d.Line, fmt.Sprintf("%x", sha512.Sum384(d.Measured())), vmsa.Fields(&d.Page), []string{}}
		if r != nil {
			a.Different = append(a.Different, saveAreaDifferences(r, i%max(r.VCPUs, 1), d.Page[:])...)
		}
		different = different || len(a.Different) > 0
		all = append(all, a)
	}
	if asJSON {
		err = e.json(map[string]any{"save_areas": all})
	} else {
		for i, a := range all {
			fmt.Fprintf(e.stdout, "save area %d (line %d): contents %s\n", i+1, a.Line, a.Contents)
			t := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
			for _, f := range a.Fields {
				fmt.Fprintf(t, "  0x%03x\t%s\t%s\t%s\n", f.Offset, f.Name, f.Value, f.What)
			}
			t.Flush()
			for _, d := range a.Different {
				fmt.Fprintf(e.stdout, "  different  %s\n", d)
			}
		}
	}
	if err == nil && different {
		err = &exitError{exitNo, errors.New("")}
	}
	return err
}
