// Package agent is the conversation between the host and the agent that runs
// inside a guest: the host asks, as often as it likes, for an attestation
// report, for a command to be run, for a file to be taken or given, and at last
// for the end.
//
// It runs over a virtio-serial port named PortName. The host's end is Client;
// the guest's end is package guestagent. A frame is a length (u32,
// little-endian, at most MaxFrame) and that many bytes: a JSON object with
// exactly one member, or, where the first byte is one of 0, 1 and 2, which begin
// no JSON object, data: of the request (0), of the command's stdout (1) or
// stderr (2). The guest begins:
//
//	guest: hello
//
// and answers one request after the other. Each answer ends with the last
// message named here, or with an error in its place:
//
//	host: attest                    guest: report
//	host: run, data …, end          guest: output …, more …, exit
//	host: put, data …, end          guest: end
//	host: get                       guest: data …, end
//	host: bye                       no answer; the guest powers off
//
// A run has data and end only where it announces stdin, and the end always comes,
// also after the exit. Of stdin the host sends at most Window pieces beyond those
// for which the guest has sent a more, so that what a command does not read
// keeps nothing else from it. The host may send cancel at any time before the
// last message of an answer: a command is killed, a file is given up, and the
// answer ends; a cancel that crosses the end of an answer means nothing.
//
// Nothing that the guest says is believed here: whether the report is genuine is
// for package report to say.
package agent

// PortName is the name of the virtio-serial port between host and agent.
const PortName = "org.snplaunch.agent.0"

// Version is the version of the protocol, which Hello carries.
const Version = 3

// MaxFrame is the largest frame in bytes, without its length field.
const MaxFrame = 1 << 20

// ChunkSize is the most data that one frame carries, in bytes; a longer one is
// refused.
const ChunkSize = 64 << 10

// Window is how many pieces of stdin may be on their way to a command.
const Window = 4
