package e2e_test

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/idblock"
	"github.com/snplaunch/snplaunch/measure"
	"github.com/snplaunch/snplaunch/ovmf"
	"github.com/snplaunch/snplaunch/report"
	"github.com/snplaunch/snplaunch/report/bundle"
	"github.com/snplaunch/snplaunch/sim/psp"
	"github.com/snplaunch/snplaunch/snp"
)

// evidence makes bundles of one guest without QEMU: the pages that were measured are
// launched on a simulated Secure Processor, which signs a report over the statement,
// whatever a change has made of it: a launcher that lies.
type evidence struct {
	platform  *psp.Platform
	guest     *psp.Guest
	statement *bundle.Statement
	chain     report.Chain
}

func makeEvidence(t testing.TB, platform string, vlek bool, change func(*guest.Guest)) *evidence {
	t.Helper()
	cfg, err := psp.ParsePlatform(platform)
	if err != nil {
		t.Fatal(err)
	}
	cfg.VLEKLoaded, cfg.CPUIDCheck = vlek, false
	ca, err := psp.LoadOrCreateCA(dataFolder, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := psp.New(cfg, ca)
	if err != nil {
		t.Fatal(err)
	}
	g := aGuest(t)
	g.VCPUs, g.HostData, g.HostDataSet = 3, snp.HostData{7}, true
	g.IDBlock.FamilyID, g.IDBlock.GuestSVN = snp.FamilyID{1}, 2
	if change != nil {
		change(g)
	}
	in, err := g.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	m, err := measure.Measure(g, in)
	if err != nil {
		t.Fatal(err)
	}
	s, err := bundle.NewStatement(g, in, m)
	if err != nil {
		t.Fatal(err)
	}
	e := &evidence{platform: p, guest: p.CreateContext(), statement: s, chain: chainOf(t, p)}
	s.Simulated, s.Backend, s.Tool, s.QEMU = true, "sim", "a test", "none"
	s.Commands = []bundle.Command{{Name: "QEMU", Args: []string{"qemu", "-append", "a <b> & c"}}}
	finish := psp.FinishParams{HostData: g.HostData}
	if g.IDBlock.Mode != guest.IDBlockNone {
		block := &snp.IDBlock{LD: m.LaunchDigest, FamilyID: g.IDBlock.FamilyID, ImageID: g.IDBlock.ImageID, Version: snp.IDBlockVersion, GuestSVN: g.IDBlock.GuestSVN, Policy: g.Policy}
		id, author := must(idblock.GenerateKey())(t), must(idblock.GenerateKey())(t)
		auth := must(idblock.Sign(block, id, author))(t)
		raw := block.Bytes()
		s.IDBlock, s.IDAuth, s.AuthorKeyEnabled = raw[:], auth.Bytes(), true
		finish.IDBlock, finish.IDAuth, finish.IDBlockEnabled, finish.AuthorKeyEnabled = s.IDBlock, s.IDAuth, true, true
	}
	e.ok(t, e.guest.LaunchStart(g.Policy, [16]byte{}))
	e.ok(t, e.guest.Activate(1))
	firmware := must(os.ReadFile(g.Firmware))(t)
	cpu := 0
	for i, page := range m.Pages {
		contents := make([]byte, snp.PageSize)
		switch {
		case i < len(firmware)/snp.PageSize:
			copy(contents, firmware[i*snp.PageSize:])
		case page.Type == snp.PageVMSA:
			copy(contents, must(m.SaveArea(cpu))(t)[:])
			cpu++
		case m.HashPage != nil && page.GPA == m.HashPageGPA:
			copy(contents, m.HashPage[:])
		}
		e.ok(t, e.guest.LaunchUpdate(page.Type, page.GPA, contents))
	}
	e.ok(t, e.guest.LaunchFinish(finish))
	s.Heard = &bundle.Heard{LaunchDigest: e.guest.LaunchDigest(), Updates: len(e.guest.Updates())}
	return e
}

func (e *evidence) ok(t testing.TB, st snp.Status) {
	t.Helper()
	if st != snp.StatusSuccess {
		t.Fatalf("launching: %s", st)
	}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// bundle has the chip sign a report over the statement, as change has made it.
func (e *evidence) bundle(t testing.TB, change func(*bundle.Statement), lists ...[]byte) *bundle.Bundle {
	t.Helper()
	s := *e.statement
	s.Pages = append([]measure.Page(nil), s.Pages...)
	s.Inputs = append([]bundle.Input(nil), s.Inputs...)
	meta := *s.Firmware.Metadata
	s.Firmware.Metadata = &meta
	heard := *s.Heard
	s.Heard = &heard
	s.IDBlock, s.IDAuth = bytes.Clone(s.IDBlock), bytes.Clone(s.IDAuth)
	if change != nil {
		change(&s)
	}
	return must(bundle.New(&s, e.report(t, must(s.ReportData())(t), 0), e.chain, lists))(t)
}

func (e *evidence) report(t testing.TB, data snp.ReportData, vmpl byte) []byte {
	t.Helper()
	req := make([]byte, 96)
	copy(req, data[:])
	req[0x40] = vmpl
	_, rsp, st := e.guest.GuestRequest(psp.MsgReportRequest, 1, req)
	e.ok(t, st)
	return rsp[0x20:]
}

func (e *evidence) trusting() report.Options {
	return report.Options{Roots: report.AMDRoots(), TrustSimulated: e.platform.Fingerprint()}
}

func reread(t testing.TB, b *bundle.Bundle) *bundle.Bundle {
	t.Helper()
	return must(bundle.Read(must(b.Bytes())(t)))(t)
}

// A bundle verifies from its bytes alone, for one who trusts the root by its fingerprint
// and for nobody else.
func TestBundleVerifies(t *testing.T) {
	for _, platform := range psp.Platforms() {
		for _, vlek := range []bool{false, true} {
			for name, change := range map[string]func(*guest.Guest){
				"all":       nil,
				"no block":  func(g *guest.Guest) { g.IDBlock = guest.IDBlock{Mode: guest.IDBlockNone} },
				"no hashes": func(g *guest.Guest) { withoutHashes(t, g) },
				"no initrd": func(g *guest.Guest) { g.Initrd = "" },
			} {
				if vlek && name != "all" {
					continue // the key has nothing to do with what was launched
				}
				e := makeEvidence(t, platform, vlek, change)
				list := must(e.platform.CA().RevocationList(e.platform.Config().Product))(t)
				b := e.bundle(t, nil, list)
				data := must(b.Bytes())(t)
				if again := must(reread(t, b).Bytes())(t); !bytes.Equal(again, data) {
					t.Errorf("%s, %s: it is not written the same again", platform, name)
				}
				v, err := reread(t, b).Verify(e.trusting())
				if err != nil {
					t.Errorf("%s, %s: %v", platform, name, err)
					continue
				}
				if !v.Simulated || v.Report.Measurement != e.statement.LaunchDigest || v.Guest.VCPUs != 3 || len(v.Lists) != 1 {
					t.Errorf("%s, %s: %+v", platform, name, v)
				}
				vouched := map[string]bool{}
				for _, c := range v.Claims {
					vouched[c.What] = c.Vouched
				}
				if !vouched["firmware"] || !vouched["vCPUs"] || vouched["kernel"] != (name != "no hashes") {
					t.Errorf("%s, %s: %+v", platform, name, v.Claims)
				}
				for who, o := range map[string]report.Options{
					"AMD's roots": {Roots: report.AMDRoots()}, "another": {Roots: report.AMDRoots(), TrustSimulated: strings.Repeat("0", 64)},
				} {
					if _, err := b.Verify(o); !errors.Is(err, report.ErrSimulated) {
						t.Errorf("%s, %s: with %s: %v", platform, name, who, err)
					}
				}
			}
		}
	}
}

// Whatever byte of the file is changed, it is refused: each key and each value, but for
// most of the page list, and many other places.
func TestBundleTampering(t *testing.T) {
	e := makeEvidence(t, "genoa", false, nil)
	b := e.bundle(t, nil, must(e.platform.CA().RevocationList("Genoa"))(t))
	data := must(b.Bytes())(t)
	refused := func(what string, changed []byte) {
		t.Helper()
		if bytes.Equal(changed, data) {
			t.Fatalf("%s: nothing was changed", what)
		}
		read, err := bundle.Read(changed)
		if err == nil {
			_, err = read.Verify(e.trusting())
		}
		switch {
		case err == nil:
			t.Errorf("%s: accepted", what)
		case strings.Contains(err.Error(), "\n"):
			t.Errorf("%s: more than a sentence: %v", what, err)
		}
	}
	type place struct{ at, n int }
	var values []place
	for at, n := range scalars(t, data) {
		values = append(values, place{at, n})
	}
	if len(values) < 8000 {
		t.Errorf("only %d keys and values found", len(values))
	}
	for i, v := range values {
		if i > 120 && i < len(values)-60 && i%211 != 0 {
			continue // most of the page list
		}
		pos := v.at + v.n/2
		changed := bytes.Clone(data)
		changed[pos] = other(changed[pos])
		refused(fmt.Sprintf("%.40q at %d", data[v.at:v.at+v.n], pos), changed)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		changed := bytes.Clone(data)
		pos := random.IntN(len(changed))
		changed[pos] ^= byte(1 + random.IntN(255))
		refused(fmt.Sprintf("byte %d", pos), changed)
	}
	for what, change := range map[string]func() []byte{
		"a byte less":  func() []byte { return data[:len(data)-1] },
		"a byte more":  func() []byte { return append(bytes.Clone(data), '\n') },
		"compacted":    func() []byte { var c bytes.Buffer; _ = json.Compact(&c, data); return c.Bytes() },
		"another key":  func() []byte { return bytes.Replace(data, []byte("{"), []byte("{\n \"more\": 1,"), 1) },
		"a key again":  func() []byte { return bytes.Replace(data, []byte("{"), []byte("{\n \"version\": 1,"), 1) },
		"spelt other":  func() []byte { return bytes.Replace(data, []byte(`"version"`), []byte(`"Version"`), 1) },
		"a later one":  func() []byte { return bytes.Replace(data, []byte(`"version": 1`), []byte(`"version": 2`), 1) },
		"other format": func() []byte { return bytes.Replace(data, []byte("evidence"), []byte("Evidence"), 1) },
		"two":          func() []byte { return append(bytes.Clone(data), data...) },
		"a page less": func() []byte {
			first := regexp.MustCompile(`(?s)   \{\n    "type": "NORMAL".*?\},\n`).FindIndex(data)
			return append(bytes.Clone(data[:first[0]]), data[first[1]:]...)
		},
	} {
		refused(what, change())
	}
}

// other gives another byte of the same kind.
func other(c byte) byte {
	switch {
	case c == '9' || c == 'z' || c == 'Z':
		return c - 1
	case c >= '0' && c < '9', c >= 'a' && c < 'z', c >= 'A' && c < 'Z':
		return c + 1
	}
	return '0'
}

// scalars yields place and length of every key and every value that is no object and no
// list.
func scalars(t testing.TB, data []byte) func(func(at, n int) bool) {
	return func(yield func(at, n int) bool) {
		dec := json.NewDecoder(bytes.NewReader(data))
		dec.UseNumber()
		for {
			before := dec.InputOffset()
			token, err := dec.Token()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := token.(json.Delim); ok {
				continue
			}
			end := int(dec.InputOffset())
			start := int(before) + bytes.IndexAny(data[before:end], `"0123456789tfn-`)
			if data[start] == '"' {
				start, end = start+1, end-1
			}
			if start < end && !yield(start, end-start) {
				return
			}
		}
	}
}

// A statement that the chip has signed and that contradicts the report or itself is
// refused for what is wrong with it.
func TestBundleOfALiar(t *testing.T) {
	e := makeEvidence(t, "genoa", false, nil)
	firmware := len(e.statement.Pages) // pages of the firmware
	for i, p := range e.statement.Pages {
		if p.Source != "firmware" {
			firmware = i
			break
		}
	}
	describe := func(old, new string) func(*bundle.Statement) {
		return func(s *bundle.Statement) {
			changed := strings.Replace(s.Description, old, new, 1)
			if changed == s.Description {
				t.Fatalf("%q is not in the description:\n%s", old, s.Description)
			}
			s.Description = changed
		}
	}
	cases := map[string]struct {
		change func(*bundle.Statement)
		says   string
	}{
		"not simulated":   {func(s *bundle.Statement) { s.Simulated = false }, "it says simulated: false"},
		"description":     {func(s *bundle.Statement) { s.Description = "vcpus: [" }, "the description"},
		"vCPUs":           {describe("vcpus: 3", "vcpus: 4"), "its list ends before vCPU 3 VMSA"},
		"countless vCPUs": {describe("vcpus: 3", "vcpus: 2000000000"), "too few for the save areas of 2000000000 vCPUs"},
		"endless section": {func(s *bundle.Statement) {
			s.Firmware.Sections = append([]ovmf.Section{{GPA: 0x10000000, Size: 0x8000000, Type: ovmf.SNPSecMem}}, s.Firmware.Sections...)
		}, "too few for the firmware's sections"},
		"fewer vCPUs":         {describe("vcpus: 3", "vcpus: 2"), "(vCPU 2 VMSA) is none of its description"},
		"CPU":                 {describe("cpu: EPYC-v4", "cpu: EPYC-Genoa"), "is vCPU 0 VMSA (VMSA at"},
		"command line":        {describe("panic=-1", "panic=-2"), "the SHA-256 of its command line is"},
		"policy":              {describe("policy: ", "policy: 0xb0000 #"), "policy"},
		"host data":           {describe("host_data: ", "host_data: '0800000000000000000000000000000000000000000000000000000000000000' #"), "HOST_DATA is "},
		"family":              {describe("guest_svn: 2", "guest_svn: 3"), "family id, image id or SVN"},
		"no ID block":         {func(s *bundle.Statement) { s.IDBlock, s.IDAuth, s.AuthorKeyEnabled = nil, nil, false }, "which its ID block (0 bytes)"},
		"ID block changed":    {func(s *bundle.Statement) { s.IDBlock[0] ^= 1 }, "is for launch digest"},
		"ID auth changed":     {func(s *bundle.Statement) { s.IDAuth[0x40] ^= 1 }, "BAD_SIGNATURE"},
		"author key off":      {func(s *bundle.Statement) { s.AuthorKeyEnabled = false }, "AUTHOR_KEY_DIGEST is "},
		"digest":              {func(s *bundle.Statement) { s.LaunchDigest[0] ^= 1 }, "pages fold to"},
		"page":                {func(s *bundle.Statement) { s.Pages[9].Contents[0] ^= 1 }, "pages fold to"},
		"page order":          {func(s *bundle.Statement) { s.Pages[8], s.Pages[9] = s.Pages[9], s.Pages[8] }, "pages fold to"},
		"another launch":      {func(s *bundle.Statement) { s.Pages[9].Contents[0] ^= 1; s.LaunchDigest = measure.Fold(foldable(s)) }, "and MEASUREMENT of the report is"},
		"firmware digest":     {func(s *bundle.Statement) { s.Firmware.FirmwareDigest[0] ^= 1 }, "its firmware's pages fold to"},
		"firmware size":       {func(s *bundle.Statement) { s.Firmware.FirmwareSize -= snp.PageSize; s.Inputs[0].Size -= snp.PageSize }, "at 0x"},
		"much firmware":       {func(s *bundle.Statement) { s.Firmware.FirmwareSize *= 2; s.Inputs[0].Size *= 2 }, "and its list 1"},
		"firmware hash":       {func(s *bundle.Statement) { s.Inputs[0].SHA256[0] ^= 1 }, "not about the firmware among its inputs"},
		"sections":            {func(s *bundle.Statement) { s.Firmware.Sections = s.Firmware.Sections[1:] }, fmt.Sprintf("page %d is ", firmware)},
		"reset vector":        {func(s *bundle.Statement) { v := *s.Firmware.ResetEIP + 16; s.Firmware.ResetEIP = &v }, "is vCPU 1 VMSA"},
		"kernel":              {func(s *bundle.Statement) { s.Inputs[1].SHA256[0] ^= 1 }, "is kernel hashes (NORMAL at"},
		"initrd":              {func(s *bundle.Statement) { s.Inputs[2].SHA256[0] ^= 1 }, "is kernel hashes (NORMAL at"},
		"command line's size": {func(s *bundle.Statement) { s.Inputs[3].Size++ }, "its command line has"},
		"input missing":       {func(s *bundle.Statement) { s.Inputs = s.Inputs[:2] }, "its description has a initrd"},
		"input more":          {func(s *bundle.Statement) { s.Inputs = append(s.Inputs, bundle.Input{Name: "shim"}) }, `its input 4 ("shim") is none`},
		"heard otherwise":     {func(s *bundle.Statement) { s.Heard.LaunchDigest[0] ^= 1 }, "the software host heard"},
		"heard fewer":         {func(s *bundle.Statement) { s.Heard.Updates-- }, "the software host heard"},
	}
	for name, c := range cases {
		if _, err := reread(t, e.bundle(t, c.change)).Verify(e.trusting()); !errors.Is(err, bundle.ErrStatement) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v; want ErrStatement and %q", name, err, c.says)
		}
	}
	// On hardware nobody hears the launch.
	if _, err := reread(t, e.bundle(t, func(s *bundle.Statement) { s.Heard = nil })).Verify(e.trusting()); err != nil {
		t.Errorf("not heard: %v", err)
	}
	// What description and report do not show is sealed all the same.
	for name, change := range map[string]func(*bundle.Statement){
		"nonce": func(s *bundle.Statement) { s.Nonce[0] ^= 1 }, "time": func(s *bundle.Statement) { s.Time = s.Time.Add(time.Second) },
		"tool": func(s *bundle.Statement) { s.Tool = "x" }, "QEMU": func(s *bundle.Statement) { s.QEMU = "10.0.3" }, "backend": func(s *bundle.Statement) { s.Backend = "snp" },
		"arguments": func(s *bundle.Statement) { s.Commands = nil }, "source": func(s *bundle.Statement) { s.Pages[0].Source = "x" },
		"memory": describe("memory_mib: 512", "memory_mib: 513"), "not heard": func(s *bundle.Statement) { s.Heard = nil },
	} {
		b := e.bundle(t, nil)
		change(&b.Statement)
		if _, err := reread(t, b).Verify(e.trusting()); !errors.Is(err, bundle.ErrStatement) || !strings.Contains(err.Error(), "and REPORT_DATA of the report is ") {
			t.Errorf("%s after the report: %v", name, err)
		}
	}
}

func foldable(s *bundle.Statement) (out []snp.Update) {
	for _, p := range s.Pages {
		out = append(out, p.Update)
	}
	return out
}

// Report and certificates are those of the statement, and no others.
func TestBundleOfOthers(t *testing.T) {
	e, other := makeEvidence(t, "genoa", false, nil), makeEvidence(t, "milan", false, nil)
	vlek := makeEvidence(t, "genoa", true, nil)
	b := e.bundle(t, nil)
	for name, c := range map[string]struct {
		change func(*bundle.Bundle)
		is     error
	}{
		"another's report": {func(b *bundle.Bundle) { b.Report = e.report(t, snp.ReportData{1}, 0) }, bundle.ErrStatement},
		"of VMPL 1": {func(b *bundle.Bundle) {
			b.Report = e.report(t, must(b.Statement.ReportData())(t), 1)
		}, bundle.ErrStatement},
		"no report":           {func(b *bundle.Bundle) { b.Report = nil }, report.ErrFormat},
		"behind signature":    {func(b *bundle.Bundle) { b.Report[snp.ReportSize-1] ^= 1 }, report.ErrFormat},
		"another's VCEK":      {func(b *bundle.Bundle) { b.Certificates.VCEK = other.chain.VCEK }, report.ErrChain},
		"another's ARK":       {func(b *bundle.Bundle) { b.Certificates.ARK = other.chain.ARK }, report.ErrSimulated},
		"another's ASK":       {func(b *bundle.Bundle) { b.Certificates.ASK = other.chain.ASK }, report.ErrChain},
		"no ASK":              {func(b *bundle.Bundle) { b.Certificates.ASK = nil }, report.ErrChain},
		"a VLEK besides":      {func(b *bundle.Bundle) { b.Certificates.VLEK = vlek.chain.VLEK }, report.ErrChain},
		"another's list":      {func(b *bundle.Bundle) { b.RevocationLists = [][]byte{must(e.platform.CA().RevocationList("Milan"))(t)} }, report.ErrRevocationList},
		"a list that is none": {func(b *bundle.Bundle) { b.RevocationLists = [][]byte{{1}} }, report.ErrRevocationList},
	} {
		changed := reread(t, b)
		c.change(changed)
		if _, err := reread(t, changed).Verify(e.trusting()); !errors.Is(err, c.is) {
			t.Errorf("%s: %v; want %v", name, err, c.is)
		}
	}
	// A list of later counts beside those of the bundle.
	vcek := must(x509.ParseCertificate(e.chain.VCEK))(t)
	o := e.trusting()
	o.RevocationLists = [][]byte{must(e.platform.CA().RevocationList("Genoa", vcek.SerialNumber))(t)}
	if _, err := b.Verify(o); !errors.Is(err, report.ErrRevoked) {
		t.Errorf("revoked since: %v", err)
	}
}
