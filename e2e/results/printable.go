package results

import "unicode"

// printable takes from a text what a terminal would obey rather than show.
// Messages come from guests, too.
func printable(r rune) rune {
	switch {
	case r == '\n' || r == '\t':
		return ' '
	case unicode.IsControl(r), unicode.Is(unicode.Cf, r), unicode.Is(unicode.Zl, r), unicode.Is(unicode.Zp, r):
		return '\uFFFD'
	}
	return r
}

// wide are the runes that take two columns of a terminal.
var wide = &unicode.RangeTable{
	R16: []unicode.Range16{
		{0x1100, 0x115f, 1}, {0x2e80, 0xa4cf, 1}, {0xac00, 0xd7a3, 1}, {0xf900, 0xfaff, 1}, {0xfe30, 0xfe6f, 1}, {0xff00, 0xff60, 1}, {0xffe0, 0xffe6, 1},
	},
	R32: []unicode.Range32{{0x1f300, 0x1faff, 1}, {0x20000, 0x3fffd, 1}},
}

func columns(r rune) int {
	switch {
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	case unicode.Is(wide, r):
		return 2
	}
	return 1
}

func columnsOf(s string) int {
	total := 0
	for _, r := range s {
		total += columns(r)
	}
	return total
}

// fit shortens a line of printable text to a number of columns.
func fit(s string, width int) string {
	if columnsOf(s) <= width {
		return s
	}
	used := 0
	for i, r := range s {
		if used+columns(r) > width-1 {
			if width < 1 {
				return ""
			}
			return s[:i] + "…"
		}
		used += columns(r)
	}
	return s
}
