package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/idblock"
	"github.com/snplaunch/snplaunch/measure"
	"github.com/snplaunch/snplaunch/vmsa"
)

// measureFlags say what is measured beside the guest's description. Their
// names are sev-snp-measure's where it has them.
type measureFlags struct {
	mode, vmm                string
	ovmfHash                 string
	svsm, varsSize, varsFile string
	metadata, metadataOut    string
	one, apReset             string
	strict                   bool
}

func addMeasureFlags(fs *flag.FlagSet) *measureFlags {
	m := addLaunchKindFlags(fs)
	fs.StringVar(&m.metadataOut, "metadata-out", "", "`FILE`: write what a digest needs of the firmware, as JSON")
	fs.StringVar(&m.one, "one-vcpu-digest", "", "`DIGEST`: launch digest of the same guest with one vCPU, from which that with --vcpus follows without any image")
	fs.StringVar(&m.apReset, "ap-reset", "", "`ADDR`: where the firmware starts the other vCPUs (ap_reset of `measure --json`), for --one-vcpu-digest")
	fs.BoolVar(&m.strict, "strict", false, "exit with 1 when there is a warning: the guest would not launch, or something about it is unusual")
	return m
}

// addLaunchKindFlags adds those that say which kind of launch is meant.
func addLaunchKindFlags(fs *flag.FlagSet) *measureFlags {
	m := &measureFlags{}
	fs.StringVar(&m.mode, "mode", "snp", "`MODE`: "+strings.Join(measure.Modes(), ", "))
	fs.StringVar(&m.vmm, "vmm-type", "QEMU", "`QEMU|ec2|gce|krun`: whose guest it is")
	fs.StringVar(&m.ovmfHash, "snp-ovmf-hash", "", "`DIGEST`: digest of the firmware's pages (--mode snp:ovmf-hash), instead of their contents")
	fs.StringVar(&m.ovmfHash, "ovmf-hash", "", "`DIGEST`: the same as --snp-ovmf-hash")
	fs.StringVar(&m.svsm, "svsm", "", "`FILE`: COCONUT-SVSM image, for --mode snp:svsm")
	fs.StringVar(&m.varsSize, "vars-size", "", "`BYTES`: size of the variable store below the firmware, for --mode snp:svsm")
	fs.StringVar(&m.varsFile, "vars-file", "", "`FILE`: the variable store, of which only the size counts")
	fs.StringVar(&m.metadata, "metadata", "", "`FILE`: what --metadata-out wrote, instead of the firmware")
	return m
}

// measured is what measureFlags.measure found.
type measured struct {
	*measure.Result
	guest   *guest.Guest
	options measure.Options
	inputs  *guest.Inputs // nil where nothing was opened
	notes   []string
}

func (m *measured) close() {
	if m.inputs != nil {
		m.inputs.Close()
	}
}

// options reads the flags that need no file.
func (m *measureFlags) options() (measure.Options, error) {
	var opt measure.Options
	var err error
	if opt.Mode, err = measure.ParseMode(m.mode); err != nil {
		return opt, usageError("--mode: %w", err)
	}
	if opt.VMM, err = vmsa.ParseVMM(m.vmm); err != nil {
		return opt, usageError("--vmm-type: %w", err)
	}
	if m.ovmfHash != "" {
		d, err := idblock.ParseLaunchDigest(m.ovmfHash)
		if err != nil {
			return opt, usageError("--snp-ovmf-hash: %w", err)
		}
		opt.FirmwareDigest = &d
	}
	svsm := opt.Mode == measure.SVSM
	switch {
	case m.varsSize != "" && m.varsFile != "":
		return opt, usageError("--vars-size and --vars-file both say how large the variable store is; give one of them")
	case svsm && m.svsm == "":
		return opt, usageError("--mode snp:svsm needs the SVSM's image; name it with --svsm")
	case svsm && m.varsSize == "" && m.varsFile == "":
		return opt, usageError("--mode snp:svsm needs the size of the variable store between firmware and SVSM; give --vars-size or --vars-file")
	case !svsm && m.svsm+m.varsSize+m.varsFile != "":
		return opt, usageError("--svsm, --vars-size and --vars-file are for --mode snp:svsm")
	}
	if m.varsSize != "" {
		if opt.VarsSize, err = strconv.ParseInt(m.varsSize, 0, 64); err != nil {
			return opt, usageError("--vars-size: %q is not a number of bytes", m.varsSize)
		}
	}
	if m.apReset != "" && m.one == "" {
		return opt, usageError("--ap-reset is for --one-vcpu-digest; with an image the firmware says where vCPUs start")
	}
	return opt, nil
}

