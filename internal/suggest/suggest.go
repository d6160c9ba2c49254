// Package suggest finds what a mistyped name may have meant. Start with Nearest.
package suggest

import (
	"fmt"
	"strings"
)

// farthest is the number of differing letters from which on two words are
// different names rather than a slip.
const farthest = 3

// Nearest lists the words of known that differ least from word, none where even the
// nearest differs in three letters or more, or in as many as the word has.
// Case does not count.
func Nearest(word string, known []string) []string {
	best := min(farthest, max(len(word), 1))
	var out []string
	for _, k := range known {
		switch d := Distance(strings.ToLower(word), strings.ToLower(k)); {
		case d < best:
			best, out = d, []string{k}
		case d == best && len(out) > 0:
			out = append(out, k)
		}
	}
	return out
}

// Remedy is the end of a message about an unknown word: the nearest known
// ones, or all of them.
func Remedy(word string, known []string) string {
	if near := Nearest(word, known); len(near) > 0 {
		return fmt.Sprintf("did you mean %s?", strings.Join(near, " or "))
	}
	return "use one of " + strings.Join(known, ", ")
}

// Distance is the Levenshtein distance of two strings, in bytes.
func Distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next := min(row[j]+1, row[j+1]+1, diag+cost)
			diag, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}
