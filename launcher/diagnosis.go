package launcher

import (
	"context"
	"time"

	"github.com/snplaunch/snplaunch/diagnose/pagediff"
	"github.com/snplaunch/snplaunch/diagnose/solve"
	"github.com/snplaunch/snplaunch/host"
	"github.com/snplaunch/snplaunch/measure"
	"github.com/snplaunch/snplaunch/snp"
)

// diagnosisTime is how long a run looks for what a wrong digest was made of: long
// enough for single changes and the usual pairs, short enough not to be waited for.
const diagnosisTime = 900 * time.Millisecond

// Diagnosis is what a digest was made of that is not the computed one.
type Diagnosis struct {
	*solve.Answer
	// Sentence is the answer in words: what differs, or that nothing tried explains it.
	Sentence string `json:"sentence"`
	// Pages is where what the software host heard departs from what was computed;
	// nil on hardware, and where the two are one.
	Pages *pagediff.Diff `json:"pages,omitempty"`
}

// diagnose looks for what explains a digest and puts it into the result, where
// it is found. A run that fails for another reason has none.
func (r *run) diagnose(digest snp.LaunchDigest, source solve.Source) {
	if r.o.NoDiagnosis || r.measured == nil || r.inputs == nil || r.res.Error == nil || digest == r.res.Computed {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), diagnosisTime)
	defer cancel()
	q := solve.Question{Digest: digest, Source: source, Guest: r.g, Inputs: r.inputs, Options: measure.Options{}}
	if sig, ok := host.CPUSignature(); ok {
		q.HostSignature = &sig
	}
	q.Folders.Beside(r.g)
	since := time.Now()
	a, err := solve.Solve(ctx, q, solve.Options{})
	r.res.stage("diagnose", since)
	if err != nil {
		return // it was measured before, so what is wrong now is the files' and told elsewhere
	}
	d := &Diagnosis{Answer: a}
	if a.Explained {
		d.Sentence = a.Explanations[0].Sentence
	} else {
		d.Sentence = a.Unexplained() + " `snplaunch diagnose` searches without a limit of time and in further folders."
	}
	r.res.Diagnosis = d
	r.res.Error.Message += "\n" + d.Sentence
	if len(r.res.launched) > 0 {
		computed, err := pagediff.Of("computed", r.measured, nil)
		if p := pagediff.Compare(computed, pagediff.OfUpdates("launched", r.res.launched)); err == nil && !p.Equal {
			d.Pages = p
			r.res.Error.Message += "\n" + p.String()
		}
	}
}

// diagnoseRefusal looks for what explains that the firmware found another digest than
// the ID block's: what that was made for, or what was launched in place of what
// was computed.
func (r *run) diagnoseRefusal(status snp.Status) {
	if status != snp.StatusBadMeasurement || r.id == nil {
		return
	}
	block, err := snp.ParseIDBlock(r.id.block)
	switch {
	case err != nil:
	case block.LD != r.res.Computed:
		r.diagnose(block.LD, solve.IDBlock)
	case r.res.Launched != nil:
		r.diagnose(*r.res.Launched, solve.Launched)
	}
}
