package measure_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/hashes"
	"github.com/snplaunch/snplaunch/idblock"
	"github.com/snplaunch/snplaunch/measure"
	"github.com/snplaunch/snplaunch/ovmf"
	"github.com/snplaunch/snplaunch/ovmf/ovmftest"
	"github.com/snplaunch/snplaunch/snp"
	"github.com/snplaunch/snplaunch/vmsa"
)

// vectorsEnv names the folder with published.json and keys.json: expected
// values from the test suites of sev-snp-measure, the Rust crate sev,
// sev-snp-measure-go, gce-tcb-verifier and others, with their inputs.
const vectorsEnv = "SNPLAUNCH_VECTORS"

type blob struct {
	Path   string
	Size   int64
	SHA256 string
}

// vector is one entry of published.json; kinds use different fields.
type vector struct {
	ID            string
	Kind          string
	Mode          string
	VMM           string
	Product       string
	OVMF          *blob
	Kernel        *blob
	Initrd        *blob
	SVSM          *blob
	VarsSize      int64 `json:"vars_size"`
	Append        *string
	VCPUs         int
	VCPUType      *string `json:"vcpu_type"`
	VCPUSig       string  `json:"vcpu_sig"`
	GuestFeatures string  `json:"guest_features"`
	OVMFHash      *string `json:"snp_ovmf_hash"`
	Expected      string
	ExpectedError string `json:"expected_error"`
	Stale         bool
	Role, EIP     string
	SHA256        string `json:"expected_sha256"`
	VMSAPath      string `json:"vmsa_path"`
	Family        uint32
	Model         uint32
	Stepping      uint32
	PageType      uint8 `json:"page_type"`
	GPA, Length   string
	DataRule      string `json:"data_rule"`
	MetadataJSON  *struct {
		Path    string
		Content struct {
			MetadataItems []struct {
				GPA            string
				SectionTypeInt uint32
				Size           string
			}
			ResetEIP string
			OVMFHash string
		}
	} `json:"metadata_json"`
	LaunchDigest string `json:"launch_digest"`
	FamilyID     string `json:"family_id"`
	ImageID      string `json:"image_id"`
	Version      uint32
	GuestSVN     uint32 `json:"guest_svn"`
	Policy       string
	IDKey        string `json:"id_key"`
	AuthorKey    string `json:"author_key"`
	Key          string
	PubkeyHex    string `json:"pubkey_0x404_hex"`
	IDSig        string `json:"id_sig"`
	AuthorSig    string `json:"author_sig"`
	ExpectedPath string `json:"expected_path"`
	Base64       string `json:"expected_base64"`
}

// uncovered says why a vector is not for this package, or "".
func (v *vector) uncovered() string {
	switch {
	case v.Kind == "sev_launch_measure_hmac":
		return "SEV's launch measurement (HMAC)"
	case v.Kind == "id_auth_layout":
		return "a description of the ID auth layout, without bytes"
	case v.Kind == "launch_digest" && (v.OVMF == nil || v.OVMF.Path == ""):
		return "the source has no firmware to it"
	}
	return ""
}

// The vectors in which the peer that published them is wrong, and why. Each is
// reproduced here from the peer's mistake, so that nothing else can hide behind it.
const (
	// No EC2 guest starts with this RDX any more: sev-snp-measure#60,
	// aws/uefi#19. Both tools still have it.
	wrongRDX = "the crate sev and sev-snp-measure-go leave RDX zero under EC2, where it is 0x600"
	// VMSA_SVSM passes fcw= to a structure whose field is x87_fcw, so the
	// value is lost, but MXCSR's beside it is not. No kernel copies one of them.
	wrongFCW = "sev-snp-measure leaves X87_FCW zero beside an MXCSR of 0x1f80"
)

var wrongPeers = map[string]string{
	"rust/test_snp_ec2_snp_only": wrongRDX,
	"rust/test_snp_ec2_default":  wrongRDX,
	"go/launch_digest/1":         wrongRDX,
	"go/launch_digest/2":         wrongRDX,
	"py/test_snp_svsm_4_vcpus":   wrongFCW,
	"py/test_snp_svsm_2_vcpus":   wrongFCW,
	"py/test_snp_svsm_dump_vmsa": wrongFCW,
}

