package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/snplaunch/snplaunch/measure"
)

// explainFlags are the flags of measure that say where a digest comes from.
type explainFlags struct {
	on      bool
	pages   bool
	verbose bool
}

func addExplainFlags(fs *flag.FlagSet) *explainFlags {
	x := &explainFlags{}
	fs.BoolVar(&x.on, "explain", false, "list every launch update, its contents and the digest after it, pages of one part in one line")
	fs.BoolVar(&x.pages, "pages", false, "with --explain: every page in a line of its own")
	const verbose = "say what kind of digest it is; with --explain: print digests whole"
	fs.BoolVar(&x.verbose, "verbose", false, verbose)
	fs.BoolVar(&x.verbose, "v", false, verbose)
	return x
}

// explainedPage is a step in JSON, with its position.
type explainedPage struct {
	Index int `json:"index"`
	measure.Step
}

// explainedPages lists every page for JSON.
func explainedPages(r *measure.Result) []explainedPage {
	var out []explainedPage
	for s := range r.Explain() {
		out = append(out, explainedPage{len(out), s})
	}
	return out
}

// print lists the launch as a table.
func (x *explainFlags) print(out io.Writer, r *measure.Result) error {
	if parts := r.Parts(); parts != nil {
		return printParts(out, parts, r)
	}
	buffered := bufio.NewWriter(out)
	w := tabwriter.NewWriter(buffered, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "GPA\tPAGES\tTYPE\tCONTENTS\tDIGEST AFTER IT\tWHAT")
	line := func(s *measure.Step, pages int, contents string) {
		fmt.Fprintf(w, "0x%012x\t%d\t%s\t%s\t%s\t%s\n", s.GPA, pages, s.Type, contents, x.digest(s.Running.String()), s.What)
		for _, d := range s.Details {
			fmt.Fprintf(w, "\t\t\t\t\t  %s\n", d)
		}
	}
	contents := func(s *measure.Step) string {
		if !s.Type.Measured() {
			return "-"
		}
		return x.digest(s.Contents.String())
	}
	if x.pages {
		for s := range r.Explain() {
			line(&s, 1, contents(&s))
		}
	} else {
		for s := range r.Stretches() {
			c := contents(&s.Step)
			if !s.Equal {
				c = "differ"
			}
			line(&s.Step, s.Pages, c)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(buffered, "host kernel %s\n", r.Host.Describe())
	fmt.Fprintf(buffered, "%d pages, launch digest %s\n", len(r.Pages), r.LaunchDigest)
	return buffered.Flush()
}

// printParts lists what an SEV or SEV-ES digest goes over.
func printParts(out io.Writer, parts []measure.Part, r *measure.Result) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "BYTES\tWHAT")
	for _, p := range parts {
		fmt.Fprintf(w, "%d\t%s\n", p.Bytes, p.What)
		for _, d := range p.Details {
			fmt.Fprintf(w, "\t  %s\n", d)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "SHA-256 over all of them %x\n", r.Digest)
	return err
}

// digest shortens a digest unless it is wanted whole.
func (x *explainFlags) digest(hex string) string {
	const short = 16
	if x.verbose {
		return hex
	}
	return hex[:short] + "…"
}

// answer gives the line that is printed for a digest: the digest alone, or as
// sev-snp-measure's --verbose does, with the name of the kind of guest.
func (x *explainFlags) answer(mode measure.Mode, digest string) string {
	kind := map[measure.Mode]string{measure.SNP: "SEV_SNP", measure.SVSM: "SEV_SNP_SVSM", measure.SEVES: "SEV_ES", measure.SEV: "SEV"}[mode]
	if x.verbose && kind != "" { // snp:ovmf-hash is no guest's, and is always printed alone
		return fmt.Sprintf("Calculated %s guest measurement: %s", kind, digest)
	}
	return digest
}
