package qmp

import (
	"context"
	"errors"
	"fmt"
	"unicode/utf8"
)

// HumanMonitor runs one line of the human monitor and returns what it prints,
// lines ended as QEMU ends them (CR LF). QEMU reports most failures of such a
// line only in that text.
func (c *Client) HumanMonitor(ctx context.Context, line string) (string, error) {
	var out string
	err := c.Execute(ctx, "human-monitor-command", struct {
		CommandLine string `json:"command-line"`
	}{line}, &out)
	return out, err
}

// Cont starts or resumes the guest. For an SNP guest started with -S the first
// Cont does every SNP_LAUNCH_UPDATE and SNP_LAUNCH_FINISH; when one fails QEMU
// exits inside it and Cont returns [ErrPeerClosed].
func (c *Client) Cont(ctx context.Context) error { return c.Execute(ctx, "cont", nil, nil) }

// Stop pauses all vCPUs.
func (c *Client) Stop(ctx context.Context) error { return c.Execute(ctx, "stop", nil, nil) }

// Quit ends QEMU. It returns nil also when QEMU is gone before it could
// answer.
func (c *Client) Quit(ctx context.Context) error {
	err := c.Execute(ctx, "quit", nil, nil)
	if errors.Is(err, ErrPeerClosed) {
		return nil
	}
	return err
}

// Status is the answer of query-status.
type Status struct {
	Running bool   `json:"running"`
	Status  string `json:"status"` // RunState: "prelaunch", "running", "internal-error", …
}

// QueryStatus asks for the VM's run state.
func (c *Client) QueryStatus(ctx context.Context) (Status, error) {
	var s Status
	err := c.Execute(ctx, "query-status", nil, &s)
	return s, err
}

// SEVInfo is the answer of query-sev (qapi/misc-i386.json, or
// misc-target.json before QEMU 10.1).
type SEVInfo struct {
	Enabled  bool  `json:"enabled"`
	APIMajor uint8 `json:"api-major"` // of the SEV firmware
	APIMinor uint8 `json:"api-minor"`
	BuildID  uint8 `json:"build-id"`
	// State is "launch-update" until LAUNCH_FINISH, "running" after it,
	// "uninit" without SEV.
	State string `json:"state"`
	// Type is "sev" (also for SEV-ES and for no SEV at all) or "sev-snp".
	Type      string `json:"sev-type"`
	SNPPolicy uint64 `json:"snp-policy"` // with Type "sev-snp"
	Policy    uint32 `json:"policy"`     // with Type "sev"
	Handle    uint32 `json:"handle"`     // with Type "sev"
}

// QuerySEV asks how far the launch of a SEV guest is.
func (c *Client) QuerySEV(ctx context.Context) (SEVInfo, error) {
	var s SEVInfo
	err := c.Execute(ctx, "query-sev", nil, &s)
	return s, err
}

// PMemSave has QEMU write size bytes of guest physical memory from addr to the
// named file, as seen by QEMU's process and its working folder. Memory that is
// not there reads as zeros.
func (c *Client) PMemSave(ctx context.Context, addr, size uint64, filename string) error {
	if !utf8.ValidString(filename) {
		return fmt.Errorf("pmemsave: the file name %q is not UTF-8, which JSON cannot carry", filename)
	}
	return c.Execute(ctx, "pmemsave", struct {
		Val      uint64 `json:"val"`
		Size     uint64 `json:"size"`
		Filename string `json:"filename"`
	}{addr, size, filename}, nil)
}
