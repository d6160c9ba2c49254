package launcher

import (
	"testing"
	"time"
)

func TestStall(t *testing.T) {
	running := func(i int) time.Duration { return time.Duration(i) * sampleEvery }
	for _, c := range []struct {
		name    string
		sample  func(i int) look
		refused bool
	}{
		{"spins", func(i int) look { return look{rip: 0x1000, used: running(i)} }, true},
		{"spins at address 0", func(i int) look { return look{used: running(i)} }, true},
		{"gets no processor time", func(int) look { return look{rip: 0x1000, used: time.Second} }, false},
		{"waits for another vCPU", func(i int) look { return look{rip: 0x1000, used: running(i), others: running(i) / 4} }, false},
		{"moves", func(i int) look { return look{rip: uint64(i), used: running(i)} }, false},
		{"is halted", func(i int) look { return look{rip: 0x1000, halted: true, used: running(i)} }, false},
		{"in two places in turn", func(i int) look { return look{rip: uint64(i % 2), used: running(i)} }, false},
	} {
		var s stall
		refused := false
		for i := range 40 {
			refused = refused || s.sample(c.sample(i))
		}
		if refused != c.refused {
			t.Errorf("%s: refused %v, want %v", c.name, refused, c.refused)
		}
	}
}

func TestParseThreadTime(t *testing.T) {
	got, err := parseThreadTime([]byte("7 (CPU 0/TCG) (x)) R 1 2 3 4 5 6 7 8 9 10 150 25 0 0 20 0 1 0 99"))
	if err != nil || got != 1750*time.Millisecond {
		t.Errorf("got %v, %v; want 1.75s", got, err)
	}
	for _, bad := range []string{"", "7 (x) R 1 2 3", "7 (x) R 1 2 3 4 5 6 7 8 9 10 a b c"} {
		if got, err := parseThreadTime([]byte(bad)); err == nil {
			t.Errorf("%q was read as %v", bad, got)
		}
	}
}
