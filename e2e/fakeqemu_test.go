package e2e_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/snplaunch/snplaunch/snp"
)

// fakeQEMUVariable makes this test's own binary a QEMU that does one thing wrong.
const fakeQEMUVariable = "SNPLAUNCH_TEST_FAKE_QEMU"

func init() {
	if mode := os.Getenv(fakeQEMUVariable); mode != "" {
		fakeQEMU(mode)
		os.Exit(0)
	}
}

var fdOf = regexp.MustCompile(`^socket,id=(\w+),fd=(\d+)$`)

// fakeChannel gives the channel that QEMU's arguments name.
func fakeChannel(id string) net.Conn {
	for _, a := range os.Args {
		m := fdOf.FindStringSubmatch(a)
		if m == nil || m[1] != id {
			continue
		}
		var fd uintptr
		fmt.Sscan(m[2], &fd)
		f := os.NewFile(fd, id)
		conn, err := net.FileConn(f)
		f.Close()
		if err != nil {
			panic(err)
		}
		return conn
	}
	return nil
}

const fakeGreeting = `{"QMP": {"version": {"qemu": {"micro": 2, "minor": 0, "major": 10}, "package": "scripted"}, "capabilities": ["oob"]}}` + "\r\n"

// fakeQEMU speaks QMP as far as a launch needs it. mode says what it does wrong.
func fakeQEMU(mode string) {
	q := fakeChannel("qmp")
	hang := func() { time.Sleep(time.Hour) }
	die := func(why string) {
		fmt.Fprintln(os.Stderr, "qemu-system-x86_64: "+why)
		os.Exit(1)
	}
	switch mode {
	case "too old":
		die("-object sev-snp-guest,id=sev0: invalid object type: sev-snp-guest")
	case "never greets":
		hang()
	case "deaf to everything":
		signal.Ignore(syscall.SIGTERM)
	case "garbage":
		io.WriteString(q, "\x00\xffSSH-2.0-OpenSSH_9.2p1\r\n")
		hang()
	case "killed":
		fmt.Fprintln(os.Stderr, "qemu-system-x86_64: warning: a word of no account")
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		hang()
	case "half a greeting":
		io.WriteString(q, fakeGreeting[:40])
		os.Exit(1)
	case "an endless message":
		io.WriteString(q, `{"QMP": "`)
		for b := []byte(strings.Repeat("x", 1<<20)); ; {
			if _, err := q.Write(b); err != nil {
				hang()
			}
		}
	case "monitor gone":
		io.WriteString(q, fakeGreeting)
		q.Close()
		hang()
	case "slow":
		time.Sleep(300 * time.Millisecond)
	}
	io.WriteString(q, fakeGreeting)
	in := bufio.NewReader(q)
	state, policy := "launch-update", uint64(snp.PolicyDefault)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			os.Exit(0)
		}
		var c struct {
			Execute string
			ID      json.Number
		}
		if err := json.Unmarshal(line, &c); err != nil {
			die(err.Error())
		}
		if mode == "slow" {
			time.Sleep(20 * time.Millisecond)
		}
		answer := "{}"
		switch c.Execute {
		case "query-sev":
			if mode == "another policy" {
				policy |= uint64(snp.PolicyDebug)
			}
			answer = fmt.Sprintf(`{"enabled": true, "api-major": 1, "api-minor": 55, "build-id": 21, "state": %q, "sev-type": "sev-snp", "snp-policy": %d}`, state, policy)
		case "query-cpus-fast":
			cpu := `{"cpu-index": 0, "thread-id": 1, "qom-path": "/cpu"}`
			answer = "[" + cpu + "]"
			if mode == "another vCPU count" {
				answer = "[" + cpu + ", " + strings.Replace(cpu, "0", "1", 1) + "]"
			}
		case "qom-get":
			// EPYC-v4 is family 23, model 1, stepping 2.
			answer = map[bool]string{strings.Contains(string(line), "family"): "23", strings.Contains(string(line), "model"): "1", strings.Contains(string(line), "stepping"): "2"}[true]
			if mode == "another processor" && strings.Contains(string(line), "model") {
				answer = "2"
			}
		case "cont":
			switch mode {
			case "dies in cont":
				die("sev_snp_launch_finish: SNP_LAUNCH_FINISH ret=-5 fw_error=15 'Bad measurement'")
			case "half an answer":
				io.WriteString(q, `{"return": {`)
				die("killed")
			case "deaf in cont", "deaf to everything":
				hang()
			case "ends for ever": // as QEMU does where a command comes while it ends
				stamp := `"timestamp": {"seconds": 1, "microseconds": 2}`
				fmt.Fprintf(q, `{"return": {}, "id": %s}`+"\r\n"+`{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}, `+stamp+"}\r\n"+`{"event": "STOP", `+stamp+"}\r\n", c.ID)
				hang()
			case "never launched":
				state = "launch-update"
			default:
				state = "running"
			}
			if mode == "console flood" {
				fakeFlood(fakeChannel("console"))
				os.Exit(0)
			}
		case "quit":
			fmt.Fprintf(q, `{"return": {}, "id": %s}`+"\r\n", c.ID)
			os.Exit(0)
		}
		fmt.Fprintf(q, `{"return": %s, "id": %s}`+"\r\n", answer, c.ID)
	}
}

// floodSize is what a guest writes that writes too much, in bytes.
const floodSize = 1 << 30

func fakeFlood(w io.Writer) {
	b := []byte(strings.Repeat("a line of a guest that has much to say\n", 20000))
	for n := 0; n < floodSize; n += len(b) {
		if _, err := w.Write(b); err != nil {
			return
		}
	}
}
