package guestagent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The terminal behind /dev/console is the last that the kernel names, and behind the
// virtual terminal that is shown another one.
func TestOpenConsole(t *testing.T) {
	for _, c := range []struct{ active, shown, want, err string }{
		{"ttyS0\n", "", "ttyS0", ""},
		{"tty0 hvc0\n", "", "hvc0", ""},
		{"ttyS0 tty0\n", "tty3\n", "tty3", ""},
		{"\n", "", "", "console=ttyS0"},
		{"../passwd\n", "", "", "no terminal's name"},
		{"ttyS7\n", "", "", "ttyS7"},
	} {
		sys, dev := t.TempDir(), t.TempDir()
		for name, text := range map[string]string{"console": c.active, "tty0": c.shown} {
			dir := filepath.Join(sys, "class/tty", name)
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "active"), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if c.want != "" {
			if err := os.WriteFile(filepath.Join(dev, c.want), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		f, err := openConsole(sys, dev)
		switch {
		case c.err != "":
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: %v, want %q", c.active, err, c.err)
			}
		case err != nil:
			t.Errorf("%q: %v", c.active, err)
		default:
			if got := filepath.Base(f.Name()); got != c.want {
				t.Errorf("%q: %s, want %s", c.active, got, c.want)
			}
		}
		if f != nil {
			f.Close()
		}
	}
}
