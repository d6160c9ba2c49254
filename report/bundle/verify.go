package bundle

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/guest/guestyaml"
	"github.com/snplaunch/snplaunch/hashes"
	"github.com/snplaunch/snplaunch/idblock"
	"github.com/snplaunch/snplaunch/measure"
	"github.com/snplaunch/snplaunch/report"
	"github.com/snplaunch/snplaunch/report/vouch"
	"github.com/snplaunch/snplaunch/snp"
)

// ErrStatement: the report is genuine, but the statement is not the one that it was made
// for, or contradicts it or itself.
var ErrStatement = errors.New("the bundle's statement does not hold")

// signatureEnd is where R and S of a report's signature end, 72 bytes each.
const signatureEnd = snp.ReportSignedSize + 2*72

// Verified is what holds about an accepted bundle.
type Verified struct {
	*report.Verified
	Statement *Statement
	Guest     guest.Guest
	Claims    []vouch.Claim // what the report vouches for
}

// Verify checks everything that a bundle says: the report with the roots in o and with
// the revocation lists of the bundle and of o; that the pages fold to the measurement,
// that they are those of the description with these inputs, that ID block, policy and host
// data are the report's, and that the report was made over this statement. Nothing else is
// needed and nothing is opened or fetched.
func (b *Bundle) Verify(o report.Options) (*Verified, error) {
	o.RevocationLists = append(append([][]byte{}, b.RevocationLists...), o.RevocationLists...)
	v, err := report.Verify(b.Report, b.Certificates.chain(), o)
	if err != nil {
		return nil, err
	}
	// Neither the signature nor any reader looks at what follows its two numbers.
	if tail := b.Report[signatureEnd:]; len(bytes.Trim(tail, "\x00")) > 0 {
		return nil, fmt.Errorf("%w: something other than zeros is behind the signature", report.ErrFormat)
	}
	if err := b.Certificates.exact(v); err != nil {
		return nil, fmt.Errorf("%w: %w", report.ErrChain, err)
	}
	out := &Verified{Verified: v, Statement: &b.Statement}
	if err := b.Statement.verify(out); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStatement, err)
	}
	return out, nil
}

// exact sees that a bundle's certificates are those that the report was verified with.
// Verifying takes root and intermediate from the trusted roots, whatever else is there.
func (c Certificates) exact(v *report.Verified) error {
	if got := report.Fingerprint(c.ARK); got != v.Root {
		return fmt.Errorf("the bundle's ARK certificate has the fingerprint %s, the trusted one %s", got, v.Root)
	}
	key, own, issuer, foreign := "VCEK", c.VCEK, c.ASK, [][]byte{c.VLEK, c.ASVK}
	if report.SigningKey(v.Report) == "VLEK" {
		key, own, issuer, foreign = "VLEK", c.VLEK, c.ASVK, [][]byte{c.VCEK, c.ASK}
	}
	for _, f := range foreign {
		if len(f) > 0 {
			return fmt.Errorf("the bundle has certificates beside those of the %s that signed", key)
		}
	}
	below, err := x509.ParseCertificate(own)
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	for _, der := range [][]byte{issuer, c.ARK} {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("the certificate above that of %q cannot be read: %w", below.Subject.CommonName, err)
		}
		if err := below.CheckSignatureFrom(cert); err != nil {
			return fmt.Errorf("the bundle's certificate of %q did not issue that of %q: %w", cert.Subject.CommonName, below.Subject.CommonName, err)
		}
		below = cert
	}
	return nil
}

