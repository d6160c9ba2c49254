package record

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/snplaunch/snplaunch/snp"
)

// The form of a record: lines of JSON, each an object with one of these shapes
// (docs/records.md). The last line has the SHA-256 of all before it.
type (
	headLine struct {
		Version  int      `json:"snplaunch_record"`
		Tool     string   `json:"tool"`
		Source   Source   `json:"source"`
		Command  []string `json:"command,omitempty"`
		OtherVMs int      `json:"other_vms,omitempty"`
	}
	launchLine struct {
		Launch struct {
			Program Program `json:"program"`
			VMType  uint64  `json:"vm_type"`
		} `json:"launch"`
	}
	callLine struct {
		Call   string          `json:"call"`
		With   json.RawMessage `json:"with"`
		Result *resultJSON     `json:"result,omitempty"`
	}
	vcpuLine struct {
		VCPU uint32 `json:"vcpu"`
	}
	registersLine struct {
		Registers string `json:"registers"` // of the vCPU before
		Size      int    `json:"size"`
		Data      []byte `json:"data"` // without trailing zeros
	}
	saveAreaLine struct {
		SaveArea []byte `json:"save_area"` // without trailing zeros
	}
	endLine struct {
		End  End   `json:"end"`
		Host *Host `json:"host,omitempty"`
	}
	pageLine struct {
		Page    snp.ContentDigest `json:"page"`
		Deflate []byte            `json:"deflate"`
	}
	sumLine struct {
		SHA256 string `json:"sha256"`
	}
	resultJSON struct {
		Errno   int  `json:"errno,omitempty"`
		FWError int  `json:"fw_error,omitempty"`
		From    From `json:"from"`
	}
	startJSON struct {
		Policy Hex    `json:"policy"`
		GOSVW  string `json:"gosvw"` // 16 bytes, hexadecimal
		Flags  Hex    `json:"flags"`
	}
	updateJSON struct {
		Type     string              `json:"type"`
		GPA      Hex                 `json:"gpa"`
		Length   Hex                 `json:"length"`
		Flags    Hex                 `json:"flags"`
		VMPLs    *[3]uint8           `json:"vmpls,omitempty"`
		Contents []snp.ContentDigest `json:"contents,omitempty"`
	}
	finishJSON struct {
		IDBlockEnabled bool         `json:"id_block_en"`
		IDBlock        []byte       `json:"id_block,omitempty"`
		IDAuth         []byte       `json:"id_auth,omitempty"`
		AuthorKey      bool         `json:"auth_key_en"`
		VCEKDisabled   bool         `json:"vcek_disabled"`
		HostData       snp.HostData `json:"host_data"`
		Flags          Hex          `json:"flags"`
	}
)

// maxRecord bounds what Read takes, maxSaveAreas and maxRegisters what a line may unfold to.
const (
	maxRecord    = 1 << 30
	maxRegisters = 1 << 17
)

// MarshalText writes 0x and hexadecimal digits.
func (h Hex) MarshalText() ([]byte, error) {
	return []byte("0x" + strconv.FormatUint(uint64(h), 16)), nil
}

// UnmarshalText reads what MarshalText writes.
func (h *Hex) UnmarshalText(text []byte) error {
	digits, ok := strings.CutPrefix(string(text), "0x")
	v, err := strconv.ParseUint(digits, 16, 64)
	if !ok || err != nil {
		return fmt.Errorf("%q is not a number as 0x30000 is", text)
	}
	*h = Hex(v)
	return nil
}

