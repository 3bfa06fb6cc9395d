package main

import "slices"

// suites are the suites of a KITT server.
var suites = []string{"quick", "performance", "standard"}

// checkSuite returns a usage error for a --suite that is not one of suites.
// example is a command line that is right.
func checkSuite(example, suite string) error {
	if slices.Contains(suites, suite) {
		return nil
	}
	return usageError(example+" --suite quick", "--suite is %s, not quick, performance or standard", quote(suite))
}
