package guestyaml

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/internal/strictyaml"
)

// Pin is the SHA-256 that a description gives for one of its inputs.
type Pin struct {
	Of     string // key of what it is the digest of
	Key    string // firmware_sha256, …
	SHA256 [32]byte
}

// pinned is where a Guest keeps them.
func pinned(g *guest.Guest) map[string]**[32]byte {
	return map[string]**[32]byte{
		"firmware_sha256": &g.FirmwareSHA256, "kernel_sha256": &g.KernelSHA256,
		"initrd_sha256": &g.InitrdSHA256, "append_sha256": &g.AppendSHA256,
	}
}

// SetPins writes pins into a description: over the ones it has, else after what they are
// of. All else stays as it is, to the byte. name is as for Parse.
func SetPins(data []byte, name string, pins []Pin) ([]byte, error) {
	before, err := Parse(data, name)
	if err != nil {
		return nil, err
	}
	lines := bytes.SplitAfter(data, []byte("\n"))
	root, err := strictyaml.Document(data, name, "one guest", "firmware")
	if err != nil {
		return nil, err
	}
	type insertion struct {
		after int // number of lines
		text  string
	}
	var insertions []insertion
	for _, pin := range pins {
		digest := fmt.Sprintf("%x", pin.SHA256)
		text := fmt.Sprintf("%q", digest) // in quotes: it may be all digits
		if v := value(root, pin.Key); v != nil {
			if err := replace(lines, v, text); err != nil {
				return nil, fmt.Errorf("%s:%d: %s: %w", name, v.Line, pin.Key, err)
			}
			continue
		}
		v := value(root, pin.Of)
		if v == nil || root.Style == yaml.FlowStyle || v.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
			return nil, fmt.Errorf("%s: there is no line after which %s could be written (write %s: %s into it)", name, pin.Key, pin.Key, text)
		}
		insertions = append(insertions, insertion{lastLine(root, v, lines), strings.Repeat(" ", root.Column-1) + pin.Key + ": " + text + "\n"})
	}
	slices.SortStableFunc(insertions, func(a, b insertion) int { return b.after - a.after })
	for _, in := range insertions {
		if last := lines[in.after-1]; !bytes.HasSuffix(last, []byte("\n")) {
			lines[in.after-1] = append(slices.Clone(last), '\n')
		}
		lines = slices.Insert(lines, in.after, []byte(in.text))
	}
	out := bytes.Join(lines, nil)
	return out, onlyPinsChanged(&before, out, name, pins)
}

// onlyPinsChanged sees that a description says what it said before, and the pins.
func onlyPinsChanged(before *guest.Guest, out []byte, name string, pins []Pin) error {
	after, err := Parse(out, name)
	if err != nil {
		return fmt.Errorf("the pins cannot be written without breaking the description: %w", err)
	}
	want := *before
	for _, pin := range pins {
		*pinned(&want)[pin.Key] = &pin.SHA256
	}
	if !reflect.DeepEqual(want, after) {
		return fmt.Errorf("%s: the pins cannot be written without changing something else (write them by hand)", name)
	}
	return nil
}

// value gives the value of a key, nil where there is none.
func value(root *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(root.Content); i += 2 {
		if root.Content[i].Value == key {
			return root.Content[i+1]
		}
	}
	return nil
}

// lastLine gives the number of the line in which a value ends: one before that of the
// next key, comments and empty lines left out.
func lastLine(root, v *yaml.Node, lines [][]byte) int {
	end := len(lines)
	for i := 0; i < len(root.Content); i += 2 {
		if l := root.Content[i].Line; l > v.Line && l-1 < end {
			end = l - 1
		}
	}
	for end > v.Line {
		line := bytes.TrimSpace(lines[end-1])
		if len(line) > 0 && line[0] != '#' && !bytes.Equal(line, []byte("...")) {
			break
		}
		end--
	}
	return end
}

// replace writes text in place of a plain or quoted value of one line.
func replace(lines [][]byte, v *yaml.Node, text string) error {
	old := v.Value
	switch {
	case v.Style&yaml.DoubleQuotedStyle != 0:
		old = `"` + old + `"`
	case v.Style&yaml.SingleQuotedStyle != 0:
		old = "'" + old + "'"
	}
	line := lines[v.Line-1]
	// A digest and what stands before it are ASCII in all but contrived files, where
	// columns, which count letters, are not bytes.
	if v.Column-1+len(old) > len(line) || string(line[v.Column-1:v.Column-1+len(old)]) != old {
		return errors.New("the value is written in a form that cannot be replaced (remove the key)")
	}
	lines[v.Line-1] = slices.Concat(line[:v.Column-1], []byte(text), line[v.Column-1+len(old):])
	return nil
}
