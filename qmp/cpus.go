package qmp

import (
	"cmp"
	"context"
	"fmt"
	"slices"
)

// VCPU is one of query-cpus-fast's.
type VCPU struct {
	Index    int    `json:"cpu-index"`
	ThreadID int    `json:"thread-id"` // of the host thread that runs it
	QOMPath  string `json:"qom-path"`  // of its object
}

// VCPUs gives the vCPUs in the order of their index.
func (c *Client) VCPUs(ctx context.Context) ([]VCPU, error) {
	var cpus []VCPU
	if err := c.Execute(ctx, "query-cpus-fast", nil, &cpus); err != nil {
		return nil, err
	}
	slices.SortFunc(cpus, func(a, b VCPU) int { return cmp.Compare(a.Index, b.Index) })
	return cpus, nil
}

// VCPUThreads gives the ids of the host threads that run the vCPUs, in the
// order of cpu-index.
func (c *Client) VCPUThreads(ctx context.Context) ([]int, error) {
	cpus, err := c.VCPUs(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]int, len(cpus))
	for i, cpu := range cpus {
		out[i] = cpu.ThreadID
	}
	return out, nil
}

// QOMGet reads a property of an object into result.
func (c *Client) QOMGet(ctx context.Context, path, property string, result any) error {
	return c.Execute(ctx, "qom-get", struct {
		Path     string `json:"path"`
		Property string `json:"property"`
	}{path, property}, result)
}

// CPUSignature gives EAX of CPUID function 1 of the vCPU whose object is at path,
// from the family, model and stepping that QEMU gave it.
func (c *Client) CPUSignature(ctx context.Context, path string) (uint32, error) {
	var n [3]uint32
	for i, property := range []string{"family", "model", "stepping"} {
		if err := c.QOMGet(ctx, path, property, &n[i]); err != nil {
			return 0, err
		}
	}
	family, model, stepping := n[0], n[1], n[2]
	if family > 0xF+0xFF || model > 0xFF || stepping > 0xF {
		return 0, fmt.Errorf("QEMU says that %s has family %d, model %d, stepping %d, which CPUID cannot say", path, family, model, stepping)
	}
	return min(family, 0xF)<<8 | (family-min(family, 0xF))<<20 | model>>4<<16 | model&0xF<<4 | stepping, nil
}

// Expansion is how much query-cpu-model-expansion tells.
type Expansion string

// Expansions.
const (
	ExpandStatic Expansion = "static" // a base model and what differs from it
	ExpandFull   Expansion = "full"   // every property
)

// CPUModel is a CPU model with properties that differ from it.
type CPUModel struct {
	Name  string         `json:"name"`
	Props map[string]any `json:"props,omitempty"`
}

// ExpandCPUModel tells what a CPU model stands for in this QEMU with its accelerator.
func (c *Client) ExpandCPUModel(ctx context.Context, how Expansion, m CPUModel) (CPUModel, error) {
	var out struct {
		Model CPUModel `json:"model"`
	}
	err := c.Execute(ctx, "query-cpu-model-expansion", struct {
		Type  Expansion `json:"type"`
		Model CPUModel  `json:"model"`
	}{how, m}, &out)
	return out.Model, err
}
