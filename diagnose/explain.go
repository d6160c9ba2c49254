package diagnose

import (
	"fmt"
	"slices"
	"strings"

	"github.com/snplaunch/snplaunch/internal/suggest"
)

// Explanation is what one word means.
type Explanation struct {
	Word   string `json:"word"`
	Kind   string `json:"kind"`   // "firmware status", "guest policy", …
	Text   string `json:"text"`   // one paragraph
	Source string `json:"source"` // where it is laid down
}

// UnknownWordError reports a word that means nothing here.
type UnknownWordError struct {
	Word string
	Near []string // known words that differ little
}

func (e *UnknownWordError) Error() string {
	if len(e.Near) > 0 {
		return fmt.Sprintf("%q is not known (did you mean %s?)", e.Word, strings.Join(e.Near, " or "))
	}
	return fmt.Sprintf("%q is not known (say what it is, such as fw_error=11, ret=-5, policy=0x30000, tcb=0xd315000000000004, features=0x21, or give a name or a GUID)", e.Word)
}

// reading is one way to read a word: KEY=VALUE, or a value that can be told by itself.
type reading struct {
	kind string
	keys []string
	// explain gives a paragraph on a value and its source; ok is false for one that
	// is none of this kind.
	explain func(value string) (text, source string, ok bool)
	// bare says whether a word without a key may be meant so; nil: never.
	bare func(word string) bool
	// words are the values that have names.
	words func() []string
}

// Explain says what a word means that people meet in logs, reports and
// descriptions: "fw_error=11", "ret=-5", "EIO", "policy=0x30000", a GUID, a digest, the
// name of a command, a page type, an entry of the catalogue. A bare number is given
// every meaning that it may have. The error is an *UnknownWordError.
func Explain(word string) ([]Explanation, error) {
	word = strings.TrimSpace(word)
	if key, value, keyed := strings.Cut(word, "="); keyed && strings.Trim(value, "=") != "" {
		return explainKeyed(word, key, strings.TrimSpace(value))
	}
	if key, value, keyed := strings.Cut(strings.Replace(word, ":", " ", 1), " "); keyed && isKey(key) {
		return explainKeyed(word, key, strings.TrimSpace(value)) // as descriptions and logs have it
	}
	var out []Explanation
	var known []string
	for _, r := range readings {
		known = append(known, r.names()...)
		if r.bare == nil || !r.bare(word) {
			continue
		}
		if text, source, ok := r.explain(word); ok {
			out = append(out, Explanation{word, r.kind, text, source})
		}
	}
	if len(out) == 0 {
		var near []string
		if len(word) >= shortestGuess {
			near = suggest.Nearest(word, known)
		}
		return nil, &UnknownWordError{Word: clean(word), Near: near}
	}
	return out, nil
}

// shortestGuess is the length from which on a word is compared with known ones: of
// three letters two are soon the same.
const shortestGuess = 4

// plainKey gives a key as the readings have it.
func plainKey(key string) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimSpace(key)), "-", "_")
}

func isKey(word string) bool {
	return slices.ContainsFunc(readings, func(r reading) bool { return slices.Contains(r.keys, plainKey(word)) })
}

// explainKeyed explains KEY=VALUE.
func explainKeyed(word, key, value string) ([]Explanation, error) {
	key = plainKey(key)
	var keys []string
	for _, r := range readings {
		keys = append(keys, r.keys...)
		if !slices.Contains(r.keys, key) {
			continue
		}
		text, source, ok := r.explain(value)
		if !ok {
			return nil, &UnknownWordError{Word: clean(word), Near: prefixed(key, suggest.Nearest(value, r.names()))}
		}
		return []Explanation{{word, r.kind, text, source}}, nil
	}
	near := suggest.Nearest(key, keys)
	for i := range near {
		near[i] += "=" + clean(value)
	}
	return nil, &UnknownWordError{Word: clean(word), Near: near}
}

func prefixed(key string, values []string) []string {
	for i := range values {
		values[i] = key + "=" + values[i]
	}
	return values
}

func (r reading) names() []string {
	if r.words == nil {
		return nil
	}
	return r.words()
}

// IDs are the entries of the catalogue, which Failure.ID names.
func IDs() []string { return entryWords() }
