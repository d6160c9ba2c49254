package solve

import (
	"time"

	"github.com/snplaunch/snplaunch/guest"
	"github.com/snplaunch/snplaunch/measure"
	"github.com/snplaunch/snplaunch/snp"
)

// Source is where the digest in question comes from, which decides the words.
type Source int

// Sources.
const (
	Expected Source = iota // somebody's reference value
	IDBlock                // the ID block that the guest is launched with
	Report                 // an attestation report
	Launched               // what the software host or a record heard
)

// Question is a digest, and the description that it is not of.
type Question struct {
	Digest snp.LaunchDigest
	Source Source

	// Guest, Inputs and Options are what measure.MeasureWith takes, for an SNP guest
	// (modes SNP and SVSM).
	Guest   *guest.Guest
	Inputs  *guest.Inputs
	Options measure.Options

	// Folders name files that may have been used in place of the guest's.
	Folders Folders
	// HostSignature is EAX of CPUID function 1 of this machine, for guests that
	// were measured with CPU model `host`; nil where that is not known.
	HostSignature *uint32
}

// Options say how to search.
type Options struct {
	// All goes on after the first explanation.
	All bool
	// Progress, when set, hears several times a second how far the search is.
	Progress func(Progress)
}

// Progress is how far a search is.
type Progress struct {
	Stage string // "single changes", "pairs"…
	Tried uint64 // descriptions so far
	Total uint64 // those of all stages, estimated
}

// Answer is what a search found.
type Answer struct {
	Digest    snp.LaunchDigest `json:"digest"`
	Described snp.LaunchDigest `json:"described"` // of the description as it is

	// Explained says whether there is an explanation. The first is the simplest.
	Explained    bool          `json:"explained"`
	Explanations []Explanation `json:"explanations"`

	// Dimensions lists what was varied, with how many values.
	Dimensions []Tried `json:"dimensions"`
	// Tried is how many descriptions' digests were compared with the one in question.
	Tried uint64 `json:"tried"`
	// Complete says that the search came to its end: nothing that it knows was left out.
	Complete bool          `json:"complete"`
	Elapsed  time.Duration `json:"-"`
	// Unread are files of the folders that could not be used, in sentences.
	Unread []string `json:"unread,omitempty"`

	source Source
}

// Tried is one dimension of a search.
type Tried struct {
	Dimension string `json:"dimension"`
	Values    int    `json:"values"` // others than the description's
	Rare      int    `json:"rare"`   // of them those that were not combined with each other
}

// Explanation is a set of changes that makes of the description one that has the
// digest. No changes means that the digest is the description's own.
type Explanation struct {
	Changes  []Change `json:"changes"`
	Sentence string   `json:"sentence"`
	// Also are other sets, as small, that give the same launch and so the same
	// digest: which of them it was no digest can tell.
	Also [][]Change `json:"also,omitempty"`
}

// Change is one thing that was different.
type Change struct {
	Dimension string `json:"dimension"` // "vcpus", "kernel_hashes", "append"…
	Described string `json:"described"` // what the description says
	Found     string `json:"found"`     // what the digest was made with
	Note      string `json:"note,omitempty"`
}
