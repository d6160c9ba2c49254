//go:build snplaunch_broken

package measure

import "os"

// sabotage swaps the first two pages where the environment asks for it. A test of the
// matrix builds the program so, to see that it is caught.
func sabotage(pages []Page) []Page {
	if os.Getenv("SNPLAUNCH_BROKEN") == "page-order" && len(pages) > 1 {
		pages[0], pages[1] = pages[1], pages[0]
	}
	return pages
}
