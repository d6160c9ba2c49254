// Package results holds what a run of the matrix found: its file, and the forms
// in which others read it.
//
// A file of results is JSON lines: first one Header, then one Cell for each
// line. Cells are appended as they end, so that a file whose writer was killed
// holds every cell that had ended.
package results

import (
	"time"

	"github.com/snplaunch/snplaunch/snp"
)

// FormatVersion is the version of the file. A reader refuses a newer one.
const FormatVersion = 1

// Header is the first line of a file of results.
type Header struct {
	Format    int       `json:"format"` // FormatVersion
	Matrix    string    `json:"matrix"` // its name
	MatrixSum string    `json:"matrix_sha256"`
	Started   time.Time `json:"started"`
	Shard     string    `json:"shard,omitempty"` // "3/8"
	Planned   int       `json:"planned"`         // cells of this shard
	Tool      string    `json:"tool"`            // version of snplaunch
	Host      Host      `json:"host"`

	// MatrixFile is the path of the matrix as it was given, for annotations and
	// for commands to repeat.
	MatrixFile string `json:"matrix_file,omitempty"`
	// Plan lists every cell of the matrix in its order, those of other shards
	// too, so that whoever puts shards together knows what is missing. All
	// shards of a run have the same one.
	Plan []Planned `json:"plan"`
	// Shards is what a merged file was made of.
	Shards []Part `json:"shards,omitempty"`
}

// Planned is a cell that is to be run.
type Planned struct {
	ID    string `json:"id"`
	Shard int    `json:"shard,omitempty"` // from 1 on; 0 in a run that is not divided
}

// Part is one of the files that a merged one was made of.
type Part struct {
	Shard   string    `json:"shard,omitempty"`
	Started time.Time `json:"started"`
	Host    Host      `json:"host"`
	Cells   int       `json:"cells"` // that it had
}

// Host is the machine that ran the cells.
type Host struct {
	Kernel string `json:"kernel"` // uname -r
	CPU    string `json:"cpu"`
	CPUs   int    `json:"cpus"`
}

// Depth is how far a cell goes.
type Depth string

// Depths.
const (
	LaunchOnly Depth = "launch" // to SNP_LAUNCH_FINISH, nothing is booted
	Full       Depth = "full"   // boot, report, verification, command
)

// Status is how a cell ended, as against what was expected of it.
type Status string

// Statuses.
const (
	Passed  Status = "passed"
	Flaky   Status = "flaky"  // an attempt failed, a later one passed
	Failed  Status = "failed" // it did not do what was expected
	Errored Status = "error"  // it could not be tried: a file is missing, the host is out of something
	Skipped Status = "skipped"
)

// statuses in the order in which they are told.
var statuses = []Status{Failed, Errored, Flaky, Skipped, Passed}

// Good says whether a cell may end like that in a run that holds.
func (s Status) Good() bool { return s == Passed || s == Flaky || s == Skipped }

// Cell is one cell of the matrix that was run.
type Cell struct {
	ID     string `json:"id"`    // stable between runs of one matrix: "direct/vcpus=2/cpu=EPYC-v4"
	Group  string `json:"group"` // the part of the matrix that it belongs to
	Axes   []Axis `json:"axes"`
	Line   int    `json:"line,omitempty"` // of the matrix's file, where the group is described
	Depth  Depth  `json:"depth"`
	Tamper string `json:"tamper,omitempty"` // what was made wrong on purpose, in a negative cell
	Expect string `json:"expect"`           // as the matrix says it: "launches", "fails: BAD_MEASUREMENT"

	Status    Status `json:"status"`
	Message   string `json:"message,omitempty"`   // one sentence, where it did not pass
	Advice    string `json:"advice,omitempty"`    // what to do
	Diagnosis string `json:"diagnosis,omitempty"` // what differed, as far as diagnose found it
	Reproduce string `json:"reproduce,omitempty"` // a command
	Artefacts string `json:"artefacts,omitempty"` // folder, relative to the file of results

	Backend    string            `json:"backend"`
	Simulated  bool              `json:"simulated"`
	Verdict    string            `json:"verdict,omitempty"` // launcher's
	Outcome    string            `json:"outcome,omitempty"`
	Computed   *snp.LaunchDigest `json:"computed,omitempty"`
	Launched   *snp.LaunchDigest `json:"launched,omitempty"`
	Reported   *snp.LaunchDigest `json:"reported,omitempty"`
	FWError    int               `json:"fw_error,omitempty"`
	FWStatus   string            `json:"fw_status,omitempty"`
	QEMU       string            `json:"qemu,omitempty"`
	Inputs     []Input           `json:"inputs,omitempty"`
	Started    time.Time         `json:"started"`
	DurationMS int64             `json:"duration_ms"` // of the last attempt
	Worker     int               `json:"worker"`
	Stages     []Stage           `json:"stages,omitempty"` // of the last attempt
	Steps      []Step            `json:"steps,omitempty"`
	Attempts   []Attempt         `json:"attempts,omitempty"` // those before the last
}

// Axis is one coordinate of a cell.
type Axis struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Input is a file or a string that the cell was made of.
type Input struct {
	Name   string `json:"name"` // "firmware", "kernel", "initrd", "append", "qemu"
	SHA256 string `json:"sha256"`
}

// Stage is a part of a launch or a boot, for the timeline.
type Stage struct {
	Name    string `json:"name"`
	StartMS int64  `json:"start_ms"` // after the attempt began
	EndMS   int64  `json:"end_ms"`
}

// Step is one step of a cell that has several.
type Step struct {
	Name    string `json:"name"`
	Status  Status `json:"status"`
	Message string `json:"message,omitempty"`
	Hint    string `json:"hint,omitempty"`
	StartMS int64  `json:"start_ms"`
	EndMS   int64  `json:"end_ms"`
}

// Attempt is one that failed and was repeated.
type Attempt struct {
	Message    string `json:"message"`
	Verdict    string `json:"verdict,omitempty"`
	DurationMS int64  `json:"duration_ms"`
	Artefacts  string `json:"artefacts,omitempty"`
}

// Run is a whole file.
type Run struct {
	Header Header
	Cells  []Cell

	// Cut is the length in bytes of a last line that its writer, killed, did
	// not finish; 0 for none. The cell of that line has to be run again.
	Cut int
}
