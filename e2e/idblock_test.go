package e2e_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/snplaunch/snplaunch/idblock"
	"github.com/snplaunch/snplaunch/internal/lacks"
	"github.com/snplaunch/snplaunch/sim/psp"
	"github.com/snplaunch/snplaunch/snp"
)

// finisher is a guest of the software firmware at which ID blocks are tried.
type finisher struct {
	t      testing.TB
	guest  *psp.Guest
	policy snp.GuestPolicy
}

// newFinisher launches a guest with a page and a policy of its own.
func newFinisher(t testing.TB, p *psp.Platform, policy snp.GuestPolicy, asid uint32, fill byte) *finisher {
	t.Helper()
	page := make([]byte, snp.PageSize)
	page[0] = fill
	g := p.CreateContext()
	for _, st := range []snp.Status{g.LaunchStart(policy, [16]byte{}), g.Activate(asid), g.LaunchUpdate(snp.PageNormal, 0x1000, page)} {
		if st != snp.StatusSuccess {
			t.Fatalf("launching: %s", st)
		}
	}
	return &finisher{t, g, policy}
}

// try gives the firmware's answer, and the report where it took the ID block.
// Afterwards the guest is in launch again.
func (f *finisher) try(block, auth []byte, author bool) (snp.Status, *snp.Report) {
	f.t.Helper()
	defer f.guest.Checkpoint()()
	st := f.guest.LaunchFinish(psp.FinishParams{IDBlock: block, IDAuth: auth, IDBlockEnabled: true, AuthorKeyEnabled: author})
	if st != snp.StatusSuccess {
		return st, nil
	}
	_, rsp, rst := f.guest.GuestRequest(psp.MsgReportRequest, 1, make([]byte, 96))
	if rst != snp.StatusSuccess {
		f.t.Fatalf("report request: %s", rst)
	}
	r, err := snp.ParseReport(rsp[0x20:])
	if err != nil {
		f.t.Fatal(err)
	}
	return st, r
}

// same wants idblock to judge as the firmware does.
func (f *finisher) same(what string, block, auth []byte, author bool) snp.Status {
	f.t.Helper()
	b, err := snp.ParseIDBlock(block)
	if err != nil {
		f.t.Fatal(err)
	}
	a, err := snp.ParseIDAuth(auth)
	if err != nil {
		f.t.Fatal(err)
	}
	judged := snp.StatusSuccess
	if err := idblock.VerifyLaunch(b, a, author, f.guest.LaunchDigest(), f.policy); err != nil {
		judged, _ = idblock.StatusOf(err)
	}
	st, _ := f.try(block, auth, author)
	if st != judged {
		f.t.Errorf("%s: the firmware says %s, idblock %s", what, st, judged)
	}
	return st
}

