package e2e_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snplaunch/snplaunch/e2e"
	"github.com/snplaunch/snplaunch/e2e/results"
	"github.com/snplaunch/snplaunch/internal/schematest"
)

const oneGroup = "groups:\n  - {name: a, depth: launch"

// matrixMistakes are files that are no matrix, with what is said of them. Those whose form
// is wrong are refused by the schema, too.
var matrixMistakes = []struct {
	name, text, says string
	beyond           bool // the schema cannot see it
}{
	{"nothing", "", "the file is empty (give at least the key groups)", true},
	{"no groups", "name: a\n", "m.yaml:1: there are no groups", true},
	{"two documents", oneGroup + "}\n---\ngroups: []\n", "m.yaml:3: a second document begins", true},
	{"an unknown key", "nmae: a\n" + oneGroup + "}\n", "m.yaml:1: unknown key nmae (did you mean name?)", false},
	{"a group's unknown key", oneGroup + ", axis: {}}\n", "m.yaml:2: unknown key groups[0].axis (did you mean axes?)", false},
	{"a key twice", oneGroup + ", depth: full}\n", "m.yaml:2: key groups[0].depth is given twice", true},
	{"no name", "groups:\n  - {depth: launch}\n", "m.yaml:2: groups[0] has no name", true},
	{"a name with a slash", "groups:\n  - {name: a/b}\n", `"a/b": a name has letters, digits`, false},
	{"a name twice", oneGroup + "}\n  - {name: a}\n", "m.yaml:3: groups[1].name: there is a group a already (in line 2)", true},
	{"a depth", "groups:\n  - {name: a, depth: deep}\n", `groups[0].depth: "deep" is none of them`, false},
	{"parts", oneGroup + ", parts: some}\n", `groups[0].parts: "some" is none of them`, false},
	{"a budget", oneGroup + ", budget: long}\n", `groups[0].budget: "long" is not a duration`, false},
	{"an unknown axis", oneGroup + ", axes: {cpus: [1]}}\n", "m.yaml:2: unknown key groups[0].axes.cpus (", false},
	{"an empty axis", oneGroup + ", axes: {vcpus: []}}\n", "m.yaml:2: groups[0].axes.vcpus: a list is wanted, each item a number", false},
	{"an axis of one value", oneGroup + ", axes: {vcpus: 2}}\n", "groups[0].axes.vcpus: a list is wanted", false},
	{"a value of another kind", oneGroup + ", axes: {vcpus: [1, two]}}\n", `groups[0].axes.vcpus[1]: "two" is not a decimal number`, false},
	{"a value twice", oneGroup + ", axes: {vcpus: [1, 2, 1]}}\n", "m.yaml:2: group a: axes.vcpus has 1 twice (give one of them another name: {name: …})", true},
	{"an alias", "groups:\n  - {name: a, depth: launch, axes: {cpu: [&x EPYC-v4, *x]}}\n", "m.yaml:2: groups[0].axes.cpu[1]: an alias (write the value out)", true},
	{"an alias for a list", "groups:\n  - {name: a, depth: launch, axes: &x {vcpus: [1]}}\n  - {name: b, axes: *x}\n", "m.yaml:3: groups[1].axes is an alias (write the value out)", true},
	{"a firmware that is no path", oneGroup + ", axes: {firmware: [ovmf]}}\n", `"ovmf" is neither one of amdsev, generic, plain nor a path`, true},
	{"a mapping without a name", oneGroup + ", axes: {guest: [{memory_mib: 512}]}}\n", "groups[0].axes.guest[0]: a mapping needs a name", false},
	{"a key of the guest", oneGroup + ", guest: {memory: 512}}\n", "m.yaml:2: unknown key groups[0].guest.memory (", false},
	{"a key of a guest on an axis", "groups:\n  - name: a\n    axes:\n      guest:\n        - {name: big, memory: 512}\n", "m.yaml:5: unknown key memory", false},
	{"a guest that is not there", oneGroup + ", guest: nowhere.yaml}\n", "nowhere.yaml: no such file", true},
	{"ID block", oneGroup + ", axes: {id_block: [singed]}}\n", `"singed" is none of them (did you mean signed?)`, false},
	{"host data", oneGroup + ", axes: {host_data: [5f]}}\n", "got 1 bytes, want 32", false},
	{"a policy", oneGroup + ", axes: {policy: [open]}}\n", `"open" is not a number of 64 bits`, false},
	{"a backend", oneGroup + ", axes: {backend: [kvm]}}\n", `"kvm" is none of them`, false},
	{"exclude matches nothing", oneGroup + ", axes: {vcpus: [1, 2]}, exclude: [{vcpus: 3}]}\n", "m.yaml:2: group a: exclude in line 2: axes.vcpus has no 3, so this leaves nothing out", true},
	{"exclude on another axis", oneGroup + ", axes: {vcpus: [1, 2]}, exclude: [{cpu: EPYC}]}\n", "axes.cpu has no EPYC", true},
	{"exclude without an axis", oneGroup + ", exclude: [{}]}\n", "groups[0].exclude[0] names no axis", false},
	{"include without an axis", oneGroup + ", include: [{expect: launches}]}\n", "groups[0].include[0] names no axis", true},
	{"an unknown expectation", oneGroup + ", expect: lanches}\n", `groups[0].expect: "lanches" is nothing that a launch does (did you mean launches?)`, false},
	{"a status that there is not", oneGroup + `, expect: "fails: BAD_MEASURMENT"}` + "\n", "(did you mean BAD_MEASUREMENT?)", true},
	{"nothing can follow", oneGroup + `, expect: "launches: twice"}` + "\n", "nothing can follow launches", false},
	{"two expectations", oneGroup + `, expect: {launches: "", fails: BAD_MEASUREMENT}}` + "\n", "launches and fails cannot both be", true},
	{"no regular expression", "groups:\n  - {name: a, expect: \"report-invalid: (\"}\n", "report-invalid: error parsing regexp", true},
	{"expectation and depth", oneGroup + ", expect: firmware-refuses}\n", `"firmware-refuses" can only be seen of a guest that boots (write depth: full)`, true},
	{"tampering and depth", oneGroup + ", tamper: [nonce]}\n", "tamper nonce can only be caught in a guest that boots (write depth: full)", true},
	{"steps and depth", oneGroup + ", steps: [{name: a}]}\n", "steps need depth: full", true},
	{"an unknown tampering", oneGroup + ", tamper: [kernal]}\n", `"kernal" is nothing that can be tampered with (did you mean kernel?)`, false},
	{"a tampering twice", oneGroup + ", tamper: [kernel, kernel]}\n", "line 2: kernel is there twice", false},
	{"nothing to run", oneGroup + ", untampered: false, twins: false}\n", "untampered: false leaves nothing to run", true},
}

