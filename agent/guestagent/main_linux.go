package guestagent

import (
	"flag"
	"fmt"
	"os"
)

// Main is the command snp-agent: the agent as init where IsInit says so, and
// otherwise one conversation in a running system, for root. It does not return.
func Main() {
	if IsInit() {
		RunAsInit()
	}
	if len(os.Args) > 1 && os.Args[1] == "derive-key" {
		if err := deriveKey(os.Args[2:]); err != nil {
			fmt.Fprintf(os.Stderr, "snp-agent: derive-key: %v\n", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	fs := flag.NewFlagSet("snp-agent", flag.ExitOnError)
	off := fs.Bool("poweroff", false, "power the machine off when the conversation has ended")
	fs.Usage = func() {
		fmt.Fprintln(fs.Output(), "snp-agent: fetch attestation reports for the host, run its commands and exchange files with it, until it says goodbye. `snp-agent derive-key` prints a derived key.\nIt talks over the virtio-serial port that `snplaunch run` adds to the guest.")
		fs.PrintDefaults()
	}
	fs.Parse(os.Args[1:])
	err := serve(nil)
	if err != nil {
		fmt.Fprintf(os.Stderr, "snp-agent: %v\n", err)
	}
	if *off {
		powerOff()
	}
	if err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}
