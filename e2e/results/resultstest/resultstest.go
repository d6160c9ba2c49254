// Package resultstest makes results of runs that never were, for the tests of
// what is made from results. Start with Run: the same seed gives the same run.
package resultstest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"reflect"
	"time"

	"github.com/snplaunch/snplaunch/e2e/results"
	"github.com/snplaunch/snplaunch/snp"
)

// Options say what a run is like.
type Options struct {
	Seed   uint64
	Green  bool // everything passes, at the first attempt
	Shards int  // what the plan is divided into; 0: it is not
	Extra  int  // launch-only cells beyond the usual ones
}

// started is when every run began.
var started = time.Date(2026, 3, 2, 14, 5, 9, 0, time.UTC)

// tampers are what negative cells make wrong, and what must come of it.
var tampers = []struct {
	what, expect, outcome, verdict string
	fw                             snp.Status
}{
	{"firmware byte", "fails: BAD_MEASUREMENT", "launch-failed", "launch-failed", snp.StatusBadMeasurement},
	{"kernel", "firmware-refuses", "firmware-refused", "firmware-refused", 0},
	{"initrd", "firmware-refuses", "firmware-refused", "firmware-refused", 0},
	{"command line", "firmware-refuses", "firmware-refused", "firmware-refused", 0},
	{"vCPU count", "fails: BAD_MEASUREMENT", "launch-failed", "launch-failed", snp.StatusBadMeasurement},
	{"CPU model", "fails: BAD_MEASUREMENT", "launch-failed", "launch-failed", snp.StatusBadMeasurement},
	{"policy", "fails: POLICY_FAILURE", "launch-failed", "launch-failed", snp.StatusPolicyFailure},
	{"ID key", "fails: BAD_SIGNATURE", "launch-failed", "launch-failed", snp.StatusBadSignature},
	{"nonce", "report-invalid", "passed", "report-invalid", 0},
	{"report bit", "report-invalid", "passed", "report-invalid", 0},
}

// Run makes the run of one matrix: full cells, launch-only ones and negative ones.
func Run(o Options) *results.Run {
	m := &maker{Options: o, r: rand.New(rand.NewPCG(o.Seed, 1))}
	m.run.Header = results.Header{
		Format: results.FormatVersion, Matrix: "smoke", MatrixSum: sum("matrix"), MatrixFile: "examples/matrix-smoke.yaml", Started: started,
		Tool: "0.4.0", Host: results.Host{Kernel: "6.16.3", CPU: "AMD EPYC 9354 32-Core Processor", CPUs: 64},
	}
	for _, guest := range []string{"direct", "uefi"} {
		for _, cpu := range []string{"EPYC-v4", "EPYC-Milan-v2", "EPYC-Genoa-v1"} {
			for _, vcpus := range []string{"1", "2", "4", "8"} {
				m.cell("boot", results.Full, "", axes("guest", guest, "cpu", cpu, "vcpus", vcpus, "firmware", "OVMF.amdsev", "backend", "sim"))
			}
		}
	}
	launches := func(i int, cpu, qemu, policy, vcpus string) {
		a := axes("cpu", cpu, "qemu", qemu, "policy", policy, "vcpus", vcpus)
		if i > 0 {
			a = append(a, results.Axis{Name: "round", Value: fmt.Sprint(i)})
		}
		m.cell("id-block", results.LaunchOnly, "", a)
	}
	count := 0
	for i := 0; i == 0 || count < o.Extra; i++ {
		for _, cpu := range []string{"EPYC-v4", "EPYC-Milan-v2", "EPYC-Genoa-v1", "EPYC-Turin-v1"} {
			for _, qemu := range []string{"10.0.2", "11.1.3"} {
				for _, policy := range []string{"0x30000", "0xb0000"} {
					for _, vcpus := range []string{"1", "2", "3", "4", "8", "16", "32", "64"} {
						if i > 0 && count >= o.Extra {
							continue
						}
						if i > 0 {
							count++
						}
						launches(i, cpu, qemu, policy, vcpus)
					}
				}
			}
		}
	}
	for t := range tampers {
		for _, vcpus := range []string{"1", "4"} {
			m.cell("tampered", results.LaunchOnly, tampers[t].what, axes("vcpus", vcpus))
		}
	}
	m.run.Header.Planned = len(m.run.Header.Plan)
	return &m.run
}

