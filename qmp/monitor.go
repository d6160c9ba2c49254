package qmp

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	goqmp "github.com/digitalocean/go-qemu/qmp"
)

var _ goqmp.Monitor = (*Client)(nil)

// DefaultRunTimeout is how long [Client.Run] waits for QEMU.
const DefaultRunTimeout = time.Minute

// SetRunTimeout changes how long [Client.Run] waits; zero means for ever.
// go-qemu's interface gives its callers no context.
func (c *Client) SetRunTimeout(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.runTimeout = d
}

// Connect is part of go-qemu's Monitor. [Dial] has connected already, so it
// only says whether the connection still lives.
func (c *Client) Connect() error { return c.Err() }

// Disconnect is part of go-qemu's Monitor; it is Close. qemu.Domain's Close
// calls it.
func (c *Client) Disconnect() error { return c.Close() }

// Run is part of go-qemu's Monitor: command is a whole QMP command, the answer
// a whole QMP reply. An "id" in the command comes back unchanged. Use
// [Client.Execute] where a context is at hand.
func (c *Client) Run(command []byte) ([]byte, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(command, &members); err != nil {
		return nil, fmt.Errorf("QMP command %s is not a JSON object: %w", excerpt(command), err)
	}
	var name string
	if err := json.Unmarshal(members["execute"], &name); err != nil || name == "" {
		return nil, fmt.Errorf("QMP command %s names nothing to execute", excerpt(command))
	}
	callerID, hasID := members["id"]

	c.mu.Lock()
	timeout := c.runTimeout
	c.mu.Unlock()
	ctx := context.Background()
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	ret, err := c.roundTrip(ctx, name, func(id uint64) ([]byte, error) {
		members["id"] = json.RawMessage(fmt.Sprint(id))
		return json.Marshal(members)
	})
	if err != nil {
		return nil, err
	}
	reply := map[string]json.RawMessage{"return": ret}
	if hasID {
		reply["id"] = callerID
	}
	return json.Marshal(reply)
}
