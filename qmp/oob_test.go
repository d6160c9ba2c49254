package qmp

import (
	"bufio"
	"strings"
	"testing"
)

// Out-of-band execution is asked for where QEMU offers it, and only there.
func TestOOBIsNegotiated(t *testing.T) {
	for _, offered := range []bool{true, false} {
		a, b := socketpair(t)
		p := &peer{t: t, conn: b, in: bufio.NewReader(b)}
		asked := make(chan request, 1)
		go func() {
			greeting := greetingLine
			if !offered {
				greeting = strings.Replace(greeting, `"oob"`, "", 1)
			}
			p.send(greeting)
			r := p.receive()
			p.answer(r, "{}")
			asked <- r
		}()
		c, err := Dial(testContext(t), a)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		r := <-asked
		enabled, _ := r.Arguments["enable"].([]any)
		if got := len(enabled) == 1 && enabled[0] == "oob"; got != offered || !offered && r.Arguments != nil {
			t.Errorf("offered %v: asked for %v", offered, r.Arguments)
		}
		if !offered {
			mustBe(t, c.ExecuteOOB(testContext(t), "yank", nil, nil), ErrNoOOB)
		}
	}
}

// An out-of-band command is answered before one that was sent earlier.
func TestOOBOvertakes(t *testing.T) {
	c, p := connectSocket(t)
	slow := start(testContext(t), c, "slow", nil)
	first := p.receive()
	fast := make(chan error, 1)
	go func() { fast <- c.ExecuteOOB(testContext(t), "fast", nil, nil) }()
	line, err := p.in.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, `{"exec-oob":"fast","id":`) {
		t.Fatalf("QEMU was sent %q, %v", line, err)
	}
	id := strings.TrimSuffix(strings.TrimPrefix(line, `{"exec-oob":"fast","id":`), "}\n")
	p.send(`{"return": {}, "id": ` + id + "}\r\n")
	if err := <-fast; err != nil {
		t.Error(err)
	}
	select {
	case err := <-slow:
		t.Errorf("the earlier command has ended: %v", err)
	default:
	}
	p.answer(first, "{}")
	if err := <-slow; err != nil {
		t.Error(err)
	}
}

func TestQEMUOOB(t *testing.T) {
	_, c := dialQEMU(t, "-M", "none")
	if err := c.ExecuteOOB(testContext(t), "yank", map[string][]string{"instances": {}}, nil); err != nil {
		t.Errorf("yank: %v", err)
	}
	mustBe(t, c.ExecuteOOB(testContext(t), "query-status", nil, nil), GenericError)
	if s, err := c.QueryStatus(testContext(t)); err != nil || s.Status != "prelaunch" {
		t.Errorf("in turn: %+v, %v", s, err)
	}
}

// The vCPUs and the models behind them, as QEMU gives them under TCG.
func TestQEMUVCPUs(t *testing.T) {
	_, c := dialQEMU(t, "-M", "q35", "-accel", "tcg", "-smp", "2", "-cpu", "EPYC-Milan-v2")
	ctx := testContext(t)
	cpus, err := c.VCPUs(ctx)
	if err != nil || len(cpus) != 2 || cpus[0].Index != 0 || cpus[1].Index != 1 {
		t.Fatalf("vCPUs %+v, %v", cpus, err)
	}
	for _, cpu := range cpus {
		// Family 25, model 1, stepping 1.
		if sig, err := c.CPUSignature(ctx, cpu.QOMPath); err != nil || sig != 0xa00f11 {
			t.Errorf("vCPU %d has the signature 0x%x, %v", cpu.Index, sig, err)
		}
	}
	if _, err := c.CPUSignature(ctx, "/machine"); err == nil {
		t.Error("a machine has a signature")
	}
	m, err := c.ExpandCPUModel(ctx, ExpandFull, CPUModel{Name: "EPYC-Milan-v2", Props: map[string]any{"stepping": 2}})
	if err != nil || m.Props["family"] != 25.0 || m.Props["stepping"] != 2.0 {
		t.Errorf("expanded: family %v, stepping %v, %v", m.Props["family"], m.Props["stepping"], err)
	}
	_, err = c.ExpandCPUModel(ctx, ExpandStatic, CPUModel{Name: "no-such-model"})
	mustBe(t, err, GenericError)
}
