package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/snplaunch/snplaunch/snp"
)

// reported is what is read of a line of `sim exec --report`; what it has besides follows from these.
type reported struct {
	Simulated      bool              `json:"simulated"`
	Product        string            `json:"product"`
	Firmware       string            `json:"firmware"`
	KernelProfile  string            `json:"kernel_profile"`
	Command        string            `json:"command"`
	Errno          int               `json:"errno"`
	FirmwareStatus int               `json:"firmware_status"`
	LaunchDigest   *snp.LaunchDigest `json:"launch_digest"`
	Policy         string            `json:"policy"`
	Updates        []struct {
		Type     snp.PageType      `json:"type"`
		GPA      string            `json:"gpa"`
		Length   uint64            `json:"length"`
		Contents snp.ContentDigest `json:"contents"`
	} `json:"updates"`
	VMSAs []struct {
		VCPU  uint32 `json:"vcpu"`
		Bytes []byte `json:"bytes"`
	} `json:"vmsas"`
	HostData         *snp.HostData `json:"host_data"`
	IDBlock          []byte        `json:"id_block"`
	IDAuth           []byte        `json:"id_auth"`
	AuthorKeyEnabled bool          `json:"author_key_enabled"`
	VCEKDisabled     bool          `json:"vcek_disabled"`
}

// IsReport says whether a file begins as what `sim exec --report` writes.
func IsReport(b []byte) bool { return bytes.HasPrefix(b, []byte(`{"simulated":`)) }

// ParseReport makes a record of what `sim exec --report` wrote: what came of each
// launch, with save areas in place of the registers that they were made of, so that it can be
// explained but not replayed.
func ParseReport(all []byte) (*File, error) {
	f := &File{Source: SourceReport, Pages: map[snp.ContentDigest][]byte{}}
	n := 0
	for line := range bytes.Lines(all) {
		n++
		var r reported
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, fmt.Errorf("line %d of the report: %w", n, err)
		}
		l, err := r.launch()
		if err != nil {
			return nil, fmt.Errorf("line %d of the report: %w", n, err)
		}
		f.Launches = append(f.Launches, *l)
	}
	return f, nil
}

func (r *reported) launch() (*Launch, error) {
	l := &Launch{VMType: VMTypeSNP, Host: &Host{r.Product, r.Firmware, r.KernelProfile, r.Command, r.Errno, r.FirmwareStatus, r.LaunchDigest}}
	add := func(with Payload, ok bool) {
		res := &Result{From: FromHost}
		if !ok {
			res.Errno, res.FWError = r.Errno, r.FirmwareStatus
		}
		l.Calls = append(l.Calls, Call{with, res})
	}
	if r.Policy != "" {
		policy, err := snp.ParseGuestPolicy(r.Policy)
		if err != nil {
			return nil, err
		}
		add(&Start{Policy: policy}, r.Command != Start{}.Name())
	}
	for _, u := range r.Updates {
		digits, hexadecimal := strings.CutPrefix(u.GPA, "0x")
		gpa, err := strconv.ParseUint(digits, 16, 64)
		if !hexadecimal || err != nil || u.Length != snp.PageSize {
			return nil, errors.New("an update whose address or length makes no sense")
		}
		if u.Type == snp.PageVMSA {
			continue // the save areas follow, whole
		}
		last, _ := lastOf(l.Calls)
		if last != nil && last.Type == u.Type && last.GPA+last.Length == gpa {
			last.Length += u.Length
		} else {
			last = &Update{Type: u.Type, GPA: gpa, Length: u.Length}
			add(last, true)
		}
		if u.Type == snp.PageNormal {
			last.Contents = append(last.Contents, u.Contents)
		}
	}
	for _, v := range r.VMSAs {
		if len(v.Bytes) != snp.PageSize {
			return nil, fmt.Errorf("a save area of %d bytes", len(v.Bytes))
		}
		l.VCPUs, l.SaveAreas = append(l.VCPUs, VCPU{ID: v.VCPU}), append(l.SaveAreas, v.Bytes)
	}
	switch r.Command {
	case Finish{}.Name():
		c := &Finish{IDBlock: r.IDBlock, IDAuth: r.IDAuth, IDBlockEnabled: r.IDBlock != nil, AuthorKey: r.AuthorKeyEnabled, VCEKDisabled: r.VCEKDisabled}
		if r.HostData != nil {
			c.HostData = *r.HostData
		}
		add(c, false)
	case Init{}.Name():
		add(&Init{}, false)
	case Update{}.Name():
		add(&Update{}, false)
	}
	return l, nil
}

// lastOf gives the last call where that is an update.
func lastOf(calls []Call) (*Update, bool) {
	if len(calls) == 0 {
		return nil, false
	}
	u, is := calls[len(calls)-1].With.(*Update)
	return u, is
}
