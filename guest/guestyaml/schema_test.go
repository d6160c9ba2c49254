package guestyaml_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/snplaunch/snplaunch/guest/guestyaml"
	"github.com/snplaunch/snplaunch/internal/schematest"
)

func compiled(t *testing.T) schematest.Schema {
	t.Helper()
	text, err := guestyaml.Schema()
	if err != nil {
		t.Fatal(err)
	}
	return schematest.Compile(t, text)
}

// What the reader takes, the schema takes: the full description, each example of the
// schema itself, and the descriptions in the documentation.
func TestSchemaAccepts(t *testing.T) {
	s := compiled(t)
	texts := map[string]string{"the full description": full, "one file": "firmware: f\n"}
	for _, f := range guestyaml.Fields() {
		examples, _ := f.Schema["examples"].([]any)
		for _, example := range examples {
			text, err := yaml.Marshal(map[string]any{f.Key: example})
			if err != nil {
				t.Fatal(err)
			}
			texts["example "+string(text)] = string(text)
		}
	}
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatal(pages, err)
	}
	found := 0
	for _, page := range append(pages, "../../README.md") {
		data, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for i, part := range strings.Split(string(data), "```yaml\n# guest.yaml\n")[1:] {
			text, _, _ := strings.Cut(part, "```")
			texts[page+" "+string(rune('1'+i))] = text
			found++
		}
	}
	if found < 2 {
		t.Errorf("only %d descriptions in the documentation", found)
	}
	for name, text := range texts {
		if _, err := guestyaml.Parse([]byte(text), "guest.yaml"); err != nil {
			t.Errorf("%s: the reader refuses it: %v", name, err)
		}
		if err := s.Holds(t, text); err != nil {
			t.Errorf("%s: the schema refuses it: %v", name, err)
		}
	}
}

// What the reader refuses for its form, the schema refuses.
func TestSchemaRefuses(t *testing.T) {
	s := compiled(t)
	// These are about what JSON does not have (documents, aliases, tags), about keys that
	// contradict each other, or about names that only code knows.
	beyond := []string{"", "# nothing\n", "firmware: f\n---\nfirmware: g\n", "name: &a x\nappend: *a\n", "append: !!binary \"?\"\n",
		"cpu_sig: 1\ncpu: EPYC\n", "host_kernel: 5.4\n", "host_kernel: linux\n", "guest_features: 21\n", "guest_features: debugswop\n",
		"disks: [&a {file: x}, *a]\n", "network: {forwards: [\"1:70000\"]}\n", "network: {forwards: [\"x:1:22\"]}\n"}
	checked := 0
	for text := range mistakes {
		// YAML itself writes 0x2 as 2, which no schema sees.
		if slices.Contains(beyond, text) || text == "vcpus: 0x2\n" {
			continue
		}
		checked++
		if err := s.Holds(t, text); err == nil {
			t.Errorf("the schema takes %q", text)
		}
	}
	if checked < 30 {
		t.Errorf("only %d mistakes were tried", checked)
	}
	for _, text := range []string{"vcpus: 0\n", "vcpus: 4097\n", "memory_mib: 1\n", "id_block: {mode: maybe}\n", "disks: [{format: vmdk}]\n", "network: {mode: tap}\n", "name: a/b\n", "files: {in: [{guest: relative}]}\n"} {
		if err := s.Holds(t, text); err == nil {
			t.Errorf("the schema takes %q", text)
		}
	}
}

// Each key says what it means, and the manual lists them all.
func TestReference(t *testing.T) {
	page, err := os.ReadFile("../../docs/guest.md")
	if err != nil {
		t.Fatal(err)
	}
	want := guestyaml.Reference()
	if !strings.Contains(string(page), want) {
		t.Errorf("docs/guest.md has not the table of all keys; it is\n%s", want)
	}
	for line := range strings.Lines(want) {
		if strings.HasSuffix(line, "|  |\n") {
			t.Errorf("a key does not say what it means: %s", line)
		}
	}
}