// Divide makes of an undivided run what its shards would have left.
func Divide(run *results.Run, shards int) []*results.Run {
	plan := make([]results.Planned, len(run.Header.Plan))
	for i, p := range run.Header.Plan {
		plan[i] = results.Planned{ID: p.ID, Shard: i%shards + 1}
	}
	of := map[string]int{}
	for _, p := range plan {
		of[p.ID] = p.Shard
	}
	var out []*results.Run
	for k := 1; k <= shards; k++ {
		s := &results.Run{Header: run.Header}
		s.Header.Plan, s.Header.Shard, s.Header.Planned = plan, fmt.Sprintf("%d/%d", k, shards), 0
		for _, p := range plan {
			if p.Shard == k {
				s.Header.Planned++
			}
		}
		for _, c := range run.Cells {
			if of[c.ID] == k {
				s.Cells = append(s.Cells, c)
			}
		}
		out = append(out, s)
	}
	return out
}

// Hostile puts a text into every string of a run that comes from elsewhere:
// what a guest, a file or a user may have called its own. Ids stay apart.
func Hostile(run *results.Run, text string) {
	for i := range run.Header.Plan {
		run.Header.Plan[i].ID += text
	}
	for _, s := range []*string{&run.Header.Matrix, &run.Header.MatrixSum, &run.Header.MatrixFile, &run.Header.Tool, &run.Header.Host.Kernel, &run.Header.Host.CPU} {
		*s += text
	}
	for i := range run.Cells {
		c := &run.Cells[i]
		status, depth := c.Status, c.Depth
		everyString(reflect.ValueOf(c).Elem(), text)
		c.Status, c.Depth = status, depth
		for j := range c.Steps {
			c.Steps[j].Status = results.Failed
		}
	}
}

func everyString(v reflect.Value, text string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(v.String() + text)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			return
		}
		for i := range v.NumField() {
			everyString(v.Field(i), text)
		}
	case reflect.Slice:
		for i := range v.Len() {
			everyString(v.Index(i), text)
		}
	}
}

type maker struct {
	Options
	r   *rand.Rand
	run results.Run
	at  int64 // ms since the start
}

func axes(pairs ...string) []results.Axis {
	var out []results.Axis
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, results.Axis{Name: pairs[i], Value: pairs[i+1]})
	}
	return out
}

func (m *maker) cell(group string, depth results.Depth, tamper string, coordinates []results.Axis) {
	id := group
	for _, a := range coordinates {
		id += "/" + a.Name + "=" + a.Value
	}
	if tamper != "" {
		id += "/tamper=" + tamper
	}
	digest := m.digest()
	c := results.Cell{
		ID: id, Group: group, Axes: coordinates, Depth: depth, Tamper: tamper, Line: 12, Expect: "launches", Status: results.Passed,
		Backend: "sim", Simulated: true, Verdict: "match", Outcome: "launched", Computed: &digest, Launched: &digest, QEMU: "10.0.2 (Debian 1:10.0.2+ds-2)",
		Started: started.Add(time.Duration(m.at) * time.Millisecond), Worker: len(m.run.Cells) % 2,
		Reproduce: "snplaunch e2e run examples/matrix-smoke.yaml --cell '" + id + "'",
	}
	for _, name := range []string{"firmware", "kernel", "initrd", "append", "qemu"} {
		c.Inputs = append(c.Inputs, results.Input{Name: name, SHA256: sum(name)})
	}
	stages := []string{"measure", "start", "update", "finish"}
	if depth == results.Full {
		c.Expect, c.Outcome, c.Reported = "report-matches", "passed", &digest
		stages = append(stages, "firmware", "kernel", "agent", "attest", "command", "stop")
	}
	for _, t := range tampers {
		if t.what == tamper {
			c.Expect, c.Outcome, c.Verdict = t.expect, t.outcome, t.verdict
			if t.fw != 0 {
				c.Launched, c.FWStatus, c.FWError = nil, t.fw.String(), int(t.fw)
			}
		}
	}
	for _, name := range stages {
		long := 5 + m.r.Int64N(40)
		if name == "firmware" || name == "kernel" {
			long = 800 + m.r.Int64N(4000)
		}
		c.Stages = append(c.Stages, results.Stage{Name: name, StartMS: c.DurationMS, EndMS: c.DurationMS + long})
		c.DurationMS += long
	}
	m.at += c.DurationMS / 2
	if depth == results.Full && m.r.IntN(3) == 0 {
		for i, name := range []string{"launch", "hostname in the guest", "fetch /proc/version", "stop"} {
			c.Steps = append(c.Steps, results.Step{Name: name, Status: results.Passed, StartMS: int64(i) * c.DurationMS / 4, EndMS: int64(i+1) * c.DurationMS / 4})
		}
	}
	if !m.Green {
		m.spoil(&c)
	}
	m.run.Header.Plan = append(m.run.Header.Plan, results.Planned{ID: id})
	m.run.Cells = append(m.run.Cells, c)
}

