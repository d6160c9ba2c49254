package main

import (
	"strings"

	"github.com/snplaunch/snplaunch/e2e"
	"github.com/snplaunch/snplaunch/guest/guestyaml"
	"github.com/snplaunch/snplaunch/internal/suggest"
)

// schemas are the descriptions whose JSON Schema can be had.
var schemas = []struct {
	name string
	make func() ([]byte, error)
}{
	{"guest", guestyaml.Schema},
	{"matrix", e2e.Schema},
}

func schemaNames() []string {
	var names []string
	for _, s := range schemas {
		names = append(names, s.name)
	}
	return names
}

func schemaVerb(e *env, args []string) error {
	fs := e.flags("schema", "["+strings.Join(schemaNames(), "|")+"]\n\nPrints the JSON Schema (draft 2020-12) of a description, guest.yaml's where none is named. An editor that is told of it completes and checks the file as it is written.")
	which, _, err := parse(fs, args, 1)
	if err != nil {
		return err
	}
	name := schemas[0].name
	if len(which) > 0 {
		name = which[0]
	}
	for _, s := range schemas {
		if s.name == name {
			text, err := s.make()
			if err != nil {
				return err
			}
			_, err = e.stdout.Write(text)
			return err
		}
	}
	return usageError("schema: there is none of %q (%s)", name, suggest.Remedy(name, schemaNames()))
}
