package e2e_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Ctrl-C, SIGTERM and SIGHUP end a verb that waits for what a FIFO will give it, whichever
// verb and whichever file, with a sentence.
func TestSignalsWhileInputIsRead(t *testing.T) {
	p := parts(t)
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	guest := []string{"--ovmf", p.Firmware.Path, "--kernel", p.Kernel.Path, "--initrd", p.Initrd.Path, "--keep", "never"}
	for _, c := range []struct {
		signal syscall.Signal
		args   []string
	}{
		{syscall.SIGINT, []string{"run", fifo}},
		{syscall.SIGTERM, []string{"measure", fifo}},
		{syscall.SIGHUP, []string{"lock", fifo}},
		{syscall.SIGINT, []string{"doctor", fifo}},
		{syscall.SIGINT, append([]string{"run", "--id-key", fifo}, guest...)},
		{syscall.SIGTERM, append([]string{"run", "--crl", fifo}, guest...)},
	} {
		cmd, _ := command(t, "interrupt", c.args...)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := waiting(cmd)
		opened := make(chan *os.File, 1)
		go func() { // opening waits for the reader
			w, err := os.OpenFile(fifo, os.O_WRONLY, 0)
			if err != nil {
				t.Error(err)
			}
			opened <- w
		}()
		var w *os.File
		select {
		case w = <-opened:
			_ = cmd.Process.Signal(c.signal)
		case <-ended:
			r, err := os.OpenFile(fifo, os.O_RDONLY|syscall.O_NONBLOCK, 0) // lets the other go
			if err != nil {
				t.Fatal(err)
			}
			w = <-opened
			r.Close()
		}
		if !endsWithin(ended, cmd, 30*time.Second) {
			t.Errorf("%q: it does not heed %v", c.args, c.signal)
		}
		w.Close()
		if code := cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(out.String(), "interrupted") {
			t.Errorf("%q: exit code %d\n%s", c.args, code, out.String())
		}
	}
}
