package main

import (
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/guest/guestyaml"
	"github.com/snplaunch/snplaunch/idblock"
	"github.com/snplaunch/snplaunch/measure"
	"github.com/snplaunch/snplaunch/report"
	"github.com/snplaunch/snplaunch/report/certs"
	"github.com/snplaunch/snplaunch/report/vouch"
	"github.com/snplaunch/snplaunch/snp"
)

// maxReportFile bounds what is read as a report with its certificate table.
const maxReportFile = 4 << 20

// readReport reads a report in any form; "-" is standard input.
func readReport(e *env, path string) (*report.Received, error) {
	in, name := e.stdin, "standard input"
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("reading the report: %w", err)
		}
		defer f.Close()
		in, name = f, path
	}
	data, err := io.ReadAll(io.LimitReader(in, maxReportFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading the report: %w", err)
	}
	r, err := report.ReadReport(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}

// described is a guest description and what it measures.
type described struct {
	guest  *guest.Guest
	claims []vouch.Claim
	digest snp.LaunchDigest
}

// describeGuest measures the guest of a description, and says what a report vouches for.
func describeGuest(r *snp.Report, path string) (*described, error) {
	g, err := guestyaml.Load(path)
	if err != nil {
		return nil, err
	}
	in, err := g.Open()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	m, err := measure.MeasureWith(&g, in, measure.Options{})
	if err != nil {
		return nil, err
	}
	claims, err := vouch.Claims(r, &g, in, m)
	return &described{&g, claims, m.LaunchDigest}, err
}

// reportOutput is what report show and report verify print with --json.
type reportOutput struct {
	Form         report.Form       `json:"form"`
	Verified     bool              `json:"verified"`
	Simulated    *bool             `json:"simulated,omitempty"` // where it was verified
	ProductLine  string            `json:"product_line,omitempty"`
	Root         string            `json:"root,omitempty"` // fingerprint of the ARK
	Certificates []certs.Origin    `json:"certificates,omitempty"`
	Revocation   *revocationOutput `json:"revocation,omitempty"`
	Fields       []report.Field    `json:"fields"`
	// Computed is the launch digest of the description, and Inputs what the report
	// vouches for of it.
	Computed *snp.LaunchDigest `json:"computed,omitempty"`
	Inputs   []vouch.Claim     `json:"inputs,omitempty"`
}

func (o *reportOutput) describe(d *described) {
	if d != nil {
		o.Computed, o.Inputs = &d.digest, d.claims
	}
}

func reportShow(e *env, args []string) error {
	fs := e.flags("report show", "FILE|- [guest.yaml] [--json]\n\nPrints the fields of a report in words, and for which inputs it can vouch: given a description of the guest, by measuring it again. It verifies nothing. Reads reports raw, extended, in hexadecimal or base64, as go-sev-guest's protobuf or its text, and as the firmware's whole answer.")
	asJSON := fs.Bool("json", false, "print an object")
	files, _, err := parse(fs, args, 2)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return usageError("report show: name the report (- is standard input)")
	}
	received, err := readReport(e, files[0])
	if err != nil {
		return err
	}
	r, err := snp.ParseReport(received.Raw)
	if err != nil {
		return err
	}
	var d *described
	if len(files) > 1 {
		if d, err = describeGuest(r, files[1]); err != nil {
			return err
		}
	}
	if *asJSON {
		out := &reportOutput{Form: received.Form, Fields: report.Fields(r)}
		out.describe(d)
		return e.json(out)
	}
	if err := report.Show(e.stdout, r); err != nil {
		return err
	}
	fmt.Fprintln(e.stdout)
	if d == nil {
		fmt.Fprintln(e.stdout, "Of the inputs this measurement says nothing by itself; with a description (report show FILE guest.yaml) it is computed again.\n"+
			"Once verified, it vouches for POLICY, HOST_DATA, the ID block's fields and REPORT_DATA as they stand here.")
		return nil
	}
	d.print(e.stdout, "Once verified, the report vouches for")
	return nil
}

// print lists what is vouched for and what not.
func (d *described) print(w io.Writer, vouches string) {
	for _, yes := range []bool{true, false} {
		head := vouches + ":"
		if !yes {
			head = "It does not vouch for:"
		}
		for _, c := range d.claims {
			if c.Vouched != yes {
				continue
			}
			if head != "" {
				fmt.Fprintln(w, head)
				head = ""
			}
			fmt.Fprintf(w, "  %s: %s (%s)\n", c.What, c.Value, c.Why)
		}
	}
}

