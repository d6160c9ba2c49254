package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/snplaunch/snplaunch/internal/shell"
	"github.com/snplaunch/snplaunch/launcher"
	"github.com/snplaunch/snplaunch/report"
	"github.com/snplaunch/snplaunch/report/bundle"
	"github.com/snplaunch/snplaunch/report/certs"
)

// maxBundleFile bounds what is read as a bundle; bundle.Read has the last word.
const maxBundleFile = 32 << 20

// bundleOutput is what report verify --bundle prints with --json.
type bundleOutput struct {
	reportOutput
	Statement bundleStatement `json:"statement"`
}

// bundleStatement is what a bundle says beyond what its report shows.
type bundleStatement struct {
	Time        string         `json:"time"`
	Tool        string         `json:"tool"`
	QEMU        string         `json:"qemu"`
	Backend     string         `json:"backend"`
	Inputs      []bundle.Input `json:"inputs"`
	Description string         `json:"description"`
}

// verifyBundle verifies an evidence bundle, from that file alone: the flags can only ask
// for more.
func (e *env) verifyBundle(path, trustSimulated string, cf *certFlags, want *report.Expect, asJSON bool) error {
	if len(cf.paths) > 0 || cf.product != "" {
		return usageError("report verify: a bundle brings its certificates along; --certs and --product are for reports")
	}
	in, name := e.stdin, "standard input"
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("reading the bundle: %w", err)
		}
		defer f.Close()
		in, name = f, path
	}
	data, err := io.ReadAll(io.LimitReader(in, maxBundleFile))
	if err != nil {
		return fmt.Errorf("reading the bundle: %w", err)
	}
	b, err := bundle.Read(data)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	// Lists that are named are looked in beside those of the bundle.
	found := &certs.Found{NoList: "there is none in the bundle, and --crl names none"}
	for _, list := range cf.lists {
		l, err := certs.ReadList(list)
		if err != nil {
			return err
		}
		found.Lists = append(found.Lists, l)
	}
	bv, err := b.Verify(report.Options{Roots: report.AMDRoots(), TrustSimulated: trustSimulated, RevocationLists: found.Lists})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	v := &verified{bv.Verified, found}
	for _, c := range []struct {
		name string
		der  []byte
	}{{"VCEK", b.Certificates.VCEK}, {"VLEK", b.Certificates.VLEK}, {"ASK", b.Certificates.ASK}, {"ASVK", b.Certificates.ASVK}, {"ARK", b.Certificates.ARK}} {
		if len(c.der) > 0 {
			found.Origins = append(found.Origins, certs.Origin{Name: c.name, From: "the bundle"})
		}
	}
	if err := cf.checkLists(v); err != nil {
		return err
	}
	if err := report.Check(v.Report, *want); err != nil {
		return err
	}
	s := bv.Statement
	if asJSON {
		revocation := v.revocation()
		return e.json(&bundleOutput{
			reportOutput{Form: "evidence bundle", Verified: true, Simulated: &v.Simulated, ProductLine: v.ProductLine, Root: v.Root, Certificates: found.Origins,
				Revocation: &revocation, Fields: report.Fields(v.Report), Computed: &s.LaunchDigest, Inputs: bv.Claims},
			bundleStatement{s.Time.Format("2006-01-02T15:04:05Z"), s.Tool, s.QEMU, s.Backend, s.Inputs, s.Description},
		})
	}
	v.print(e.stdout)
	fmt.Fprintf(e.stdout, "pages: %d, folded again to the measurement\n", len(s.Pages))
	d := &described{guest: &bv.Guest, claims: bv.Claims, digest: s.LaunchDigest}
	d.print(e.stdout, "The report vouches for")
	fmt.Fprintf(e.stdout, "The one who launched it said so, before the report was made:\n  on %s, by %s, backend %s, QEMU %s\n", s.Time.Format("2006-01-02 15:04:05 MST"), s.Tool, s.Backend, s.QEMU)
	for _, in := range s.Inputs {
		fmt.Fprintf(e.stdout, "  %s: sha256 %x, %d bytes\n", in.Name, in.SHA256, in.Size)
	}
	return nil
}

// evidence writes the bundle of a run, where a file is named and the run was a match. Only
// its owner can read the file: the description within has the command's environment.
func (e *env) evidence(res *launcher.Result, path string) error {
	if path == "" {
		return nil
	}
	b, err := res.Bundle()
	if errors.Is(err, launcher.ErrNoEvidence) {
		fmt.Fprintf(e.stderr, "snplaunch: %s was not written: %v\n", path, err)
		return nil // the run's own outcome says that it was no match
	}
	if err != nil {
		return err
	}
	data, err := b.Bytes()
	if err != nil {
		return err
	}
	if err := writeWithMode(0o600, namedFile{path, data}); err != nil {
		return err
	}
	again := []string{"snplaunch", "report", "verify", "--bundle", path}
	if res.Simulated {
		again = append(again, "--trust-simulated", res.Trusted)
	}
	fmt.Fprintf(e.stderr, "snplaunch: evidence: %s\n", shell.Quote(again...))
	return nil
}
