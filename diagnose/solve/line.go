package solve

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
)

// edit is a way in which a command line can have become another.
type edit struct {
	what string // of the digest's command line: "a newline at its end"
	text string
	raw  bool // the text is hashed as it is, without the NUL byte that QEMU adds
	rare bool
	// moved says that only the order of the parameters is another.
	moved bool
}

// Longer command lines have so many orders of their parameters that not all
// are tried: up to so many words every order, and up to so many every move.
const (
	allOrders = 7
	allMoves  = 24
)

// added are parameters that are often there on one side only.
var added = []string{
	"console=ttyS0", "console=hvc0", "console=tty0", "console=ttyS0,115200", "console=ttyS0,115200n8", "earlyprintk=serial", "earlyprintk=ttyS0",
	"panic=-1", "panic=1", "quiet", "splash", "ro", "rw", "debug", "nokaslr", "loglevel=7", "ignore_loglevel", "root=/dev/vda", "root=/dev/vda1", "root=/dev/sda1",
	"init=/init", "init=/sbin/init", "rdinit=/init", "mem_encrypt=on", "net.ifnames=0", "swiotlb=262144", "no_timer_check", "reboot=t", "reboot=k", "tsc=reliable", "systemd.unified_cgroup_hierarchy=1",
}

// edits lists them. None gives the text itself.
func edits(text string) []edit {
	var out []edit
	add := func(rare bool, changed, format string, args ...any) {
		if changed != text {
			out = append(out, edit{what: fmt.Sprintf(format, args...), text: changed, rare: rare})
		}
	}
	// What ends and begins it.
	for _, e := range []struct{ end, name string }{
		{" ", "a blank"}, {"\n", "a newline"}, {"\x00", "a NUL byte"}, {"\r\n", "carriage return and newline"}, {"\t", "a tab"}, {"  ", "two blanks"}, {" \n", "blank and newline"}, {"\\n", `a backslash and the letter n`}, {"\r", "a carriage return"}, {";", "a semicolon"}, {"\\", "a backslash"},
	} {
		add(false, text+e.end, "%s at its end", e.name)
		if bare, ok := strings.CutSuffix(text, e.end); ok {
			add(false, bare, "%s less at its end", e.name)
		}
	}
	add(false, " "+text, "a blank before it")
	add(false, "\n"+text, "a newline before it")
	add(true, "\ufeff"+text, "a byte order mark before it")
	add(false, strings.TrimSpace(text), "blanks and newlines at its ends removed")
	add(false, strings.TrimLeft(text, " \t\r\n"), "blanks before it removed")
	out = append(out, edit{what: "no NUL byte after it", text: text, raw: true})
	add(false, "", "nothing in it")

	// What shells and files do.
	add(false, `"`+text+`"`, "double quotes around it")
	add(false, "'"+text+"'", "single quotes around it")
	if bare := unquoted(text); bare != text {
		add(false, bare, "the quotes around it removed")
	}
	add(false, strings.NewReplacer(`"`, "", "'", "").Replace(text), "its quotes removed")
	add(false, strings.ReplaceAll(text, `"`, `\"`), "a backslash before each double quote")
	add(false, strings.ReplaceAll(text, `"`, "'"), "single quotes for double ones")
	add(false, strings.ReplaceAll(text, `'`, `"`), "double quotes for single ones")
	add(false, strings.ReplaceAll(text, " ", `\ `), "a backslash before each blank")
	add(false, strings.ReplaceAll(text, `\`, ""), "its backslashes removed")
	add(false, strings.ReplaceAll(text, `\`, `\\`), "its backslashes doubled")
	add(true, strings.ReplaceAll(text, ",", ",,"), "its commas doubled")
	add(true, strings.ReplaceAll(text, ",,", ","), "double commas halved")
	add(true, strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;").Replace(text), "characters as XML entities")
	add(true, strings.NewReplacer("&amp;", "&", "&lt;", "<", "&gt;", ">", "&quot;", `"`, "&apos;", "'").Replace(text), "XML entities as characters")
	add(false, strings.ReplaceAll(text, "\n", " "), "blanks for its newlines")
	add(true, strings.ReplaceAll(text, " ", "\n"), "newlines for its blanks")
	add(true, strings.ReplaceAll(text, "\t", " "), "blanks for its tabs")
	add(true, strings.ToLower(text), "small letters only")
	add(true, strings.ReplaceAll(text, "–", "--"), "two hyphens for a dash")
	add(true, strings.ReplaceAll(text, "--", "–"), "a dash for two hyphens")

	// What happens to whole parameters.
	words := strings.Fields(text)
	join := func(w []string) string { return strings.Join(w, " ") }
	add(false, join(words), "runs of blanks as one")
	for i, w := range words {
		add(false, join(slices.Delete(slices.Clone(words), i, i+1)), "%s missing", w)
		if i > 0 {
			add(false, join(words[:i]), "only what comes before %s", w)
			add(true, join(words[i:]), "only what begins with %s", w)
		}
		add(true, join(slices.Insert(slices.Clone(words), i, w)), "%s twice", w)
		if strings.HasPrefix(w, "$") || strings.Contains(w, "=$") {
			add(false, strings.Replace(text, w[strings.Index(w, "$"):], "", 1), "%s replaced by nothing, as a shell does", w)
		}
	}
	for _, w := range added {
		if !slices.Contains(words, w) {
			add(false, strings.TrimLeft(text+" "+w, " "), "%s at its end", w)
			add(false, strings.TrimRight(w+" "+text, " "), "%s before it", w)
		}
	}
	orders(words, func(rare bool, w []string) {
		if changed := join(w); changed != text {
			out = append(out, edit{what: "its parameters in another order", text: changed, rare: rare, moved: true})
		}
	})
	return distinct(text, out)
}

// distinct leaves of edits that give one line only the first.
func distinct(text string, all []edit) []edit {
	seen := map[[32]byte]bool{sumOf(text, false): true}
	var out []edit
	for _, e := range all {
		if sum := sumOf(e.text, e.raw); !seen[sum] {
			seen[sum] = true
			out = append(out, e)
		}
	}
	return out
}

// sumOf hashes a command line as QEMU does, with a NUL byte, or raw.
func sumOf(text string, raw bool) [32]byte {
	b := []byte(text)
	if !raw {
		b = append(b, 0)
	}
	return sha256.Sum256(b)
}

func unquoted(s string) string {
	if n := len(s); n >= 2 && s[0] == s[n-1] && (s[0] == '"' || s[0] == '\'') {
		return s[1 : n-1]
	}
	return s
}

// orders yields other orders of words: first those with one word moved or two
// exchanged, then, as rare ones, all of them where they are few.
func orders(words []string, yield func(rare bool, w []string)) {
	for from := range words {
		for to := range words {
			if from == to || len(words) > allMoves && from != to+1 {
				continue
			}
			moved := slices.Delete(slices.Clone(words), from, from+1)
			yield(false, slices.Insert(moved, to, words[from]))
			swapped := slices.Clone(words)
			swapped[from], swapped[to] = swapped[to], swapped[from]
			yield(false, swapped)
		}
	}
	turned := slices.Clone(words)
	slices.Reverse(turned)
	yield(false, turned)
	sorted := slices.Clone(words)
	slices.Sort(sorted)
	yield(false, sorted)
	if len(words) <= allOrders {
		permute(slices.Clone(words), len(words), func(w []string) { yield(true, w) })
	}
}

// permute yields every order of the first n words (Heap's algorithm).
func permute(words []string, n int, yield func([]string)) {
	if n <= 1 {
		yield(words)
		return
	}
	for i := range n {
		permute(words, n-1, yield)
		if n%2 == 0 {
			words[i], words[n-1] = words[n-1], words[i]
		} else {
			words[0], words[n-1] = words[n-1], words[0]
		}
	}
}
