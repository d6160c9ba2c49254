// Command goclient asks for reports and keys with go-sev-guest's client, as any
// program in a guest would, and writes what it got as JSON: an object of step
// names with data or an error.
package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/google/go-sev-guest/client"
)

// step is what came of one request.
type step struct {
	Data  []byte `json:"data,omitempty"`
	Error string `json:"error,omitempty"`
}

func main() {
	in := flag.String("nonce", "", "REPORT_DATA, 64 bytes in `HEX`")
	flag.Parse()
	if err := ask(*in); err != nil {
		fmt.Fprintln(os.Stderr, "goclient:", err)
		os.Exit(1)
	}
}

func ask(in string) error {
	raw, err := hex.DecodeString(in)
	if err != nil || len(raw) != 64 {
		return errors.New("the nonce is not 64 bytes in hexadecimal")
	}
	nonce := [64]byte(raw)
	out := map[string]step{}
	put := func(name string, data []byte, err error) {
		s := step{Data: data}
		if err != nil {
			s.Error = err.Error()
		}
		out[name] = s
	}
	d, err := client.OpenDevice()
	if err != nil {
		return err
	}
	defer d.Close()
	for _, name := range []string{"key", "key again"} {
		k, err := client.GetDerivedKeyAcknowledgingItsLimitations(d, &client.SnpDerivedKeyReq{
			UseVCEK: true, GuestFieldSelect: client.GuestFieldSelect{Measurement: true},
		})
		if err != nil {
			put(name, nil, err)
			continue
		}
		put(name, k.Data[:], nil)
	}
	report, err := client.GetRawReport(d, nonce)
	put("device", report, err)
	report, certs, err := client.GetRawExtendedReport(d, nonce)
	put("device, extended", append(report, certs...), err)
	for name, p := range map[string]interface {
		client.QuoteProvider
		client.LeveledQuoteProvider
	}{"ioctl": &client.LinuxIoctlQuoteProvider{}, "configfs": &client.LinuxConfigFsQuoteProvider{}} {
		if !p.IsSupported() {
			put(name, nil, errors.New("not supported"))
			continue
		}
		quote, err := p.GetRawQuote(nonce)
		put(name, quote, err)
		quote, err = p.GetRawQuoteAtLevel(nonce, 2)
		put(name+", VMPL 2", quote, err)
	}
	p, err := client.GetQuoteProvider()
	put("provider", fmt.Appendf(nil, "%T", p), err)
	return json.NewEncoder(os.Stdout).Encode(out)
}
