package results

// look is how a status is shown: never by colour alone.
type look struct {
	Symbol string
	Word   string
}

var looks = map[Status]look{
	Passed:  {"✓", "passed"},
	Flaky:   {"≈", "flaky"},
	Failed:  {"✗", "failed"},
	Errored: {"!", "error"},
	Skipped: {"–", "skipped"},
}