func TestPublishedVectors(t *testing.T) {
	dir := os.Getenv(vectorsEnv)
	if dir == "" {
		t.Skipf("%s is not set (set it to the folder that holds published.json and its inputs)", vectorsEnv)
	}
	b := bench{dir: dir, keys: loadKeys(t, dir), blocks: map[string]*snp.IDBlock{}}
	raw, err := os.ReadFile(filepath.Join(dir, "published.json"))
	if err != nil {
		t.Fatal(err)
	}
	// VCPUSig, Policy and the like are text in the file for the kinds that are
	// covered; for others they may be anything.
	var file struct{ Vectors []json.RawMessage }
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	var vectors []*vector
	for _, entry := range file.Vectors {
		var head struct{ ID, Kind, Mode string }
		if err := json.Unmarshal(entry, &head); err != nil {
			t.Fatal(err)
		}
		v := &vector{ID: head.ID, Kind: head.Kind, Mode: head.Mode}
		if v.uncovered() == "" || v.Kind == "launch_digest" {
			if err := json.Unmarshal(entry, v); err != nil {
				t.Fatalf("%s: %v", head.ID, err)
			}
		}
		if v.Kind == "id_block" {
			b.blocks[v.IDKey] = idBlockOf(t, v)
		}
		vectors = append(vectors, v)
	}
	covered, left := map[string]int{}, map[string][]string{}
	for _, v := range vectors {
		if why := v.uncovered(); why != "" {
			left[why] = append(left[why], v.ID)
			continue
		}
		covered[strings.Join(strings.Fields(v.Kind+" "+v.Mode+" "+v.VMM), " ")]++
		t.Run(v.ID, func(t *testing.T) { b.check(t, v) })
	}
	for _, k := range sortedKeys(covered) {
		t.Logf("covered: %3d %s", covered[k], k)
	}
	for _, why := range sortedKeys(left) {
		t.Logf("not covered: %3d, %s: %s", len(left[why]), why, strings.Join(left[why], " "))
	}
	for _, kind := range []string{"launch_digest snp QEMU", "launch_digest snp ec2", "launch_digest snp gce", "launch_digest snp:svsm QEMU",
		"launch_digest seves QEMU", "launch_digest sev QEMU", "launch_digest_from_metadata snp ec2", "ovmf_hash snp:ovmf-hash",
		"vmsa QEMU", "vmsa ec2", "vmsa gce", "kernel_hashes_table", "cpu_sig", "id_block", "id_auth", "key_digest", "gctx_update"} {
		if covered[kind] == 0 {
			t.Errorf("published.json has no vector of kind %q; is it the right file?", kind)
		}
	}
	// What is left is covered elsewhere (the HMAC, in launchmeasure_test.go), or
	// has nothing to compare.
	wantLeft := map[string]int{"SEV's launch measurement (HMAC)": 1, "a description of the ID auth layout, without bytes": 1, "the source has no firmware to it": 1}
	for why, ids := range left {
		if len(ids) > wantLeft[why] {
			t.Errorf("%s: %d vectors are not covered, at most %d were known: %s", why, len(ids), wantLeft[why], ids)
		}
	}
}

func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// bench holds what all vectors share.
type bench struct {
	dir    string
	keys   map[string]*ecdsa.PrivateKey
	blocks map[string]*snp.IDBlock // by the ID key that signs them
}

func loadKeys(t *testing.T, dir string) map[string]*ecdsa.PrivateKey {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "keys.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Keys map[string]struct {
			D string `json:"d_hex"`
		}
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	keys := map[string]*ecdsa.PrivateKey{}
	for name, k := range file.Keys {
		if keys[name], err = ecdsa.ParseRawPrivateKey(elliptic.P384(), unhex(t, k.D)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	return keys
}

func (b *bench) check(t *testing.T, v *vector) {
	switch v.Kind {
	case "launch_digest":
		b.launchDigest(t, v)
	case "launch_digest_from_metadata":
		b.fromMetadata(t, v)
	case "ovmf_hash":
		b.ovmfHash(t, v)
	case "vmsa":
		b.vmsa(t, v)
	case "kernel_hashes_table":
		b.hashTable(t, v)
	case "cpu_sig":
		want := uint32(number(t, v.Expected))
		if v.VCPUType == nil {
			equal(t, "signature", vmsa.Signature(v.Family, v.Model, v.Stepping), want)
			return
		}
		got, err := vmsa.Lookup(*v.VCPUType)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "signature", got, want)
	case "gctx_update":
		b.contextUpdate(t, v)
	case "sha384_zero_page":
		equal(t, "SHA-384", fmt.Sprintf("%x", sha512.Sum384(make([]byte, snp.PageSize))), v.Expected)
	case "id_block":
		b.idBlock(t, v)
	case "id_auth":
		b.idAuth(t, v)
	case "key_digest":
		b.keyDigest(t, v)
	default:
		t.Fatalf("kind %q is new: cover it, or name it in uncovered", v.Kind)
	}
}