// measure opens what the flags name and measures it.
func (m *measureFlags) measure(e *env, gf *guestFlags, file []string) (*measured, error) {
	opt, err := m.options()
	if err != nil {
		return nil, err
	}
	out := &measured{options: opt}
	gf.note = func(s string) { out.notes = append(out.notes, s) }
	gf.noFirmware = m.metadata != "" || m.one != ""
	if out.guest, err = gf.guest(e.ctx, file, false); err != nil {
		return nil, err
	}
	if m.one != "" {
		return out, m.fromOneVCPU(out, opt)
	}
	if out.inputs, err = m.open(out.guest, &opt); err != nil {
		return nil, err
	}
	if opt.SVSM != nil {
		defer opt.SVSM.File.Close()
	}
	if out.Result, err = measure.MeasureWith(out.guest, out.inputs, opt); err != nil {
		out.close()
		return nil, err
	}
	out.noteFeatures(gf)
	if m.metadataOut != "" {
		if err := m.writeMetadata(out, opt.Metadata); err != nil {
			out.close()
			return nil, err
		}
	}
	return out, nil
}

// open opens a guest's files and those that the flags name, which become part of opt.
// The SVSM's image is the caller's to close.
func (m *measureFlags) open(g *guest.Guest, opt *measure.Options) (in *guest.Inputs, err error) {
	if m.metadata != "" {
		if g.Firmware != "" {
			return nil, usageError("--metadata stands for the firmware, but %s is named, too; give one of them", g.Firmware)
		}
		if opt.Metadata, err = readMetadata(m.metadata); err != nil {
			return nil, err
		}
		g.Firmware = m.metadata
		in, err = g.OpenBoot()
	} else {
		in, err = g.Open()
	}
	if err != nil {
		return nil, err
	}
	if err := m.svsmInputs(opt); err != nil {
		return nil, errors.Join(err, in.Close())
	}
	return in, nil
}

// noteFeatures says what becomes of features that were given by themselves.
func (r *measured) noteFeatures(gf *guestFlags) {
	switch g := r.guest; {
	case r.Mode == measure.SEVES && gf.given["guest-features"]:
		r.notes = append(r.notes, fmt.Sprintf("--guest-features is about SNP guests; SEV-ES guests of host kernel %s have 0x%x", r.Host.Name, r.GuestFeatures))
	case (r.Mode == measure.SNP || r.Mode == measure.SVSM) && g.HostKernel == "" && g.GuestFeatures != r.Host.Features:
		text := fmt.Sprintf("no host kernel is given, and %s, which is assumed for the FPU state, does not launch with guest features 0x%x", r.Host.Name, g.GuestFeatures)
		for _, p := range vmsa.HostProfiles() {
			if p.SNP && p.Features == g.GuestFeatures {
				text += fmt.Sprintf("; --host-kernel %s (%s) does", p.Name, p.What)
				break
			}
		}
		r.notes = append(r.notes, text)
	}
}

