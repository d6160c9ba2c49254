package bundle

import (
	"bytes"
	"crypto/rand"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/guest/guestyaml"
	"github.com/snplaunch/snplaunch/hashes"
	"github.com/snplaunch/snplaunch/measure"
	"github.com/snplaunch/snplaunch/snp"
)

// Statement is what is known of a launch before its guest attests.
type Statement struct {
	Nonce     Sum       `json:"nonce"` // random, so that no two statements are alike
	Time      time.Time `json:"time"`  // of the host's clock, whole seconds, UTC
	Tool      string    `json:"tool"`  // "snplaunch 1.0"
	QEMU      string    `json:"qemu"`  // version
	Backend   string    `json:"backend"`
	Simulated bool      `json:"simulated"`

	// Description is the guest, as guestyaml.Marshal writes it. Its paths are those of
	// the machine that launched it; nothing is opened by them.
	Description string  `json:"description"`
	Inputs      []Input `json:"inputs"`
	// Firmware is what measuring needs of the firmware beside its pages.
	Firmware Metadata `json:"firmware"`

	LaunchDigest snp.LaunchDigest `json:"launch_digest"` // computed
	Pages        []measure.Page   `json:"pages"`         // that fold to it
	// Heard is what the software host heard of the launch; nil on hardware, where
	// nobody hears it.
	Heard *Heard `json:"heard,omitempty"`

	IDBlock          []byte `json:"id_block,omitempty"` // 96 bytes
	IDAuth           []byte `json:"id_auth,omitempty"`  // 4096 bytes
	AuthorKeyEnabled bool   `json:"author_key_enabled,omitempty"`

	Commands []Command `json:"commands"`
}

// Names of inputs.
const (
	inputFirmware = "firmware"
	inputKernel   = "kernel"
	inputInitrd   = "initrd"
	inputCmdline  = "command line" // with its NUL byte
)

// Input is something that went into the launch.
type Input struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"` // bytes
	SHA256 Sum    `json:"sha256"`
}

// Heard is a launch from the firmware's side.
type Heard struct {
	LaunchDigest snp.LaunchDigest `json:"launch_digest"`
	Updates      int              `json:"updates"` // pages it was told about
}

// Command is how a program was started.
type Command struct {
	Name string   `json:"name"`
	Args []string `json:"args"`
}

// Sum is 32 bytes, in hexadecimal.
type Sum [32]byte

// MarshalText implements encoding.TextMarshaler.
func (s Sum) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(s[:])), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Sum) UnmarshalText(text []byte) error {
	if len(text) != 2*len(s) {
		return fmt.Errorf("got %d characters, want %d hexadecimal digits", len(text), 2*len(s))
	}
	_, err := hex.Decode(s[:], text)
	return err
}

// Metadata is measure.Metadata in its own JSON form.
type Metadata struct{ *measure.Metadata }

// MarshalJSON implements json.Marshaler.
func (m Metadata) MarshalJSON() ([]byte, error) {
	if m.Metadata == nil {
		return []byte("null"), nil
	}
	return m.JSON()
}

// UnmarshalJSON implements json.Unmarshaler.
func (m *Metadata) UnmarshalJSON(data []byte) (err error) {
	m.Metadata, err = measure.ParseMetadata(bytes.NewReader(data))
	return err
}

// NewStatement begins a statement: with what was measured, fresh random bytes and the
// time. in are the guest's opened files.
func NewStatement(g *guest.Guest, in *guest.Inputs, m *measure.Result) (*Statement, error) {
	s := &Statement{Time: time.Now().UTC().Truncate(time.Second), LaunchDigest: m.LaunchDigest, Pages: m.Pages, Commands: []Command{}}
	if _, err := rand.Read(s.Nonce[:]); err != nil {
		return nil, err
	}
	text, err := guestyaml.Marshal(g)
	if err != nil {
		return nil, err
	}
	s.Description = string(text)
	for _, i := range []struct {
		name string
		in   *guest.Input
	}{{inputFirmware, in.Firmware}, {inputKernel, in.Kernel}, {inputInitrd, in.Initrd}} {
		if i.in == nil {
			continue
		}
		sum, err := i.in.SHA256()
		if err != nil {
			return nil, err
		}
		s.Inputs = append(s.Inputs, Input{i.name, i.in.Size, sum})
	}
	if g.HasKernel() {
		sum, err := hashes.Cmdline(g.Append)
		if err != nil {
			return nil, err
		}
		s.Inputs = append(s.Inputs, Input{inputCmdline, int64(len(g.Append)) + 1, sum})
	}
	meta, err := measure.MetadataOf(m)
	if err != nil {
		return nil, err
	}
	meta.FirmwareSHA256 = (*[32]byte)(&s.Inputs[0].SHA256)
	s.Firmware = Metadata{meta}
	return s, nil
}

// ReportData is what the guest has to ask its report with.
func (s *Statement) ReportData() (snp.ReportData, error) {
	compact, err := marshal(s)
	if err != nil {
		return snp.ReportData{}, err
	}
	return sha512.Sum512(compact), nil
}

// input gives an input by its name, nil where there is none.
func (s *Statement) input(name string) *Input {
	for i := range s.Inputs {
		if s.Inputs[i].Name == name {
			return &s.Inputs[i]
		}
	}
	return nil
}
