// Package agent is the conversation between the host and the agent that runs
// inside a guest: what the host asks for, and the report, the output and the
// exit code that come back.
//
// It runs over a virtio-serial port named PortName. The host's end is Dialogue;
// the guest's end is package guestagent. Messages are frames of a length (u32,
// little-endian, at most MaxFrame) and that many bytes of JSON, an object with
// exactly one member. The order is fixed:
//
//	guest: hello
//	host:  request
//	guest: report                   (or error)
//	guest: output …                 where the request has a command
//	guest: exit
//	host:  done
//
// and then the guest powers off. An error may take the place of any guest
// message; it ends the dialogue. Nothing that the guest says is
// believed here: whether the report is genuine is for package report to say.
package agent

// PortName is the name of the virtio-serial port between host and agent.
const PortName = "org.snplaunch.agent.0"

// Version is the version of the protocol, which Hello carries.
const Version = 1

// MaxFrame is the largest frame in bytes, without its length field.
const MaxFrame = 16 << 20
