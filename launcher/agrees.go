package launcher

import (
	"context"
	"fmt"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/qmp"
	"github.com/snplaunch/snplaunch/snp"
)

// States of query-sev.
const (
	sevLaunching = "launch-update"
	sevRunning   = "running"
)

// disagreement is a difference between what QEMU was told and what it says it does.
type disagreement struct{ what, says, told string }

func (e *disagreement) Error() string {
	return fmt.Sprintf("QEMU does not do what the description says: %s is %s, and should be %s", e.what, e.says, e.told)
}

// agrees asks a QEMU that launches g, stopped before the first page, whether it does
// what g says.
func agrees(ctx context.Context, c *qmp.Client, g *guest.Guest) error {
	if err := sevAgrees(ctx, c, g, sevLaunching); err != nil {
		return err
	}
	cpus, err := c.VCPUs(ctx)
	if err != nil {
		return err
	}
	if len(cpus) != g.VCPUs {
		return &disagreement{"the number of vCPUs", fmt.Sprint(len(cpus)), fmt.Sprint(g.VCPUs)}
	}
	sig, err := g.Signature()
	if err != nil || g.CPUSig != nil {
		return nil // a model that is not known here, or told beside it
	}
	for _, cpu := range cpus {
		got, err := c.CPUSignature(ctx, cpu.QOMPath)
		if err != nil {
			return err
		}
		if got != sig {
			return &disagreement{fmt.Sprintf("the signature of vCPU %d", cpu.Index), fmt.Sprintf("0x%x", got), fmt.Sprintf("0x%x, that of %s", sig, g.CPU)}
		}
	}
	return modelAgrees(ctx, c, g, sig)
}

// sevAgrees holds query-sev against g.
func sevAgrees(ctx context.Context, c *qmp.Client, g *guest.Guest, state string) error {
	s, err := c.QuerySEV(ctx)
	if err != nil {
		return err
	}
	for _, d := range []disagreement{
		{"SEV", fmt.Sprint(s.Enabled), "true"},
		{"the type of the guest", s.Type, "sev-snp"},
		{"the state of the launch", s.State, state},
		{"the policy", snp.GuestPolicy(s.SNPPolicy).String(), g.Policy.String()},
	} {
		if d.says != d.told {
			return &d
		}
	}
	return nil
}
