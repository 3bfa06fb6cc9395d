package config

import "strings"

// suggest returns the candidate that word was probably meant to be, or an empty
// text if none is near.
func suggest(word string, candidates []string) string {
	best, nearest := "", max(2, len(word)/4)+1
	for _, c := range candidates {
		if strings.HasPrefix(c, word+"_") {
			return c
		}
		if d := distance(word, c); d < nearest {
			best, nearest = c, d
		}
	}
	return best
}

// distance returns how many bytes must be inserted, removed or replaced to turn
// a into b (Levenshtein's distance).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