// spoil makes one cell in fifteen end otherwise.
func (m *maker) spoil(c *results.Cell) {
	folder := "artefacts/" + hex.EncodeToString(m.bytes(4))
	switch m.r.IntN(60) {
	case 0:
		other := m.digest()
		c.Status, c.Verdict, c.Launched, c.Artefacts = results.Failed, "mismatch", &other, folder
		c.Message = "what was launched is not what was computed"
		c.Advice = "compare `snplaunch measure --explain` with launch.json in the artefacts"
		c.Diagnosis = "the save area of vCPU 1 differs: RDX was 0x800f12 where 0xa20f10 is launched, as with another CPU model\n(EPYC-v4 explains the launched digest)"
	case 1:
		c.Status, c.Verdict, c.Outcome, c.Launched, c.Reported, c.Artefacts = results.Failed, "launch-failed", "launch-failed", nil, nil, folder
		c.FWError, c.FWStatus = int(snp.StatusBadMeasurement), snp.StatusBadMeasurement.String()
		c.Message = "SNP_LAUNCH_FINISH failed: BAD_MEASUREMENT (fw_error=11): the digest in the ID block is not that of the launch"
		c.Advice = "make the ID block anew: snplaunch idblock create"
		for i := range c.Steps {
			if i == 0 {
				c.Steps[i].Status, c.Steps[i].Message, c.Steps[i].Hint = results.Failed, c.Message, "an ID block is good for one digest only"
			} else {
				c.Steps[i].Status, c.Steps[i].Message = results.Skipped, "a step before it failed"
			}
		}
	case 2:
		c.Status, c.Computed, c.Launched, c.Reported, c.Stages, c.Verdict, c.Outcome = results.Errored, nil, nil, nil, nil, "", ""
		c.Message, c.Advice = "/srv/ovmf/OVMF.fd: no such file or directory", "name a firmware that exists, or run snplaunch setup"
	case 3:
		c.Status = results.Flaky
		c.Attempts = []results.Attempt{{Message: "the guest took longer than 60 s (last seen: kernel, 12 s before)", Verdict: "timeout", DurationMS: 60_000, Artefacts: folder}}
	case 4:
		c.Status, c.Computed, c.Launched, c.Reported, c.Stages, c.Verdict, c.Outcome, c.DurationMS = results.Skipped, nil, nil, nil, nil, "", "", 0
		c.Message = "QEMU 11 is not here; run ./scripts/setup --qemu-next"
	}
}

func (m *maker) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(m.r.Uint32())
	}
	return b
}

func (m *maker) digest() snp.LaunchDigest { return snp.LaunchDigest(m.bytes(len(snp.LaunchDigest{}))) }

func sum(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}
