package main

import (
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/snplaunch/snplaunch/internal/suggest"
	"github.com/snplaunch/snplaunch/report"
	"github.com/snplaunch/snplaunch/report/certs"
	"github.com/snplaunch/snplaunch/snp"
)

// certsFetch writes the certificates of a report or a chip to a folder, under the names
// that snphost, snpguest and --certs know.
func certsFetch(e *env, args []string) error {
	fs := e.flags("certs fetch", "--report FILE|- | --chip-id HEX --tcb N --product P, and --out DIR\n\nWrites the certificates that a report is verified with, and the revocation list, to a folder: vcek.pem, ask.pem, ark.pem, crl.pem, as snpguest and snphost name them. What is in the cache is taken from there; the rest is fetched from AMD, once.")
	cf := addCertFlags(fs)
	reportFile := fs.String("report", "", "`FILE|-`: the report")
	chip := fs.String("chip-id", "", "`HEX`: CHIP_ID, 64 bytes (a Turin's: 8), instead of a report")
	tcb := fs.String("tcb", "", "`N`: REPORTED_TCB, e.g. 0x4800000000000009 as snphost prints it")
	out := fs.String("out", "", "`DIR`: where the files go; it is made where it is missing")
	format := fs.String("format", "pem", "`pem|der`: how they are written")
	if _, _, err := parse(fs, args, 0); err != nil {
		return err
	}
	formats := []string{"pem", "der"}
	switch {
	case !slices.Contains(formats, *format):
		return usageError("--format %q is not known (%s)", *format, suggest.Remedy(*format, formats))
	case *out == "":
		return usageError("certs fetch: say where to with --out DIR")
	case (*reportFile == "") == (*chip == ""):
		return usageError("certs fetch: give --report FILE, or --chip-id HEX with --tcb N and --product P")
	}
	f, err := cf.finder(e)
	if err != nil {
		return err
	}
	var found *certs.Found
	if *reportFile != "" {
		r, err := readReport(e, *reportFile)
		if err != nil {
			return err
		}
		found, err = f.Find(e.ctx, r.Raw, r.Chain)
		if err != nil {
			return err
		}
	} else {
		v, err := chipOf(*chip, *tcb, cf.product)
		if err != nil {
			return err
		}
		if found, err = f.FindChip(e.ctx, v); err != nil {
			return err
		}
	}
	if len(found.Chain.VCEK) == 0 && len(found.Chain.VLEK) == 0 {
		return errors.New(strings.Join(found.Missing, "\n"))
	}
	files := certFiles(found, *out, *format)
	if err := os.MkdirAll(*out, 0o755); err != nil {
		return err
	}
	if err := writeTogether(files...); err != nil {
		return err
	}
	for _, o := range found.Origins {
		fmt.Fprintf(e.stderr, "snplaunch: %s from %s\n", o.Name, o.From)
	}
	for _, m := range found.Missing {
		fmt.Fprintln(e.stderr, "snplaunch: "+m)
	}
	if found.NoList != "" {
		fmt.Fprintln(e.stderr, "snplaunch: no revocation list: "+found.NoList)
	}
	for _, f := range files {
		fmt.Fprintln(e.stdout, f.path)
	}
	return nil
}

// certFiles names the files of what was found.
func certFiles(found *certs.Found, dir, format string) (out []namedFile) {
	add := func(name, block string, der []byte) {
		if len(der) == 0 {
			return
		}
		if format == "pem" {
			der = pem.EncodeToMemory(&pem.Block{Type: block, Bytes: der})
		}
		out = append(out, namedFile{filepath.Join(dir, name+"."+format), der})
	}
	c := found.Chain
	for _, f := range []struct {
		name string
		der  []byte
	}{{"vcek", c.VCEK}, {"vlek", c.VLEK}, {"ask", c.ASK}, {"asvk", c.ASVK}, {"ark", c.ARK}} {
		add(f.name, "CERTIFICATE", f.der)
	}
	for i, list := range found.Lists {
		name := "crl"
		if i > 0 {
			name = fmt.Sprintf("crl%d", i+1)
		}
		if l, err := report.ParseRevocationList(list); err == nil {
			add(name, "X509 CRL", l.Raw)
		}
	}
	return out
}

// chipOf reads what names a VCEK.
func chipOf(chip, tcb, product string) (certs.VCEK, error) {
	v := certs.VCEK{Product: product}
	if product == "" {
		return v, usageError("certs fetch: say which product the chip is with --product Milan|Genoa|Turin")
	}
	id, err := hex.DecodeString(strings.TrimPrefix(strings.TrimSpace(chip), "0x"))
	if err != nil || len(id) != len(v.ChipID) && !(product == "Turin" && len(id) == 8) {
		return v, usageError("--chip-id %q is not 64 bytes in hexadecimal (a Turin's may be 8)", chip)
	}
	copy(v.ChipID[:], id)
	n, err := strconv.ParseUint(tcb, 0, 64)
	if err != nil {
		return v, usageError("--tcb %q is no number of 64 bits, such as 0x4800000000000009", tcb)
	}
	layout := snp.TCBLayoutMilan
	if product == "Turin" {
		layout = snp.TCBLayoutTurin
	}
	v.TCB = layout.Unpack(snp.TCBVersion(n))
	return v, nil
}
