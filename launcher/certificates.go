package launcher

import (
	"context"

	"github.com/snplaunch/snplaunch/agent"
	"github.com/snplaunch/snplaunch/report"
	"github.com/snplaunch/snplaunch/report/certs"
)

// received is a report as the guest sent it, with what it is verified with.
type received struct {
	raw, table []byte // as the hooks have made them
	found      *certs.Found
	err        error // of the search
}

// receive takes a report from the guest and finds its certificates: those that came with
// it, and where the options allow it elsewhere. It may ask AMD's service, so that nothing
// may wait for it that is not about this report.
func (r *run) receive(ctx context.Context, sent *agent.Report) *received {
	in := &received{raw: append([]byte(nil), sent.Raw...), table: append([]byte(nil), sent.Certs...)}
	if r.o.Hooks.Report != nil {
		r.o.Hooks.Report(in.raw)
	}
	if r.o.Hooks.Certificates != nil {
		r.o.Hooks.Certificates(in.table)
	}
	chain, err := report.ParseCertTable(in.table)
	if err != nil {
		in.err = err
		return in
	}
	f := r.o.Certs
	if f == nil {
		f = &certs.Finder{}
	}
	in.found, in.err = f.Find(ctx, in.raw, chain)
	return in
}

// revocation says in a line whether revocations were looked at.
func (r *Result) revocation() string {
	switch {
	case len(r.RevocationLists) > 0:
		s := ""
		for i, l := range r.RevocationLists {
			if i > 0 {
				s += "; "
			}
			s += l.String()
		}
		return "nothing revoked, by the " + s
	case r.Simulated:
		return "" // there is no AMD to revoke anything
	}
	return "not checked: " + r.evidence.noList
}