// Write writes the record. The same record always gives the same bytes.
func (f *File) Write(w io.Writer) error {
	sum := sha256.New()
	out := io.MultiWriter(w, sum)
	var err error
	line := func(to io.Writer, v any) {
		if err != nil {
			return
		}
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err = e.Encode(v); err == nil {
			_, err = to.Write(b.Bytes())
		}
	}
	line(out, headLine{Version, f.Tool, f.Source, f.Command, f.OtherVMs})
	for i := range f.Launches {
		l := &f.Launches[i]
		var head launchLine
		head.Launch.Program, head.Launch.VMType = l.Program, l.VMType
		line(out, head)
		for _, c := range l.Calls {
			with, encodeErr := json.Marshal(formOf(c.With))
			if encodeErr != nil {
				return encodeErr
			}
			cl := callLine{Call: c.With.Name(), With: with}
			if r := c.Result; r != nil {
				cl.Result = &resultJSON{r.Errno, r.FWError, r.From}
			}
			line(out, cl)
		}
		for _, cpu := range l.VCPUs {
			line(out, vcpuLine{cpu.ID})
			for _, s := range cpu.Sets {
				line(out, registersLine{s.Call, len(s.Data), trimZeros(s.Data)})
			}
		}
		for _, page := range l.SaveAreas {
			line(out, saveAreaLine{trimZeros(page)})
		}
		line(out, endLine{l.End, l.Host})
	}
	digests := slices.SortedFunc(maps.Keys(f.Pages), func(a, b snp.ContentDigest) int { return bytes.Compare(a[:], b[:]) })
	pack, packErr := flate.NewWriter(nil, flate.DefaultCompression)
	if packErr != nil {
		return packErr
	}
	for _, d := range digests {
		var packed bytes.Buffer
		pack.Reset(&packed)
		_, packErr = pack.Write(f.Pages[d])
		if err := errors.Join(packErr, pack.Close()); err != nil {
			return err
		}
		line(out, pageLine{d, packed.Bytes()})
	}
	line(w, sumLine{hex.EncodeToString(sum.Sum(nil))})
	return err
}

func trimZeros(b []byte) []byte { return append([]byte{}, bytes.TrimRight(b, "\x00")...) }

// formOf gives what a payload is written as.
func formOf(p Payload) any {
	switch c := p.(type) {
	case *Start:
		return startJSON{Hex(c.Policy), hex.EncodeToString(c.GOSVW[:]), Hex(c.Flags)}
	case *Update:
		u := updateJSON{Type: c.Type.String(), GPA: Hex(c.GPA), Length: Hex(c.Length), Flags: Hex(c.Flags), Contents: c.Contents}
		if c.VMPLs != [3]uint8{} {
			u.VMPLs = &c.VMPLs
		}
		return u
	case *Finish:
		return finishJSON{c.IDBlockEnabled, c.IDBlock, c.IDAuth, c.AuthorKey, c.VCEKDisabled, c.HostData, Hex(c.Flags)}
	}
	return p
}

// Errors of Read; what it gives is one of them or a sentence about a line.
var (
	errNoRecord  = errors.New("this is no record of snplaunch: it does not begin with {\"snplaunch_record\":")
	errTruncated = errors.New("the record has no checksum at its end: it was cut off")
	errAltered   = errors.New("the record's checksum does not fit: it was altered or damaged after it was written")
	errTooLong   = fmt.Errorf("the record is longer than %d MiB", maxRecord>>20)
)

// Read reads a record. One that was cut off, altered, or written in a later version of
// the form is refused.
func Read(r io.Reader) (*File, error) {
	all, err := io.ReadAll(io.LimitReader(r, maxRecord+1))
	if err != nil {
		return nil, err
	}
	if len(all) > maxRecord {
		return nil, errTooLong
	}
	return Parse(all)
}

var sumPattern = regexp.MustCompile(`^\{"sha256":"[0-9a-f]{64}"\}$`)

// IsRecord says whether a file begins as a record does.
func IsRecord(b []byte) bool { return bytes.HasPrefix(b, []byte(`{"snplaunch_record":`)) }