// fromOneVCPU goes on from a digest for one vCPU.
func (m *measureFlags) fromOneVCPU(out *measured, opt measure.Options) error {
	g := out.guest
	if g.Firmware != "" || g.HasKernel() || m.ovmfHash+m.metadata+m.metadataOut != "" {
		return usageError("--one-vcpu-digest stands for firmware, kernel, initrd and command line; leave them out")
	}
	one, err := idblock.ParseLaunchDigest(m.one)
	if err != nil {
		return usageError("--one-vcpu-digest: %w", err)
	}
	if m.apReset == "" && opt.VMM.UsesResetAddr() {
		return usageError("--one-vcpu-digest needs the address where the firmware starts the other vCPUs; give --ap-reset, which `snplaunch measure --json` prints as ap_reset")
	}
	reset, err := strconv.ParseUint(m.apReset, 0, 32)
	if err != nil && m.apReset != "" {
		return usageError("--ap-reset: %q is not an address of 32 bits, e.g. 0x80b004", m.apReset)
	}
	out.Result, err = measure.FromOneVCPU(g, one, uint32(reset), opt)
	return err
}

// svsmInputs opens the SVSM's image and settles the size of the variable store.
func (m *measureFlags) svsmInputs(opt *measure.Options) error {
	if m.svsm == "" {
		return nil
	}
	if m.varsFile != "" {
		st, err := os.Stat(m.varsFile)
		if err != nil {
			return fmt.Errorf("--vars-file: %w", err)
		}
		opt.VarsSize = st.Size()
	}
	var err error
	if opt.SVSM, err = guest.OpenInput(m.svsm); err != nil {
		return fmt.Errorf("SVSM image %s: %w", m.svsm, err)
	}
	return nil
}

func readMetadata(path string) (*measure.Metadata, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("--metadata: %w", err)
	}
	defer f.Close()
	md, err := measure.ParseMetadata(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return md, nil
}

// writeMetadata writes what was read of the firmware; given is not nil where
// that came from such a file itself.
func (m *measureFlags) writeMetadata(out *measured, given *measure.Metadata) error {
	md := given
	if md == nil {
		var err error
		if md, err = measure.MetadataOf(out.Result); err != nil {
			return usageError("--metadata-out: %w", err)
		}
		if m.ovmfHash == "" { // else the image at hand is not the one that is meant
			sum, err := out.inputs.Firmware.SHA256()
			if err != nil {
				return err
			}
			md.FirmwareSHA256 = &sum
		}
	}
	data, err := md.JSON()
	if err != nil {
		return err
	}
	if err := os.WriteFile(m.metadataOut, data, 0o666); err != nil {
		return fmt.Errorf("--metadata-out: %w", err)
	}
	return nil
}

// warn prints notes and warnings. The error, with --strict, says that there are warnings.
func (m *measureFlags) warn(w io.Writer, r *measured) error {
	for _, n := range r.notes {
		fmt.Fprintln(w, "snplaunch: note: "+n)
	}
	warnings := r.warnings()
	for _, s := range warnings {
		fmt.Fprintln(w, "snplaunch: warning: "+s)
	}
	if m.strict && len(warnings) > 0 {
		return &exitError{code: exitNo}
	}
	return nil
}

// warnings are the sentences about what keeps the guest from launching, and
// about what is unusual.
func (r *measured) warnings() []string {
	var out []string
	for _, o := range r.Obstacles {
		out = append(out, o.Error())
	}
	return append(out, r.Warnings...)
}

// hostKernelOutput says what a digest assumes about the host.
type hostKernelOutput struct {
	Profile  string `json:"profile"`
	Kernels  string `json:"kernels"`
	Stated   string `json:"stated,omitempty"` // host_kernel or --host-kernel; absent: the default is assumed
	Features string `json:"guest_features"`
	FPU      string `json:"fpu"`
}

func hostKernelOf(r *measured) hostKernelOutput {
	return hostKernelOutput{Profile: r.Host.Name, Kernels: r.Host.What, Stated: r.guest.HostKernel,
		Features: fmt.Sprintf("0x%x", r.Host.Features), FPU: r.Host.FPU()}
}