// verify holds the statement against the report.
func (s *Statement) verify(v *Verified) error {
	if s.Simulated != v.Simulated {
		return fmt.Errorf("it says simulated: %v, and the report's certificates say otherwise", s.Simulated)
	}
	if s.Firmware.Metadata == nil {
		return errors.New("it lacks what is to be known of the firmware")
	}
	g, err := guestyaml.Parse([]byte(s.Description), "the description")
	if err != nil {
		return err
	}
	v.Guest = g
	if err := s.inputsAgree(&g); err != nil {
		return err
	}
	if got := measure.Fold(updates(s.Pages)); got != s.LaunchDigest {
		return fmt.Errorf("its %d pages fold to %s, not to its launch digest %s", len(s.Pages), got, s.LaunchDigest)
	}
	if s.LaunchDigest != v.Report.Measurement {
		return fmt.Errorf("its launch digest is %s, and MEASUREMENT of the report is %s", s.LaunchDigest, v.Report.Measurement)
	}
	m, err := s.measureAgain(&g)
	if err != nil {
		return err
	}
	if h := s.Heard; h != nil && (h.LaunchDigest != s.LaunchDigest || h.Updates != len(s.Pages)) {
		return fmt.Errorf("the software host heard %d pages with the digest %s, and the statement has %d with %s", h.Updates, h.LaunchDigest, len(s.Pages), s.LaunchDigest)
	}
	want, err := s.expectations(&g)
	if err != nil {
		return err
	}
	if err := report.Check(v.Report, *want); err != nil {
		return err
	}
	data, err := s.ReportData()
	if err != nil {
		return err
	}
	if data != v.Report.ReportData {
		return fmt.Errorf("its SHA-512 is %s, and REPORT_DATA of the report is %s: something in it was changed after the report was made", data, v.Report.ReportData)
	}
	v.Claims, err = vouch.Claims(v.Report, &g, &guest.Inputs{}, m)
	return err
}

// inputsAgree sees that the list of inputs has what the description has, in order, and
// the hashes that the description pins.
func (s *Statement) inputsAgree(g *guest.Guest) error {
	cmdline, err := hashes.Cmdline(g.Append)
	if err != nil {
		return err
	}
	n := 0
	for _, in := range []struct {
		name   string
		there  bool
		pinned *[32]byte
	}{
		{inputFirmware, true, g.FirmwareSHA256}, {inputKernel, g.HasKernel(), g.KernelSHA256},
		{inputInitrd, g.Initrd != "" || g.InitrdSHA256 != nil, g.InitrdSHA256}, {inputCmdline, g.HasKernel(), &cmdline},
	} {
		if !in.there {
			continue
		}
		if n == len(s.Inputs) || s.Inputs[n].Name != in.name {
			return fmt.Errorf("its description has a %s, and its input %d is another", in.name, n)
		}
		if got := s.Inputs[n].SHA256; in.pinned != nil && got != *in.pinned {
			return fmt.Errorf("the SHA-256 of its %s is %x, and %x by its description", in.name, got, *in.pinned)
		}
		n++
	}
	if n != len(s.Inputs) {
		return fmt.Errorf("its input %d (%q) is none of its description", n, s.Inputs[n].Name)
	}
	if c := s.input(inputCmdline); c != nil && c.Size != int64(len(g.Append))+1 {
		return fmt.Errorf("its command line has %d bytes, and %d by its description", c.Size, len(g.Append)+1)
	}
	f := s.input(inputFirmware)
	if m := s.Firmware; m.FirmwareSize != f.Size || m.FirmwareSHA256 == nil || *m.FirmwareSHA256 != f.SHA256 {
		return errors.New("what it says of its firmware is not about the firmware among its inputs")
	}
	return nil
}

