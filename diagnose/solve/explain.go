package solve

import (
	"fmt"
	"slices"
	"strings"

	"github.com/snplaunch/snplaunch/snp"
)

// set is a set of changes and the description that it makes.
type set struct {
	alts  []*alternative
	point point
	vcpus bool // whether the number of vCPUs is another, too
}

func (s *set) size() int {
	if s.vcpus {
		return len(s.alts) + 1
	}
	return len(s.alts)
}

// rarity orders sets of one size.
func (s *set) rarity() int {
	n := 0
	for _, a := range s.alts {
		n += int(a.dim)
		if a.rare {
			n += int(dimensions)
		}
	}
	return n
}

// digested is what a digest covers of a description.
type digested struct {
	extent extent
	launch launch
}

// covered gives it; ok is false where there is no such launch.
func (d *digester) covered(p *point) (c digested, ok bool) {
	c.extent = p.extent
	switch p.extent {
	case firmwareOnly:
		c.launch.prefix = p.firmware.digest
		return c, true
	case noSaveAreas:
		c.launch.prefix, ok = d.prefix(p)
		return c, ok
	}
	c.launch, ok = d.launch(p)
	return c, ok
}

// explanations makes of what was found what is said, the simplest first.
func (h *search) explanations() []Explanation {
	d := newDigester(h.shared)
	out := []Explanation{}
	seen := map[digested]bool{}
	for _, x := range h.hits {
		c, ok := d.covered(&x.point)
		if !ok || seen[c] {
			continue
		}
		seen[c] = true
		sets := h.sets(d, &x, c)
		slices.SortStableFunc(sets, func(a, b set) int {
			if n := a.size() - b.size(); n != 0 {
				return n
			}
			return a.rarity() - b.rarity()
		})
		e := h.explanation(&sets[0], x.form)
		for i := 1; i < len(sets) && (h.all || sets[i].size() == sets[0].size()); i++ {
			e.Also = append(e.Also, h.changes(&sets[i], x.form))
		}
		out = append(out, e)
	}
	return out
}

// sets gives the smallest sets of changes that make the launch of a hit, and
// with All larger ones that need every one of their changes.
func (h *search) sets(d *digester, x *hit, want digested) []set {
	base := h.base
	vcpus := x.point.extent == whole && x.point.vcpus != base.vcpus
	if vcpus {
		base.vcpus = x.point.vcpus
	}
	own, _ := areaKeyOf(&x.point)
	var out []set
	try := func(alts ...*alternative) {
		p := apply(base, alts...)
		// Hashing pages is spared where the save areas differ already.
		if k, _ := areaKeyOf(&p); want.extent == whole && k != own {
			if a, _, _ := d.saveAreas(&p); a.bsp != want.launch.bsp {
				return
			}
		}
		if c, ok := d.covered(&p); ok && c == want {
			out = append(out, set{slices.Clone(alts), p, vcpus})
		}
	}
	try()
	if len(out) > 0 && !h.all {
		return out
	}
	list, _ := h.split()
	for _, a := range x.alts {
		if a.rare {
			list = append(list, a)
		}
	}
	single := map[*alternative]bool{}
	for _, a := range list {
		before := len(out)
		if try(a); len(out) > before {
			single[a] = true
		}
	}
	if (len(out) == 0 || h.all) && len(x.alts) > 1 || h.all {
		for i, a := range list {
			for _, b := range list[i+1:] {
				if a.dim < b.dim && !single[a] && !single[b] {
					try(a, b)
				}
			}
		}
	}
	// Two changes of one command line are in no list.
	if len(out) == 0 {
		out = append(out, set{x.alts, x.point, vcpus})
	}
	return out
}

func (h *search) changes(s *set, f *form) []Change {
	out := []Change{}
	if f.change != (Change{}) {
		out = append(out, f.change)
	}
	if s.vcpus {
		out = append(out, Change{Dimension: dimVCPUs.String(), Described: fmt.Sprint(h.base.vcpus), Found: fmt.Sprint(s.point.vcpus)})
	}
	for _, a := range s.alts {
		out = append(out, a.change())
	}
	return out
}

func (h *search) explanation(s *set, f *form) Explanation {
	return Explanation{Changes: h.changes(s, f), Sentence: f.phrase + h.sentence(s)}
}

// leads begin the two halves of a sentence.
var leads = map[Source][2]string{
	Expected: {"The digest is that of", "the description is of"},
	IDBlock:  {"Your ID block was made for", "you launch"},
	Report:   {"The report is of", "the description is of"},
	Launched: {"What was launched is", "the description is of"},
}

// sentence says what the digest was made of and what the description says
// instead: "Your ID block was made for 4 vCPUs of EPYC-Milan with kernel hashes off; you launch
// 4 of EPYC-v4 with them on."
func (h *search) sentence(s *set) string {
	lead := leads[h.q.Source]
	if s.size() == 0 {
		return lead[0] + " this very guest: nothing differs from the description."
	}
	found, own := "a guest", "one"
	var with, without []string
	var model *alternative
	for _, a := range s.alts {
		if a.dim == dimCPU {
			model = a
			continue
		}
		w := a.words()
		with, without = append(with, w.with), append(without, w.without)
	}
	if s.vcpus || model != nil {
		name := h.cpuName()
		found, own = vcpuWords(s.point.vcpus), fmt.Sprint(h.base.vcpus)
		if model != nil {
			w := model.words()
			found, own = found+" of "+strings.Join(w.names, " or "), own+" of "+name
			if len(w.names) == 0 {
				found += w.with
			}
		} else {
			found += " of " + name
		}
	}
	return lead[0] + " " + joined(found, with) + "; " + lead[1] + " " + joined(own, without) + "."
}

func joined(subject string, phrases []string) string {
	if len(phrases) == 0 {
		return subject
	}
	return subject + " " + strings.Join(phrases, " and ")
}

func vcpuWords(n int) string {
	if n == 1 {
		return "1 vCPU"
	}
	return fmt.Sprintf("%d vCPUs", n)
}

// Unexplained says in a sentence that nothing fits, and what was tried.
func (a *Answer) Unexplained() string {
	var tried []string
	for _, t := range a.Dimensions {
		tried = append(tried, fmt.Sprintf("%s (%d)", t.Dimension, t.Values))
	}
	end := "each by itself and every two of them together, but for two rare ones"
	if !a.Complete {
		end = "as far as the time allowed"
	}
	return fmt.Sprintf("Nothing that was tried explains the digest %s: %s descriptions, other values of %s, %s.", short(a.Digest), grouped(a.Tried), strings.Join(tried, ", "), end)
}

// short gives the beginning of a digest, enough to tell it from others.
func short(d snp.LaunchDigest) string { return d.String()[:16] + "…" }

// grouped writes a number with commas: 1,234,567.
func grouped(n uint64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
