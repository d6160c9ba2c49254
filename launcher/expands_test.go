package launcher

import (
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/qmp"
)

// What QEMU makes of a CPU model has to be what was measured, and the finding names both.
func TestExpansionAgrees(t *testing.T) {
	props := func(family, model, stepping any) qmp.CPUModel {
		return qmp.CPUModel{Name: "EPYC-v4", Props: map[string]any{"family": family, "model": model, "stepping": stepping}}
	}
	for _, tc := range []struct {
		expanded qmp.CPUModel
		says     []string
	}{
		{props(23.0, 1.0, 2.0), nil},
		{props(23.0, 1.0, 3.0), []string{"EPYC-v4", "0x800f13", "stepping 3", "0x800f12"}},
		{props(25.0, 1.0, 1.0), []string{"0xa00f11", "family 25", "0x800f12"}},
		{qmp.CPUModel{}, nil}, // tells nothing
		{props("23", 1.0, 2.0), nil},
	} {
		err := expansionAgrees(tc.expanded, "EPYC-v4", 0x800F12)
		if (err == nil) != (tc.says == nil) {
			t.Errorf("%v: got %v", tc.expanded.Props, err)
		}
		for _, want := range tc.says {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%v does not say %q", err, want)
			}
		}
	}
}
