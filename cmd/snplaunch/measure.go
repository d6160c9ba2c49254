package main

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/snplaunch/snplaunch/internal/suggest"
	"github.com/snplaunch/snplaunch/measure"
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
	Pages          []explainedPage   `json:"pages,omitempty"`
	Parts          []measure.Part    `json:"parts,omitempty"`
	SaveAreas      []saveAreaFields  `json:"save_areas,omitempty"`
}

func measureVerb(e *env, args []string) error {
	fs := e.flags("measure", "[guest.yaml] [flags]\n\nPrints the launch digest. What is not named is left out; with no file named at all, what `snplaunch run` would launch is measured.")
	gf := addGuestFlags(fs)
	mf := addMeasureFlags(fs)
	format := fs.String("output-format", "", "`hex|base64`")
	asJSON := fs.Bool("json", false, "print an object")
	explain, areas, matrix := addExplainFlags(fs), addVMSAFlags(fs), addMatrixFlags(fs)
	file, rest, err := parse(fs, args, 1)
	if err != nil {
		return err
	}
	if err := matrix.settle(); err != nil {
		return err
	}
	if len(rest) > 0 {
		return usageError("measure runs no command: %q", strings.Join(rest, " "))
	}
	if formats := matrix.formats(); *format == "" {
		*format = formats[0]
	} else if !slices.Contains(formats, *format) {
		return usageError("--output-format %q is not known (%s)", *format, suggest.Remedy(*format, formats))
	}
	r, err := mf.measure(e, gf, file)
	if err != nil {
		return err
	}
	defer r.close()
	if err := matrix.combine(r, gf); err != nil {
		return err
	}
	verdict := mf.warn(e.stderr, r)
	if err := areas.write(r.Result); err != nil {
		return err
	}
	p := &measurePrinter{e, *asJSON, *format, explain, areas, matrix}
	if err := p.print(r); err != nil {
		return err
	}
	return verdict
}

// measurePrinter prints what was measured, as the flags say.
type measurePrinter struct {
	*env
	asJSON  bool
	format  string
	explain *explainFlags
	areas   *vmsaFlags
	matrix  *matrixFlags
}

func (p *measurePrinter) print(r *measured) error {
	fields, err := p.areas.fields(r.Result)
	if err != nil {
		return err
	}
	switch {
	case p.matrix.on:
		return p.matrix.print(p, r)
	case p.asJSON:
		out, err := p.object(r)
		if err != nil {
			return err
		}
		out.SaveAreas = fields
		if p.explain.on {
			out.Pages, out.Parts = explainedPages(r.Result), r.Parts()
		}
		return p.json(out)
	case p.explain.on:
		if err := p.explain.print(p.stdout, r.Result); err != nil {
			return err
		}
		if fields != nil {
			fmt.Fprintln(p.stdout)
		}
		return p.printSaveAreas(fields)
	case fields != nil:
		return p.printSaveAreas(fields)
	case p.format == "base64":
		fmt.Fprintln(p.stdout, p.explain.answer(r.Mode, base64.StdEncoding.EncodeToString(r.Digest)))
	default:
		fmt.Fprintln(p.stdout, p.explain.answer(r.Mode, hex.EncodeToString(r.Digest)))
	}
	return nil
}

// object gives the JSON form, without what --explain adds.
func (p *measurePrinter) object(r *measured) (*measureOutput, error) {
	out := &measureOutput{
		LaunchDigest: hex.EncodeToString(r.Digest), Mode: r.Mode.String(), VCPUs: r.guest.VCPUs, CPU: r.guest.CPU, CPUSig: fmt.Sprintf("0x%08x", r.CPUSig),
		GuestFeatures: fmt.Sprintf("0x%x", r.GuestFeatures), HostKernel: hostKernelOf(r), Notes: r.notes, Warnings: r.warnings(),
	}
	if r.ResetEIP != nil {
		out.APReset = fmt.Sprintf("0x%x", *r.ResetEIP)
	}
	if in := r.inputs; in != nil && in.Firmware != nil {
		sum, err := in.Firmware.SHA256()
		if err != nil {
			return nil, err
		}
		out.FirmwareSHA256 = hex.EncodeToString(sum[:])
	}
	if t := r.HashTable; t != nil {
		out.KernelHashes = map[string]string{"kernel": hex.EncodeToString(t.Kernel[:]), "initrd": hex.EncodeToString(t.Initrd[:]), "cmdline": hex.EncodeToString(t.Cmdline[:])}
	}
	return out, nil
}

func (e *env) json(v any) error {
	enc := json.NewEncoder(e.stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