// Each mistake is answered with its place and a remedy.
func TestMatrixMistakes(t *testing.T) {
	s := matrixSchema(t)
	for _, c := range matrixMistakes {
		_, err := e2e.Parse([]byte(c.text), "m.yaml")
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", c.name, err, c.says)
		}
		if !c.beyond && s.Holds(t, c.text) == nil {
			t.Errorf("%s: the schema takes %q", c.name, c.text)
		}
	}
}

// What only the cells together show.
func TestMatrixCellMistakes(t *testing.T) {
	for text, says := range map[string]string{
		oneGroup + ", axes: {vcpus: [1]}, exclude: [{vcpus: 1}]}\n":                       "m.yaml:2: group a: it has no cells: all are excluded",
		oneGroup + ", axes: {vcpus: [1]}, include: [{vcpus: 1}]}\n":                       "m.yaml:2: there are two cells a/vcpus=1",
		oneGroup + ", axes: {id_block: [none]}, tamper: [policy]}\n":                      "tamper policy fits none of its cells: the guest has no ID block",
		oneGroup + ", guest: {kernel_hashes: false}, tamper: [kernel]}\n":                 "tamper kernel fits none of its cells: the guest has no kernel hashes",
		oneGroup + ", include: [{vcpus: 1, expect: report-matches}], axes: {vcpus: [2]}}": "include in line 2: \"report-matches\" can only be seen of a guest that boots",
	} {
		m, err := e2e.Parse([]byte(text), "m.yaml")
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if _, err := m.Cells("sim"); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", text, err, says)
		}
	}
}

