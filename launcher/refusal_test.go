package launcher

import (
	"testing"
	"time"
)

func TestStall(t *testing.T) {
	const step = sampleEvery
	for _, c := range []struct {
		name    string
		sample  func(i int) (rip uint64, halted bool, used time.Duration)
		refused bool
	}{
		{"spins", func(i int) (uint64, bool, time.Duration) { return 0x1000, false, time.Duration(i) * step }, true},
		{"gets no processor time", func(int) (uint64, bool, time.Duration) { return 0x1000, false, time.Second }, false},
		{"moves", func(i int) (uint64, bool, time.Duration) { return uint64(i), false, time.Duration(i) * step }, false},
		{"halted", func(i int) (uint64, bool, time.Duration) { return 0x1000, true, time.Duration(i) * step }, false},
		{"two places in turn", func(i int) (uint64, bool, time.Duration) { return uint64(i % 2), false, time.Duration(i) * step }, false},
		{"at address 0", func(i int) (uint64, bool, time.Duration) { return 0, false, time.Duration(i) * step }, true},
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