// measureAgain makes the pages after the firmware's from description and inputs, and
// compares them with the list.
func (s *Statement) measureAgain(g *guest.Guest) (*measure.Result, error) {
	img, err := s.Firmware.Image()
	if err != nil {
		return nil, err
	}
	count := int(img.Size / snp.PageSize)
	if count > len(s.Pages) {
		return nil, fmt.Errorf("its firmware has %d pages, and its list %d in all", count, len(s.Pages))
	}
	for i, p := range s.Pages[:count] {
		if want := img.BaseGPA + uint64(i)*snp.PageSize; p.GPA != want || p.Type != snp.PageNormal || p.Length != snp.PageSize {
			return nil, fmt.Errorf("page %d is %s at 0x%x, not the firmware's at 0x%x", i, p.Type, p.GPA, want)
		}
	}
	if got := measure.Fold(updates(s.Pages[:count])); got != s.Firmware.FirmwareDigest {
		return nil, fmt.Errorf("its firmware's pages fold to %s, not to %s", got, s.Firmware.FirmwareDigest)
	}
	// What is made here is no longer than the list, whatever the description asks for.
	rest := s.Pages[count:]
	if g.VCPUs > len(rest) {
		return nil, fmt.Errorf("its list has %d pages after the firmware's, too few for the save areas of %d vCPUs", len(rest), g.VCPUs)
	}
	room := uint64(len(rest)) * snp.PageSize
	for _, section := range img.Sections {
		if room -= min(room, uint64(section.Size)); room == 0 {
			return nil, fmt.Errorf("its list has %d pages after the firmware's, too few for the firmware's sections", len(rest))
		}
	}
	var table *hashes.Table
	if g.UsesKernelHashes() {
		table = &hashes.Table{Kernel: s.input(inputKernel).SHA256, Initrd: sha256.Sum256(nil), Cmdline: s.input(inputCmdline).SHA256}
		if in := s.input(inputInitrd); in != nil {
			table.Initrd = in.SHA256
		}
	}
	m, err := measure.FromImage(g, img, table, measure.Options{FirmwareDigest: &s.Firmware.FirmwareDigest})
	if err != nil {
		return nil, err
	}
	for i, p := range rest {
		switch {
		case i == len(m.Pages):
			return nil, fmt.Errorf("page %d (%s) is none of its description", count+i, p.Source)
		case p != m.Pages[i]:
			return nil, fmt.Errorf("page %d is %s (%s at 0x%x, %s), and by its description and inputs %s (%s at 0x%x, %s)", count+i,
				p.Source, p.Type, p.GPA, p.Contents, m.Pages[i].Source, m.Pages[i].Type, m.Pages[i].GPA, m.Pages[i].Contents)
		}
	}
	if len(rest) < len(m.Pages) {
		return nil, fmt.Errorf("its list ends before %s, which its description has", m.Pages[len(rest)].Source)
	}
	return m, nil
}

func updates(pages []measure.Page) []snp.Update {
	out := make([]snp.Update, len(pages))
	for i, p := range pages {
		out[i] = p.Update
	}
	return out
}

// expectations are what description and ID block fix in the report.
func (s *Statement) expectations(g *guest.Guest) (*report.Expect, error) {
	var vmpl uint32
	none := snp.KeyDigest{}
	want := &report.Expect{Measurement: &s.LaunchDigest, Policy: &g.Policy, HostData: &g.HostData, VMPL: &vmpl, IDKeyDigest: &none, AuthorKeyDigest: &none,
		FamilyID: &snp.FamilyID{}, ImageID: &snp.ImageID{}}
	if (len(s.IDBlock) == 0) != (g.IDBlock.Mode == guest.IDBlockNone) || (len(s.IDBlock) == 0) != (len(s.IDAuth) == 0) {
		return nil, fmt.Errorf("its description has id_block mode %s, which its ID block (%d bytes) and ID auth (%d bytes) do not fit", g.IDBlock.Mode, len(s.IDBlock), len(s.IDAuth))
	}
	if len(s.IDBlock) == 0 {
		if s.AuthorKeyEnabled {
			return nil, errors.New("it has an author key and no ID block")
		}
		return want, nil
	}
	block, err := snp.ParseIDBlock(s.IDBlock)
	if err != nil {
		return nil, err
	}
	auth, err := snp.ParseIDAuth(s.IDAuth)
	if err != nil {
		return nil, err
	}
	if raw := block.Bytes(); !bytes.Equal(raw[:], s.IDBlock) {
		return nil, errors.New("its ID block has something in reserved bytes")
	}
	if err := idblock.VerifyLaunch(block, auth, s.AuthorKeyEnabled, s.LaunchDigest, g.Policy); err != nil {
		return nil, err
	}
	if by := g.IDBlock; by.Mode == guest.IDBlockSign && (block.FamilyID != by.FamilyID || block.ImageID != by.ImageID || block.GuestSVN != by.GuestSVN) {
		return nil, errors.New("family id, image id or SVN of its ID block are not those of its description")
	}
	id := idblock.DigestPublicKey(auth.IDKey)
	want.IDKeyDigest, want.FamilyID, want.ImageID, want.GuestSVN = &id, &block.FamilyID, &block.ImageID, &block.GuestSVN
	if s.AuthorKeyEnabled {
		author := idblock.DigestPublicKey(auth.AuthorKey)
		want.AuthorKeyDigest = &author
	}
	return want, nil
}
