package idblock

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/snp"
)

func testPair(t testing.TB) *Pair {
	t.Helper()
	b := block()
	return NewPair(b, must[*snp.IDAuth](t)(Sign(b, key(t, 1), key(t, 2))))
}

// TestForms: every form in which a pair is given out is read back as that
// pair, alone and amid what stands around it.
func TestForms(t *testing.T) {
	p := testPair(t)
	p.KernelHashes, p.VCEKDisabled, p.HostData = true, true, &snp.HostData{1}
	object := must[string](t)(p.ObjectJSON())
	domain := must[string](t)(p.Libvirt())
	quoted := string(must[[]byte](t)(json.Marshal(object)))
	b64Block, b64Auth := base64.StdEncoding.EncodeToString(p.Block), base64.StdEncoding.EncodeToString(p.Auth)
	for name, c := range map[string]struct {
		data        string
		block, auth bool
		author      bool // whether it says author-key-enabled
	}{
		"raw block":       {string(p.Block), true, false, false},
		"raw auth":        {string(p.Auth), false, true, false},
		"base64 block":    {b64Block, true, false, false},
		"base64 auth":     {b64Auth + "\r\n", false, true, false},
		"wrapped base64":  {b64Auth[:76] + "\n" + b64Auth[76:] + "\n", false, true, false},
		"options":         {p.Options(), true, true, true},
		"object":          {p.Object(), true, true, true},
		"command line":    {"qemu-system-x86_64 -enable-kvm -object '" + p.Object() + "' -nographic\n", true, true, true},
		"old lines":       {"id-block=" + b64Block + "\nid-auth=" + b64Auth + "\n", true, true, false},
		"one option":      {"id-auth=" + b64Auth, false, true, false},
		"JSON object":     {object, true, true, true},
		"JSON on a line":  {"-object '" + object + "' -m 1G", true, true, true},
		"JSON in a list":  {`["-object",` + quoted + `,"-m","1G"]`, true, true, true},
		"options in JSON": {`["-object","` + p.Object() + `"]`, true, true, true},
		"deep JSON":       {`{"a":[{"b":` + object + `}]}`, true, true, true},
		"underscores":     {`{"id_block":"` + b64Block + `","id_auth":"` + b64Auth + `","author_key_enabled":true}`, true, true, true},
		"libvirt":         {domain, true, true, true},
		"domain":          {"<?xml version='1.0'?>\n<domain type='kvm'><name>x</name>" + domain + "</domain>\n", true, true, true},
		"snpguest":        {p.SNPGuest() + "\n", true, true, false},
		"snp-create-id-block": {"id-block=" + b64Block + ",id-auth=" + b64Auth + "\nid_key_hash: hwt+NcU/inLQ0yL3WrKvgmJ5Kq9leWIs5BMcPyHyied8sFYKXjuQs5MuZ07HCcsU\n" +
			"author_key: YxEcNLv8Ckk4+aAJvQdJgNgXIyPmFZnJ/TNtqGcySOHcqY0L6PdjdqEGuK/UwKBX\n", true, true, false},
	} {
		got, err := ParseParts([]byte(c.data))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if c.block != bytes.Equal(got.Block, p.Block) || c.auth != bytes.Equal(got.Auth, p.Auth) ||
			!c.block && got.Block != nil || !c.auth && got.Auth != nil {
			t.Errorf("%s: read block %d bytes, auth %d bytes", name, len(got.Block), len(got.Auth))
		}
		if c.author != (got.AuthorKeyEnabled != nil) || c.author && !*got.AuthorKeyEnabled {
			t.Errorf("%s: author-key-enabled %v", name, got.AuthorKeyEnabled)
		}
	}
}

