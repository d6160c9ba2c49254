package launcher

import (
	"encoding/xml"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/guest"
)

func TestDomain(t *testing.T) {
	for i, want := range map[int]string{0: "vda", 25: "vdz", 26: "vdaa", 51: "vdaz", 52: "vdba", 702: "vdaaa"} {
		if got := diskName(i); got != want {
			t.Errorf("disk %d is %s, want %s", i, got, want)
		}
	}
	g := deviceGuest()
	g.VCEKDisabled, g.GuestVisibleWorkarounds = true, []byte{1}
	var d domain
	d.addDevices(g)
	d.secure(g, &signedBlock{block: []byte("block"), auth: []byte("auth"), authorKeyEnabled: true})
	text, err := xml.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`<launchSecurity type="sev-snp" kernelHashes="yes" authorKey="yes" vcek="no"><policy>0x00030000</policy><guestVisibleWorkarounds>AQAAAAAAAAAAAAAAAAAAAA==</guestVisibleWorkarounds><idBlock>YmxvY2s=</idBlock><idAuth>YXV0aA==</idAuth></launchSecurity>`,
		`<cid auto="no" address="42"></cid>`, `<target dev="vdb" bus="virtio"></target><readonly></readonly>`, `type="qcow2" iommu="on"`, `file="/d/a,&#34;b"`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	g.VsockCID = guest.VsockAuto
	d = domain{}
	if d.addDevices(g); d.Devices.Vsock.CID.Auto != "yes" || d.Devices.Vsock.CID.Address != "" {
		t.Errorf("%+v", d.Devices.Vsock)
	}
}

func TestProperties(t *testing.T) {
	text, id, ok := properties("virtio-blk-pci,id=a,path=/x,,y,share=on", "driver")
	if want := "  driver = \"virtio-blk-pci\"\n  path = \"/x,y\"\n  share = \"on\"\n"; !ok || id != "a" || text != want {
		t.Errorf("%q, %q, %v", text, id, ok)
	}
	for _, value := range []string{`{"driver":"x"}`, "x,flag", `x,a="`, "x,a=", "user,hostfwd=a,hostfwd=b", "x,a=" + strings.Repeat("y", maxConfigValue+1)} {
		if text, _, ok := properties(value, "driver"); ok {
			t.Errorf("%.40q is written as %q", value, text)
		}
	}
}
