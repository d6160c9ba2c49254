package qmp

import (
	"context"
	"fmt"
	"testing"
)

func eventLine(i int) string {
	return fmt.Sprintf(`{"timestamp": {"seconds": %d, "microseconds": 7}, "event": "E%d", "data": {"n": %d}}`+"\r\n", i, i, i)
}

// Nobody reads the events, and commands go on; the oldest events are lost and
// counted, for the slow subscriber only.
func TestSlowSubscriber(t *testing.T) {
	c, p := connectSocket(t)
	slow, fast := c.Subscribe(3), c.Subscribe(100)
	go func() {
		r := p.receive()
		for i := range 10 {
			p.send(eventLine(i))
		}
		p.answer(r, "{}")
	}()
	if err := c.Cont(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if slow.Dropped() != 7 || fast.Dropped() != 0 {
		t.Errorf("dropped %d and %d, want 7 and 0", slow.Dropped(), fast.Dropped())
	}
	for i := range 10 {
		want := fmt.Sprint("E", i)
		if ev := <-fast.C(); ev.Event != want || ev.Data["n"] != float64(i) ||
			ev.Timestamp.Seconds != int64(i) || ev.Timestamp.Microseconds != 7 {
			t.Errorf("fast subscriber got %+v, want %s", ev, want)
		}
		if i >= 7 {
			if ev := <-slow.C(); ev.Event != want {
				t.Errorf("slow subscriber got %s, want %s", ev.Event, want)
			}
		}
	}
	slow.Close()
	slow.Close()
	if _, ok := <-slow.C(); ok {
		t.Error("a closed subscription delivers")
	}
	p.send(eventLine(10))
	if ev := <-fast.C(); ev.Event != "E10" {
		t.Errorf("got %s, want E10", ev.Event)
	}
}

func TestEventsContext(t *testing.T) {
	c, p := connectSocket(t)
	ctx, cancel := context.WithCancel(context.Background())
	events, err := c.Events(ctx)
	if err != nil {
		t.Fatal(err)
	}
	p.send(eventLine(1))
	if ev := <-events; ev.Event != "E1" {
		t.Errorf("got %s, want E1", ev.Event)
	}
	cancel()
	for ev := range events {
		t.Errorf("after cancelling, got %s", ev.Event)
	}
	go p.answerOne("{}")
	if err := c.Stop(testContext(t)); err != nil {
		t.Error(err)
	}
}
