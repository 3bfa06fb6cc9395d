package agent

// RoutesOf returns the patterns of all routes of a's API.
func RoutesOf(a *Agent) []string {
	var patterns []string
	for _, r := range (&api{a}).routes() {
		patterns = append(patterns, r.pattern)
	}
	return patterns
}
