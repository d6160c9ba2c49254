package qmp

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
)

// Registers is what tells a vCPU that has stopped making progress from one
// that waits: a firmware that gave up shows the same RIP in every sample with
// Halted false.
type Registers struct {
	RIP    uint64 // RIP, or EIP outside 64-bit mode
	Halted bool   // executed HLT and waits for an interrupt, or waits for its start-up IPI
}

// Registers reads a vCPU's state through "info registers". The guest may be
// running. Private state of an SEV-ES or SEV-SNP guest is not visible there.
func (c *Client) Registers(ctx context.Context, vcpu int) (Registers, error) {
	var out string
	err := c.Execute(ctx, "human-monitor-command", struct {
		CommandLine string `json:"command-line"`
		CPUIndex    int    `json:"cpu-index"`
	}{"info registers", vcpu}, &out)
	if err != nil {
		return Registers{}, err
	}
	return parseRegisters(out)
}

// As printed by x86_cpu_dump_state: "RIP=%016x RFL=…" in 64-bit mode,
// "EIP=%08x EFL=…" otherwise, and "HLT=%d" on the same line.
var registersLine = regexp.MustCompile(`(?m)^[RE]IP=([0-9a-f]+) .* HLT=([01])\r?$`)

func parseRegisters(out string) (Registers, error) {
	m := registersLine.FindStringSubmatch(out)
	if m == nil {
		return Registers{}, fmt.Errorf("\"info registers\" shows no instruction pointer: %s", excerpt([]byte(out)))
	}
	rip, err := strconv.ParseUint(m[1], 16, 64)
	if err != nil {
		return Registers{}, fmt.Errorf("\"info registers\" shows the instruction pointer %s, which has more than 64 bits", m[1])
	}
	return Registers{RIP: rip, Halted: m[2] == "1"}, nil
}