func randomKey(t testing.TB, rng *rand.Rand) *ecdsa.PrivateKey {
	t.Helper()
	d := make([]byte, 48)
	for i := range d {
		d[i] = byte(rng.Uint32())
	}
	d[0] &= 0x7F // below the order
	k, err := ecdsa.ParseRawPrivateKey(elliptic.P384(), d)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// What idblock signs, the software firmware takes, which checks signatures
// with code of its own: for random keys and fields, with and without an author
// key, and among them the signatures whose r or s begin with a zero byte or have one
// within, at which a peer cut them off. Changed in any byte, the two refuse it with the same
// status.
func TestIDBlocksAsTheFirmwareTakesThem(t *testing.T) {
	ca, err := psp.LoadOrCreateCA(dataFolder, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := psp.New(psp.DefaultConfig(), ca)
	if err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	guests := []*finisher{
		newFinisher(t, p, snp.PolicyDefault, 1, 1),
		newFinisher(t, p, snp.PolicyDefault|snp.PolicyDebug|0x0101, 2, 2),
	}
	shapes := map[string]int{} // of r and s
	wanted := []string{"r begins with 00", "s begins with 00", "r has 00 within", "s has 00 within"}
	complete := func() bool {
		for _, w := range wanted {
			if shapes[w] == 0 {
				return false
			}
		}
		return true
	}
	const rounds, limit = 40, 20_000
	for n := 0; n < rounds || !complete(); n++ {
		if n == limit {
			t.Fatalf("of %d signatures none had: want %q, got %v", n, wanted, shapes)
		}
		g := guests[n%len(guests)]
		id := randomKey(t, rng)
		var author *ecdsa.PrivateKey
		if n%3 > 0 {
			author = randomKey(t, rng)
		}
		block := &snp.IDBlock{LD: g.guest.LaunchDigest(), Version: 1, GuestSVN: rng.Uint32(), Policy: g.policy}
		for i := range block.FamilyID {
			block.FamilyID[i], block.ImageID[i] = byte(rng.Uint32()), byte(rng.Uint32())
		}
		auth, err := idblock.Sign(block, id, author)
		if err != nil {
			t.Fatal(err)
		}
		fresh := n < rounds
		for i, name := range []string{"r", "s"} {
			number := auth.IDBlockSig[72*i : 72*i+48] // little-endian: the last byte is the first
			if number[47] == 0 {
				fresh = fresh || shapes[name+" begins with 00"] == 0
				shapes[name+" begins with 00"]++
			}
			for _, c := range number[:47] {
				if c == 0 {
					fresh = fresh || shapes[name+" has 00 within"] == 0
					shapes[name+" has 00 within"]++
					break
				}
			}
		}
		if !fresh {
			continue
		}
		raw := block.Bytes()
		st, r := g.try(raw[:], auth.Bytes(), author != nil)
		if st != snp.StatusSuccess {
			t.Fatalf("signature %d: %s\nID block %x\nID auth %x", n, st, raw, auth.Bytes()[:0xC84])
		}
		if r.FamilyID != block.FamilyID || r.ImageID != block.ImageID || r.GuestSVN != block.GuestSVN || r.IDKeyDigest != idblock.KeyDigest(&id.PublicKey) {
			t.Errorf("signature %d: the report says %+v", n, r)
		}
		if author != nil && r.AuthorKeyDigest != idblock.KeyDigest(&author.PublicKey) || author == nil && r.AuthorKeyDigest != (snp.KeyDigest{}) {
			t.Errorf("signature %d: the report's AUTHOR_KEY_DIGEST is %s", n, r.AuthorKeyDigest)
		}
		// An author key that is there, and one that is not, enabled or not.
		for _, on := range []bool{true, false} {
			g.same(fmt.Sprintf("signature %d, author key %v", n, on), raw[:], auth.Bytes(), on)
		}
	}
	t.Logf("signatures by what is in them: %v", shapes)

	g := guests[0]
	block := &snp.IDBlock{LD: g.guest.LaunchDigest(), Version: 1, Policy: g.policy}
	auth, err := idblock.Sign(block, randomKey(t, rng), randomKey(t, rng))
	if err != nil {
		t.Fatal(err)
	}
	raw := block.Bytes()
	// Block, algorithms, curves, points and signatures count, each byte of
	// them, and with the author key also the tail of the ID key, which it
	// signed. What no check covers is tried here and there.
	type span struct {
		from, to, step int
		counts         bool
	}
	auths := []span{
		{0, 8, 1, true}, {0x40, 0x40 + 144, 1, true}, {0x240, 0x240 + 148, 1, true}, {0x680, 0x680 + 144, 1, true}, {0x880, 0x880 + 148, 1, true},
		{0x240 + 148, 0x644, 17, true}, {8, 0x40, 11, false}, {0x40 + 144, 0x240, 37, false}, {0x644, 0x680, 11, false}, {0x680 + 144, 0x880, 37, false}, {0x880 + 148, 0x1000, 97, false},
	}
	refused, tried := 0, 0
	change := func(what string, b, a, in []byte, at int, counts bool) {
		in[at] ^= 1 << rng.UintN(8)
		tried++
		st := g.same(fmt.Sprintf("%s changed at %#x", what, at), b, a, true)
		if st != snp.StatusSuccess {
			refused++
		}
		if counts != (st != snp.StatusSuccess) {
			t.Errorf("%s changed at %#x: %s", what, at, st)
		}
		if at%4 == 0 {
			g.same(fmt.Sprintf("%s changed at %#x, author key off", what, at), b, a, false)
		}
	}
	for at := range raw {
		b := raw
		change("ID block", b[:], auth.Bytes(), b[:], at, true)
	}
	for _, s := range auths {
		for at := s.from; at < s.to; at += s.step {
			a := auth.Bytes()
			change("ID auth", raw[:], a, a, at, s.counts)
		}
	}
	t.Logf("%d of %d changes refused by both alike", refused, tried)
}

// A password is asked for on the terminal, is not echoed, and ^C leaves the
// terminal as it was.
func TestPasswordPrompt(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "id.pem")
	k, err := idblock.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	if err := idblock.WriteEncryptedKey(key, k, []byte("open sesame")); err != nil {
		t.Fatal(err)
	}
	digest := strings.Repeat("ab", 48)
	create := []string{"idblock", "create", "--measurement", digest, "--id-key", key}

	out, shown, err := onTerminal(t, "open sesame\n", create...)
	if err != nil {
		t.Errorf("with the right password: %v\n%s", err, shown)
	}
	if !strings.HasPrefix(out, "id-block=") || !strings.Contains(shown, "Password of "+key) || strings.Contains(shown, "sesame") {
		t.Errorf("answer %.40q, the terminal shows %q", out, shown)
	}
	if out, shown, err = onTerminal(t, "open barley\n", create...); err == nil || out != "" || !strings.Contains(shown, "the password is wrong") {
		t.Errorf("with a wrong password: %v, %q, %q", err, out, shown)
	}
	var exit *exec.ExitError
	if out, shown, err = onTerminal(t, "\x03", create...); !errors.As(err, &exit) || exit.ExitCode() != 1 || out != "" || !strings.Contains(shown, "interrupted") {
		t.Errorf("at ^C: %v, %q, %q", err, out, shown)
	}
	made := filepath.Join(dir, "new.pem")
	if _, shown, err = onTerminal(t, "one\nanother\n", "idblock", "keygen", made, "--encrypt"); err == nil || !strings.Contains(shown, "differ") {
		t.Errorf("two different passwords: %v, %q", err, shown)
	}
	if _, err := os.Stat(made); err == nil {
		t.Error("a key was written")
	}
	if _, shown, err = onTerminal(t, "one\none\n", "idblock", "keygen", made, "--encrypt"); err != nil {
		t.Errorf("twice the same password: %v, %q", err, shown)
	}
	if _, err := idblock.LoadKeyWith(made, func() ([]byte, error) { return []byte("one"), nil }); err != nil {
		t.Error(err)
	}
}

// question is how the program asks for a password.
var question = regexp.MustCompile(`([Pp]assword of [^ ]+|The same again): `)

// onTerminal runs the program with a terminal of its own as its stdin, stderr
// and controlling terminal. It types each line when it is asked for one, and
// wants the terminal to echo again at the end.
func onTerminal(t *testing.T, input string, args ...string) (stdout, shown string, err error) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	var unlock int32
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, master.Fd(), unix.TIOCSPTLCK, uintptr(unsafe.Pointer(&unlock))); errno != 0 {
		t.Fatal(errno)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	cmd, _ := command(t, "idblock-terminal", args...)
	var answer strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, &answer, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	seen := make(chan string)
	go func() {
		defer close(seen)
		b := make([]byte, 4096)
		for {
			n, err := master.Read(b)
			if n > 0 {
				seen <- string(b[:n])
			}
			if err != nil {
				return
			}
		}
	}()
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	lines := strings.SplitAfter(input, "\n")
	echoes := func() bool {
		state, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
		return err == nil && state.Lflag&unix.ECHO != 0
	}
	answered := 0
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for {
		select {
		case s := <-seen:
			shown += s
		case <-poll.C:
			// A question stands before echo goes off for its answer.
			questions := len(question.FindAllString(shown, -1))
			if questions > answered && answered < len(lines) && !echoes() {
				if _, err := master.WriteString(lines[answered]); err != nil {
					t.Fatal(err)
				}
				answered++
			}
		case err := <-done:
			if !echoes() {
				t.Errorf("%q leaves the terminal without echo", args)
			}
			for {
				select {
				case s := <-seen:
					shown += s
					continue
				case <-time.After(100 * time.Millisecond):
				}
				return answer.String(), shown, err
			}
		}
	}
}

