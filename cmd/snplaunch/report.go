package main

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/snplaunch/snplaunch/idblock"
	"github.com/snplaunch/snplaunch/report"
	"github.com/snplaunch/snplaunch/snp"
)

func reportVerb(e *env, args []string) error {
	if len(args) == 0 {
		return usageError("report: say what: show or verify")
	}
	switch args[0] {
	case "show":
		return reportShow(e, args[1:])
	case "verify":
		return reportVerify(e, args[1:])
	}
	return usageError("report: %q is neither show nor verify", args[0])
}

// maxReportFile bounds what is read as a report with its certificate table.
const maxReportFile = 1 << 20

// readReport reads a report and the certificate table that may follow it, as
// configfs-tsm and go-sev-guest's extended report write them.
func readReport(path string) (raw, table []byte, err error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the report: %w", err)
	}
	if st.Size() > maxReportFile {
		return nil, nil, fmt.Errorf("%s has %d bytes; a report has %d, with its certificates some thousands", path, st.Size(), snp.ReportSize)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the report: %w", err)
	}
	if len(b) < snp.ReportSize {
		return nil, nil, fmt.Errorf("%s has %d bytes; a report has %d", path, len(b), snp.ReportSize)
	}
	return b[:snp.ReportSize], b[snp.ReportSize:], nil
}

func reportShow(e *env, args []string) error {
	fs := e.flags("report show", "FILE [--json]\n\nPrints the fields of a report in words. It checks nothing.")
	asJSON := fs.Bool("json", false, "print a list of objects")
	files, _, err := parse(fs, args, 1)
	if err != nil {
		return err
	}
	if len(files) != 1 {
		return usageError("report show: name the report")
	}
	raw, _, err := readReport(files[0])
	if err != nil {
		return err
	}
	r, err := snp.ParseReport(raw)
	if err != nil {
		return err
	}
	if *asJSON {
		return e.json(report.Fields(r))
	}
	return report.Show(e.stdout, r)
}

func reportVerify(e *env, args []string) error {
	fs := e.flags("report verify", "FILE [flags]\n\nVerifies signature and chain against AMD's roots and holds the report against what is expected. Nothing is fetched.")
	var certs []string
	fs.Func("certs", "`FILE`: certificates (PEM, DER or a certificate table); may be given several times", func(s string) error {
		certs = append(certs, s)
		return nil
	})
	trust := fs.String("trust-simulated", "", "`FINGERPRINT`: accept reports of the software SNP host with this root (`snplaunch sim root` prints it)")
	var want report.Expect
	set := func(name, usage string, parse func(string) error) { fs.Func(name, usage, parse) }
	set("measurement", "`HEX|BASE64`: expected launch digest", func(s string) error {
		d, err := idblock.ParseLaunchDigest(s)
		want.Measurement = &d
		return err
	})
	set("report-data", "`HEX`: expected report data, 64 bytes; fewer are filled with zeros", func(s string) error {
		b, err := hex.DecodeString(s)
		if err != nil || len(b) > len(snp.ReportData{}) {
			return fmt.Errorf("%q is not at most 128 hexadecimal digits", s)
		}
		var d snp.ReportData
		copy(d[:], b)
		want.ReportData = &d
		return nil
	})
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
	set("vmpl", "`N`: expected VMPL", func(s string) error {
		v, err := strconv.ParseUint(s, 0, 32)
		n := uint32(v)
		want.VMPL = &n
		return err
	})
	set("min-guest-svn", "`N`: least guest SVN", func(s string) error {
		v, err := strconv.ParseUint(s, 0, 32)
		n := uint32(v)
		want.GuestSVN = &n
		return err
	})
	asJSON := fs.Bool("json", false, "print the fields as a list of objects")
	files, _, err := parse(fs, args, 1)
	if err != nil {
		return err
	}
	if len(files) != 1 {
		return usageError("report verify: name the report")
	}
	raw, table, err := readReport(files[0])
	if err != nil {
		return err
	}
	chain, err := report.ParseCertTable(table)
	if err != nil {
		return err
	}
	for _, path := range certs {
		b, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("reading certificates: %w", err)
		}
		more, err := report.ParseCertificates(b)
		if err != nil {
			if fromTable, tableErr := report.ParseCertTable(b); tableErr == nil {
				more, err = fromTable, nil
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(path), err)
		}
		chain = chain.With(more)
	}
	v, err := report.Verify(raw, chain, report.Options{Roots: report.AMDRoots(), TrustSimulated: *trust})
	if err != nil {
		return err
	}
	if err := report.Check(v.Report, want); err != nil {
		return err
	}
	if *asJSON {
		return e.json(report.Fields(v.Report))
	}
	if v.Simulated {
		fmt.Fprintln(e.stdout, "SIMULATED by the software SNP host: this says nothing about any AMD hardware")
	}
	fmt.Fprintf(e.stdout, "good: signature and chain (%s)\nmeasurement %s\n", v.ProductLine, v.Report.Measurement)
	return nil
}
