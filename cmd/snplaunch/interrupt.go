package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// interruptPatience is how long a verb that holds nothing has to end by itself once it was
// interrupted. One that is reading from a FIFO or a terminal does not hear of it.
const interruptPatience = 300 * time.Millisecond

// held counts those who will put things in order themselves when they are interrupted:
// QEMU, files half written, a terminal's settings. Nobody comes to hold anything once
// the program is being ended.
var held struct {
	sync.Mutex
	by int
}

// hold keeps an interruption from ending the program at once, until release is called.
func hold() (release func()) {
	held.Lock()
	defer held.Unlock()
	held.by++
	return sync.OnceFunc(func() {
		held.Lock()
		defer held.Unlock()
		held.by--
	})
}

// interruptible gives a context that ends with the first signal that asks for the end of the
// program. Where nothing is held, the program soon ends with it; a second signal ends it
// at once, as it does a program that takes no signals. Signals that were ignored when it
// was started, as under nohup, stay so.
func interruptible(stderr io.Writer) context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 1)
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(s) {
			signal.Notify(signals, s)
		}
	}
	go func() {
		<-signals
		signal.Stop(signals)
		cancel()
		time.Sleep(interruptPatience)
		held.Lock()
		if held.by > 0 {
			held.Unlock()
			return
		}
		fmt.Fprintln(stderr, "snplaunch: interrupted; nothing was under way that had to be put in order")
		os.Exit(exitNo)
	}()
	return ctx
}