// The commands of docs/idblock.md work as they stand there, one after the
// other, and the last of them has verified what openssl signed.
func TestIDBlockGuide(t *testing.T) {
	p := parts(t)
	if _, err := exec.LookPath("openssl"); err != nil {
		lacks.End(t, "the guide's HSM is openssl, which is not installed")
	}
	guide, err := os.ReadFile("../docs/idblock.md")
	if err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	blocks := regexp.MustCompile("(?s)\n```sh\n(.*?)```\n").FindAllStringSubmatch(string(guide), -1)
	if len(blocks) != 2 {
		t.Fatalf("the guide has %d blocks of commands, want 2", len(blocks))
	}
	for _, b := range blocks {
		script.WriteString(b[1])
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"password":   "correct horse\n",
		"guest.yaml": fmt.Sprintf("firmware: %s\nkernel: %s\nappend: console=ttyS0\nvcpus: 2\ncpu: EPYC-Genoa\n", p.Firmware.Path, p.Kernel.Path),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(snplaunch(t), filepath.Join(dir, "snplaunch")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-eux", "-c", script.String())
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{`(?m)^ok +LD +[0-9a-f]{96}$`, `(?m)^ok +POLICY `, `\nok +ID_KEY_SIG +by the author key over the ID key\n$`} {
		if !regexp.MustCompile(want).Match(out) {
			t.Errorf("nothing like %s in\n%s", want, out)
		}
	}
}
