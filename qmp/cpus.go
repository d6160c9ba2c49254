package qmp

import (
	"cmp"
	"context"
	"slices"
)

// VCPUThreads gives the ids of the host threads that run the vCPUs, in the
// order of cpu-index.
func (c *Client) VCPUThreads(ctx context.Context) ([]int, error) {
	type info struct {
		CPUIndex int `json:"cpu-index"`
		ThreadID int `json:"thread-id"`
	}
	var cpus []info
	if err := c.Execute(ctx, "query-cpus-fast", nil, &cpus); err != nil {
		return nil, err
	}
	slices.SortFunc(cpus, func(a, b info) int { return cmp.Compare(a.CPUIndex, b.CPUIndex) })
	out := make([]int, len(cpus))
	for i, cpu := range cpus {
		out[i] = cpu.ThreadID
	}
	return out, nil
}