func reportVerify(e *env, args []string) error {
	fs := e.flags("report verify", "FILE|- [guest.yaml] [flags] | --bundle FILE [--trust-simulated FINGERPRINT]\n\nVerifies signature and chain against AMD's roots and holds the report against what is expected: flags, and the description of the guest, which is measured. Certificates that did not come with the report are taken from --certs, from the cache, or fetched from AMD once. An evidence bundle needs nothing else.")
	cf := addCertFlags(fs)
	trust := fs.String("trust-simulated", "", "`FINGERPRINT`: accept reports of the software SNP host with this root (`snplaunch sim root` prints it)")
	bundleFile := fs.String("bundle", "", "`FILE`: an evidence bundle, instead of a report")
	want := addExpectFlags(fs)
	asJSON := fs.Bool("json", false, "print an object")
	files, _, err := parse(fs, args, 2)
	if err != nil {
		return err
	}
	if *bundleFile != "" {
		if len(files) > 0 {
			return usageError("report verify: --bundle needs no report and no description beside it (%q)", files[0])
		}
		return e.verifyBundle(*bundleFile, *trust, cf, want, *asJSON)
	}
	if len(files) == 0 {
		return usageError("report verify: name the report (- is standard input)")
	}
	received, err := readReport(e, files[0])
	if err != nil {
		return err
	}
	v, err := cf.verify(e, received, *trust)
	if err != nil {
		return err
	}
	expect := *want
	var d *described
	if len(files) > 1 {
		if d, err = describeGuest(v.Report, files[1]); err != nil {
			return err
		}
		if expect.Measurement != nil && *expect.Measurement != d.digest {
			return fmt.Errorf("--measurement is not the launch digest of %s, which is %s", files[1], d.digest)
		}
		expect.Measurement = &d.digest
		if expect.Policy == nil {
			expect.Policy = &d.guest.Policy
		}
		if expect.HostData == nil {
			expect.HostData = &d.guest.HostData
		}
	}
	if err := report.Check(v.Report, expect); err != nil {
		return err
	}
	if *asJSON {
		revocation := v.revocation()
		out := &reportOutput{Form: received.Form, Verified: true, Simulated: &v.Simulated, ProductLine: v.ProductLine, Root: v.Root,
			Certificates: v.found.Origins, Revocation: &revocation, Fields: report.Fields(v.Report)}
		out.describe(d)
		return e.json(out)
	}
	v.print(e.stdout)
	if d != nil {
		d.print(e.stdout, "It vouches for")
	}
	return nil
}

// parseReportData reads up to 64 bytes; zeros follow.
func parseReportData(s string) (d snp.ReportData, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) == 0 || len(b) > len(d) {
		return d, fmt.Errorf("%q is not 2 to 128 hexadecimal digits", s)
	}
	copy(d[:], b)
	return d, nil
}

// addExpectFlags adds what a report may be held against.
func addExpectFlags(fs *flag.FlagSet) *report.Expect {
	want := &report.Expect{}
	set := fs.Func
	set("measurement", "`HEX|BASE64`: expected launch digest", func(s string) error {
		d, err := idblock.ParseLaunchDigest(s)
		want.Measurement = &d
		return err
	})
	reportData := func(s string) error {
		d, err := parseReportData(s)
		want.ReportData = &d
		return err
	}
	set("report-data", "`HEX`: expected report data, 64 bytes; fewer are filled with zeros", reportData)
	set("nonce", "`HEX`: the same as --report-data", reportData)
	set("host-data", "`HEX`: expected host data", func(s string) error {
		d, err := snp.ParseHostData(s)
		want.HostData = &d
		return err
	})
	set("policy", "`N`: expected policy", func(s string) error {
		p, err := snp.ParseGuestPolicy(s)
		want.Policy = &p
		return err
	})
	key := func(dst **snp.KeyDigest) func(string) error {
		return func(s string) error {
			d, err := snp.ParseLaunchDigest(s)
			k := snp.KeyDigest(d)
			*dst = &k
			return err
		}
	}
	set("id-key-digest", "`HEX`: expected ID key digest", key(&want.IDKeyDigest))
	set("author-key-digest", "`HEX`: expected author key digest", key(&want.AuthorKeyDigest))
	number := func(dst **uint32) func(string) error {
		return func(s string) error {
			v, err := strconv.ParseUint(s, 0, 32)
			if err != nil {
				return errors.New("it is no number of 32 bits")
			}
			n := uint32(v)
			*dst = &n
			return nil
		}
	}
	set("vmpl", "`N`: expected VMPL", number(&want.VMPL))
	set("min-guest-svn", "`N`: least guest SVN", number(&want.GuestSVN))
	return want
}