// Parse is Read for what is in memory.
func Parse(all []byte) (*File, error) {
	if !IsRecord(all) {
		return nil, errNoRecord
	}
	first, _, whole := bytes.Cut(all, []byte("\n"))
	var version struct {
		Version int `json:"snplaunch_record"`
	}
	if !whole || json.Unmarshal(first, &version) != nil {
		return nil, errTruncated
	}
	if version.Version != Version {
		return nil, fmt.Errorf("the record has version %d of its form, and this snplaunch reads version %d", version.Version, Version)
	}
	body, ok := bytes.CutSuffix(all, []byte("\n"))
	if !ok {
		return nil, errTruncated
	}
	at := bytes.LastIndexByte(body, '\n') + 1
	if !sumPattern.Match(body[at:]) {
		return nil, errTruncated
	}
	want := sha256.Sum256(all[:at])
	if string(body[at:]) != fmt.Sprintf(`{"sha256":"%x"}`, want) {
		return nil, errAltered
	}
	p := parser{file: &File{Pages: map[snp.ContentDigest][]byte{}}}
	for n, line := range bytes.Split(bytes.TrimSuffix(all[:at], []byte("\n")), []byte("\n")) {
		if err := p.line(line, n == 0); err != nil {
			return nil, fmt.Errorf("line %d of the record: %w", n+1, err)
		}
	}
	if p.launch != nil {
		return nil, errors.New("the record's last launch has no end")
	}
	return p.file, nil
}

// strict decodes one JSON object that has no fields but those of v.
func strict(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one object")
	}
	return nil
}

// parser takes the lines of a record one by one.
type parser struct {
	file   *File
	launch *Launch // that has not ended
}

// shape finds out which of the shapes a line has, by its first field.
func shape(b []byte) string {
	rest, ok := bytes.CutPrefix(b, []byte(`{"`))
	if !ok {
		return ""
	}
	name, _, _ := bytes.Cut(rest, []byte(`"`))
	return string(name)
}

func (p *parser) line(b []byte, first bool) error {
	kind := shape(b)
	if first {
		var h headLine
		if err := strict(b, &h); err != nil {
			return err
		}
		if h.OtherVMs < 0 {
			return errors.New("a negative number of VMs")
		}
		p.file.Tool, p.file.Source, p.file.Command, p.file.OtherVMs = h.Tool, h.Source, h.Command, h.OtherVMs
		return nil
	}
	switch inLaunch := p.launch != nil; {
	case kind == "launch" && inLaunch:
		return errors.New("a launch begins before the last has ended")
	case slices.Contains([]string{"call", "vcpu", "registers", "save_area", "end"}, kind) && !inLaunch:
		return fmt.Errorf("%q belongs to a launch, and there is none", kind)
	}
	switch kind {
	case "launch":
		var l launchLine
		if err := strict(b, &l); err != nil {
			return err
		}
		p.launch = &Launch{Program: l.Launch.Program, VMType: l.Launch.VMType}
	case "call":
		return p.call(b)
	case "vcpu":
		var v vcpuLine
		if err := strict(b, &v); err != nil {
			return err
		}
		p.launch.VCPUs = append(p.launch.VCPUs, VCPU{ID: v.VCPU})
	case "registers":
		return p.registers(b)
	case "save_area":
		var s saveAreaLine
		if err := strict(b, &s); err != nil {
			return err
		}
		if len(s.SaveArea) > snp.PageSize {
			return fmt.Errorf("a save area of %d bytes", len(s.SaveArea))
		}
		page := make([]byte, snp.PageSize)
		copy(page, s.SaveArea)
		p.launch.SaveAreas = append(p.launch.SaveAreas, page)
	case "end":
		var e endLine
		if err := strict(b, &e); err != nil {
			return err
		}
		p.launch.End, p.launch.Host = e.End, e.Host
		p.file.Launches = append(p.file.Launches, *p.launch)
		p.launch = nil
	case "page":
		return p.page(b)
	default:
		return fmt.Errorf("a line that begins with %q is none of a record", kind)
	}
	return nil
}

func (p *parser) registers(b []byte) error {
	var r registersLine
	if err := strict(b, &r); err != nil {
		return err
	}
	_, size, known := RegisterRequest(r.Registers)
	switch {
	case !known:
		return fmt.Errorf("no call %q sets registers", r.Registers)
	case len(p.launch.VCPUs) == 0:
		return errors.New("registers of no vCPU")
	case size != 0 && r.Size != size, r.Size < len(r.Data), r.Size > maxRegisters:
		return fmt.Errorf("%s with %d bytes", r.Registers, r.Size)
	}
	data := make([]byte, r.Size)
	copy(data, r.Data)
	cpu := &p.launch.VCPUs[len(p.launch.VCPUs)-1]
	cpu.Sets = append(cpu.Sets, RegisterSet{r.Registers, data})
	return nil
}

