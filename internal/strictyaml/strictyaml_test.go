package strictyaml_test

import (
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/internal/strictyaml"
)

type animal struct {
	name string
	legs int
}

// zoo is a form with each kind of field.
type zoo struct {
	town    string
	animals []*animal
	open    bool
}

func (z *zoo) fields() []strictyaml.Field {
	return []strictyaml.Field{
		strictyaml.Text("town", &z.town),
		{Key: "animals", Items: func() []strictyaml.Field {
			a := &animal{}
			z.animals = append(z.animals, a)
			return []strictyaml.Field{strictyaml.Text("name", &a.name), strictyaml.Decimal("legs", &a.legs)}
		}},
		{Key: "hours", Sub: []strictyaml.Field{strictyaml.Boolean("open", &z.open)}},
	}
}

func read(text string) (*zoo, error) {
	root, err := strictyaml.Document([]byte(text), "zoo.yaml", "one zoo", "town")
	if err != nil {
		return nil, err
	}
	z := &zoo{}
	r := strictyaml.NewReader("zoo.yaml")
	r.Mapping(root, "", z.fields())
	return z, r.Err()
}

func TestLists(t *testing.T) {
	z, err := read("town: Basel\nanimals:\n- name: ant\n  legs: 6\n- {name: hen, legs: 2}\nhours: {open: true}\n")
	if err != nil {
		t.Fatal(err)
	}
	if len(z.animals) != 2 || *z.animals[0] != (animal{"ant", 6}) || *z.animals[1] != (animal{"hen", 2}) || !z.open || z.town != "Basel" {
		t.Errorf("%+v, animals %+v %+v", z, z.animals[0], z.animals[1])
	}
}

func TestMistakesNameTheirPlace(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "zoo.yaml: the file is empty (give at least the key town)"},
		{"town: a\n---\ntown: b\n", "zoo.yaml:2: a second document begins (a file describes one zoo)"},
		{"town: a\nanimals: ant\n", "zoo.yaml:2: animals is not a list (begin each item with a dash)"},
		{"animals:\n- ant\n", "zoo.yaml:2: animals[0] is not a mapping (write lines of the form key: value)"},
		{"animals:\n- name: ant\n- name: bee\n  leg: 6\n", "zoo.yaml:4: unknown key animals[1].leg (did you mean legs?)"},
		{"animals:\n- {name: ant, name: bee}\n", "zoo.yaml:2: key animals[0].name is given twice (first in line 2)"},
		{"animals: &a\n- name: ant\nhours: *a\n", "zoo.yaml:3: hours is an alias (write the value out)"},
		{"hours: {open: perhaps}\ntown:\n", "zoo.yaml:1: hours.open: \"perhaps\" is neither true nor false\nzoo.yaml:2: town: the value is missing"},
	} {
		if _, err := read(c.text); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%q: %v, want %s", c.text, err, c.want)
		}
	}
}
