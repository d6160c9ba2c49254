package guestagent

import (
	"flag"
	"fmt"
	"os"

	"github.com/google/go-sev-guest/client"
)

// deriveKey is `snp-agent derive-key`: it asks the firmware for a key that only this
// guest, or guests like it, can have (MSG_KEY_REQ, 56860), and prints it in hexadecimal. It
// is there to see that it can be had and what it depends on; a key that matters is
// not printed.
func deriveKey(args []string) error {
	fs := flag.NewFlagSet("snp-agent derive-key", flag.ExitOnError)
	vmrk := fs.Bool("vmrk", false, "derive from the VMRK instead of the VCEK")
	var mix client.GuestFieldSelect
	fs.BoolVar(&mix.GuestPolicy, "policy", false, "mix the guest policy in")
	fs.BoolVar(&mix.ImageID, "image-id", false, "mix IMAGE_ID in")
	fs.BoolVar(&mix.FamilyID, "family-id", false, "mix FAMILY_ID in")
	fs.BoolVar(&mix.Measurement, "measurement", false, "mix the launch measurement in")
	mixSVN := fs.Bool("svn", false, "mix the guest's SVN in, as --svn-value has it")
	svn := fs.Uint("svn-value", 0, "at most the guest's SVN")
	fs.Parse(args)
	mix.GuestSVN = *mixSVN
	d, err := openClient()
	if err != nil {
		return err
	}
	defer d.Close()
	key, err := client.GetDerivedKeyAcknowledgingItsLimitations(d, &client.SnpDerivedKeyReq{
		UseVCEK: !*vmrk, GuestFieldSelect: mix, GuestSVN: uint32(*svn),
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(os.Stdout, "%x\n", key.Data)
	return err
}
