package images

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestSources(t *testing.T) {
	for _, c := range []struct {
		name  string
		files map[string]string
		os    string
		want  mirror
	}{
		{
			"one line, with options and a comment",
			map[string]string{"sources.list": "# deb http://old/debian bullseye main\n" +
				"deb-src http://src/debian bookworm main\n" +
				"deb [arch=amd64 signed-by=/k.gpg] http://m/debian bookworm main contrib # x\n" +
				"deb http://s/debian-security bookworm-security main\n"},
			"bookworm",
			mirror{[]string{"http://m/debian"}, "/k.gpg", "bookworm"},
		},
		{
			"deb822 as Debian's images have it, beside others",
			map[string]string{
				"sources.list.d/a-cloud.list":   "deb https://cloud/apt cloud-sdk-bookworm main\n",
				"sources.list.d/b-docker.list":  "deb https://docker/linux/debian bookworm stable\n",
				"sources.list.d/debian.sources": "Types: deb\n# http://snapshot\nURIs: http://m/debian http://n/debian\nSuites: bookworm bookworm-updates\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\nTypes: deb\nURIs: http://s/debian-security\nSuites: bookworm-security\nComponents: main\n",
			},
			"bookworm",
			mirror{[]string{"http://m/debian", "http://n/debian"}, "/usr/share/keyrings/debian-archive-keyring.gpg", "bookworm"},
		},
		{
			"a key within the file, a disabled stanza, another order",
			map[string]string{"sources.list.d/x.sources": "Enabled: no\nTypes: deb\nURIs: http://off/debian\nSuites: trixie\nComponents: main\n\n" +
				"components: main\nsuites: trixie\nuris: http://m/debian\ntypes: deb deb-src\nsigned-by:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n"},
			"trixie",
			mirror{[]string{"http://m/debian"}, "\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc", "trixie"},
		},
		{
			"two releases: the machine's own word decides",
			map[string]string{"sources.list": "deb http://m/debian sid main\ndeb http://m/debian trixie main\n"},
			"trixie",
			mirror{[]string{"http://m/debian"}, "", "trixie"},
		},
		{
			"a machine that calls itself otherwise than its sources do",
			map[string]string{"sources.list": "deb http://m/debian bookworm main\n"},
			"forky",
			mirror{[]string{"http://m/debian"}, "", "bookworm"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			etc := t.TempDir()
			for f, content := range c.files {
				write(t, filepath.Join(etc, f), []byte(content))
			}
			entries, err := readSources(etc)
			if err != nil {
				t.Fatal(err)
			}
			got, err := findMirror(entries, c.os)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(*got, c.want) {
				t.Errorf("got  %+v\nwant %+v", *got, c.want)
			}
			// What is written for apt is read as it was meant.
			again := parseDeb822(got.deb822([]string{"a", "b"}))
			if len(again) != 2 || !reflect.DeepEqual(again[0].uris, c.want.uris) || again[1].suites[0] != "b" || again[1].signedBy != c.want.signedBy {
				t.Errorf("written for apt: %+v", again)
			}
		})
	}
}

func TestNoDebianMirror(t *testing.T) {
	for _, content := range []string{"", "deb https://docker/linux/debian bookworm stable\n", "deb http://m/debian bookworm-backports main\n", "deb\n", "debug bookworm main x\n"} {
		if _, err := findMirror(parseOneLine([]byte(content)), "bookworm"); !errors.Is(err, errNoMirror) {
			t.Errorf("%q: error %v", content, err)
		}
	}
}

func TestSuites(t *testing.T) {
	for codename, want := range map[string]string{
		"bookworm": "bookworm bookworm-backports sid", "trixie": "trixie trixie-backports sid",
		"forky": "forky sid", "sid": "sid",
	} {
		if got := strings.Join((&mirror{codename: codename}).allSuites(), " "); got != want {
			t.Errorf("%s: %s, want %s", codename, got, want)
		}
	}
	for _, s := range (&mirror{codename: "bookworm"}).releaseSuites() {
		if s == "sid" {
			t.Error("packages would be installed from sid on a release")
		}
	}
}

func FuzzSources(f *testing.F) {
	f.Add("deb [signed-by=/k] http://m/debian bookworm main\n", "Types: deb\nURIs: x\nSuites: sid\nSigned-By:\n a\n")
	f.Fuzz(func(t *testing.T, list, deb822 string) {
		for _, e := range append(parseOneLine([]byte(list)), parseDeb822([]byte(deb822))...) {
			if len(e.uris) == 0 || len(e.suites) == 0 {
				t.Errorf("an entry without mirror or suite: %+v", e)
			}
		}
	})
}

// Output of apt-cache 2.6 (Debian 12).
func TestMadison(t *testing.T) {
	got := parseMadison(`      ovmf | 2026.08+ds-2 | http://m/debian sid/main amd64 Packages
      ovmf | 2022.11-6+deb12u2 | http://m/debian bookworm/main amd64 Packages
      edk2 | 2026.08+ds-2 | http://m/debian sid/main Sources
`)
	want := []offer{{"ovmf", "2026.08+ds-2", "sid"}, {"ovmf", "2022.11-6+deb12u2", "bookworm"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}

func TestDepends(t *testing.T) {
	got := parseDepends(" linux-image-6.12.95+deb12-cloud-amd64 (= 6.12.95-1~bpo12+1), kmod | x, initramfs-tools (>= 0.120)", "s")
	want := []offer{{"linux-image-6.12.95+deb12-cloud-amd64", "6.12.95-1~bpo12+1", "s"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}

// Setup where there is neither network nor mirror says in one sentence what is
// missing and how to provide it, and leaves nothing half done.
func TestSetupWithoutAMirror(t *testing.T) {
	dir := t.TempDir()
	qemu := filepath.Join(dir, "qemu")
	write(t, qemu, []byte("#!/bin/sh\necho 'QEMU emulator version 10.0.2'\n"))
	os.Chmod(qemu, 0o755)
	c := &cache{filepath.Join(dir, "cache")}
	for _, o := range []Options{{QEMU: qemu}, {}} {
		o.CacheDir = c.dir
		s := &setup{o: o, cache: c, root: dir}
		if o.QEMU == "" {
			t.Setenv("PATH", dir)
		}
		_, err := s.run(t.Context())
		if err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "missing") || !strings.Contains(err.Error(), "--") {
			t.Errorf("%+v: error %v", o, err)
		}
	}
	left, _ := filepath.Glob(filepath.Join(c.dir, "*"))
	if len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
