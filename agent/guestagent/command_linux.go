package guestagent

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/snplaunch/snplaunch/agent"
)

// outputPatience is how long output is still read after the command has
// ended: a process that it left behind may hold its pipes open for ever.
const outputPatience = 500 * time.Millisecond

// command runs the host's command, streams what it writes and gives its exit
// code.
func (s *session) command(r *agent.Request) (int, error) {
	path, err := exec.LookPath(r.Command[0])
	if err != nil {
		return 0, fmt.Errorf("command %q: %w (PATH is %s)", r.Command[0], err, os.Getenv("PATH"))
	}
	dir := r.Dir
	if dir == "" {
		dir = "/"
	}
	stdin, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	defer stdin.Close()
	var copying sync.WaitGroup
	files := []*os.File{stdin}
	var readers []*os.File
	for _, stream := range []agent.Stream{agent.Stdout, agent.Stderr} {
		pr, pw, err := os.Pipe()
		if err != nil {
			return 0, err
		}
		defer pr.Close()
		readers = append(readers, pr)
		files = append(files, pw)
		copying.Add(1)
		go func() {
			defer copying.Done()
			s.stream(stream, pr)
		}()
	}
	// A multi-call binary finds out what it was called by following argv[0] to
	// itself, so a bare "sh" would not lead u-root's to its shell.
	argv := append([]string{path}, r.Command[1:]...)
	proc, err := os.StartProcess(path, argv, &os.ProcAttr{
		Dir: dir, Env: append(os.Environ(), r.Env...), Files: files,
	})
	for _, pw := range files[1:] {
		pw.Close()
	}
	if err != nil {
		return 0, fmt.Errorf("command %q: %w", r.Command[0], err)
	}
	code, err := wait(proc)
	for _, pr := range readers {
		pr.SetReadDeadline(time.Now().Add(outputPatience))
	}
	copying.Wait()
	return code, err
}

// stream sends what r gives until it ends.
func (s *session) stream(stream agent.Stream, r io.Reader) {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if s.send(&agent.Message{Output: &agent.Output{Stream: stream, Data: buf[:n]}}) != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// wait gives the exit code of proc, 128 plus the signal's number where one
// ended it.
func wait(proc *os.Process) (int, error) {
	if os.Getpid() == 1 {
		st, err := reap(proc.Pid)
		if err != nil {
			return 0, err
		}
		if st.Signaled() {
			return 128 + int(st.Signal()), nil
		}
		return st.ExitStatus(), nil
	}
	st, err := proc.Wait()
	if err != nil {
		return 0, err
	}
	return exitCode(st), nil
}
