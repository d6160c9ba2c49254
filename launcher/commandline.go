package launcher

import (
	"context"

	"github.com/snplaunch/snplaunch/guest"
)

// CommandLine gives the QEMU command of a guest, to be pasted into a shell: the
// guest starts at once and has its console on the terminal. It computes the
// digest and signs the ID block as Run does.
func CommandLine(g *guest.Guest, o Options) ([]string, error) {
	r, err := prepared(g, o)
	if err != nil {
		return nil, err
	}
	g, err = withVsock(g)
	if err != nil {
		return nil, err
	}
	args := snpArguments(g, r.id, o.CBitPos, plumbing{simPort: o.Backend == BackendSim, interactive: true})
	return append([]string{o.QEMU}, args...), nil
}

// prepared computes the digest and signs the ID block, and keeps no file open.
func prepared(g *guest.Guest, o Options) (*run, error) {
	r := &run{g: g, o: o, res: &Result{DurationMS: map[string]int64{}}}
	if err := r.prepare(context.Background(), false); err != nil {
		return nil, err
	}
	return r, r.inputs.Close()
}