func matrixSchema(t *testing.T) schematest.Schema {
	t.Helper()
	text, err := e2e.Schema()
	if err != nil {
		t.Fatal(err)
	}
	return schematest.Compile(t, text)
}

// everyForm has each form that a value can have.
const everyForm = `
name: forms
budget: 2m
groups:
  - name: a
    depth: full
    parts: none
    budget: 90s
    guest: {memory_mib: 512, firmware: f, kernel: k}
    axes:
      guest: [{name: big, memory_mib: 1024}]
      vcpus: [1, 2]
      cpu: [EPYC-v4, EPYC-Genoa]
      firmware: [amdsev, ./OVMF.fd, {name: mine, file: /f/OVMF.fd}]
      qemu: [installed, {name: built, file: ../qemu-system-x86_64}]
      policy: [0x30000, 196608]
      id_block: [none, signed, author, {name: mine, id_key: id.pem}]
      host_data: [none, 5f0ea11c0de5f0ea11c0de5f0ea11c0de5f0ea11c0de5f0ea11c0de5f0ea11c0]
      kernel_hashes: [true, false]
      backend: [auto, sim]
    include: [{vcpus: 4, expect: "fails: SNP_LAUNCH_START POLICY_FAILURE"}]
    exclude: [{vcpus: 2, cpu: [EPYC-v4, EPYC-Genoa]}]
    expect: {report-invalid: "HOST_DATA", digest: "` + zeroDigest + `"}
    untampered: true
    twins: false
    tamper: [host-data, nonce]
  - {name: b, tamper: all, expect: report-matches}
`

// What the reader takes, the schema takes: all examples, those in the manual, and
// each form that a value can have.
func TestMatrixSchema(t *testing.T) {
	s := matrixSchema(t)
	texts := map[string]string{"every form": strings.Replace(everyForm, "[0x30000, 196608]", "[0x30000]", 1)}
	files, err := filepath.Glob("../examples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range append(files, "../docs/e2e.md") {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Ext(f) == ".md" {
			for _, part := range strings.Split(string(b), "```yaml\n# matrix.yaml\n")[1:] {
				text, _, _ := strings.Cut(part, "```")
				texts[f+": "+text] = text
			}
			continue
		}
		if strings.Contains(string(b), "\ngroups:\n") {
			texts[f] = string(b)
		}
	}
	if len(texts) < 3 {
		t.Errorf("only %d matrices were found", len(texts))
	}
	for name, text := range texts {
		path := "m.yaml"
		if strings.HasSuffix(name, ".yaml") {
			path = name
		}
		if _, err := e2e.Parse([]byte(text), path); err != nil {
			t.Errorf("%s: the reader refuses it: %v", name, err)
		}
		if err := s.Holds(t, text); err != nil {
			t.Errorf("%s: the schema refuses it: %v", name, err)
		}
	}
}

