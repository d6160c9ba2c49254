package results_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"html"
	"image"
	"image/color"
	"image/png"
	"io"
	"math"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snplaunch/snplaunch/e2e/results"
	"github.com/snplaunch/snplaunch/internal/lacks"
)

func init() {
	forms["HTML"] = func(w io.Writer, run *results.Run) error {
		return results.HTML(w, run, results.HTMLOptions{Files: func(string) []string { return []string{"console.log", "a b%c<d>.txt"} }})
	}
}

// pages writes the reports of all runs to a folder.
func pages(t testing.TB) map[string]string {
	t.Helper()
	dir := t.TempDir()
	out := map[string]string{}
	for name, run := range runs(t) {
		out[name] = filepath.Join(dir, name+".html")
		if err := os.WriteFile(out[name], []byte(written(t, "HTML", run)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// Nothing in a page leads anywhere but into itself and its artefacts.
func TestHTMLIsSelfContained(t *testing.T) {
	links := regexp.MustCompile(`\s(?:href|src|srcset|action|data|poster|background)="([^"]*)"`)
	for name, run := range runs(t) {
		page := written(t, "HTML", run)
		for _, m := range links.FindAllStringSubmatch(page, -1) {
			target := html.UnescapeString(m[1])
			if u, err := url.Parse(target); err != nil || u.Scheme != "" || u.Host != "" || target[0] != '#' && !strings.HasPrefix(target, "./") {
				t.Fatalf("%s: links to %q", name, target)
			}
		}
		for _, word := range []string{"url(", "@import", "<link", "<img", "<iframe", "ZgotmplZ"} {
			if strings.Contains(page, word) {
				t.Errorf("%s: has %q", name, word)
			}
		}
	}
}

// Text and background of every kind of thing, light and dark and printed, have
// the contrast that WCAG 2 asks for at level AA: 4.5.
func TestHTMLContrast(t *testing.T) {
	css, err := os.ReadFile("report.css")
	if err != nil {
		t.Fatal(err)
	}
	roots := regexp.MustCompile(`:root\{([^}]*)\}`).FindAllSubmatch(css, -1)
	if len(roots) != 3 {
		t.Fatalf("%d palettes, want light, dark and print", len(roots))
	}
	for i, root := range roots {
		colours := map[string]float64{}
		for _, m := range regexp.MustCompile(`--([\w-]+):#([0-9a-f]+)`).FindAllSubmatch(root[1], -1) {
			colours[string(m[1])] = luminance(t, string(m[2]))
		}
		pairs := [][2]string{{"fg", "bg"}, {"dim", "bg"}, {"link", "bg"}, {"fg", "soft"}, {"failed", "bg"}}
		for _, s := range []string{"passed", "flaky", "failed", "error", "skipped"} {
			pairs = append(pairs, [2]string{s, s + "-bg"}, [2]string{s, "bg"})
		}
		for _, p := range pairs {
			a, okA := colours[p[0]]
			b, okB := colours[p[1]]
			if ratio := (max(a, b) + 0.05) / (min(a, b) + 0.05); !okA || !okB || ratio < 4.5 {
				t.Errorf("palette %d: %s on %s has contrast %.2f", i, p[0], p[1], ratio)
			}
		}
	}
}

// luminance is WCAG's relative luminance of a colour in hexadecimal.
func luminance(t testing.TB, hex string) float64 {
	if len(hex) == 3 {
		hex = string([]byte{hex[0], hex[0], hex[1], hex[1], hex[2], hex[2]})
	}
	var rgb [3]uint8
	if _, err := fmt.Sscanf(hex, "%02x%02x%02x", &rgb[0], &rgb[1], &rgb[2]); err != nil {
		t.Fatalf("colour %q: %v", hex, err)
	}
	sum := 0.0
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		c := float64(rgb[i]) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		sum += weight * c
	}
	return sum
}

// validator finds a program of testdata/validators.
func validator(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv("SNPLAUNCH_VALIDATORS")
	path := filepath.Join(dir, "node_modules", ".bin", name)
	if _, err := os.Stat(path); dir == "" || err != nil {
		lacks.End(t, name+" is missing: run `npm ci` in a copy of e2e/results/testdata/validators and name it in SNPLAUNCH_VALIDATORS, as scripts/test does")
	}
	return path
}

func TestHTMLIsValid(t *testing.T) {
	args := []string{"--config", "testdata/validators/.htmlvalidate.json"}
	dir := t.TempDir()
	for name, run := range runs(t) {
		// It takes a second for a hundred cells, which are all alike.
		run.Cells = slices.DeleteFunc(run.Cells, func(c results.Cell) bool { return c.Status == results.Passed && len(c.ID)%5 > 0 })
		path := filepath.Join(dir, name+".html")
		if err := os.WriteFile(path, []byte(written(t, "HTML", run)), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, path)
	}
	if out, err := exec.Command(validator(t, "html-validate"), args...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%.4000s", err, out)
	}
}

// Another's reader of TAP, in its strict mode, counts as the run does.
func TestTAPIsRead(t *testing.T) {
	for name, run := range runs(t) {
		path := filepath.Join(t.TempDir(), "run.tap")
		if err := os.WriteFile(path, []byte(written(t, "TAP", run)), 0o600); err != nil {
			t.Fatal(err)
		}
		tap, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer tap.Close()
		cmd := exec.Command(validator(t, "tap-parser"), "--json=0", "--strict")
		cmd.Stdin = tap
		out, runErr := cmd.Output() // its exit code is whether all tests passed
		var events [][]json.RawMessage
		if err := json.Unmarshal(out, &events); err != nil {
			t.Fatalf("%s: %v (%v)\n%.2000s", name, err, runErr, out)
		}
		var got struct {
			Count, Fail, Skip int
			Failures          []struct{ TapError string }
		}
		for _, e := range events {
			if len(e) == 2 && string(e[0]) == `"complete"` {
				if err := json.Unmarshal(e[1], &got); err != nil {
					t.Fatal(err)
				}
			}
		}
		is := run.Totals()
		if got.Count != run.Header.Planned || got.Fail != is.Failed+is.Errored+is.NotRun || got.Skip != is.Skipped {
			t.Errorf("%s: tap-parser found %+v in a run of %+v", name, got, is)
		}
		for _, f := range got.Failures {
			if f.TapError != "" {
				t.Errorf("%s: %s", name, f.TapError)
			}
		}
	}
}

// browser runs a headless Chromium on a page, with its scripts done, and gives
// what it printed.
func browser(t testing.TB, address string, args ...string) string {
	t.Helper()
	var path string
	for _, name := range []string{"chromium-headless-shell", "chromium", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		lacks.End(t, "a Chromium is missing; install it (Debian: chromium-headless-shell)")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	// The sandbox wants user namespaces, which a container may not give; the
	// page is the test's own.
	args = append([]string{"--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=5000", "--user-data-dir=" + t.TempDir()}, args...)
	cmd := exec.CommandContext(ctx, path, append(args, address)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", path, err, stderr.String())
	}
	return string(out)
}

// probe is a page that shows a report as a phone or a desktop would, and says
// what it finds there.
const probe = `<!DOCTYPE html><meta charset="utf-8"><style>body{margin:0}iframe{border:0;width:%dpx;height:900px}</style>
<iframe src="%s"></iframe><script>addEventListener("load", () => {
  const frame = document.querySelector("iframe"), doc = frame.contentDocument, view = frame.contentWindow;
  const seen = (e) => e.checkVisibility();
  document.body.dataset.found = JSON.stringify({
    Overflow: doc.documentElement.scrollWidth - view.innerWidth,
    Scripts: doc.scripts.length,
    Foreign: doc.querySelectorAll("script[src],img,iframe,object,embed,link,base,[onerror],[onclick],[onload]").length,
    Title: doc.title,
    Cells: [...doc.querySelectorAll("details.cell")].filter((c) => !c.hidden).length,
    Attention: [...doc.querySelectorAll(".attention li")].filter(seen).length,
    Spots: doc.querySelectorAll("a.spot:not(.off)").length,
    Open: doc.querySelectorAll("details.cell[open]").length,
    Shown: doc.getElementById("shown").textContent,
    Filter: seen(doc.getElementById("filter")),
    Target: doc.querySelector(":target") ? doc.querySelector(":target").open : false,
  });
})</script>`

type found struct {
	Overflow, Scripts, Foreign, Cells, Attention, Spots, Open int
	Title, Shown                                              string
	Filter, Target                                            bool
}

func look(t testing.TB, page, hash string, width int) found {
	t.Helper()
	path := filepath.Join(t.TempDir(), "probe.html")
	if err := os.WriteFile(path, fmt.Appendf(nil, probe, width, html.EscapeString("file://"+page+hash)), 0o600); err != nil {
		t.Fatal(err)
	}
	dom := browser(t, "file://"+path, "--dump-dom", "--allow-file-access-from-files", "--window-size=1400,1000")
	m := regexp.MustCompile(`data-found="([^"]*)"`).FindStringSubmatch(dom)
	if m == nil {
		t.Fatalf("the probe found nothing in %s:\n%.1000s", page, dom)
	}
	var f found
	if err := json.Unmarshal([]byte(html.UnescapeString(m[1])), &f); err != nil {
		t.Fatal(err)
	}
	return f
}

// What a reader does with a report, in a real browser.
func TestHTMLInABrowser(t *testing.T) {
	all, files := runs(t), pages(t)
	for name, run := range all {
		is := run.Totals()
		for _, width := range []int{360, 1280} {
			f := look(t, files[name], "", width)
			if f.Overflow > 0 {
				t.Errorf("%s: %d pixels wide, the page is %d too wide", name, width, f.Overflow)
			}
			if f.Scripts != 1 || f.Foreign != 0 {
				t.Errorf("%s: %d scripts, %d elements of others", name, f.Scripts, f.Foreign)
			}
			if n := len(run.Cells); f.Cells != n || f.Spots != n || f.Shown != fmt.Sprintf("%d cells", n) || !f.Filter {
				t.Errorf("%s: shows %+v of %d cells", name, f, n)
			}
			if f.Attention != is.Failed+is.Errored+is.Flaky {
				t.Errorf("%s: %d cells need a look, of %+v", name, f.Attention, is)
			}
		}
	}
	mixed := all["mixed"]
	if f := look(t, files["mixed"], "#/s=failed,error", 1280); f.Cells != mixed.Totals().Failed+mixed.Totals().Errored || f.Spots != f.Cells || f.Attention != f.Cells {
		t.Errorf("only failures: %+v", f)
	}
	want := 0
	for _, c := range mixed.Cells {
		if strings.Contains(c.ID, "vcpus=4/") && strings.Contains(c.ID, "Genoa") {
			want++
		}
	}
	if f := look(t, files["mixed"], "#/q=vcpus%3D4%2F+GENOA", 1280); f.Cells != want || f.Shown != fmt.Sprintf("%d of %d cells", want, len(mixed.Cells)) {
		t.Errorf("a search: %+v, want %d cells", f, want)
	}
	if f := look(t, files["mixed"], "#c40", 1280); !f.Target {
		t.Errorf("a cell that the address names is not opened: %+v", f)
	}
}

// Light and dark, at the widths of a phone and of a desktop. The pictures are
// left in $SNPLAUNCH_SCREENSHOTS, for people to look at.
func TestHTMLScreenshots(t *testing.T) {
	dir := os.Getenv("SNPLAUNCH_SCREENSHOTS")
	if dir == "" {
		dir = t.TempDir()
	}
	page := "file://" + pages(t)["mixed"]
	brightness := map[string]float64{}
	for _, theme := range []struct{ name, setting string }{{"light", "1"}, {"dark", "0"}} {
		for _, size := range []string{"500,1400", "1280,1600"} {
			name := theme.name + "-" + strings.ReplaceAll(size, ",", "x") + ".png"
			browser(t, page, "--window-size="+size, "--blink-settings=preferredColorScheme="+theme.setting, "--screenshot="+filepath.Join(dir, name))
			f, err := os.Open(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			picture, err := png.Decode(f)
			if err != nil {
				t.Fatal(err)
			}
			var colours int
			brightness[name], colours = survey(picture)
			if colours < 50 {
				t.Errorf("%s has %d colours: it is empty", name, colours)
			}
			if dark := brightness[name] < 0.5; dark != (theme.name == "dark") {
				t.Errorf("%s has a brightness of %.2f", name, brightness[name])
			}
		}
	}
	pdf := filepath.Join(dir, "print.pdf")
	browser(t, page, "--no-pdf-header-footer", "--print-to-pdf="+pdf)
	if b, err := os.ReadFile(pdf); err != nil || !bytes.HasPrefix(b, []byte("%PDF-")) {
		t.Errorf("the page does not print: %v", err)
	}
}

// survey gives a picture's brightness, from 0 to 1, and how many colours it has.
func survey(p image.Image) (brightness float64, colours int) {
	seen := map[color.Color]bool{}
	b := p.Bounds()
	sum := 0.0
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			c := p.At(x, y)
			seen[c] = true
			r, g, bl, _ := c.RGBA()
			sum += float64(r+g+bl) / (3 * 0xffff)
		}
	}
	return sum / float64(b.Dx()*b.Dy()), len(seen)
}
