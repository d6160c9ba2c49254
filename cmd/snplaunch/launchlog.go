package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"sync"

	"github.com/snplaunch/snplaunch/sim/kvm"
)

// launchLog writes the launches of sim exec to a file, one JSON object a line.
// The file is replaced as a whole whenever a launch ends, so that whoever reads
// it finds whole lines, also after this process has been killed.
type launchLog struct {
	path string // empty: nothing is written

	mu    sync.Mutex
	lines []line
	err   error
}

type line struct {
	vm   *kvm.VM
	text []byte
}

// newLaunchLog begins with an empty file, so that one that cannot be written is
// told before anything is launched.
func newLaunchLog(path string) (*launchLog, error) {
	l := &launchLog{path: path}
	if path != "" {
		l.write()
	}
	return l, l.err
}

// hear takes an event of the software host.
func (l *launchLog) hear(ev kvm.Event) {
	if l.path == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.lines)
	if ev.Kind == kvm.EventUndone {
		if n > 0 && l.lines[n-1].vm == ev.VM {
			l.lines = l.lines[:n-1]
			l.write()
		}
		return
	}
	r, ends := ev.Record()
	if !ends {
		return
	}
	text, err := json.Marshal(r)
	if err != nil {
		l.err = errors.Join(l.err, err)
		return
	}
	l.lines = append(l.lines, line{ev.VM, append(text, '\n')})
	l.write()
}

func (l *launchLog) write() {
	var all bytes.Buffer
	for _, x := range l.lines {
		all.Write(x.text)
	}
	l.err = errors.Join(l.err, writeTogether(namedFile{l.path, all.Bytes()}))
}

// failed tells what could not be written.
func (l *launchLog) failed() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}