// The smoke matrix has what it promises: as many full cells, launches and negative
// ones among them, each tampering at least once.
func TestMatrixSmoke(t *testing.T) {
	m, err := e2e.Load("../examples/matrix-smoke.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p, err := m.Plan("sim", e2e.Selection{}, e2e.Durations{})
	if err != nil {
		t.Fatal(err)
	}
	full, launches, negative, twins := 0, 0, 0, 0
	tampered := map[string]bool{}
	for _, c := range p.Cells {
		if c.Depth() == results.Full {
			full++
		} else {
			launches++
		}
		switch {
		case c.Tamper == nil:
		case c.Tamper.Name == "flipped":
			twins++
			tampered[c.Tamper.Name] = true
		default:
			negative++
			tampered[c.Tamper.Name] = true
		}
	}
	if full < 24 || launches < 400 || negative < 40 || twins < 100 {
		t.Errorf("%d full cells, %d launches, %d negative ones and %d twins; want 24, 400, 40 and 100", full, launches, negative, twins)
	}
	for _, name := range e2e.TamperNames() {
		if !tampered[name] {
			t.Errorf("no cell tampers with %s", name)
		}
	}
}

// The slowest cells are first, by what earlier runs took; shards are the same on every
// machine, have each cell once, and are thought to take equally long.
func TestMatrixPlan(t *testing.T) {
	m, err := e2e.Load("../examples/matrix-smoke.yaml")
	if err != nil {
		t.Fatal(err)
	}
	plain, err := m.Plan("sim", e2e.Selection{}, e2e.Durations{})
	if err != nil {
		t.Fatal(err)
	}
	if plain.Cells[0].Depth() != results.Full || plain.Cells[len(plain.Cells)-1].Depth() != results.LaunchOnly {
		t.Error("boots are not before launches")
	}
	last := plain.Cells[len(plain.Cells)-1].ID
	d := e2e.Durations{}
	d.Learn(&results.Run{Cells: []results.Cell{{ID: last, Status: results.Passed, DurationMS: 3_600_000}, {ID: plain.Cells[3].ID, Status: results.Failed, DurationMS: 7_200_000}}})
	if p, err := m.Plan("sim", e2e.Selection{}, d); err != nil || p.Cells[0].ID != last {
		t.Errorf("the cell that took an hour is not the first: %v", err)
	}
	delete(d, last)
	const of = 3
	seen, loads := map[string]bool{}, [of]time.Duration{}
	for n := range of {
		s := e2e.Selection{Shard: e2e.Shard{Number: n + 1, Of: of}}
		p, err := m.Plan("sim", s, d)
		if err != nil {
			t.Fatal(err)
		}
		again, err := m.Plan("sim", s, d)
		if err != nil || !slices.EqualFunc(p.Cells, again.Cells, func(a, b *e2e.Cell) bool { return a.ID == b.ID }) {
			t.Errorf("shard %d is another the second time: %v", n+1, err)
		}
		for _, c := range p.Cells {
			if seen[c.ID] {
				t.Errorf("%s is in two shards", c.ID)
			}
			seen[c.ID] = true
		}
		for _, c := range p.All {
			if c.Shard == n+1 {
				loads[n] += c.Cost
			}
		}
	}
	if len(seen) != len(plain.Cells) {
		t.Errorf("shards have %d cells, the matrix %d", len(seen), len(plain.Cells))
	}
	if low, high := slices.Min(loads[:]), slices.Max(loads[:]); high > low+low/10 {
		t.Errorf("shards are thought to take %v", loads)
	}
	for text, says := range map[string]string{"0/3": "is no shard", "4/3": "is no shard", "1/03": "is no shard", "x": "is no shard"} {
		if _, err := e2e.ParseShard(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := m.Plan("sim", e2e.Selection{Cells: []string{"boot"}}, d); err == nil || !strings.Contains(err.Error(), "has no cell boot") {
		t.Errorf("a cell that there is not: %v", err)
	}
}

// The manual has the table of all keys and that of all that can be made wrong.
func TestMatrixManual(t *testing.T) {
	page, err := os.ReadFile("../docs/e2e.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{e2e.Reference(), tamperTable()} {
		if !strings.Contains(string(page), want) {
			t.Errorf("docs/e2e.md has not this table:\n%s", want)
		}
	}
	if strings.Contains(e2e.Reference(), "|  |\n") {
		t.Error("a key does not say what it means")
	}
}

func tamperTable() string {
	var b strings.Builder
	b.WriteString("| tamper | what is made wrong | must end as | depth |\n|---|---|---|---|\n")
	for _, x := range e2e.Tampers {
		b.WriteString("| `" + x.Name + "` | " + x.Doc + " | `" + x.Expected().String() + "` | " + string(x.Depth()) + " |\n")
	}
	return b.String()
}
