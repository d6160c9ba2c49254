package diagnose

import (
	"regexp"
	"sync"
)

// pattern is a regular expression that is compiled when it is first used: the
// whole catalogue takes longer than all else that the program does before main,
// and only a failed launch needs it.
type pattern func() *regexp.Regexp

func expression(s string) pattern {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(s) })
}