// TestFormsToTheByte holds each form against what its reader wants.
func TestFormsToTheByte(t *testing.T) {
	p := testPair(t)
	b, a := Base64(p.Block), Base64(p.Auth)
	if got, want := p.Options(), "id-block="+b+",id-auth="+a+",author-key-enabled=on"; got != want {
		t.Errorf("options\n got %s\nwant %s", got, want)
	}
	if got, want := p.Object(), "sev-snp-guest,id=sev0,cbitpos=51,reduced-phys-bits=1,policy=0x30000,"+p.Options(); got != want {
		t.Errorf("object\n got %s\nwant %s", got, want)
	}
	if got, want := must[string](t)(p.ObjectJSON()), `{"qom-type":"sev-snp-guest","id":"sev0","cbitpos":51,"reduced-phys-bits":1,"policy":196608,"id-block":"`+b+`","id-auth":"`+a+`","author-key-enabled":true}`; got != want {
		t.Errorf("JSON object\n got %s\nwant %s", got, want)
	}
	if got, want := must[string](t)(p.Libvirt()), "<launchSecurity type=\"sev-snp\" authorKey=\"yes\">\n  <policy>0x00030000</policy>\n  <idBlock>"+b+"</idBlock>\n  <idAuth>"+a+"</idAuth>\n</launchSecurity>"; got != want {
		t.Errorf("libvirt\n got %s\nwant %s", got, want)
	}

	alone := block()
	p = NewPair(alone, must[*snp.IDAuth](t)(Sign(alone, key(t, 1), nil)))
	p.CBitPos, p.ReducedPhysBits, p.KernelHashes, p.VCEKDisabled, p.HostData = 47, 5, true, true, &snp.HostData{31: 0xFF}
	const host = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAP8="
	if got, want := p.Object(), "sev-snp-guest,id=sev0,cbitpos=47,reduced-phys-bits=5,policy=0x30000,kernel-hashes=on,host-data="+host+",vcek-disabled=on,id-block="+Base64(p.Block)+",id-auth="+Base64(p.Auth); got != want {
		t.Errorf("object\n got %s\nwant %s", got, want)
	}
	var object map[string]any
	if err := json.Unmarshal([]byte(must[string](t)(p.ObjectJSON())), &object); err != nil {
		t.Fatal(err)
	}
	if object["kernel-hashes"] != true || object["host-data"] != host || object["vcek-disabled"] != true || object["author-key-enabled"] != nil || object["cbitpos"] != 47.0 {
		t.Errorf("JSON object %v", object)
	}
	var domain struct {
		XMLName      xml.Name `xml:"launchSecurity"`
		KernelHashes string   `xml:"kernelHashes,attr"`
		AuthorKey    string   `xml:"authorKey,attr"`
		VCEK         string   `xml:"vcek,attr"`
		HostData     string   `xml:"hostData"`
	}
	if err := xml.Unmarshal([]byte(must[string](t)(p.Libvirt())), &domain); err != nil {
		t.Fatal(err)
	}
	if domain.KernelHashes != "yes" || domain.AuthorKey != "" || domain.VCEK != "no" || domain.HostData != host {
		t.Errorf("libvirt %+v", domain)
	}
}

