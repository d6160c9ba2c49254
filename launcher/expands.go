package launcher

import (
	"context"
	"errors"
	"fmt"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/qmp"
	"github.com/snplaunch/snplaunch/vmsa"
)

// modelAgrees asks QEMU what the description's CPU model stands for, and holds its
// signature against the measured one. vCPUs can have the right signature while the model
// itself has another: then something beside the model has put it there. A QEMU that does
// not answer says nothing against the launch.
func modelAgrees(ctx context.Context, c *qmp.Client, g *guest.Guest, measured uint32) error {
	cpu, err := vmsa.ParseCPU(g.CPU)
	if err != nil || cpu.FromHost() {
		return nil // host and max are what the accelerator makes them
	}
	asked := qmp.CPUModel{Name: cpu.Model, Props: map[string]any{}}
	for property, value := range map[string]*uint32{"family": cpu.Family, "model": cpu.ModelID, "stepping": cpu.Stepping} {
		if value != nil {
			asked.Props[property] = *value
		}
	}
	expanded, err := c.ExpandCPUModel(ctx, qmp.ExpandFull, asked)
	var refused *qmp.Error
	if errors.As(err, &refused) {
		return nil
	}
	if err != nil {
		return err
	}
	return expansionAgrees(expanded, g.CPU, measured)
}

// expansionAgrees holds an expanded model's family, model and stepping against a signature.
func expansionAgrees(expanded qmp.CPUModel, name string, measured uint32) error {
	var n [3]uint32
	for i, property := range []string{"family", "model", "stepping"} {
		v, ok := expanded.Props[property].(float64) // as JSON's numbers are read
		if !ok || v < 0 || v > 0xFFFF {
			return nil
		}
		n[i] = uint32(v)
	}
	if got := vmsa.Signature(n[0], n[1], n[2]); got != measured {
		return &disagreement{fmt.Sprintf("the signature of the CPU model %s", name),
			fmt.Sprintf("0x%x (family %d, model %d, stepping %d)", got, n[0], n[1], n[2]), fmt.Sprintf("0x%x, which was measured", measured)}
	}
	return nil
}
