package launcher

import "github.com/snplaunch/snplaunch/diagnose"

// explainConsole adds the cause of a guest that did not boot, where what it printed, or what
// QEMU said beside it, is known.
func (r *Result) explainConsole() {
	switch r.Verdict {
	case VerdictFirmwareRefused, VerdictNotAttested, VerdictTimeout:
	default:
		return
	}
	if r.Error == nil {
		return
	}
	f := diagnose.FromConsole(r.Console + "\n" + r.Stderr)
	if f == nil {
		return
	}
	likely := ""
	if f.Likely {
		likely = "Likely: "
	}
	r.Error.Message += "\n" + likely + f.Cause
	r.Error.Advice = f.Advice
}
