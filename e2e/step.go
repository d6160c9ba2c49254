package e2e

import "github.com/snplaunch/snplaunch/internal/strictyaml"

// Step is one thing that a cell with several does.
type Step struct {
	Name string // (name)
}

func (s *Step) fields(dir string) []strictyaml.Field {
	return []strictyaml.Field{strictyaml.Text("name", &s.Name)}
}

// launches says whether the step starts a guest.
func (s *Step) launches() bool { return false }
