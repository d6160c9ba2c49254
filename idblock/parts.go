package idblock

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/snplaunch/snplaunch/snp"
)

// maxPartsFile bounds a file that holds ID block or ID auth among other
// things: a command line, a domain of libvirt.
const maxPartsFile = 1 << 20

// Parts is what a file says about ID block and ID auth. What it does not say
// is nil.
type Parts struct {
	Block            []byte // snp.IDBlockSize bytes
	Auth             []byte // snp.IDAuthSize bytes
	AuthorKeyEnabled *bool  // QEMU's author-key-enabled, libvirt's authorKey
}

// ParseParts reads ID block and ID auth in the forms in which they are handed
// around:
//
//   - the 96 or 4096 bytes, or base64 of them;
//   - options of QEMU (id-block=…, id-auth=…, author-key-enabled=on), alone or
//     anywhere in a command line, also as a JSON -object there;
//   - JSON, with the members "id-block" and "id-auth" (or with underscores) at
//     any depth: QEMU's JSON -object, and what `snplaunch idblock create
//     --output-format json` prints;
//   - libvirt's <idBlock>, <idAuth> and authorKey=;
//   - the lines below ID-BLOCK: and AUTH-BLOCK:, as snpguest prints them.
//
// The same part twice is an error unless both are the same.
func ParseParts(data []byte) (*Parts, error) {
	p := &Parts{}
	switch len(data) {
	case snp.IDBlockSize:
		p.Block = data
		return p, nil
	case snp.IDAuthSize:
		p.Auth = data
		return p, nil
	}
	text := bytes.TrimSpace(data)
	var err error
	switch {
	case len(text) == 0:
		return nil, errors.New("the file is empty")
	case text[0] == '{' || text[0] == '[':
		err = p.fromJSON(text)
	case text[0] == '<':
		err = p.fromXML(text)
	case optionPattern.Match(text), memberPattern.Match(text):
		err = p.fromOptions(string(text))
	case labelPattern.Match(text):
		err = p.fromLabels(string(text))
	default:
		return p, p.fromBase64(text, len(data))
	}
	if err == nil && p.Block == nil && p.Auth == nil {
		err = errors.New("there is no ID block and no ID auth in it")
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// ReadParts reads a file as ParseParts does.
func ReadParts(path string) (*Parts, error) {
	data, err := readSmall(path)
	if err != nil {
		return nil, err
	}
	p, err := ParseParts(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

// Merge adds what other says to p.
func (p *Parts) Merge(other *Parts) error {
	if other.Block != nil {
		if err := p.setBlock(other.Block); err != nil {
			return err
		}
	}
	if other.Auth != nil {
		if err := p.setAuth(other.Auth); err != nil {
			return err
		}
	}
	if other.AuthorKeyEnabled != nil {
		return p.setAuthorKeyEnabled(*other.AuthorKeyEnabled)
	}
	return nil
}

var (
	optionPattern = regexp.MustCompile(`\b(id-block|id-auth)=([^\s,'"]*)`)
	authorPattern = regexp.MustCompile(`\bauthor-key-enabled=([a-z]*)`)
	// The same in a JSON -object that stands in a command line.
	memberPattern       = regexp.MustCompile(`"(id-block|id-auth)"\s*:\s*"([^"]*)"`)
	authorMemberPattern = regexp.MustCompile(`"author-key-enabled"\s*:\s*([a-z]*)`)
	labelPattern        = regexp.MustCompile(`(?m)^(ID-BLOCK|AUTH-BLOCK):\s*$`)
)

// fromBase64 takes text that is nothing but one of the two.
func (p *Parts) fromBase64(text []byte, size int) error {
	raw, err := base64.StdEncoding.Strict().DecodeString(string(text))
	if err != nil {
		return fmt.Errorf("got %d bytes that are not base64, want an ID block of %d bytes or ID auth of %d, base64 of them, or options, JSON or XML with id-block or id-auth", size, snp.IDBlockSize, snp.IDAuthSize)
	}
	switch len(raw) {
	case snp.IDBlockSize:
		p.Block = raw
	case snp.IDAuthSize:
		p.Auth = raw
	default:
		// QEMU would take fewer bytes, and the kernel then read beyond them.
		return fmt.Errorf("its base64 holds %d bytes, want %d (ID block) or %d (ID auth)", len(raw), snp.IDBlockSize, snp.IDAuthSize)
	}
	return nil
}

func (p *Parts) fromOptions(text string) error {
	for _, pattern := range []*regexp.Regexp{optionPattern, memberPattern} {
		for _, m := range pattern.FindAllStringSubmatch(text, -1) {
			if err := p.set(m[1], m[2]); err != nil {
				return err
			}
		}
	}
	for _, pattern := range []*regexp.Regexp{authorPattern, authorMemberPattern} {
		for _, m := range pattern.FindAllStringSubmatch(text, -1) {
			if err := p.set("author-key-enabled", m[1]); err != nil {
				return err
			}
		}
	}
	return nil
}

// fromLabels reads snpguest's lines: a label, and the value on the next line.
func (p *Parts) fromLabels(text string) error {
	lines := strings.Split(text, "\n")
	for i, l := range lines[:len(lines)-1] {
		name := map[string]string{"ID-BLOCK:": "id-block", "AUTH-BLOCK:": "id-auth"}[strings.TrimSpace(l)]
		if name != "" {
			if err := p.set(name, strings.TrimSpace(lines[i+1])); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *Parts) fromJSON(text []byte) error {
	d := json.NewDecoder(bytes.NewReader(text))
	var v any
	if err := d.Decode(&v); err != nil {
		return fmt.Errorf("it is not JSON: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("it has something after its JSON")
	}
	return p.fromValue(v)
}

func (p *Parts) fromValue(v any) error {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			name = strings.ReplaceAll(name, "_", "-")
			var err error
			switch value := member.(type) {
			case string:
				err = p.set(name, value)
			case bool:
				if name == "author-key-enabled" {
					err = p.setAuthorKeyEnabled(value)
				}
			default:
				err = p.fromValue(member)
			}
			if err != nil {
				return err
			}
		}
	case []any: // e.g. QEMU's arguments
		for _, member := range v {
			if s, ok := member.(string); ok {
				var err error
				if strings.HasPrefix(s, "{") { // an -object in JSON
					err = p.fromJSON([]byte(s))
				} else {
					err = p.fromOptions(s)
				}
				if err != nil {
					return err
				}
			} else if err := p.fromValue(member); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *Parts) fromXML(text []byte) error {
	d := xml.NewDecoder(bytes.NewReader(text))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("it is not XML: %w", err)
		}
		start, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		switch start.Name.Local {
		case "launchSecurity":
			for _, a := range start.Attr {
				if a.Name.Local == "authorKey" {
					if err := p.set("author-key-enabled", a.Value); err != nil {
						return err
					}
				}
			}
		case "idBlock", "idAuth":
			var value string
			if err := d.DecodeElement(&value, &start); err != nil {
				return fmt.Errorf("it is not XML: %w", err)
			}
			name := map[string]string{"idBlock": "id-block", "idAuth": "id-auth"}[start.Name.Local]
			if err := p.set(name, strings.TrimSpace(value)); err != nil {
				return err
			}
		}
	}
}

// set takes an option by QEMU's name; others mean nothing here.
func (p *Parts) set(name, value string) error {
	size, put := snp.IDBlockSize, p.setBlock
	switch name {
	case "id-block":
	case "id-auth":
		size, put = snp.IDAuthSize, p.setAuth
	case "author-key-enabled":
		switch value {
		case "on", "yes", "true":
			return p.setAuthorKeyEnabled(true)
		case "off", "no", "false":
			return p.setAuthorKeyEnabled(false)
		}
		return fmt.Errorf("author-key-enabled is %q, want on or off", value)
	default:
		return nil
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(value)
	if err != nil {
		return fmt.Errorf("%s is not base64", name)
	}
	if len(raw) != size {
		return fmt.Errorf("%s: its base64 holds %d bytes, want %d", name, len(raw), size)
	}
	return put(raw)
}

func (p *Parts) setBlock(raw []byte) error {
	if p.Block != nil && !bytes.Equal(p.Block, raw) {
		return errors.New("there are two different ID blocks")
	}
	p.Block = raw
	return nil
}

func (p *Parts) setAuth(raw []byte) error {
	if p.Auth != nil && !bytes.Equal(p.Auth, raw) {
		return errors.New("there are two different ID auths")
	}
	p.Auth = raw
	return nil
}

func (p *Parts) setAuthorKeyEnabled(on bool) error {
	if p.AuthorKeyEnabled != nil && *p.AuthorKeyEnabled != on {
		return errors.New("author-key-enabled is both on and off")
	}
	p.AuthorKeyEnabled = &on
	return nil
}

func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxPartsFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxPartsFile {
		return nil, fmt.Errorf("%s: more than %d bytes, so this is no ID block", path, maxPartsFile)
	}
	return data, nil
}
