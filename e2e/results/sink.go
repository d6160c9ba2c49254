package results

// Sink hears how a run of the matrix proceeds, as it proceeds. Its methods are
// called one at a time, and a call that does not return holds the run up.
type Sink interface {
	// Begin comes once, before any cell, with all cells of this run in the
	// order in which they will be started.
	Begin(Header, []Queued)
	// Start says that a worker has begun with a cell: what identifies the
	// cell is set, and Started and Worker.
	Start(*Cell)
	// Step says what the cell now does: the name of a stage of its launch or boot
	// ("measure", "launch", "boot", "attest"), of a step, or of an attempt.
	Step(c *Cell, name string)
	// End brings a cell that is whole, after it was written to the file.
	End(*Cell)
	// Close comes last, however the run ends.
	Close()
}

// Queued is a cell that is going to be run.
type Queued struct {
	ID       string `json:"id"`
	Group    string `json:"group"`
	Depth    Depth  `json:"depth"`
	CostMS   int64  `json:"cost_ms"`  // what it is thought to take
	Recorded bool   `json:"recorded"` // whether an earlier run's durations say so
}