func TestBadParts(t *testing.T) {
	p := testPair(t)
	other := bytes.Clone(p.Block)
	other[0] ^= 1
	for name, c := range map[string]struct{ data, hint string }{
		"nothing":               {"", "empty"},
		"white space":           {"\n ", "empty"},
		"text":                  {"hello", "not base64"},
		"hexadecimal":           {hex.EncodeToString(p.Block), "its base64 holds 144 bytes"},
		"95 bytes":              {string(p.Block[:95]), "not base64"},
		"base64 of 95 bytes":    {Base64(p.Block[:95]), "holds 95 bytes"},
		"two different blocks":  {"id-block=" + Base64(p.Block) + " id-block=" + Base64(other), "two different ID blocks"},
		"auth as block":         {"id-block=" + Base64(p.Auth), "holds 4096 bytes, want 96"},
		"block as auth":         {`{"id-auth":"` + Base64(p.Block) + `"}`, "holds 96 bytes, want 4096"},
		"no base64":             {"id-block=????", "id-block is not base64"},
		"on and off":            {p.Options() + ",author-key-enabled=off", "both on and off"},
		"neither on nor off":    {"id-block=" + Base64(p.Block) + ",author-key-enabled=maybe", "want on or off"},
		"JSON without":          {`{"qom-type":"sev-snp-guest"}`, "no ID block and no ID auth"},
		"XML without":           {"<domain/>", "no ID block and no ID auth"},
		"broken JSON":           {`{"id-block":`, "not JSON"},
		"JSON and more":         {`{} {}`, "something after its JSON"},
		"broken XML":            {"<domain><idBlock>", "not XML"},
		"snpguest, cut":         {"ID-BLOCK:\n", "no ID block and no ID auth"},
		"snpguest, other lines": {"ID-BLOCK:\nhello\n", "id-block is not base64"},
	} {
		if _, err := ParseParts([]byte(c.data)); err == nil || !strings.Contains(err.Error(), c.hint) {
			t.Errorf("%s: %v, want %q", name, err, c.hint)
		}
	}
	if _, err := ParseBlock(p.Auth); err == nil || !strings.Contains(err.Error(), "wrong way round") {
		t.Errorf("auth as block: %v", err)
	}
	if _, _, err := ParseAuth(p.Block); err == nil || !strings.Contains(err.Error(), "wrong way round") {
		t.Errorf("block as auth: %v", err)
	}
	a := &Parts{Block: p.Block}
	if err := a.Merge(&Parts{Auth: p.Auth}); err != nil || a.Auth == nil {
		t.Errorf("merging: %v", err)
	}
	if err := a.Merge(&Parts{Block: p.Block}); err != nil {
		t.Errorf("merging the same: %v", err)
	}
	if err := a.Merge(&Parts{Block: other}); err == nil {
		t.Error("two different blocks are merged")
	}
}

// FuzzParseParts: what is read is written as every form and read back the same.
func FuzzParseParts(f *testing.F) {
	p := testPair(f)
	for _, s := range []string{string(p.Block), string(p.Auth), Base64(p.Block), Base64(p.Auth), p.Options(), p.Object(), p.SNPGuest(),
		must[string](f)(p.ObjectJSON()), must[string](f)(p.Libvirt()), "-object '" + must[string](f)(p.ObjectJSON()) + "'", `["-object","id-block=AA==,author-key-enabled=on"]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := ParseParts(data)
		if err != nil {
			return
		}
		if got.Block == nil && got.Auth == nil {
			t.Fatal("nothing was read, and that is no error")
		}
		if got.Block != nil {
			b, err := snp.ParseIDBlock(got.Block)
			if err != nil {
				t.Fatal(err)
			}
			if raw := b.Bytes(); !bytes.Equal(raw[:], got.Block) {
				t.Fatal("an ID block is another when it is written")
			}
		}
		if got.Auth != nil {
			a, err := snp.ParseIDAuth(got.Auth)
			if err != nil {
				t.Fatal(err)
			}
			if snp.IDAuthReservedZero(got.Auth) != bytes.Equal(a.Bytes(), got.Auth) {
				t.Fatal("an ID auth is another when it is written, and its reserved bytes are zero")
			}
		}
		if got.Block == nil || got.Auth == nil {
			return
		}
		pair := &Pair{Block: got.Block, Auth: got.Auth, AuthorKeyEnabled: got.AuthorKeyEnabled != nil && *got.AuthorKeyEnabled}
		for _, text := range []string{pair.Options(), pair.Object(), must[string](t)(pair.ObjectJSON()), must[string](t)(pair.Libvirt()), pair.SNPGuest()} {
			again, err := ParseParts([]byte(text))
			if err != nil || !bytes.Equal(again.Block, got.Block) || !bytes.Equal(again.Auth, got.Auth) {
				t.Fatalf("%.60s… is read as something else: %v", text, err)
			}
		}
	})
}

// FuzzParseLaunchDigest: what is taken is one of three forms of what comes out.
func FuzzParseLaunchDigest(f *testing.F) {
	d := block().LD
	for _, s := range []string{d.String(), "0x" + d.String(), Base64(d[:]), Base64([]byte(d.String())), Base64([]byte("0x" + d.String())), strings.Repeat("0", 64)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseLaunchDigest(s)
		if err != nil {
			return
		}
		if lower := strings.ToLower(s); lower != d.String() && lower != "0x"+d.String() && s != Base64(d[:]) {
			t.Fatalf("%q is read as %s", s, d)
		}
	})
}
