package main

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/snplaunch/snplaunch/internal/suggest"
	"github.com/snplaunch/snplaunch/measure"
	"github.com/snplaunch/snplaunch/snp"
)

// measureOutput is the JSON form of `measure --json`.
type measureOutput struct {
	LaunchDigest   string            `json:"launch_digest"` // 96 hexadecimal digits, 64 for SEV and SEV-ES
	Mode           string            `json:"mode"`
	VCPUs          int               `json:"vcpus"`
	CPU            string            `json:"cpu"`
	CPUSig         string            `json:"cpu_sig"`
	GuestFeatures  string            `json:"guest_features"`
	HostKernel     hostKernelOutput  `json:"host_kernel"`
	APReset        string            `json:"ap_reset,omitempty"` // where the firmware starts vCPUs other than the first
	FirmwareSHA256 string            `json:"firmware_sha256,omitempty"`
	KernelHashes   map[string]string `json:"kernel_hashes"`
	Notes          []string          `json:"notes,omitempty"`
	Warnings       []string          `json:"warnings,omitempty"`
	Pages          []measure.Page    `json:"pages,omitempty"`
}

func measureVerb(e *env, args []string) error {
	fs := e.flags("measure", "[guest.yaml] [flags]\n\nPrints the launch digest. What is not named is left out; with no file named at all, what `snplaunch run` would launch is measured.")
	gf := addGuestFlags(fs)
	mf := addMeasureFlags(fs)
	format := fs.String("output-format", "hex", "`hex|base64`")
	asJSON := fs.Bool("json", false, "print an object")
	explain := fs.Bool("explain", false, "list every page that is measured")
	file, rest, err := parse(fs, args, 1)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return usageError("measure runs no command: %q", strings.Join(rest, " "))
	}
	if *format != "hex" && *format != "base64" {
		return usageError("--output-format %q is not known (%s)", *format, suggest.Remedy(*format, []string{"hex", "base64"}))
	}
	r, err := mf.measure(e, gf, file)
	if err != nil {
		return err
	}
	defer r.close()
	verdict := mf.warn(e.stderr, r)
	if err := e.measured(r, *asJSON, *explain, *format); err != nil {
		return err
	}
	return verdict
}

// measured prints what was measured.
func (e *env) measured(r *measured, asJSON, explain bool, format string) error {
	switch {
	case asJSON:
		out := measureOutput{
			LaunchDigest: hex.EncodeToString(r.Digest), Mode: r.Mode.String(), VCPUs: r.guest.VCPUs, CPU: r.guest.CPU, CPUSig: fmt.Sprintf("0x%08x", r.CPUSig),
			GuestFeatures: fmt.Sprintf("0x%x", r.GuestFeatures), HostKernel: hostKernelOf(r), Notes: r.notes, Warnings: r.warnings(),
		}
		if r.ResetEIP != nil {
			out.APReset = fmt.Sprintf("0x%x", *r.ResetEIP)
		}
		if in := r.inputs; in != nil && in.Firmware != nil {
			sum, err := in.Firmware.SHA256()
			if err != nil {
				return err
			}
			out.FirmwareSHA256 = hex.EncodeToString(sum[:])
		}
		if t := r.HashTable; t != nil {
			out.KernelHashes = map[string]string{"kernel": hex.EncodeToString(t.Kernel[:]), "initrd": hex.EncodeToString(t.Initrd[:]), "cmdline": hex.EncodeToString(t.Cmdline[:])}
		}
		if explain {
			out.Pages = r.Pages
		}
		return e.json(out)
	case explain:
		return e.explain(r.Result)
	case format == "base64":
		fmt.Fprintln(e.stdout, base64.StdEncoding.EncodeToString(r.Digest))
	default:
		fmt.Fprintln(e.stdout, hex.EncodeToString(r.Digest))
	}
	return nil
}

// explain lists the pages, runs of one source and type in one line.
func (e *env) explain(r *measure.Result) error {
	w := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "GPA\tPAGES\tTYPE\tWHAT")
	for i := 0; i < len(r.Pages); {
		p, n := r.Pages[i], 1
		for i+n < len(r.Pages) {
			q := r.Pages[i+n]
			if q.Source != p.Source || q.Type != p.Type || q.GPA != p.GPA+uint64(n)*snp.PageSize {
				break
			}
			n++
		}
		fmt.Fprintf(w, "0x%012x\t%d\t%s\t%s\n", p.GPA, n, p.Type, p.Source)
		i += n
	}
	fmt.Fprintf(w, "\t%d\t\tlaunch digest %s\n", len(r.Pages), r.LaunchDigest)
	return w.Flush()
}

func (e *env) json(v any) error {
	enc := json.NewEncoder(e.stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