func (p *parser) page(b []byte) error {
	var l pageLine
	if err := strict(b, &l); err != nil {
		return err
	}
	page := make([]byte, snp.PageSize+1)
	n, err := io.ReadFull(flate.NewReader(bytes.NewReader(l.Deflate)), page)
	if !errors.Is(err, io.ErrUnexpectedEOF) || n != snp.PageSize {
		return fmt.Errorf("page %.16s… does not unfold to %d bytes", l.Page, snp.PageSize)
	}
	page = page[:n:n]
	if sha512.Sum384(page) != l.Page {
		return fmt.Errorf("the bytes of page %.16s… have another digest", l.Page)
	}
	p.file.Pages[l.Page] = page
	return nil
}

func (p *parser) call(b []byte) error {
	var c callLine
	if err := strict(b, &c); err != nil {
		return err
	}
	with, err := payload(c.Call, c.With)
	if err != nil {
		return fmt.Errorf("%s: %w", c.Call, err)
	}
	call := Call{With: with}
	if r := c.Result; r != nil {
		if r.Errno < 0 {
			return fmt.Errorf("%s: errno %d", c.Call, r.Errno)
		}
		call.Result = &Result{r.Errno, r.FWError, r.From}
	}
	p.launch.Calls = append(p.launch.Calls, call)
	return nil
}

// payload reads what a call was made with.
func payload(name string, with json.RawMessage) (Payload, error) {
	var out Payload
	switch name {
	case Start{}.Name():
		var s startJSON
		if err := strict(with, &s); err != nil {
			return nil, err
		}
		gosvw, err := hex.DecodeString(s.GOSVW)
		if err != nil || len(gosvw) != 16 || s.Flags > 0xFFFF {
			return nil, errors.New("gosvw is not 16 bytes, or flags are not 16 bits")
		}
		return &Start{snp.GuestPolicy(s.Policy), [16]byte(gosvw), uint16(s.Flags)}, nil
	case Update{}.Name():
		return updatePayload(with)
	case Finish{}.Name():
		var f finishJSON
		if err := strict(with, &f); err != nil {
			return nil, err
		}
		if f.Flags > 0xFFFF || f.IDBlock != nil && len(f.IDBlock) != snp.IDBlockSize || f.IDAuth != nil && len(f.IDAuth) != snp.IDAuthSize {
			return nil, errors.New("ID block, ID auth or flags of a wrong size")
		}
		return &Finish{f.IDBlock, f.IDAuth, f.IDBlockEnabled, f.AuthorKey, f.VCEKDisabled, f.HostData, uint16(f.Flags)}, nil
	case Init{}.Name():
		out = &Init{}
	case Other{}.Name():
		out = &Other{}
	case CreateVCPU{}.Name():
		out = &CreateVCPU{}
	case CreateMemfd{}.Name():
		out = &CreateMemfd{}
	case SetSlot{}.Name():
		out = &SetSlot{}
	case SetAttributes{}.Name():
		out = &SetAttributes{}
	default:
		return nil, errors.New("it is no call of a record")
	}
	return out, strict(with, out)
}

func updatePayload(with json.RawMessage) (Payload, error) {
	var u updateJSON
	if err := strict(with, &u); err != nil {
		return nil, err
	}
	out := &Update{GPA: uint64(u.GPA), Length: uint64(u.Length), Flags: uint16(u.Flags), Contents: u.Contents}
	if out.Type.UnmarshalText([]byte(u.Type)) != nil {
		number, ok := strings.CutPrefix(u.Type, "type ")
		n, err := strconv.ParseUint(number, 10, 8)
		if !ok || err != nil {
			return nil, fmt.Errorf("page type %q", u.Type)
		}
		out.Type = snp.PageType(n)
	}
	if u.VMPLs != nil {
		out.VMPLs = *u.VMPLs
	}
	if u.Flags > 0xFFFF || uint64(len(u.Contents)) > out.Length/snp.PageSize {
		return nil, errors.New("more contents than pages, or flags that are not 16 bits")
	}
	return out, nil
}
