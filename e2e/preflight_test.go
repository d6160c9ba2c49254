package e2e_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/host"
	"github.com/snplaunch/snplaunch/idblock"
	"github.com/snplaunch/snplaunch/launcher"
	"github.com/snplaunch/snplaunch/sim/kvm"
	"github.com/snplaunch/snplaunch/sim/psp"
	"github.com/snplaunch/snplaunch/snp"
)

// What cannot work is refused before QEMU starts, by the check that is about it.
func TestPreflightRefusesBeforeQEMUStarts(t *testing.T) {
	text := filepath.Join(t.TempDir(), "kernel.txt")
	if err := os.WriteFile(text, bytes.Repeat([]byte("this is no kernel\n"), 500), 0o600); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "policy")
	key := newKey(t)
	b := &snp.IDBlock{Version: snp.IDBlockVersion, Policy: snp.PolicyDefault | snp.PolicyDebug}
	auth, err := idblock.Sign(b, key, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw := b.Bytes()
	if err := errors.Join(os.WriteFile(other+".block", raw[:], 0o600), os.WriteFile(other+".auth", auth.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	newer, err := kvm.ParseProfile("7.2")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change func(*guest.Guest, *launcher.Options)
		id     string
	}{
		{"policy without bit 17", func(g *guest.Guest, _ *launcher.Options) { g.Policy = snp.PolicySMT }, "launch-policy"},
		{"policy with MIGRATE_MA", func(g *guest.Guest, _ *launcher.Options) { g.Policy |= snp.PolicyMigrateMA }, "launch-policy-kvm"},
		{"policy without SMT on 6.12", func(g *guest.Guest, _ *launcher.Options) { g.Policy = snp.PolicyReservedOne }, "launch-policy-kvm"},
		{"policy without SMT on 7.2", func(g *guest.Guest, o *launcher.Options) {
			g.Policy = snp.PolicyReservedOne
			o.Simulation.Kernel = newer
		}, "launch-policy-firmware"},
		{"policy of a newer firmware", func(g *guest.Guest, _ *launcher.Options) { g.Policy |= 0x1ff }, "launch-policy-firmware"},
		{"one socket of two", func(g *guest.Guest, o *launcher.Options) {
			g.Policy |= snp.PolicySingleSocket
			p := psp.DefaultConfig()
			p.Sockets = 2
			o.Simulation = launcher.Simulation{Kernel: newer, Platform: &p}
		}, "launch-policy-firmware"},
		{"text for a kernel", func(g *guest.Guest, _ *launcher.Options) { g.Kernel = text }, "launch-kernel"},
		{"ID block of another policy", func(g *guest.Guest, _ *launcher.Options) {
			g.IDBlock = guest.IDBlock{Mode: guest.IDBlockFiles, IDBlockFile: other + ".block", IDAuthFile: other + ".auth"}
		}, "launch-id-block"},
		{"a program that is no QEMU", func(_ *guest.Guest, o *launcher.Options) { o.QEMU = oldQEMU(t) }, "launch-qemu"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g, o := aGuest(t), options(t)
			o.Force = false
			c.change(g, &o)
			started := false
			o.Hooks.Stage = func(string) { started = true }
			_, err := launcher.Run(t.Context(), g, o)
			var obstacle *host.ObstacleError
			if !errors.As(err, &obstacle) || !slices.ContainsFunc(obstacle.Checks, func(k host.Check) bool { return k.ID == c.id }) {
				t.Errorf("got %v, want an obstacle of %s", err, c.id)
			}
			if started {
				t.Error("a launch was begun")
			}
			checks := launcher.Preflight(t.Context(), g, o)
			if i := slices.IndexFunc(checks, func(k host.Check) bool { return k.ID == c.id }); i < 0 || checks[i].Verdict != host.Obstacle {
				t.Errorf("Preflight gives %+v", checks)
			}
		})
	}
}

// oldQEMU is a program that answers as a QEMU from before 9.1.
func oldQEMU(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "qemu-system-x86_64")
	const script = "#!/bin/sh\necho \"qemu-system-x86_64: -object sev-snp-guest,help: Parameter 'qom-type' does not accept value 'sev-snp-guest'\" >&2\nexit 1\n"
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// A sound guest passes every check, with every QEMU.
func TestPreflightOfASoundGuest(t *testing.T) {
	for _, q := range qemus(t) {
		o := options(t)
		o.QEMU = q.path
		checks := launcher.Preflight(t.Context(), aGuest(t), o)
		if len(checks) < 20 {
			t.Errorf("QEMU %s: only %d checks", q.name, len(checks))
		}
		for _, c := range checks {
			if c.Verdict != host.OK {
				t.Errorf("QEMU %s: %+v", q.name, c)
			}
		}
	}
}

// Under the software host the Secure Processor and KVM are asked as on hardware.
func TestDoctorOnTheSoftwareHost(t *testing.T) {
	for platform, firmware := range map[string]string{"genoa": "1.55", "turin": "1.58"} {
		cmd := exec.Command(snplaunch(t), "sim", "exec", "--platform", platform, "--", snplaunch(t), "doctor", "--json")
		cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+filepath.Dir(dataFolder))
		out, err := cmd.Output()
		var got struct {
			Backend string
			Verdict host.Verdict
			Checks  []host.Check
		}
		if jsonErr := json.Unmarshal(out, &got); jsonErr != nil {
			t.Fatalf("%v, %v: %s", err, jsonErr, out)
		}
		if err != nil || got.Backend != host.SNP || got.Verdict == host.Obstacle {
			t.Errorf("%s: %v, backend %s, verdict %s", platform, err, got.Backend, got.Verdict)
		}
		want := map[string]string{"sev-firmware": firmware, "sev-state": "initialised", "sev-rmp": "initialised", "sev-tcb": "which is what runs",
			"kvm-vm-type": "offered", "guest-memfd": "offered", "sev-device": "opens", "kvm-amd-snp": "sev_snp=Y", "cpu": "answers all the same"}
		for _, c := range got.Checks {
			if words, ok := want[c.ID]; ok {
				if delete(want, c.ID); c.Verdict != host.OK || !strings.Contains(c.Reason, words) {
					t.Errorf("%s: got %+v, want %q", platform, c, words)
				}
			}
			if c.Verdict == host.Obstacle {
				t.Errorf("%s: %+v", platform, c)
			}
		}
		for id := range want {
			t.Errorf("%s: no check %s", platform, id)
		}
	}
}