// path gives the place of an input; "empty" is an empty file.
func (b *bench) path(t *testing.T, in *blob) string {
	t.Helper()
	if in == nil {
		return ""
	}
	if in.Path == "empty" {
		p := filepath.Join(t.TempDir(), "empty")
		if err := os.WriteFile(p, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := filepath.Join(b.dir, in.Path)
	raw, err := os.ReadFile(p)
	if err != nil {
		t.Fatal(err)
	}
	if sum := fmt.Sprintf("%x", sha256.Sum256(raw)); sum != in.SHA256 {
		t.Fatalf("%s has SHA-256 %s, published.json says %s", p, sum, in.SHA256)
	}
	return p
}

// guest builds the description that a vector stands for.
func (b *bench) guest(t *testing.T, v *vector) (*guest.Guest, measure.Options) {
	t.Helper()
	g := guest.Default()
	g.Firmware, g.Kernel, g.Initrd = b.path(t, v.OVMF), b.path(t, v.Kernel), b.path(t, v.Initrd)
	if v.Append != nil {
		g.Append = *v.Append
	}
	g.VCPUs = v.VCPUs
	var opt measure.Options
	var err error
	if opt.Mode, err = measure.ParseMode(v.Mode); err != nil {
		t.Fatal(err)
	}
	if opt.VMM, err = vmsa.ParseVMM(v.VMM); err != nil {
		t.Fatal(err)
	}
	switch opt.Mode {
	case measure.SVSM: // the tool takes guest features, but measures 0x1
	case measure.SEV:
	default:
		g.GuestFeatures = number(t, v.GuestFeatures)
	}
	if v.VCPUType != nil && *v.VCPUType != "" {
		g.CPU = *v.VCPUType
	}
	if strings.Contains(v.Product, "Genoa") {
		g.CPU = "EPYC-Genoa"
	}
	if strings.Contains(v.ID, "svsm-pre-fpu") {
		g.HostKernel = "amd-6.8"
	}
	if wrongPeers[v.ID] == wrongRDX {
		opt.RDX = new(uint32)
	}
	if v.OVMFHash != nil {
		ld, err := snp.ParseLaunchDigest(*v.OVMFHash)
		if err != nil {
			t.Fatal(err)
		}
		opt.FirmwareDigest = &ld
	}
	if v.SVSM != nil {
		if opt.SVSM, err = guest.OpenInput(b.path(t, v.SVSM)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { opt.SVSM.File.Close() })
		opt.VarsSize = v.VarsSize
	}
	return &g, opt
}

func (b *bench) launchDigest(t *testing.T, v *vector) {
	g, opt := b.guest(t, v)
	in, err := g.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	r, err := measure.MeasureWith(g, in, opt)
	if v.ExpectedError != "" {
		if err == nil {
			t.Fatalf("no error; others say %q", v.ExpectedError)
		}
		t.Logf("%v", err)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Pages) > 0 && opt.FirmwareDigest == nil {
		equal(t, "fold of the listed pages", measure.Fold(r.Updates()), r.LaunchDigest)
	}
	if wrongPeers[v.ID] == wrongFCW {
		notEqual(t, "launch digest", hex.EncodeToString(r.Digest), v.Expected)
		var c measure.Context
		area, err := r.SaveArea(0)
		if err != nil {
			t.Fatal(err)
		}
		area[0x410], area[0x411] = 0, 0
		for _, u := range r.Updates() {
			if u.Type == snp.PageVMSA {
				u.Contents = sha512.Sum384(area[:])
			}
			c.Extend(u)
		}
		equal(t, "launch digest with the peer's FCW", c.LD.String(), v.Expected)
		return
	}
	equal(t, "launch digest", hex.EncodeToString(r.Digest), v.Expected)
	b.rightRDX(t, v, opt, func(opt measure.Options) (*measure.Result, error) { return measure.MeasureWith(g, in, opt) })
}

// rightRDX sees, for a vector with a peer's RDX, that ours gives another digest.
func (b *bench) rightRDX(t *testing.T, v *vector, opt measure.Options, again func(measure.Options) (*measure.Result, error)) {
	t.Helper()
	if wrongPeers[v.ID] != wrongRDX {
		return
	}
	opt.RDX = nil
	r, err := again(opt)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "RDX", r.CPUSig, uint32(0x600))
	notEqual(t, "launch digest", r.LaunchDigest.String(), v.Expected)
}

func (b *bench) fromMetadata(t *testing.T, v *vector) {
	m := v.MetadataJSON.Content
	eip := uint32(number(t, m.ResetEIP))
	spec := ovmftest.Spec{ResetEIP: &eip}
	for _, s := range m.MetadataItems {
		spec.Sections = append(spec.Sections, ovmf.Section{GPA: uint32(number(t, s.GPA)), Size: uint32(number(t, s.Size)), Type: ovmf.SectionType(s.SectionTypeInt)})
	}
	raw := spec.Build()
	img, err := ovmf.Parse(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	v.OVMF, v.OVMFHash = nil, &m.OVMFHash
	g, opt := b.guest(t, v)
	r, err := measure.FromImage(g, img, nil, opt)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "launch digest", r.LaunchDigest.String(), v.Expected)
	b.rightRDX(t, v, opt, func(opt measure.Options) (*measure.Result, error) { return measure.FromImage(g, img, nil, opt) })
}

func (b *bench) ovmfHash(t *testing.T, v *vector) {
	f, err := os.Open(b.path(t, v.OVMF))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// The SVSM image among them has no SEV metadata of SNP kind; only its
	// contents count here.
	img := &ovmf.Image{Size: v.OVMF.Size, BaseGPA: 1<<32 - uint64(v.OVMF.Size)}
	pages, err := measure.FirmwarePages(f, img)
	if err != nil {
		t.Fatal(err)
	}
	var c measure.Context
	for _, p := range pages {
		c.Extend(p.Update)
	}
	equal(t, "OVMF hash", c.LD.String(), v.Expected)
}

func (b *bench) vmsa(t *testing.T, v *vector) {
	vmm, err := vmsa.ParseVMM(v.VMM)
	if err != nil {
		t.Fatal(err)
	}
	cfg := vmsa.Config{VMM: vmm, Features: number(t, v.GuestFeatures), Signature: vmsa.CloudSignature}
	if vmm == vmsa.QEMU {
		cfg.Signature = uint32(number(t, v.VCPUSig))
	}
	eip := uint32(number(t, v.EIP))
	page := vmsa.Page(cfg, eip == vmsa.ResetVector, eip)
	if v.VMSAPath != "" {
		want, err := os.ReadFile(filepath.Join(b.dir, v.VMSAPath))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(page[:], want) {
			t.Errorf("page differs from %s", v.VMSAPath)
		}
	}
	equal(t, "SHA-256 of the page", fmt.Sprintf("%x", sha256.Sum256(page[:])), v.SHA256)
}

func (b *bench) hashTable(t *testing.T, v *vector) {
	table := &hashes.Table{}
	for _, p := range []struct {
		in  *blob
		dst *[32]byte
	}{{v.Kernel, &table.Kernel}, {v.Initrd, &table.Initrd}} {
		// Some files are too large for the folder; their digest is given.
		*p.dst = sha256.Sum256(nil)
		if p.in != nil {
			*p.dst = [32]byte(unhex(t, p.in.SHA256))
		}
	}
	cmdline := ""
	if v.Append != nil {
		cmdline = *v.Append
	}
	var err error
	if table.Cmdline, err = hashes.Cmdline(cmdline); err != nil {
		t.Fatal(err)
	}
	got := table.Bytes()
	equal(t, "table", hex.EncodeToString(got[:]), v.Expected)
}

func (b *bench) contextUpdate(t *testing.T, v *vector) {
	gpa := number(t, v.GPA)
	var updates []snp.Update
	switch v.DataRule {
	case "":
		updates = []snp.Update{{Type: snp.PageType(v.PageType), GPA: gpa, Length: number(t, v.Length)}}
	case "b'LGTM'*4 + zeros(12288-32) + b'LGTM'*4":
		data := make([]byte, 12288)
		copy(data, "LGTMLGTMLGTMLGTM")
		copy(data[len(data)-16:], "LGTMLGTMLGTMLGTM")
		for off := 0; off < len(data); off += snp.PageSize {
			updates = append(updates, snp.Update{Type: snp.PageType(v.PageType), GPA: gpa + uint64(off), Length: snp.PageSize, Contents: sha512.Sum384(data[off : off+snp.PageSize])})
		}
	default:
		t.Fatalf("data rule %q is new", v.DataRule)
	}
	equal(t, "launch digest", measure.Fold(updates).String(), v.Expected)
}

// idBlockOf builds the ID block that a vector describes.
func idBlockOf(t *testing.T, v *vector) *snp.IDBlock {
	t.Helper()
	block := &snp.IDBlock{Version: v.Version, GuestSVN: v.GuestSVN, Policy: snp.GuestPolicy(number(t, v.Policy))}
	copy(block.LD[:], unhex(t, v.LaunchDigest))
	copy(block.FamilyID[:], unhex(t, v.FamilyID))
	copy(block.ImageID[:], unhex(t, v.ImageID))
	return block
}

func (b *bench) idBlock(t *testing.T, v *vector) {
	block := idBlockOf(t, v)
	raw := block.Bytes()
	equal(t, "ID block", hex.EncodeToString(raw[:]), v.Expected)
	equal(t, "ID block in base64", idblock.Base64(raw[:]), v.Base64)
	parsed, err := idblock.ParseBlock([]byte(v.Base64 + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "parsed ID block", *parsed, *block)
	auth, err := idblock.Sign(block, b.key(t, v.IDKey), b.key(t, v.AuthorKey))
	if err != nil {
		t.Fatal(err)
	}
	if err := idblock.Verify(block, auth, true); err != nil {
		t.Error(err)
	}
}

func (b *bench) idAuth(t *testing.T, v *vector) {
	read := func(name string) []byte {
		raw, err := os.ReadFile(filepath.Join(b.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	var err error
	auth := &snp.IDAuth{IDKeyAlgo: snp.KeyAlgoECDSAP384, AuthorKeyAlgo: snp.KeyAlgoECDSAP384}
	if auth.IDKey, err = idblock.EncodePublicKey(&b.key(t, v.IDKey).PublicKey); err != nil {
		t.Fatal(err)
	}
	if auth.AuthorKey, err = idblock.EncodePublicKey(&b.key(t, v.AuthorKey).PublicKey); err != nil {
		t.Fatal(err)
	}
	for _, s := range []struct {
		path string
		dst  *snp.SignatureBytes
	}{{v.IDSig, &auth.IDBlockSig}, {v.AuthorSig, &auth.IDKeySig}} {
		r, sv, err := idblock.DecodeSignature(snp.SignatureBytes(read(s.path)))
		if err != nil {
			t.Fatal(err)
		}
		if *s.dst, err = idblock.EncodeSignature(r, sv); err != nil {
			t.Fatal(err)
		}
	}
	want := read(v.ExpectedPath)
	if !bytes.Equal(auth.Bytes(), want) {
		t.Error("ID auth differs from the published one")
	}
	// It is for the ID block that the same project published.
	parsed, _, err := idblock.ParseAuth(want)
	if err != nil {
		t.Fatal(err)
	}
	block := b.blocks[v.IDKey]
	if block == nil {
		t.Fatalf("published.json has no ID block signed with %s", v.IDKey)
	}
	if err := idblock.Verify(block, parsed, true); err != nil {
		t.Error(err)
	}
	block.GuestSVN++
	if err := idblock.Verify(block, parsed, true); err == nil {
		t.Error("the signature verifies over another block, too")
	}
}

func (b *bench) keyDigest(t *testing.T, v *vector) {
	pub := &b.key(t, v.Key).PublicKey
	d := idblock.KeyDigest(pub)
	equal(t, "key digest", d.String(), v.Expected)
	equal(t, "key digest in base64", base64.StdEncoding.EncodeToString(d[:]), v.Base64)
	if want, _, ok := strings.Cut(v.PubkeyHex, " "); ok {
		raw, err := idblock.EncodePublicKey(pub)
		if err != nil {
			t.Fatal(err)
		}
		full := make([]byte, snp.ECDSAPublicSize)
		copy(full, unhex(t, want))
		equal(t, "encoded key", hex.EncodeToString(raw[:]), hex.EncodeToString(full))
	}
}

func (b *bench) key(t *testing.T, name string) *ecdsa.PrivateKey {
	t.Helper()
	k := b.keys[name]
	if k == nil {
		t.Fatalf("keys.json has no key %s", name)
	}
	return k
}

func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s\n got %v\nwant %v", what, got, want)
	}
}

func notEqual[T comparable](t *testing.T, what string, got, other T) {
	t.Helper()
	if got == other {
		t.Errorf("%s is %v, which it should not be", what, got)
	}
}

func number(t *testing.T, s string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(s, 0, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
