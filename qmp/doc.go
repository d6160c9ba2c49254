// Package qmp speaks the QEMU Machine Protocol over a connection that the
// caller already has, normally one end of a socketpair that QEMU inherited.
// [Dial] is where to start.
//
// The connection carries commands of any size from any number of goroutines,
// each with its own context; one goroutine reads. Replies are matched by id.
// Events go to bounded subscriptions: whoever reads slowly loses the oldest
// events, is told how many, and delays nobody. When QEMU ends, every waiting
// command gets [ErrPeerClosed]; why QEMU ended is on its standard error,
// which this package does not see.
//
// [Client] implements [github.com/digitalocean/go-qemu/qmp.Monitor], so that
// go-qemu's qemu.Domain works on it. Version and Event are go-qemu's types.
//
// The protocol is QEMU's docs/interop/qmp-spec.rst.
package qmp
