package guestagent

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/snplaunch/snplaunch/agent"
)

// outputPatience is how long output is still read after the command has
// ended: a process that it left behind may hold its pipes open for ever.
const outputPatience = 500 * time.Millisecond

// command runs the host's command, streams what it reads and writes, and says how it
// ended.
func (s *session) command(r *agent.Run) error {
	c, err := s.start(r)
	if err != nil {
		if err := s.send(&agent.Message{Error: &agent.Error{Stage: agent.StageCommand, Message: err.Error()}}); err != nil {
			return err
		}
		return s.endOfStdin(r.Stdin)
	}
	type end struct {
		exit agent.Exit
		err  error
	}
	ended := make(chan end, 1)
	go func() {
		exit, err := wait(c.proc)
		c.finish()
		ended <- end{exit, err}
	}()
	stdin := r.Stdin
	for {
		select {
		case e := <-ended:
			if e.err != nil {
				e.err = s.send(&agent.Message{Error: &agent.Error{Stage: agent.StageCommand, Message: e.err.Error()}})
			} else {
				e.err = s.send(&agent.Message{Exit: &e.exit})
			}
			if e.err != nil {
				return e.err
			}
			return s.endOfStdin(stdin)
		case m, open := <-s.in:
			switch {
			case !open:
				c.kill()
				<-ended
				return s.readErr
			case m.Cancel != nil:
				c.kill()
			case m.Chunk != nil && stdin:
				c.stdin <- m.Chunk.Bytes // there is room for all that the host may send
			case m.End != nil && stdin:
				stdin = false
				close(c.stdin)
			default:
				c.kill()
				<-ended
				return errors.New("the host sent a request in the midst of a command")
			}
		}
	}
}

// endOfStdin takes what is left of the data that the host has for a command that
// has ended.
func (s *session) endOfStdin(due bool) error {
	if !due {
		return nil
	}
	return s.drop(false)
}

// running is a command under way.
type running struct {
	proc    *os.Process
	stdin   chan []byte   // closed where everything has come
	gone    chan struct{} // closed when the command has ended
	readers []*os.File
	writer  *os.File // nil where the command reads nothing
	copying sync.WaitGroup
}

func (s *session) start(r *agent.Run) (*running, error) {
	if len(r.Args) == 0 {
		return nil, errors.New("the host asks for no command")
	}
	path, err := exec.LookPath(r.Args[0])
	if err != nil {
		return nil, fmt.Errorf("command %q: %w (PATH is %s)", r.Args[0], err, os.Getenv("PATH"))
	}
	dir := r.Dir
	if dir == "" {
		dir = "/"
	}
	c := &running{stdin: make(chan []byte, agent.Window), gone: make(chan struct{})}
	var files, opened []*os.File
	// A process group of its own can be killed as a whole.
	attr := &syscall.SysProcAttr{Setpgid: true}
	fail := func(err error) (*running, error) {
		for _, f := range opened {
			f.Close()
		}
		return nil, err
	}
	pipe := func() (pr, pw *os.File, err error) {
		if pr, pw, err = os.Pipe(); err == nil {
			opened = append(opened, pr, pw)
		}
		return pr, pw, err
	}
	switch {
	case r.Console && r.Stdin:
		return nil, errors.New("the host asks for a command at the console that reads from the host")
	case r.Console:
		tty, err := openConsole("/sys", "/dev")
		if err != nil {
			return nil, fmt.Errorf("the guest's console: %w", err)
		}
		files, opened = []*os.File{tty, tty, tty}, []*os.File{tty}
		// A session whose terminal it is has Ctrl-C and the like; its leader's process
		// group is one of its own, too.
		attr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	case r.Stdin:
		pr, pw, err := pipe()
		if err != nil {
			return fail(err)
		}
		files, c.writer = append(files, pr), pw
	default:
		null, err := os.Open(os.DevNull)
		if err != nil {
			return fail(err)
		}
		files, opened = append(files, null), append(opened, null)
	}
	for len(files) < 3 {
		pr, pw, err := pipe()
		if err != nil {
			return fail(err)
		}
		files, c.readers = append(files, pw), append(c.readers, pr)
	}
	// A multi-call binary finds out what it was called by following argv[0] to
	// itself, so a bare "sh" would not lead u-root's to its shell.
	argv := append([]string{path}, r.Args[1:]...)
	c.proc, err = os.StartProcess(path, argv, &os.ProcAttr{
		Dir: dir, Env: withEnv(os.Environ(), r.Env), Files: files, Sys: attr,
	})
	if err != nil {
		return fail(fmt.Errorf("command %q: %w", r.Args[0], err))
	}
	for _, f := range files {
		f.Close()
	}
	for i, pr := range c.readers {
		c.copying.Go(func() { s.stream([]agent.Stream{agent.Stdout, agent.Stderr}[i], pr) })
	}
	if r.Stdin {
		c.copying.Go(func() { s.feed(c) })
	}
	return c, nil
}

// withEnv gives the environment with the host's in it, whose values stand in the place
// of those of the same name: of two, a program may take either.
func withEnv(own, host []string) []string {
	at := map[string]int{}
	var out []string
	for _, v := range slices.Concat(own, host) {
		name, _, _ := strings.Cut(v, "=")
		if i, there := at[name]; there {
			out[i] = v
			continue
		}
		at[name] = len(out)
		out = append(out, v)
	}
	return out
}

// kill ends the command and what it started in its process group.
func (c *running) kill() { _ = syscall.Kill(-c.proc.Pid, syscall.SIGKILL) }

// finish waits for what is still to be read.
func (c *running) finish() {
	close(c.gone)
	if c.writer != nil {
		c.writer.SetWriteDeadline(time.Now())
	}
	for _, pr := range c.readers {
		pr.SetReadDeadline(time.Now().Add(outputPatience))
	}
	c.copying.Wait()
	for _, pr := range c.readers {
		pr.Close()
	}
}

// stream sends what r gives until it ends.
func (s *session) stream(stream agent.Stream, r io.Reader) {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if s.send(&agent.Message{Chunk: &agent.Chunk{Stream: stream, Bytes: buf[:n]}}) != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// feed writes a command's stdin. A command that reads no more loses the rest.
func (s *session) feed(c *running) {
	defer c.writer.Close()
	for {
		select {
		case b, more := <-c.stdin:
			if !more {
				return
			}
			_, _ = c.writer.Write(b)
			if s.send(&agent.Message{More: &agent.More{}}) != nil {
				return
			}
		case <-c.gone:
			return
		}
	}
}

// wait says how proc ended.
func wait(proc *os.Process) (agent.Exit, error) {
	if os.Getpid() == 1 {
		st, err := reap(proc.Pid)
		if err != nil {
			return agent.Exit{}, err
		}
		return exitOf(syscall.WaitStatus(st)), nil
	}
	st, err := proc.Wait()
	if err != nil {
		return agent.Exit{}, err
	}
	return exitOf(st.Sys().(syscall.WaitStatus)), nil
}

func exitOf(st syscall.WaitStatus) agent.Exit {
	if st.Signaled() {
		return agent.Exit{Signal: int(st.Signal())}
	}
	return agent.Exit{Code: st.ExitStatus()}
}
