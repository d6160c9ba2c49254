package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/snplaunch/snplaunch/idblock"
	"github.com/snplaunch/snplaunch/snp"
)

// typed is what a command line came to.
type typed struct {
	code           int
	stdout, stderr string
}

func typeIn(args ...string) typed {
	stdout, stderr, code := program(args...)
	return typed{code, stdout, stderr}
}

// good runs a command line that has to succeed, and gives its answer.
func good(t *testing.T, args ...string) string {
	t.Helper()
	r := typeIn(args...)
	if r.code != exitOK {
		t.Fatalf("%q: exit code %d\n%s", args, r.code, r.stderr)
	}
	return r.stdout
}

// bad runs a command line that has to fail with this code and this text.
func bad(t *testing.T, code int, text string, args ...string) {
	t.Helper()
	r := typeIn(args...)
	if r.code != code || !strings.Contains(r.stderr, text) {
		t.Errorf("%q\n got %d, %s\nwant %d, %s", args, r.code, r.stderr, code, text)
	}
	if r.stdout != "" && code == exitUsage {
		t.Errorf("%q: has an answer: %s", args, r.stdout)
	}
	if strings.Count(strings.TrimSpace(r.stderr), "\n") > 0 {
		t.Errorf("%q: more than one line:\n%s", args, r.stderr)
	}
}

