package qmp

import (
	"context"
	"fmt"
)

// VCPUThread gives the id of the host thread that runs a vCPU, by cpu-index.
func (c *Client) VCPUThread(ctx context.Context, vcpu int) (int, error) {
	var cpus []struct {
		CPUIndex int `json:"cpu-index"`
		ThreadID int `json:"thread-id"`
	}
	if err := c.Execute(ctx, "query-cpus-fast", nil, &cpus); err != nil {
		return 0, err
	}
	for _, cpu := range cpus {
		if cpu.CPUIndex == vcpu {
			return cpu.ThreadID, nil
		}
	}
	return 0, fmt.Errorf("query-cpus-fast knows no vCPU %d", vcpu)
}
