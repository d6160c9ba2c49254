package ovmf

import (
	"strings"
	"testing"
)

func TestNameOf(t *testing.T) {
	for _, g := range []GUID{GUIDTableFooter, GUIDSEVESReset, GUIDSecretArea, GUIDHashTableRV, GUIDSEVMetadata, GUIDTDXMetadata, GUIDSVSMInfo} {
		if name, kind, ok := NameOf(g); !ok || name == "" || kind != KindTable {
			t.Errorf("%s: %q, %q, %v", g, name, kind, ok)
		}
	}
	g, ok := ParseGUID("B5AE312C-BC8A-43B1-9C62-EBB826DD5D07")
	if name, kind, named := NameOf(g); !ok || !named || name != "Grub" || kind != KindFile {
		t.Errorf("%s: %q, %q, %v", g, name, kind, named)
	}
	if _, _, ok := NameOf(GUID{1}); ok {
		t.Error("a GUID that nobody uses has a name")
	}
	for g := range guidNames() {
		if again, ok := ParseGUID(strings.ToUpper(g.String())); !ok || again != g {
			t.Errorf("%s is read as %s, %v", g, again, ok)
		}
	}
	for _, s := range []string{"", "b5ae312c", "b5ae312c-bc8a-43b1-9c62-ebb826dd5d0", "b5ae312c-bc8a-43b1-9c62-ebb826dd5d0g", "b5ae312-cbc8a-43b1-9c62-ebb826dd5d07", "-5ae312c-bc8a-43b1-9c62-ebb826dd5d07"} {
		if _, ok := ParseGUID(s); ok {
			t.Errorf("%q is read", s)
		}
	}
}