func inFolder(t *testing.T, files map[string]string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for name, data := range files {
		if err := os.WriteFile(name, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

const someDigest = "076f052d08bda7a700aa2a608c5caa6b00ebad297b6d68a85a45b1e669a558b67e1b91d284a301fe63c4fa0750467eed"

// TestIDBlockForms: what create prints in each form, verify and show take.
func TestIDBlockForms(t *testing.T) {
	inFolder(t, map[string]string{"password": "secret \r\nsecond line\n"})
	t.Setenv("SNPLAUNCH_TEST_PASSWORD", "other")
	idDigest := strings.TrimSpace(good(t, "idblock", "keygen", "id.pem", "--public-key", "id.pub"))
	authorDigest := strings.TrimSpace(good(t, "idblock", "keygen", "author.pem"))
	good(t, "idblock", "keygen", "locked.pem", "--password-file", "password")
	good(t, "idblock", "keygen", "env.pem", "--password-env", "SNPLAUNCH_TEST_PASSWORD")
	if got := good(t, "idblock", "key-digest", "id.pub"); got != idDigest+"\n" {
		t.Errorf("key-digest %q, keygen said %q", got, idDigest)
	}
	both := []string{"idblock", "create", "--measurement", someDigest, "--id-key", "id.pem", "--author-key", "author.pem"}
	want := good(t, both...)
	if !regexp.MustCompile(`^id-block=[A-Za-z0-9+/]{128},id-auth=[A-Za-z0-9+/=]+,author-key-enabled=on\n$`).MatchString(want) {
		t.Errorf("create prints %.200q", want)
	}
	if again := good(t, both...); again != want {
		t.Error("the same command line gave something else")
	}
	// snp-create-id-block's spelling, its digest in base64, and snpguest's 0x.
	raw := must(snp.ParseLaunchDigest(someDigest))(t)
	for _, m := range []string{base64.StdEncoding.EncodeToString(raw[:]), "0x" + someDigest, strings.ToUpper(someDigest)} {
		if again := good(t, "idblock", "create", "--measurement", m, "--idkey", "id.pem", "--authorkey", "author.pem"); again != want {
			t.Errorf("--measurement %s gives something else", m)
		}
	}
	for _, form := range forms {
		if err := os.WriteFile(form, []byte(good(t, append(both, "--output-format", form)...)), 0o600); err != nil {
			t.Fatal(err)
		}
		out := good(t, "idblock", "verify", form, "--measurement", someDigest, "--policy", "0x30000")
		if strings.Count(out, "ok ") != 8 || !strings.Contains(out, idDigest) || !strings.Contains(out, authorDigest) {
			t.Errorf("%s: verify says\n%s", form, out)
		}
		if show := good(t, "idblock", "show", form); !strings.Contains(show, "signatures: good") || !strings.Contains(show, "ID_KEY_DIGEST: "+idDigest) {
			t.Errorf("%s: show says\n%s", form, show)
		}
	}
	for _, args := range [][]string{{"--raw"}, {}} {
		if out := good(t, append(append(both, "--out-block", "b", "--out-auth", "a"), args...)...); out != "" {
			t.Errorf("with files, create prints %q", out)
		}
		good(t, "idblock", "verify", "b", "a")
		good(t, "idblock", "verify", "a", "b") // each says what it is
	}
	st, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range st {
		if strings.HasPrefix(f.Name(), ".") {
			t.Errorf("%s was left behind", f.Name())
		}
	}

	// What fails is named, all of it, and the first makes the exit code.
	other := "00" + someDigest[2:]
	r := typeIn("idblock", "verify", "qemu", "--measurement", other, "--policy", "0xb0000")
	if r.code != exitNo || strings.Count(r.stdout, "FAILS") != 2 || !strings.Contains(r.stderr, "BAD_MEASUREMENT (0x0b)") {
		t.Errorf("verify with another launch: %+v", r)
	}
	var asJSON struct {
		Holds  bool
		Checks []struct{ Field, Outcome, Status string }
	}
	r = typeIn("idblock", "verify", "json", "--measurement", other, "--json")
	if err := json.Unmarshal([]byte(r.stdout), &asJSON); err != nil || r.code != exitNo {
		t.Fatalf("%v, %+v", err, r)
	}
	if asJSON.Holds || len(asJSON.Checks) != 8 || asJSON.Checks[0].Field != "LD" || asJSON.Checks[0].Outcome != "fails" || asJSON.Checks[0].Status != "BAD_MEASUREMENT" {
		t.Errorf("JSON %+v", asJSON)
	}
	if out := good(t, "idblock", "verify", "qemu", "--author-key-enabled", "off"); strings.Count(out, "author-key-enabled is off") != 3 {
		t.Errorf("author key off:\n%s", out)
	}

	// Fields of the block, from the description or from flags.
	out := good(t, "idblock", "create", "--measurement", someDigest, "--id-key", "env.pem", "--password-env", "SNPLAUNCH_TEST_PASSWORD", "--author-key", "locked.pem", "--author-password-file", "password", "--policy", "0x1f0102", "--guest-svn", "9",
		"--family-id", strings.Repeat("0f", 16), "--image-id", strings.Repeat("a0", 16), "--kernel-hashes", "on", "--cbitpos", "47", "--output-format", "object")
	for _, w := range []string{"-object sev-snp-guest,id=sev0,cbitpos=47,reduced-phys-bits=1,policy=0x1f0102,kernel-hashes=on,id-block="} {
		if !strings.HasPrefix(out, w) {
			t.Errorf("object %.200s", out)
		}
	}
	if !strings.HasSuffix(out, ",author-key-enabled=on\n") {
		t.Error("no author-key-enabled")
	}
	if alone := good(t, "idblock", "create", "--measurement", someDigest, "--id-key", "id.pem", "--output-format", "object"); strings.Contains(alone, "author-key") || strings.Contains(alone, "kernel-hashes") {
		t.Error("an author key or kernel hashes where there are none")
	}
	if err := os.WriteFile("object", []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	show := good(t, "idblock", "show", "object")
	for _, w := range []string{"GUEST_SVN: 9\n", "FAMILY_ID: " + strings.Repeat("0f", 16), "IMAGE_ID: " + strings.Repeat("a0", 16), "POLICY: 0x1f0102 (ABI 1.2"} {
		if !strings.Contains(show, w) {
			t.Errorf("no %q in\n%s", w, show)
		}
	}
}

// TestIDBlockElsewhere goes the way of a key that never leaves an HSM; openssl
// stands for it where there is one, and else crypto/ecdsa.
func TestIDBlockElsewhere(t *testing.T) {
	inFolder(t, nil)
	good(t, "idblock", "keygen", "id.pem", "--public-key", "id.pub")
	good(t, "idblock", "keygen", "author.pem", "--public-key", "author.pub")
	out := good(t, "idblock", "prepare", "--measurement", someDigest, "--guest-svn", "3", "--id-key", "id.pub", "--out-dir", "tbs")
	if strings.Count(out, "sha384") != 2 {
		t.Errorf("prepare says\n%s", out)
	}
	sign := func(key, file, sig string) {
		t.Helper()
		if openssl, err := exec.LookPath("openssl"); err == nil {
			if out, err := exec.Command(openssl, "dgst", "-sha384", "-sign", key, "-out", sig, file).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			return
		}
		digest := must(os.ReadFile(file + ".sha384"))(t)
		der, err := must(idblock.LoadKey(key))(t).Sign(nil, digest, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(sig, der, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sign("id.pem", "tbs/id-block.bin", "id.sig")
	sign("author.pem", "tbs/id-key.bin", "author.sig")
	args := []string{"idblock", "assemble", "--id-block", "tbs/id-block.bin", "--id-key", "id.pub", "--id-signature", "id.sig", "--author-key", "author.pub", "--author-signature", "author.sig"}
	if err := os.WriteFile("pair", []byte(good(t, args...)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := good(t, "idblock", "verify", "pair", "--measurement", someDigest); strings.Count(out, "ok ") != 7 {
		t.Errorf("verify says\n%s", out)
	}
	// The forms that other signers give: r and s in binary and in text.
	sig := must(idblock.ParseSignature(must(os.ReadFile("id.sig"))(t)))(t)
	r, s, err := idblock.DecodeSignature(sig)
	if err != nil {
		t.Fatal(err)
	}
	p1363 := append(r.FillBytes(make([]byte, 48)), s.FillBytes(make([]byte, 48))...)
	for _, form := range []string{string(p1363), base64.StdEncoding.EncodeToString(p1363) + "\n", r.Text(16) + "," + s.Text(16)} {
		if err := os.WriteFile("id.sig", []byte(form), 0o600); err != nil {
			t.Fatal(err)
		}
		good(t, args...)
	}

	// The usual mistakes are named, and nothing is written.
	without := []string{"idblock", "assemble", "--id-block", "tbs/id-block.bin", "--id-key", "id.pub", "--out-block", "b", "--out-auth", "a", "--id-signature"}
	bad(t, exitNo, "BAD_SIGNATURE", append(without, "author.sig")...)
	sign("id.pem", "tbs/id-key.bin", "wrong.sig")
	bad(t, exitNo, "is the ID key's over the ID key", append(without, "wrong.sig")...)
	swapped := []string{"idblock", "assemble", "--id-block", "tbs/id-block.bin", "--id-key", "id.pub", "--id-signature", "author.sig", "--author-key", "author.pub", "--author-signature", "id.sig"}
	bad(t, exitNo, "what was given as the ID key's signature is the author key's over the ID key", swapped...)
	key := must(idblock.LoadKey("id.pem"))(t)
	block := must(idblock.ReadBlock("tbs/id-block.bin"))(t)
	block.GuestSVN++
	raw := block.Bytes()
	if err := os.WriteFile("other-block", raw[:], 0o600); err != nil {
		t.Fatal(err)
	}
	bad(t, exitNo, "BAD_SIGNATURE", "idblock", "assemble", "--id-block", "other-block", "--id-key", "id.pub", "--id-signature", "id.sig")
	auth := must(idblock.Sign(block, key, nil))(t)
	if err := os.WriteFile("firmware.sig", auth.IDBlockSig[:], 0o600); err != nil {
		t.Fatal(err)
	}
	bad(t, exitNo, "firmware.sig: 512 bytes are no signature", append(without, "firmware.sig")...)
	bad(t, exitUsage, "--id-signature is missing", "idblock", "assemble", "--id-block", "b", "--id-key", "k")
	bad(t, exitUsage, "or neither", "idblock", "assemble", "--id-block", "b", "--id-key", "k", "--id-signature", "s", "--author-key", "x")
	bad(t, exitUsage, "name the ID key's public key", "idblock", "prepare", "--measurement", someDigest, "--author-key", "author.pub")
	for _, f := range []string{"a", "b"} {
		if _, err := os.Stat(f); err == nil {
			t.Errorf("%s was written", f)
		}
	}
	// What is printed without a folder is the same.
	var printed map[string]json.RawMessage
	if err := json.Unmarshal([]byte(good(t, "idblock", "prepare", "--measurement", someDigest, "--guest-svn", "3", "--id-key", "id.pem", "--json")), &printed); err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string]string{"id_block": "tbs/id-block.bin", "id_key": "tbs/id-key.bin"} {
		var tbs struct {
			Data []byte `json:"to_be_signed"`
		}
		if err := json.Unmarshal(printed[name], &tbs); err != nil || !bytes.Equal(tbs.Data, must(os.ReadFile(file))(t)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestIDBlockMistakes(t *testing.T) {
	inFolder(t, map[string]string{"empty": "", "text": "hello", "password": "x", "nothing": "\n"})
	good(t, "idblock", "keygen", "id.pem", "--public-key", "id.pub")
	good(t, "idblock", "keygen", "locked.pem", "--password-file", "password")
	m := []string{"idblock", "create", "--measurement", someDigest}
	with := func(more ...string) []string { return append(append([]string{}, m...), more...) }
	bad(t, exitUsage, "say what: create, prepare, assemble, verify, show, key-digest, keygen", "idblock")
	bad(t, exitUsage, `"sign" is none of`, "idblock", "sign")
	bad(t, exitUsage, "name the key", m...)
	bad(t, exitNo, "id.pub: it is a public key", with("--id-key", "id.pub")...)
	bad(t, exitNo, "empty: the file is empty", with("--id-key", "empty")...)
	bad(t, exitNo, "text: it is neither PEM nor DER", with("--id-key", "text")...)
	bad(t, exitNo, "none.pem", with("--id-key", "none.pem")...)
	bad(t, exitNo, "locked.pem: the password is wrong", with("--id-key", "locked.pem", "--password-file", "text")...)
	bad(t, exitNo, "the password given is empty", with("--id-key", "locked.pem", "--password-file", "nothing")...)
	bad(t, exitUsage, "the environment has no SNPLAUNCH_NO_SUCH", with("--id-key", "locked.pem", "--password-env", "SNPLAUNCH_NO_SUCH")...)
	bad(t, exitUsage, "give one of them", with("--id-key", "id.pem", "--password-env", "A", "--password-file", "B")...)
	bad(t, exitNo, "reading the password", with("--id-key", "locked.pem", "--password-file", "no-such-file")...)
	bad(t, exitUsage, "--output-format \"yaml\" is not known (use one of qemu, object", with("--id-key", "id.pem", "--output-format", "yaml")...)
	bad(t, exitUsage, "or neither", with("--id-key", "id.pem", "--out-block", "b")...)
	bad(t, exitUsage, "--raw needs", with("--id-key", "id.pem", "--raw")...)
	bad(t, exitUsage, "did you mean libvirt?", with("--id-key", "id.pem", "--output-format", "libvrt")...)
	bad(t, exitUsage, "ID blocks are over launch digests of SEV-SNP guests", with("--id-key", "id.pem", "--mode", "seves")...)
	bad(t, exitUsage, "base64 of hexadecimal digits", "idblock", "create", "--id-key", "id.pem", "--measurement", base64.StdEncoding.EncodeToString([]byte(someDigest)))
	bad(t, exitNo, "never overwritten", "idblock", "keygen", "id.pem")
	bad(t, exitNo, "never overwritten", "idblock", "keygen", "id.pem", "--password-file", "password")
	bad(t, exitUsage, "is empty, which protects nothing", "idblock", "keygen", "new.pem", "--password-file", "nothing")
	bad(t, exitUsage, "name the file", "idblock", "keygen")
	bad(t, exitUsage, "name at least one", "idblock", "key-digest")
	bad(t, exitNo, "locked.pem: the password is wrong", "idblock", "key-digest", "id.pub", "locked.pem", "--password-file", "text")
	bad(t, exitUsage, "is not known", "idblock", "key-digest", "id.pub", "--output-format", "x")
	bad(t, exitUsage, "name the file", "idblock", "verify")
	bad(t, exitNo, "text: got 5 bytes that are not base64", "idblock", "show", "text")
	good(t, with("--id-key", "id.pem", "--out-block", "b", "--out-auth", "a")...)
	bad(t, exitNo, "no ID auth", "idblock", "verify", "b")
	bad(t, exitNo, "no ID block", "idblock", "verify", "a")
	bad(t, exitUsage, "--author-key-enabled", "idblock", "verify", "a", "b", "--author-key-enabled", "perhaps")
	if _, err := os.Stat("new.pem"); err == nil {
		t.Error("new.pem was written")
	}
	if st, err := os.Stat("locked.pem"); err != nil || st.Mode() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
	if digests := good(t, "idblock", "key-digest", "id.pub", "id.pem", "--output-format", "base64"); strings.Count(digests, "\n") != 2 || !strings.HasSuffix(digests, "  id.pem\n") {
		t.Errorf("two key digests: %q", digests)
	}
	var list []struct{ File, KeyDigest string }
	if err := json.Unmarshal([]byte(good(t, "idblock", "key-digest", filepath.Join(".", "id.pub"), "--json")), &list); err != nil || len(list) != 1 || list[0].File != "id.pub" {
		t.Errorf("%v, %v", list, err)
	}
}

// must gives a value, or ends the test.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
