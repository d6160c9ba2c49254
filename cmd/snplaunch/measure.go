package main

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/snplaunch/snplaunch/images"
	"github.com/snplaunch/snplaunch/measure"
	"github.com/snplaunch/snplaunch/snp"
	"github.com/snplaunch/snplaunch/vmsa"
)

// measureOutput is the JSON form of `measure --json`.
type measureOutput struct {
	LaunchDigest   snp.LaunchDigest  `json:"launch_digest"`
	Mode           string            `json:"mode"`
	VCPUs          int               `json:"vcpus"`
	CPU            string            `json:"cpu"`
	CPUSig         string            `json:"cpu_sig"`
	GuestFeatures  string            `json:"guest_features"`
	FirmwareSHA256 string            `json:"firmware_sha256"`
	KernelHashes   map[string]string `json:"kernel_hashes"`
	Pages          []measure.Page    `json:"pages,omitempty"`
}

func measureVerb(e *env, args []string) error {
	fs := e.flags("measure", "[guest.yaml] [flags]\n\nPrints the launch digest. What is not named is left out; with no file named at all, what `snplaunch run` would launch is measured.")
	gf := addGuestFlags(fs)
	mode := fs.String("mode", "snp", "`snp`")
	vmm := fs.String("vmm-type", "QEMU", "`QEMU|ec2|gce`")
	format := fs.String("output-format", "hex", "`hex|base64`")
	snpHash := fs.String("snp-ovmf-hash", "", "`HEX`: digest of the firmware's pages, instead of their contents")
	asJSON := fs.Bool("json", false, "print an object")
	explain := fs.Bool("explain", false, "list every page that is measured")
	file, rest, err := parse(fs, args, 1)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return usageError("measure runs no command: %q", strings.Join(rest, " "))
	}
	if *mode != "snp" {
		return usageError("--mode %q is not known; use snp", *mode)
	}
	var opt measure.Options
	switch strings.ToLower(*vmm) {
	case "qemu":
	default:
		if opt.VMM, err = vmsa.ParseVMM(strings.ToLower(*vmm)); err != nil {
			return usageError("--vmm-type: %w", err)
		}
	}
	if *snpHash != "" {
		d, err := snp.ParseLaunchDigest(*snpHash)
		if err != nil {
			return usageError("--snp-ovmf-hash: %w", err)
		}
		opt.FirmwareDigest = &d
	}
	g, err := gf.guest(e.ctx, file, images.Options{}, false)
	if err != nil {
		return err
	}
	in, err := g.Open()
	if err != nil {
		return err
	}
	defer in.Close()
	r, err := measure.MeasureWith(g, in, opt)
	if err != nil {
		return err
	}
	for _, o := range r.Obstacles {
		fmt.Fprintln(e.stderr, "snplaunch: warning: "+o.Error())
	}
	for _, w := range r.Warnings {
		fmt.Fprintln(e.stderr, "snplaunch: warning: "+w)
	}
	switch {
	case *asJSON:
		sum, err := in.Firmware.SHA256()
		if err != nil {
			return err
		}
		out := measureOutput{
			LaunchDigest: r.LaunchDigest, Mode: *mode, VCPUs: g.VCPUs, CPU: g.CPU, CPUSig: fmt.Sprintf("0x%08x", r.CPUSig),
			GuestFeatures: fmt.Sprintf("0x%x", g.GuestFeatures), FirmwareSHA256: hex.EncodeToString(sum[:]),
		}
		if t := r.HashTable; t != nil {
			out.KernelHashes = map[string]string{"kernel": hex.EncodeToString(t.Kernel[:]), "initrd": hex.EncodeToString(t.Initrd[:]), "cmdline": hex.EncodeToString(t.Cmdline[:])}
		}
		if *explain {
			out.Pages = r.Pages
		}
		return e.json(out)
	case *explain:
		return e.explain(r)
	case *format == "hex":
		fmt.Fprintln(e.stdout, r.LaunchDigest)
	case *format == "base64":
		fmt.Fprintln(e.stdout, base64.StdEncoding.EncodeToString(r.LaunchDigest[:]))
	default:
		return usageError("--output-format %q is not known; use hex or base64", *format)
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
